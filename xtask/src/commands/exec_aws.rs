//! `--on aws`: the command is handed over to the binary that has the AWS SDK in it, which is compiled when it is first asked for.

use super::{Context, Finish};
use crate::cli::{Format, On};
use crate::error::Result;
use crate::event::Event;
use crate::process::Cmd;

/// Replaces this process by `xtask-aws` with the same command line. Returns only if that fails.
pub(super) fn run(context: &Context) -> Result<Finish> {
    let compiled = std::env::current_exe().is_ok_and(|me| me.with_file_name("xtask-aws").exists());
    if !compiled {
        let message = "compiling the AWS provider: once, a few minutes".to_owned();
        context.events.event(Event::Note { message });
    }
    // Cargo's own progress goes to standard error, where people look and JSON does not.
    let quiet = compiled || context.common.format == Format::Json;
    let cargo = Cmd::new("cargo").without_our_crate();
    let cmd = cargo.args(["run", "--package", "xtask-aws"]).args(quiet.then_some("--quiet")).arg("--");
    // A command that need not say where, as `resume`, comes to where it belongs.
    let on = (context.common.on == On::Local).then_some("--on=aws");
    Err(cmd.args(std::env::args_os().skip(1)).args(on).hint("the AWS provider is the crate in xtask/aws").replace())
}

//! `--on aws`: runs the command with the binary that contains the AWS SDK, which is compiled on first use.

use super::{Context, Finish};
use crate::cli::{Format, On};
use crate::error::Result;
use crate::event::Event;
use crate::process::Cmd;

/// Replaces this process by `xtask-aws` with the same command line. Returns only if that fails.
pub(super) fn run(context: &Context) -> Result<Finish> {
    let compiled = std::env::current_exe().is_ok_and(|me| me.with_file_name("xtask-aws").exists());
    if !compiled {
        let message = "compiling the AWS provider; this takes a few minutes, the first time only".to_owned();
        context.events.event(Event::Note { message });
    }
    // cargo prints its progress to standard error. It is shown only while the provider is compiled, and never with JSON output.
    let quiet = compiled || context.common.format == Format::Json;
    let cargo = Cmd::new("cargo").without_our_crate();
    let cmd = cargo.args(["run", "--package", "xtask-aws"]).args(quiet.then_some("--quiet")).arg("--");
    // `ami resume`, `ssm` and `iam-policy` select this provider without `--on aws`.
    let on = (context.common.on == On::Local).then_some("--on=aws");
    Err(cmd
        .args(std::env::args_os().skip(1))
        .args(on)
        .hint("run `cargo build --package xtask-aws` to compile the AWS provider")
        .replace())
}

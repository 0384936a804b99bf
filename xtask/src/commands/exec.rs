//! Commands that another binary of the workspace runs: the EC2 provider and the images API. It is compiled on first use.

use super::{Context, Finish};
use crate::cli::{Format, On};
use crate::error::Result;
use crate::event::Event;
use crate::process::Cmd;

/// Replaces this process by `xtask-aws`, which contains the AWS SDK, with the same command line. Returns only if that fails.
pub(super) fn aws(context: &Context) -> Result<Finish> {
    // `ami resume`, `ssm` and `iam-policy` select this provider without `--on aws`.
    let on = (context.common.on == On::Local).then_some("--on=aws");
    package(context, "xtask-aws", "the AWS provider", on)
}

/// Replaces this process by `xtask-serve` with the same command line. Returns only if that fails.
pub(super) fn serve(context: &Context) -> Result<Finish> {
    package(context, "xtask-serve", "the images API", None)
}

fn package(context: &Context, package: &str, what: &str, extra: Option<&str>) -> Result<Finish> {
    let beside = std::env::current_exe().ok().map(|me| me.with_file_name(package)).filter(|binary| binary.exists());
    let run = match &beside {
        // An installed program, which cargo did not start, does not require cargo.
        Some(binary) if !context.env.contains_key("CARGO") => Cmd::new(binary),
        _ => {
            if beside.is_none() {
                let message = format!("compiling {what}; this takes a few minutes, the first time only");
                context.events.event(Event::Note { message });
            }
            // cargo prints its progress to standard error. It is shown only while the binary is compiled, and never with JSON output.
            let quiet = beside.is_some() || context.common.format == Format::Json;
            let cargo = Cmd::new("cargo").without_our_crate();
            cargo.args(["run", "--package", package]).args(quiet.then_some("--quiet")).arg("--")
        }
    };
    Err(run
        .args(std::env::args_os().skip(1))
        .args(extra)
        .hint(format!("run `cargo build --package {package}` to compile {what}"))
        .replace())
}

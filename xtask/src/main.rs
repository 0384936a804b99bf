//! `cargo xtask`: the command line with the local provider. With `--on aws` it runs the binary of `xtask/aws` instead.

use std::process::ExitCode;

use xtask::commands::{OnLocal, start};

fn main() -> ExitCode {
    start(&OnLocal)
}

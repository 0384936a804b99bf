//! `cargo xtask`: the command line with the local provider. `--on aws` is handed over to the binary of `xtask/aws`.

use std::process::ExitCode;

use xtask::commands::{OnLocal, start};

fn main() -> ExitCode {
    start(&OnLocal)
}

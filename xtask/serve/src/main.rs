//! `cargo xtask serve`: `xtask` runs this binary with the same command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    xtask_serve::commands::main()
}

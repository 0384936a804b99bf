//! `cargo xtask … --on aws`: the same command line with the EC2 provider.

use std::process::ExitCode;

use xtask::commands::start;
use xtask_aws::provider::OnAws;

fn main() -> ExitCode {
    start(&OnAws::default())
}

//! Prints a line to the terminal before the crate is compiled for the first time.
//!
//! The alias `cargo xtask` runs cargo with `--quiet`: otherwise cargo prints the command line, which may have values of sensitive variables. So cargo
//! prints no progress either. cargo captures the output of a build script, therefore the line goes to the terminal itself.

use std::fs::OpenOptions;
use std::io::Write as _;

fn main() {
    // Only a changed build script runs again, not each build.
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(mut terminal) = OpenOptions::new().write(true).open("/dev/tty") {
        // A terminal that is gone has no reader to inform.
        let _ = writeln!(terminal, "compiling cargo xtask; the first time takes one to three minutes");
    }
}

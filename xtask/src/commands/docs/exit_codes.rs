//! The exit codes.

use std::fmt::Write as _;

use super::{Generated, page};
use crate::error::Exit;

pub(super) fn reference() -> Generated {
    let mut text = String::from(
        "Every command ends with one of these codes. With `--format json` the last event has it as `exit`.\n\n",
    );
    text.push_str("| code | meaning |\n|---|---|\n");
    for exit in Exit::ALL {
        let _ = writeln!(text, "| {} | {} |", exit as u8, exit.meaning());
    }
    page("exit-codes.md", "Exit codes", "xtask/template/src/error.rs", &text)
}

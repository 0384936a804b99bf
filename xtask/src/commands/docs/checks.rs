//! The smoke checks.

use std::fmt::Write as _;

use smoke::catalog::CATALOG;

use super::{Generated, cell, page};

pub(super) fn reference() -> Generated {
    let mut text = String::from(
        "The checks that `cargo xtask ami smoke` runs on an instance, what each asserts, and how to fix a failure. A `*` stands for a part of the \
         name that the [smoke spec](smoke-spec.md) determines, such as the program in `tool-jq`. A check runs if the spec has its section.\n\n\
         | check | asserts | fix |\n|---|---|---|\n",
    );
    for entry in CATALOG {
        let _ = writeln!(text, "| `{}` | {} | {} |", entry.name, cell(entry.asserts), cell(entry.fix));
    }
    page("checks.md", "Smoke checks", "smoke/src/catalog.rs", &text)
}

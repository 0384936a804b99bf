//! The events of `--format json`.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Generated, page, schema as render};
use crate::event::{Event, SCHEMA};

/// The schema of one line.
pub(super) fn schema() -> Generated {
    render::file("event.schema.json", &of_event())
}

pub(super) fn reference() -> Generated {
    let schema = of_event();
    let mut text = format!(
        "With `--format json` a command prints one JSON object for each event to standard output, one a line. This is version {SCHEMA} of the \
         format: fields may be added, and none changes its meaning within a version. Durations are in seconds. The last event of a command is \
         `result`. [event.schema.json](../schema/event.schema.json) is the JSON Schema of a line.\n"
    );
    for variant in schema["oneOf"].as_array().into_iter().flatten() {
        let name = variant["properties"]["event"]["const"].as_str().unwrap_or_default();
        let _ = writeln!(text, "\n## {name}\n\n{}\n", render::meaning(&schema, variant));
        // A variant that wraps a struct refers to it.
        let inner = render::resolve(&schema, variant);
        for part in [variant, inner].iter().take(if std::ptr::eq(variant, inner) { 1 } else { 2 }) {
            let rows = render::properties(&schema, part, "field", &["event"]);
            if rows.lines().count() > 2 {
                text.push_str(&rows);
            }
        }
    }
    page("events.md", "Events", "xtask/src/event.rs", &text)
}

fn of_event() -> Value {
    schemars::schema_for!(Event).to_value()
}

//! The smoke spec.

use std::fmt::Write as _;

use serde_json::Value;
use smoke::spec::Spec;

use super::{Generated, page, schema as render};

/// The schema that editors use.
pub(super) fn schema() -> Generated {
    render::file("smoke-spec.schema.json", &render::without_null(of_spec()))
}

pub(super) fn reference() -> Generated {
    let schema = of_spec();
    let mut text = String::from(
        "A smoke spec is a TOML file that states what an instance of an image must have; `smoke` below `[images.NAME]` in ami.toml names it. A \
         section that is absent is not checked. An unknown key is an error. Editors complete and check the file with \
         [smoke-spec.schema.json](../schema/smoke-spec.schema.json), which the first line of the project's own spec names. \
         [Smoke checks](checks.md) lists the checks that the keys result in.\n\n## Top level\n\n",
    );
    text.push_str(&render::properties(&schema, &schema, "key", &[]));
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let list = property["type"] == "array";
        let section = render::resolve(&schema, if list { &property["items"] } else { property });
        if !section["properties"].is_object() {
            continue;
        }
        let shown = if list { format!("[[{name}]]") } else { format!("[{name}]") };
        let _ = writeln!(text, "\n## `{shown}`\n\n{}\n", render::meaning(&schema, property));
        text.push_str(&render::properties(&schema, section, "key", &[]));
    }
    page("smoke-spec.md", "Smoke spec", "smoke/src/spec.rs", &text)
}

fn of_spec() -> Value {
    schemars::schema_for!(Spec).to_value()
}

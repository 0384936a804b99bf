//! `ami.toml`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Generated, page, schema as render};
use crate::config::{Config, Key, Kind, variable};

/// The schema that editors use: descriptions from the types, defaults and limits from the reader.
pub(super) fn schema() -> Generated {
    let mut schema = of_config();
    let keys = Config::keys();
    if let Some(definitions) = schema["$defs"].as_object_mut() {
        for section in definitions.values_mut().filter(|definition| definition["properties"].is_object()) {
            section["required"] = json!([]);
            section["additionalProperties"] = json!(false);
        }
    }
    schema["required"] = json!(["images", "regions"]);
    schema["additionalProperties"] = json!(false);
    for key in &keys {
        if let Some(pointer) = pointer(&schema, &key.name) {
            limit(&mut schema, &pointer, key);
        }
    }
    render::file("ami.schema.json", &render::without_null(schema))
}

/// Sets the default and the limits of a property.
fn limit(schema: &mut Value, pointer: &str, key: &Key) {
    let (section, name) = pointer.rsplit_once("/properties/").unwrap_or((pointer, ""));
    let (section, name) = (section.to_owned(), name.to_owned());
    let mut required = false;
    if let Some(property) = schema.pointer_mut(pointer) {
        match &key.kind {
            Kind::Text { default: Some(text) } => property["default"] = json!(text),
            Kind::Text { default: None } => required = true,
            // The words are in the definition of its type.
            Kind::Word { default, .. } => property["default"] = json!(default),
            Kind::Number { default, range } => {
                property["default"] = json!(default);
                property["minimum"] = json!(range.start());
                property["maximum"] = json!(range.end());
            }
            Kind::Flag { default } => property["default"] = json!(default),
            Kind::List { required: least } => {
                property["uniqueItems"] = json!(true);
                if *least {
                    property["minItems"] = json!(1);
                    required = true;
                }
            }
            // The reader takes numbers and booleans as strings.
            Kind::Table => property["additionalProperties"] = json!({ "type": ["string", "integer", "boolean"] }),
        }
    }
    if required && let Some(all) = schema.pointer_mut(&section).and_then(|section| section["required"].as_array_mut()) {
        all.push(json!(name));
    }
}

/// Where the schema has a key: `local.cpus` is `/$defs/Local/properties/cpus`.
fn pointer(schema: &Value, key: &str) -> Option<String> {
    let (section, name) = key.rsplit_once('.')?;
    let top = &schema["properties"][section.split('.').next()?];
    let reference = if section.contains('.') { &top["additionalProperties"]["$ref"] } else { &top["$ref"] };
    let pointer = format!("{}/properties/{name}", reference.as_str()?.strip_prefix('#')?);
    schema.pointer(&pointer).map(|_| pointer)
}

pub(super) fn reference() -> Generated {
    let schema = of_config();
    let mut text = String::from(
        "`ami.toml` in the root of the project configures what is built, where, and how long it is kept. An unknown key is an error. Each key but \
         those of tables can be set by an environment variable, which overrides the file; lists are separated by commas there. In the variables of \
         images and channels `NAME` is the name in capitals, with `_` for `-`. `cargo xtask ami plan` prints each value and where it came from. \
         Editors complete and check the file with [ami.schema.json](../schema/ami.schema.json), which its first line names.\n",
    );
    let mut last = String::new();
    for key in Config::keys() {
        let Some((section, name)) = key.name.rsplit_once('.') else { continue };
        if section != last {
            let about = render::meaning(&schema, &schema["properties"][section.split('.').next().unwrap_or(section)]);
            let _ = writeln!(
                text,
                "\n## `[{section}]`\n\n{about}\n\n| key | value | default | meaning |\n|---|---|---|---|"
            );
            section.clone_into(&mut last);
        }
        let meaning = pointer(&schema, &key.name)
            .and_then(|at| schema.pointer(&at))
            .map(|property| render::meaning(&schema, property))
            .unwrap_or_default();
        let (value, default) = shown(&key.kind);
        let _ = writeln!(text, "| `{name}` | {value} | {default} | {meaning}{} |", set_by(&key));
    }
    page("configuration.md", "ami.toml", "xtask/src/config/model.rs", &text)
}

/// What a key's value may be, and its default.
fn shown(kind: &Kind) -> (String, String) {
    let code = |text: &str| if text.is_empty() { "empty".to_owned() } else { format!("`{text}`") };
    match kind {
        Kind::Text { default: Some(default) } => ("string".to_owned(), code(default)),
        Kind::Text { default: None } => ("string".to_owned(), "required".to_owned()),
        Kind::Word { default, words } => {
            (words.iter().map(|word| code(word)).collect::<Vec<_>>().join(", "), code(default))
        }
        Kind::Number { default, range } => (format!("{} to {}", range.start(), range.end()), default.to_string()),
        Kind::Flag { default } => ("`true`, `false`".to_owned(), code(&default.to_string())),
        Kind::List { required: true } => ("list of strings".to_owned(), "required".to_owned()),
        Kind::List { required: false } => ("list of strings".to_owned(), "empty".to_owned()),
        Kind::Table => ("table of strings".to_owned(), "empty".to_owned()),
    }
}

/// The variable that sets a key, unless it is a table.
fn set_by(key: &Key) -> String {
    match key.kind {
        Kind::Table => String::new(),
        _ => format!(" `{}`", variable(&key.name)),
    }
}

fn of_config() -> Value {
    schemars::schema_for!(Config).to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_reader_is_documented_and_no_other() {
        let schema = of_config();
        let keys: Vec<String> = Config::keys().into_iter().map(|key| key.name).collect();
        assert!(keys.len() > 50, "{}", keys.len());
        for key in &keys {
            let at = pointer(&schema, key).unwrap_or_else(|| panic!("{key} is not a field of its section"));
            assert!(!render::meaning(&schema, schema.pointer(&at).unwrap()).is_empty(), "{key} has no documentation");
        }
        let definitions = schema["$defs"].as_object().unwrap().values();
        let fields: usize = definitions.filter_map(|d| d["properties"].as_object()).map(serde_json::Map::len).sum();
        assert_eq!(fields, keys.len(), "a field that the reader does not read");
        assert!(keys.iter().any(|key| key.contains(".NAME.")));
    }
}

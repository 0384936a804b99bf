//! JSON Schemas, and tables of Markdown from them.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value};

use super::{Generated, SCHEMAS, cell};

/// A schema as a file.
pub(super) fn file(name: &str, schema: &Value) -> Generated {
    let text = serde_json::to_string_pretty(schema).unwrap_or_default() + "\n";
    Generated { path: Path::new(SCHEMAS).join(name), content: text.into_bytes() }
}

/// The schema of a TOML file, which has no null: an optional value is one that is missing.
pub(super) fn without_null(schema: Value) -> Value {
    match schema {
        Value::Array(all) => Value::Array(all.into_iter().map(without_null).collect()),
        Value::Object(mut object) => {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [one] = &types[..] {
                    let one = one.clone();
                    object.insert("type".to_owned(), one);
                }
            }
            if let Some(Value::Array(all)) = object.get_mut("anyOf") {
                all.retain(|one| one["type"] != "null");
                if let [Value::Object(one)] = &all[..] {
                    let one = one.clone();
                    object.remove("anyOf");
                    object.extend(one);
                }
            }
            Value::Object(object.into_iter().map(|(key, value)| (key, without_null(value))).collect())
        }
        other => other,
    }
}

/// The schema that a `$ref` points at, or the schema itself.
pub(super) fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    // An optional value is `anyOf: [..., {"type": "null"}]`.
    let inner = schema["anyOf"].as_array().and_then(|all| all.iter().find(|one| one["type"] != "null"));
    let schema = inner.unwrap_or(schema);
    match schema["$ref"].as_str().and_then(|path| path.strip_prefix('#')) {
        Some(path) => root.pointer(path).unwrap_or(schema),
        None => schema,
    }
}

/// The type as the documentation names it: `string`, `list of strings`.
pub(super) fn type_name(root: &Value, schema: &Value) -> String {
    let schema = resolve(root, schema);
    if let Some(words) = words(schema) {
        return words.join(", ");
    }
    let name = match &schema["type"] {
        Value::Array(types) => types.iter().find(|t| *t != "null").and_then(Value::as_str),
        other => other.as_str(),
    };
    match name {
        Some("array") => match type_name(root, &schema["items"]).as_str() {
            "any" => "list".to_owned(),
            one => format!("list of {one}s"),
        },
        Some("object") if schema["additionalProperties"].is_object() => "table".to_owned(),
        Some("object") => "object".to_owned(),
        Some(name) => name.to_owned(),
        None => "any".to_owned(),
    }
}

/// The values of an enumeration, as code.
fn words(schema: &Value) -> Option<Vec<String>> {
    let code = |value: &Value| value.as_str().map(|word| format!("`{word}`"));
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(code).collect();
    }
    schema["oneOf"].as_array()?.iter().map(|one| code(&one["const"])).collect()
}

/// A table with a row for each property: name, type, whether it is required, meaning.
pub(super) fn properties(root: &Value, schema: &Value, head: &str, skip: &[&str]) -> String {
    let empty = Map::new();
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut text = format!("| {head} | type | required | meaning |\n|---|---|---|---|\n");
    for (name, property) in schema["properties"].as_object().unwrap_or(&empty) {
        if skip.contains(&name.as_str()) {
            continue;
        }
        let needed = if required.contains(&name.as_str()) { "yes" } else { "" };
        let (kind, meaning) = (type_name(root, property), meaning(root, property));
        let _ = writeln!(text, "| `{name}` | {kind} | {needed} | {meaning} |");
    }
    text
}

/// A description in one line of a table.
pub(super) fn meaning(root: &Value, schema: &Value) -> String {
    let own = schema["description"].as_str();
    let text = own.or_else(|| resolve(root, schema)["description"].as_str()).unwrap_or_default();
    cell(text)
}

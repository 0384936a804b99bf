//! The generated JSON Schemas accept the project's files and reject files with misspelled keys.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use serde_json::Value;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path)).unwrap()
}

/// The errors of a TOML text, by JSON pointer.
fn errors(schema: &str, text: &str) -> Vec<String> {
    let schema: Value = serde_json::from_str(&read(schema)).unwrap();
    let value: Value = toml::from_str(text).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn ami_toml_is_valid_and_a_misspelled_key_or_a_value_out_of_range_is_not() {
    let schema = "docs/src/schema/ami.schema.json";
    let text = read("ami.toml");
    assert_eq!(errors(schema, &text), Vec::<String>::new());
    for (good, bad, place) in [
        ("cpus = 2 ", "cpu = 2 ", "/local"),
        ("cpus = 2 ", "cpus = 65 ", "/local/cpus"),
        ("acceleration = \"auto\"", "acceleration = \"kwm\"", "/local/acceleration"),
        ("version = \"1.0.0\" ", "# ", "/images/locus-agent"),
    ] {
        let changed = text.replace(good, bad);
        assert_ne!(changed, text, "{good}");
        let found = errors(schema, &changed);
        assert!(found.len() == 1 && found[0].starts_with(&format!("{place}:")), "{bad}: {found:?}");
    }
}

#[test]
fn the_smoke_spec_is_valid_and_a_misspelled_key_is_not() {
    let schema = "docs/src/schema/smoke-spec.schema.json";
    let text = read("smoke/specs/locus-agent.toml");
    assert_eq!(errors(schema, &text), Vec::<String>::new());
    let changed = text.replace("emulated_factor", "emulated_factr");
    assert_ne!(changed, text);
    assert!(errors(schema, &changed).iter().all(|error| error.starts_with("/boot:")), "{:?}", errors(schema, &changed));
    assert!(!errors(schema, &changed).is_empty());
}

#[test]
fn the_first_line_of_a_file_names_its_schema() {
    for file in ["ami.toml", "smoke/specs/locus-agent.toml"] {
        let text = read(file);
        let schema = text.lines().next().unwrap().strip_prefix("#:schema ").unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        assert!(root.join(file).parent().unwrap().join(schema).exists(), "{file}: {schema}");
    }
}

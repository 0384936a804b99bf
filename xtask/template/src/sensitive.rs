//! Values that nobody may read: found in every text before it is printed, stored or sent, wherever it comes from.
//!
//! As Packer does, which replaces them by the same word (developer.hashicorp.com/packer/docs/templates/hcl_templates/variables, "A variable
//! can be sensitive"). The values are the process's: a text that holds one may come from a template, a guest, a tool or an error.

use std::borrow::Cow;
use std::sync::{PoisonError, RwLock};

/// What stands in the place of a sensitive value.
pub const HIDDEN: &str = "<sensitive>";

/// A shorter value is not looked for: it would be found in every other word, and nobody keeps a secret in two characters.
const LEAST: usize = 3;
/// A line of a longer value is looked for alone, because output comes by lines. Shorter ones (`}`, `EOF`) are no secret.
const LEAST_LINE: usize = 8;

static VALUES: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// From now on nobody reads this value, however it is written.
pub fn hide(value: &str) {
    let mut values = VALUES.write().unwrap_or_else(PoisonError::into_inner);
    values.extend(forms(value));
    // The longest first: a value may be a part of another.
    values.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    values.dedup();
}

/// Every text in a value: a list or an object has many.
pub fn hide_all(value: &serde_json::Value) {
    match value {
        serde_json::Value::String(text) => hide(text),
        serde_json::Value::Array(items) => items.iter().for_each(hide_all),
        serde_json::Value::Object(fields) => fields.values().for_each(hide_all),
        serde_json::Value::Number(number) => hide(&number.to_string()),
        serde_json::Value::Null | serde_json::Value::Bool(_) => {}
    }
}

/// The text without sensitive values.
pub fn redacted(text: &str) -> Cow<'_, str> {
    let values = VALUES.read().unwrap_or_else(PoisonError::into_inner);
    let mut text = Cow::Borrowed(text);
    for value in values.iter().filter(|_| !text.is_empty()).map(String::as_str).collect::<Vec<_>>() {
        if text.contains(value) {
            text = Cow::Owned(text.replace(value, HIDDEN));
        }
    }
    text
}

/// The ways in which a value is written: as it is, in JSON, in a shell's single quotes, in a URL, and its lines one by one.
fn forms(value: &str) -> Vec<String> {
    let value = value.trim_matches(['\n', '\r']);
    let json = serde_json::Value::from(value).to_string();
    let shell = value.replace('\'', r"'\''");
    let packer = value.replace('\'', r#"'"'"'"#);
    let mut forms = vec![value.to_owned(), json.trim_matches('"').to_owned(), shell, packer, percent(value)];
    if value.contains('\n') {
        forms.extend(value.lines().map(str::trim).filter(|line| line.len() >= LEAST_LINE).map(str::to_owned));
    }
    forms.retain(|form| form.trim().len() >= LEAST);
    forms
}

/// RFC 3986, section 2.1: everything but the unreserved characters.
fn percent(value: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    value.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_however_it_is_written() {
        hide("p4ss'wo\"rd & more");
        for text in [
            "the password is p4ss'wo\"rd & more.",
            "{\"x\":\"p4ss'wo\\\"rd & more\"}",
            "TOKEN='p4ss'\\''wo\"rd & more'",
            "TOKEN='p4ss'\"'\"'wo\"rd & more'",
            "https://p4ss%27wo%22rd%20%26%20more@host/",
        ] {
            let clean = redacted(text);
            assert!(clean.contains(HIDDEN) && !clean.contains("p4ss"), "{clean}");
        }
        assert!(matches!(redacted("nothing of it"), Cow::Borrowed("nothing of it")));
    }

    #[test]
    fn a_key_of_several_lines_is_found_by_line() {
        hide("-----BEGIN THING-----\nQ0FGRUJBQkU5OTk5\n}\n-----END THING-----\n");
        assert_eq!(redacted("step: Q0FGRUJBQkU5OTk5"), "step: <sensitive>");
        assert_eq!(redacted("fn x() { }"), "fn x() { }");
    }

    #[test]
    fn the_texts_of_a_list_are_values_and_short_ones_are_not() {
        hide_all(&serde_json::json!({ "a": ["first-of-a-list", "x"], "b": 424_242, "c": true }));
        assert_eq!(redacted("first-of-a-list, 424242, x, true"), "<sensitive>, <sensitive>, x, true");
    }

    #[test]
    fn a_value_that_is_a_part_of_another_does_not_show_the_rest() {
        hide("part-of-it");
        hide("part-of-it-and-more");
        assert_eq!(redacted("part-of-it-and-more"), HIDDEN);
    }
}

//! Sensitive values: they are replaced in every text before it is printed or stored.
//!
//! Packer replaces them by the same word (developer.hashicorp.com/packer/docs/templates/hcl_templates/variables, "A variable can be
//! sensitive"). The values are global to the process, because a text with one may come from a template, a guest, a program or an error.

use std::borrow::Cow;
use std::sync::{PoisonError, RwLock};

use regex_lite::Regex;

/// The text that replaces a sensitive value.
pub const HIDDEN: &str = "<sensitive>";

/// Length from which a value is replaced. A shorter one occurs in many other words, and is too short for a secret.
const MIN_LENGTH: usize = 3;
/// Length from which a single line of a longer value is replaced: output is processed by line. Shorter lines (`}`, `EOF`) are not secret.
const MIN_LINE: usize = 8;

static VALUES: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// Adds a sensitive value. From now on [`redacted`] replaces it, in all of its forms.
pub fn hide(value: &str) {
    let mut values = VALUES.write().unwrap_or_else(PoisonError::into_inner);
    values.extend(forms(value));
    // The longest first: a value may contain another one.
    values.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    values.dedup();
}

/// Adds every string and number in a JSON value.
pub fn hide_all(value: &serde_json::Value) {
    match value {
        serde_json::Value::String(text) => hide(text),
        serde_json::Value::Array(items) => items.iter().for_each(hide_all),
        serde_json::Value::Object(fields) => fields.values().for_each(hide_all),
        serde_json::Value::Number(number) => hide(&number.to_string()),
        serde_json::Value::Null | serde_json::Value::Bool(_) => {}
    }
}

/// Marks the password in a URL as sensitive, so that no output shows it.
pub fn hide_credentials(word: &str) {
    if let Some(secret) = credentials(word) {
        hide(secret);
    }
}

/// The password in a URL. In an HTTP URL with only a user, the user is a token, so it is returned; the user of an SSH URL is not.
pub fn credentials(text: &str) -> Option<&str> {
    let with_password = Regex::new(r"://[^/@:]*:([^/@]*)@").ok()?;
    let with_token = Regex::new(r"https?://([^/@:]+)@").ok()?;
    let found = with_password.captures(text).or_else(|| with_token.captures(text))?;
    found.get(1).map(|secret| secret.as_str())
}

/// Replaces all sensitive values in a text.
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

/// The forms of a value: plain, in JSON, in single quotes of a shell, in a URL, and each of its lines.
fn forms(value: &str) -> Vec<String> {
    let value = value.trim_matches(['\n', '\r']);
    let json = serde_json::Value::from(value).to_string();
    let shell = value.replace('\'', r"'\''");
    let packer = value.replace('\'', r#"'"'"'"#);
    let mut forms = vec![value.to_owned(), json.trim_matches('"').to_owned(), shell, packer, percent(value)];
    if value.contains('\n') {
        forms.extend(value.lines().map(str::trim).filter(|line| line.len() >= MIN_LINE).map(str::to_owned));
    }
    forms.retain(|form| form.trim().len() >= MIN_LENGTH);
    forms
}

/// Percent-encodes all characters except the unreserved ones (RFC 3986, section 2.1).
fn percent(value: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    value.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_tokens_are_found_but_not_ssh_users() {
        assert_eq!(credentials("http://deploy:SECRET-PW@127.0.0.1:8765/locus.tgz"), Some("SECRET-PW"));
        assert_eq!(credentials("git+https://ghp_abc@github.com/a/b.git"), Some("ghp_abc"));
        for good in
            ["git+ssh://git@github.com/a/b.git", "@locus/cli@1.2.3", "https://host/x@2.tgz", "/tmp/locus.tgz", ""]
        {
            assert_eq!(credentials(good), None, "{good}");
        }
    }

    #[test]
    fn a_value_is_replaced_in_all_of_its_forms() {
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
    fn the_lines_of_a_value_are_replaced() {
        hide("-----BEGIN THING-----\nQ0FGRUJBQkU5OTk5\n}\n-----END THING-----\n");
        assert_eq!(redacted("step: Q0FGRUJBQkU5OTk5"), "step: <sensitive>");
        assert_eq!(redacted("fn x() { }"), "fn x() { }");
    }

    #[test]
    fn strings_and_numbers_of_a_json_value_are_replaced_unless_short() {
        hide_all(&serde_json::json!({ "a": ["first-of-a-list", "x"], "b": 424_242, "c": true }));
        assert_eq!(redacted("first-of-a-list, 424242, x, true"), "<sensitive>, <sensitive>, x, true");
    }

    #[test]
    fn the_longest_value_is_replaced_first() {
        hide("part-of-it");
        hide("part-of-it-and-more");
        assert_eq!(redacted("part-of-it-and-more"), HIDDEN);
    }
}

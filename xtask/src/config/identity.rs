//! Checks that the images of ami.toml have different pointers in a channel: names of parameters and variables of env files.

use std::collections::BTreeMap;

use super::Image;
use super::read::Section;

/// Reports an image whose name cannot be part of a parameter's name, or whose variable is invalid or also used by another image.
pub(super) fn check(section: &Section<'_>, name: &str, image: &Image, others: &BTreeMap<String, Image>) {
    let wrong = |key: &str, message: String, help: &str| section.reader.wrong(section.span(key), message, help);
    let is_word = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || !name.chars().all(is_word) || ["versions", "claims"].contains(&name) {
        let help = "use letters, digits, `.`, `_` and `-`, but not `versions` or `claims`; the name is part of the names of parameters";
        wrong("template", format!("`{name}` cannot be the name of an image"), help);
    }
    if let Some((other, _)) = others.iter().find(|(_, other)| image.default && other.default) {
        let message = format!("images `{other}` and `{name}` are both the default");
        wrong("default", message, "set default = true for one of them");
    }
    let variable = image.env_variable.as_str();
    let is_variable = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if variable.starts_with(|c: char| c.is_ascii_digit()) || variable.is_empty() || !variable.chars().all(is_variable) {
        wrong(
            "env_variable",
            format!("`{variable}` is not a valid name of a variable"),
            "use a name like LOCUS_AMI_ID",
        );
    }
    let below =
        |long: &str, short: &str| long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
    let shares = |other: &Image| below(variable, &other.env_variable) || below(&other.env_variable, variable);
    if let Some((other, theirs)) = others.iter().find(|(_, other)| shares(other)) {
        let message = format!(
            "images `{other}` and `{name}` share a variable of the env files: {} and {variable} (the variables of regions have it as a prefix)",
            theirs.env_variable
        );
        wrong("env_variable", message, "set a different `env_variable` for each image, such as TINY_AMI_ID");
    }
}

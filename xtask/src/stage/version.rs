//! Versions: which part of `MAJOR.MINOR.PATCH` has to be raised for what really changed, by the guide's rules (section 8). Pure.

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::contents::{Change, Difference};

/// The part of a version to raise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Security patches, minor version bumps, bug fixes.
    Patch,
    /// A new dependency, a significant bump of one.
    Minor,
    /// Another base system, another Node.js major version, something that is gone.
    Major,
}

/// What the changes ask for; `None` where nothing in the image changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Required {
    /// The part to raise.
    pub level: Option<Level>,
    /// Why: those of the highest level first.
    pub reasons: Vec<(Level, String)>,
}

impl Level {
    /// Its name in a version.
    pub fn name(self) -> &'static str {
        match self {
            Self::Patch => "PATCH",
            Self::Minor => "MINOR",
            Self::Major => "MAJOR",
        }
    }
}

/// Judges what differs between the last release and an image.
pub fn required(difference: &Difference) -> Required {
    let mut reasons: Vec<(Level, String)> = Vec::new();
    reasons.extend(difference.system.iter().filter_map(system));
    reasons.extend(difference.tools.iter().map(tool));
    let packages = difference.packages.len();
    if packages > 0 {
        reasons.push((Level::Patch, format!("{packages} packages differ")));
    }
    reasons.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
    Required { level: reasons.iter().map(|(level, _)| *level).max(), reasons }
}

/// The lowest version that may follow `last`.
pub fn next(last: &Version, level: Level) -> Version {
    match level {
        Level::Patch => Version::new(last.major, last.minor, last.patch + 1),
        Level::Minor => Version::new(last.major, last.minor + 1, 0),
        Level::Major => Version::new(last.major + 1, 0, 0),
    }
}

fn told(change: &Change) -> String {
    let Change { name, from, to } = change;
    match (from, to) {
        (Some(from), Some(to)) => format!("{name} {from} -> {to}"),
        (None, Some(to)) => format!("{name} {to} is new"),
        (Some(from), None) => format!("{name} {from} is gone"),
        (None, None) => name.clone(),
    }
}

fn system(change: &Change) -> Option<(Level, String)> {
    match change.name.as_str() {
        "id" | "version_id" | "arch" => Some((Level::Major, format!("base system: {}", told(change)))),
        "base" => Some((Level::Patch, format!("another base image: {}", told(change)))),
        // The kernel is the base image's; the pretty name says what the id says.
        _ => None,
    }
}

fn tool(change: &Change) -> (Level, String) {
    let major = |version: &Option<String>| -> Option<Vec<u64>> {
        let mut parts = version.as_deref()?.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
        let major = parts.next()?;
        // Of a version below 1 the second number is what breaks (Semantic Versioning, item 4).
        Some(if major == 0 { vec![0, parts.next().unwrap_or(0)] } else { vec![major] })
    };
    let level = match (&change.from, &change.to) {
        (_, None) => Level::Major,
        (None, _) => Level::Minor,
        _ if major(&change.from) == major(&change.to) => Level::Patch,
        _ if change.name == "node" => Level::Major,
        _ => Level::Minor,
    };
    (level, told(change))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str, from: &str, to: &str) -> Change {
        let set = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
        Change { name: name.to_owned(), from: set(from), to: set(to) }
    }

    fn level(system: &[Change], tools: &[Change]) -> Option<Level> {
        let packages = vec![change("deb/jq", "1.6", "1.7")];
        required(&Difference {
            system: system.to_vec(),
            tools: tools.to_vec(),
            packages,
            bytes: (1, 1),
            ..Difference::default()
        })
        .level
    }

    #[test]
    fn the_guides_rules_are_applied() {
        assert_eq!(level(&[change("version_id", "22.04", "24.04")], &[]), Some(Level::Major));
        assert_eq!(level(&[], &[change("node", "24.1.0", "26.0.0")]), Some(Level::Major));
        assert_eq!(level(&[], &[change("locus", "1.0.0", "")]), Some(Level::Major));
        assert_eq!(level(&[], &[change("gemini", "", "1.0.0")]), Some(Level::Minor));
        assert_eq!(level(&[], &[change("pm2", "6.0.1", "7.0.4")]), Some(Level::Minor));
        assert_eq!(level(&[], &[change("codex", "0.44.0", "0.45.0")]), Some(Level::Minor));
        assert_eq!(
            level(&[], &[change("claude", "2.1.0", "2.1.9"), change("node", "24.1.0", "24.2.0")]),
            Some(Level::Patch)
        );
        assert_eq!(level(&[change("base", "ami-1", "ami-2"), change("kernel", "6.1", "6.2")], &[]), Some(Level::Patch));
        let nothing = Difference { bytes: (1, 2), ..Difference::default() };
        assert_eq!(required(&nothing).level, None);
    }

    #[test]
    fn the_reason_of_the_highest_level_comes_first() {
        let tools = vec![change("claude", "2.1.0", "2.1.9"), change("node", "24.1.0", "26.0.0")];
        let required = required(&Difference { tools, bytes: (1, 1), ..Difference::default() });
        assert_eq!(required.reasons[0], (Level::Major, "node 24.1.0 -> 26.0.0".to_owned()));
    }

    #[test]
    fn lower_parts_begin_again() {
        let last = Version::new(1, 2, 3);
        let next = |level| next(&last, level).to_string();
        assert_eq!([Level::Patch, Level::Minor, Level::Major].map(next), ["1.2.4", "1.3.0", "2.0.0"]);
    }
}

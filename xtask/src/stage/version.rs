//! The next version of an image: the part of `MAJOR.MINOR.PATCH` that its changes require to be raised, by the rules in
//! `docs/src/reference-image.md#versioning`. Pure.

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::contents::{Change, Difference};

/// The part of a version to raise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Changed packages, minor updates of tools, a newer base image of the same release.
    Patch,
    /// A new tool, or a new major version of one.
    Minor,
    /// Another base release or architecture, another major version of Node.js, a removed tool.
    Major,
}

/// The part of a version that the changes require to be raised, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Required {
    /// The part to raise; `None` if no change requires a new version.
    pub level: Option<Level>,
    /// Each change with the part that it requires to be raised, the highest first.
    pub reasons: Vec<(Level, String)>,
}

impl Level {
    /// The part's name in Semantic Versioning: `MAJOR`, `MINOR` or `PATCH`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Patch => "PATCH",
            Self::Minor => "MINOR",
            Self::Major => "MAJOR",
        }
    }
}

/// Derives the part to raise from the differences between the last release and an image.
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

/// `last` with this part raised by one and the lower parts set to 0.
pub fn next(last: &Version, level: Level) -> Version {
    match level {
        Level::Patch => Version::new(last.major, last.minor, last.patch + 1),
        Level::Minor => Version::new(last.major, last.minor + 1, 0),
        Level::Major => Version::new(last.major + 1, 0, 0),
    }
}

fn describe(change: &Change) -> String {
    let Change { name, from, to } = change;
    match (from, to) {
        (Some(from), Some(to)) => format!("{name} {from} -> {to}"),
        (None, Some(to)) => format!("{name} {to} added"),
        (Some(from), None) => format!("{name} {from} removed"),
        (None, None) => name.clone(),
    }
}

fn system(change: &Change) -> Option<(Level, String)> {
    match change.name.as_str() {
        "id" | "version_id" | "arch" => Some((Level::Major, format!("base system: {}", describe(change)))),
        "base" => Some((Level::Patch, format!("another base image: {}", describe(change)))),
        // The kernel comes with the base image, and the pretty name repeats the id.
        _ => None,
    }
}

fn tool(change: &Change) -> (Level, String) {
    let major = |version: &Option<String>| -> Option<Vec<u64>> {
        let mut parts = version.as_deref()?.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
        let major = parts.next()?;
        // Below version 1.0.0 each minor version may break compatibility (Semantic Versioning 2.0.0, item 4).
        Some(if major == 0 { vec![0, parts.next().unwrap_or(0)] } else { vec![major] })
    };
    let level = match (&change.from, &change.to) {
        (_, None) => Level::Major,
        (None, _) => Level::Minor,
        _ if major(&change.from) == major(&change.to) => Level::Patch,
        _ if change.name == "node" => Level::Major,
        _ => Level::Minor,
    };
    (level, describe(change))
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
    fn each_change_requires_the_documented_part() {
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
    fn lower_parts_are_reset() {
        let last = Version::new(1, 2, 3);
        let next = |level| next(&last, level).to_string();
        assert_eq!([Level::Patch, Level::Minor, Level::Major].map(next), ["1.2.4", "1.3.0", "2.0.0"]);
    }
}

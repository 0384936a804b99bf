//! npm: what is known of a package, and a lock file made anew.

use fs_err as fs;
use jiff::Timestamp;
use semver::Version;
use serde_json::Value;

use super::Known;
use crate::error::{Exit, Result};
use crate::process::Cmd;

/// npm, which gives up soon where there is no network.
fn npm() -> Cmd {
    Cmd::new("npm")
        .args(["--fetch-retries=1", "--fetch-timeout=30000", "--loglevel=error"])
        .hint("is there a network, and npm? `cargo xtask doctor` tells")
}

/// Asks for all releases of a package, with their dates (npm-view(1)).
pub(super) fn known(package: &str) -> Result<Known> {
    // A cache would answer for a registry that cannot be reached.
    let cache = tempfile::tempdir()?;
    let npm = npm().arg("--cache").arg(cache.path());
    let said = npm.args(["view", package, "time", "versions", "dist-tags", "--json"]).read()?;
    read(&said).ok_or_else(|| {
        Exit::Failed.error(format_args!("npm says of {package} what cannot be read"), "`npm view` shows what it says")
    })
}

/// Reads npm's answer. `time` knows withdrawn releases as well, `versions` does not.
fn read(said: &str) -> Option<Known> {
    let said: Value = serde_json::from_str(said).ok()?;
    let times = said["time"].as_object()?;
    // A package with one release has no list.
    let one = said["versions"].as_str().map(|version| vec![Value::from(version)]);
    let versions = one.or_else(|| said["versions"].as_array().cloned())?;
    let release = |version: &Value| -> Option<(Version, Timestamp)> {
        let version = version.as_str()?;
        Some((Version::parse(version).ok()?, times.get(version)?.as_str()?.parse().ok()?))
    };
    let latest = said["dist-tags"]["latest"].as_str().and_then(|latest| Version::parse(latest).ok());
    Some(Known { releases: versions.iter().filter_map(release).collect(), latest })
}

/// The lock file that belongs to a package.json, from the one that was there: as of a day, unless what is pinned is younger itself.
pub(super) fn lock(package: &str, before: &str, day: Timestamp) -> Result<String> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("package.json"), package)?;
    fs::write(folder.path().join("package-lock.json"), before)?;
    // The image is Linux on x86-64, whatever this machine is.
    let options =
        ["install", "--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund", "--os=linux", "--cpu=x64"];
    let npm = || npm().args(options).arg("--omit-lockfile-registry-resolved").dir(folder.path());
    match npm().arg(format!("--before={day}")).read() {
        Ok(_) => {}
        // ETARGET: there is no such version as of that day.
        Err(error) if error.to_string().contains("ETARGET") => {
            npm().read()?;
        }
        Err(error) => return Err(error),
    }
    Ok(fs::read_to_string(folder.path().join("package-lock.json"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_withdrawn_release_is_none() {
        let said = r#"{"time": {"created": "2026-01-01T00:00:00Z", "1.0.0": "2026-01-01T00:00:00.000Z", "1.1.0": "2026-02-01T00:00:00+00:00"},
            "versions": ["1.0.0"], "dist-tags": {"latest": "1.0.0"}}"#;
        let known = read(said).unwrap();
        assert_eq!(known.releases.len(), 1);
        assert_eq!(known.latest, Some(Version::new(1, 0, 0)));
        let one = said.replace(r#"["1.0.0"]"#, r#""1.1.0""#);
        assert_eq!(read(&one).unwrap().releases[0].0, Version::new(1, 1, 0), "npm has no list for one");
        assert!(read("{}").is_none() && read("npm error").is_none());
    }
}

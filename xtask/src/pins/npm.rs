//! Runs npm: queries the releases of a package, and updates a lock file.

use fs_err as fs;
use jiff::Timestamp;
use semver::Version;
use serde_json::Value;

use super::Known;
use crate::error::{Exit, Result};
use crate::process::Cmd;

/// An npm command that fails after about a minute without a network.
fn npm() -> Cmd {
    Cmd::new("npm")
        .args(["--fetch-retries=1", "--fetch-timeout=30000", "--loglevel=error"])
        .hint("check the network connection, and run `cargo xtask doctor` to check that npm is installed")
}

/// Queries all releases of a package with their dates (npm-view(1)).
pub(super) fn known(package: &str) -> Result<Known> {
    // With the user's cache npm would return cached data if the registry cannot be reached.
    let cache = tempfile::tempdir()?;
    let npm = npm().arg("--cache").arg(cache.path());
    let output = npm.args(["view", package, "time", "versions", "dist-tags", "--json"]).read()?;
    read(&output).ok_or_else(|| {
        Exit::Failed.error(
            format_args!("cannot parse the output of `npm view {package}`"),
            format_args!("run `npm view {package} time versions dist-tags --json` by hand"),
        )
    })
}

/// Parses the output of `npm view`. `time` has withdrawn releases as well, `versions` does not.
fn read(output: &str) -> Option<Known> {
    let output: Value = serde_json::from_str(output).ok()?;
    let times = output["time"].as_object()?;
    // For a package with one release `versions` is a string instead of a list.
    let one = output["versions"].as_str().map(|version| vec![Value::from(version)]);
    let versions = one.or_else(|| output["versions"].as_array().cloned())?;
    let release = |version: &Value| -> Option<(Version, Timestamp)> {
        let version = version.as_str()?;
        Some((Version::parse(version).ok()?, times.get(version)?.as_str()?.parse().ok()?))
    };
    let latest = output["dist-tags"]["latest"].as_str().and_then(|latest| Version::parse(latest).ok());
    Some(Known { releases: versions.iter().filter_map(release).collect(), latest })
}

/// The lock file of a package.json, based on the previous lock file. Dependencies are resolved as of `day`, or as of now if a pinned
/// version is younger than that.
pub(super) fn lock(package: &str, before: &str, day: Timestamp) -> Result<String> {
    let dir = tempfile::tempdir()?;
    fs::write(dir.path().join("package.json"), package)?;
    fs::write(dir.path().join("package-lock.json"), before)?;
    // Resolve for the platform of the image, not of this machine.
    let options =
        ["install", "--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund", "--os=linux", "--cpu=x64"];
    let npm = || npm().args(options).arg("--omit-lockfile-registry-resolved").dir(dir.path());
    match npm().arg(format!("--before={day}")).read() {
        Ok(_) => {}
        // ETARGET: a version did not exist on that day (npm error codes).
        Err(error) if error.to_string().contains("ETARGET") => {
            npm().read()?;
        }
        Err(error) => return Err(error),
    }
    Ok(fs::read_to_string(dir.path().join("package-lock.json"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn withdrawn_releases_are_ignored() {
        let output = r#"{"time": {"created": "2026-01-01T00:00:00Z", "1.0.0": "2026-01-01T00:00:00.000Z", "1.1.0": "2026-02-01T00:00:00+00:00"},
            "versions": ["1.0.0"], "dist-tags": {"latest": "1.0.0"}}"#;
        let known = read(output).unwrap();
        assert_eq!(known.releases.len(), 1);
        assert_eq!(known.latest, Some(Version::new(1, 0, 0)));
        let one = output.replace(r#"["1.0.0"]"#, r#""1.1.0""#);
        assert_eq!(read(&one).unwrap().releases[0].0, Version::new(1, 1, 0), "one version is a string, not a list");
        assert!(read("{}").is_none() && read("npm error").is_none());
    }
}

//! Checks pins: end-of-life and review dates, lock files, and whether the smoke spec requires the pinned versions.

use std::collections::BTreeMap;
use std::path::Path;

use fs_err as fs;
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::Value;

use super::{Finding, line_of};
use crate::error::{Exit, Result};
use crate::recipe::Digest;

/// The file with the pinned versions that no lock file contains.
pub const PINS: &str = "scripts/pins.json";
const PACKAGE: &str = "scripts/npm/package.json";
const LOCK: &str = "scripts/npm/package-lock.json";
/// The lock file of Aider's Python packages.
const WHEELS: &str = "scripts/pip/aider/requirements.txt";
/// Days before its end of life from which a version causes a warning.
const NOTICE_DAYS: i32 = 90;

/// One pinned version.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The exact version, or a release series whose exact versions the distribution determines.
    pub version: String,
    /// The date after which `validate` warns that the pin must be reviewed.
    pub review_at: Date,
    /// The date on which upstream support ends.
    #[serde(default)]
    pub eol: Option<Date>,
    /// The reason for this version.
    pub reason: String,
    /// SHA-256 digest of the download, if no lock file has it.
    #[serde(default)]
    pub sha256: Option<Digest>,
}

/// Reads [`PINS`].
pub fn read(root: &Path) -> Result<BTreeMap<String, Pin>> {
    let text = fs::read_to_string(root.join(PINS))?;
    serde_json::from_str(&text).map_err(|e| {
        Exit::Usage.error(
            format_args!("{PINS}:{}: {e}", e.line()),
            "give each pin version, review_at and reason, optionally eol and sha256; write dates as YYYY-MM-DD",
        )
    })
}

/// Checks the dates of [`PINS`].
pub fn check(root: &Path, today: Date) -> Result<Vec<Finding>> {
    let text = fs::read_to_string(root.join(PINS))?;
    Ok(dates(&read(root)?, &text, today))
}

fn dates(pins: &BTreeMap<String, Pin>, text: &str, today: Date) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, pin) in pins {
        let line = line_of(text, &format!("\"{name}\":"));
        if let Some(eol) = pin.eol {
            let days = (eol - today).get_days();
            if eol <= today {
                findings.push(Finding::error(
                    "pins",
                    PINS,
                    line,
                    format!("{name} {} is past its end of life ({eol})", pin.version),
                    "pin a supported version",
                ));
            } else if days <= NOTICE_DAYS {
                findings.push(Finding::warning(
                    "pins",
                    PINS,
                    line,
                    format!("{name} {} reaches its end of life in {days} days ({eol})", pin.version),
                    "plan the next version",
                ));
            }
        }
        if pin.review_at < today {
            let message = format!("the review of {name} {} was due on {}", pin.version, pin.review_at);
            findings.push(Finding::warning(
                "pins",
                PINS,
                line,
                message,
                "check for a newer version, then move review_at",
            ));
        }
    }
    findings
}

/// Checks that package.json has exact versions, and that its lock file has the same ones with hashes.
pub fn lock(root: &Path) -> Result<Vec<Finding>> {
    let read = |name: &str| -> Result<Value> {
        let text = fs::read_to_string(root.join(name))?;
        serde_json::from_str(&text).map_err(|e| {
            Exit::Usage.error(format_args!("{name}: {e}"), "run `npm install --package-lock-only` to write it again")
        })
    };
    Ok(lock_findings(&read(PACKAGE)?, &read(LOCK)?))
}

fn lock_findings(package: &Value, lock: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut error = |file: &str, message: String| {
        let hint = "pin the exact version in package.json and run `npm install --package-lock-only` in scripts/npm";
        findings.push(Finding::error("lock", file, None, message, hint));
    };
    let entries = lock["packages"].as_object().cloned().unwrap_or_default();
    for (name, version) in package["dependencies"].as_object().into_iter().flatten() {
        let version = version.as_str().unwrap_or_default();
        if semver::Version::parse(version).is_err() {
            error(PACKAGE, format!("{name}: `{version}` is not an exact version"));
        }
        let locked = entries.get(&format!("node_modules/{name}")).and_then(|e| e["version"].as_str());
        if locked != Some(version) {
            error(
                LOCK,
                format!("{name} is {version} in package.json and {} in the lock file", locked.unwrap_or("missing")),
            );
        }
    }
    for (path, entry) in entries.iter().filter(|(path, _)| !path.is_empty()) {
        if entry["integrity"].as_str().is_none_or(|i| !i.starts_with("sha512-")) {
            error(LOCK, format!("{path} has no sha512 integrity hash"));
        }
        if entry["resolved"].as_str().is_some_and(|r| !r.starts_with("https://")) {
            error(LOCK, format!("{path} is not downloaded from a registry over HTTPS"));
        }
    }
    findings
}

/// Checks that pip's requirements have exact versions with hashes, and the pinned version of Aider.
pub fn wheels(root: &Path) -> Result<Vec<Finding>> {
    let pinned = read(root)?.get("aider").map(|pin| pin.version.clone());
    Ok(wheel_findings(&fs::read_to_string(root.join(WHEELS))?, pinned.as_deref()))
}

fn wheel_findings(text: &str, pinned: Option<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut error = |line: usize, message: String| {
        let hint = "write the file again as the comment at its top describes";
        findings.push(Finding::error("lock", WHEELS, Some(line), message, hint));
    };
    // A requirement and its hashes are one logical line: backslashes continue it.
    let lines: Vec<(usize, &str)> = text.lines().enumerate().map(|(n, l)| (n + 1, l.trim_end())).collect();
    let starts = lines.iter().filter(|(_, l)| !l.is_empty() && !l.starts_with(['#', ' ']));
    for (number, line) in starts {
        let requirement = line.trim_end_matches(['\\', ' ']);
        let Some((name, version)) = requirement.split_once("==") else {
            error(*number, format!("`{requirement}` is not an exact version"));
            continue;
        };
        let hashed = lines.get(*number).is_some_and(|(_, next)| next.trim_start().starts_with("--hash=sha256:"));
        if !line.ends_with('\\') || !hashed {
            error(*number, format!("{name} has no sha256 hash"));
        }
        if name == "aider-chat" && Some(version) != pinned {
            error(*number, format!("aider-chat is {version} here and {} in {PINS}", pinned.unwrap_or("missing")));
        }
    }
    findings
}

/// Compares the version requirements of the smoke spec's tools with the pins. The pinned version must satisfy them, and a pinned tool must
/// have one.
pub fn spec(root: &Path, spec: &Path) -> Result<Vec<Finding>> {
    let pins = read(root)?;
    let package: Value = serde_json::from_str(&fs::read_to_string(root.join(PACKAGE))?).unwrap_or_default();
    let text = fs::read_to_string(root.join(spec))?;
    let parsed = match smoke::spec::parse(&text) {
        Ok(parsed) => parsed,
        Err(error) => {
            return Ok(vec![Finding::error(
                "smoke",
                spec,
                error.line,
                error.message,
                "see `smoke --help` for the format of the spec",
            )]);
        }
    };
    let mut findings = Vec::new();
    for tool in &parsed.tools {
        let npm = package["dependencies"].as_object().and_then(|d| {
            let name = tool.package.as_deref().unwrap_or(&tool.name);
            d.get(name).and_then(Value::as_str).map(str::to_owned)
        });
        let Some(pinned) = npm.or_else(|| pins.get(&tool.name).map(|p| p.version.clone())) else { continue };
        let Some(requirement) = &tool.version else {
            findings.push(Finding::error(
                "smoke",
                spec,
                line_of(&text, &format!("name = \"{}\"", tool.name)),
                format!("{} is pinned to {pinned} but the spec accepts any version", tool.name),
                "add a version requirement",
            ));
            continue;
        };
        if !smoke::version::satisfies(&pinned, requirement) {
            let message = format!("the spec requires {} {requirement}, but {pinned} is pinned", tool.name);
            findings.push(Finding::error(
                "smoke",
                spec,
                line_of(&text, &format!("name = \"{}\"", tool.name)),
                message,
                "change the requirement together with the pin",
            ));
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn dates_are_compared_with_today() {
        let text = r#"{"node": {"version": "20", "review_at": "2026-10-01", "eol": "2026-04-30", "reason": "x"}, "npm": {"version": "11", "review_at": "2027-01-01", "eol": "2026-12-31", "reason": "x"}}"#;
        let pins = serde_json::from_str(text).unwrap();
        let messages: Vec<String> =
            dates(&pins, text, "2026-11-21".parse().unwrap()).into_iter().map(|f| f.message).collect();
        let expected = [
            "node 20 is past its end of life (2026-04-30)",
            "the review of node 20 was due on 2026-10-01",
            "npm 11 reaches its end of life in 40 days (2026-12-31)",
        ];
        assert_eq!(messages, expected);
    }

    #[test]
    fn wheels_need_exact_versions_hashes_and_the_pinned_aider() {
        let good = "# Made by.\naider-chat==1.0.0 \\\n    --hash=sha256:aa\nnumpy==2.0 ; python_version < '3.13' \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n";
        assert!(wheel_findings(good, Some("1.0.0")).is_empty());
        let messages = |text: &str| {
            wheel_findings(text, Some("1.0.1")).into_iter().map(|f| (f.line, f.message)).collect::<Vec<_>>()
        };
        let expected = [
            (Some(2), "aider-chat is 1.0.0 here and 1.0.1 in scripts/pins.json".to_owned()),
            (Some(7), "loose has no sha256 hash".to_owned()),
            (Some(8), "`any` is not an exact version".to_owned()),
        ];
        assert_eq!(messages(&format!("{good}loose==1.0\nany\n")), expected);
    }

    #[test]
    fn a_loose_or_unlocked_dependency_is_found() {
        let package = json!({ "dependencies": { "a": "1.0.0", "b": "^2.0.0", "c": "3.0.0" } });
        let lock = json!({ "packages": {
            "": {},
            "node_modules/a": { "version": "1.0.0", "integrity": "sha512-x" },
            "node_modules/b": { "version": "2.1.0", "integrity": "sha512-x" },
            "node_modules/c": { "version": "3.0.0", "resolved": "git+ssh://x" },
        } });
        let messages: Vec<String> = lock_findings(&package, &lock).into_iter().map(|f| f.message).collect();
        let expected = [
            "b: `^2.0.0` is not an exact version",
            "b is ^2.0.0 in package.json and 2.1.0 in the lock file",
            "node_modules/c has no sha512 integrity hash",
            "node_modules/c is not downloaded from a registry over HTTPS",
        ];
        assert_eq!(messages, expected);
    }
}

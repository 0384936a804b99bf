//! The report of a smoke test, and its formats: terminal, JSON, JUnit XML, TAP.

use std::fmt;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::boot::Boot;

/// Outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The instance meets the spec.
    Pass,
    /// The instance does not meet the spec, or the check did not finish before its timeout.
    Fail,
    /// Failed, but an `[[override]]` of the spec excludes it until a date.
    Quarantined,
    /// Failed because another check failed; only that one counts as failed.
    Skipped,
}

/// Result of a check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Name of the check; names are stable across versions.
    pub name: String,
    /// Whether it passed.
    pub outcome: Outcome,
    /// Wall time in seconds.
    pub seconds: f64,
    /// What was found, or why the check failed, in one line.
    pub message: String,
}

/// One run of the smoke binary, on one boot of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of the format: 1.
    pub schema: u32,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// SHA-256 fingerprints of the SSH host keys, sorted.
    pub host_keys: Vec<String>,
    /// `ID VERSION_ID` of /etc/os-release.
    pub os: String,
    /// The checks, in the order of the spec.
    pub checks: Vec<Check>,
    /// Wall time of the whole run in seconds.
    pub wall_seconds: f64,
    /// Wall time of the slowest check in seconds.
    pub slowest_seconds: f64,
    /// Boot times; absent if they were not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
}

impl Report {
    /// True if the report has checks and none failed. Quarantined and skipped checks count as not failed.
    pub fn passed(&self) -> bool {
        !self.checks.is_empty() && self.failed().is_empty()
    }

    /// Names of the checks that failed.
    pub fn failed(&self) -> Vec<&str> {
        self.checks.iter().filter(|c| c.outcome == Outcome::Fail).map(|c| c.name.as_str()).collect()
    }

    /// The report in the format `terminal`, `json`, `junit` or `tap`; `None` for another name.
    pub fn render(&self, format: &str) -> Option<String> {
        match format {
            "terminal" => Some(self.terminal()),
            "json" => serde_json::to_string(self).ok(),
            "junit" => Some(self.junit()),
            "tap" => Some(self.tap()),
            _ => None,
        }
    }

    fn terminal(&self) -> String {
        let mut out = String::new();
        let width = self.checks.iter().map(|c| c.name.len()).max().unwrap_or(0);
        // Writing to a String cannot fail.
        for check in &self.checks {
            let _ = writeln!(
                out,
                "{:11} {:width$} {:>7.2} s  {}",
                check.outcome.to_string(),
                check.name,
                check.seconds,
                check.message
            );
        }
        let count = |outcome| self.checks.iter().filter(|c| c.outcome == outcome).count();
        let _ = write!(out, "{} passed, {} failed", count(Outcome::Pass), count(Outcome::Fail));
        for outcome in [Outcome::Quarantined, Outcome::Skipped] {
            let _ = if count(outcome) > 0 { write!(out, ", {} {outcome}", count(outcome)) } else { Ok(()) };
        }
        let _ = writeln!(out, " in {:.1} s", self.wall_seconds);
        if let Some(boot) = &self.boot {
            let _ = writeln!(out, "boot: {}", boot.line());
        }
        out
    }

    /// JUnit XML, the subset that CI systems read.
    fn junit(&self) -> String {
        let skipped =
            self.checks.iter().filter(|c| matches!(c.outcome, Outcome::Quarantined | Outcome::Skipped)).count();
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let _ = writeln!(
            out,
            "<testsuite name=\"smoke\" tests=\"{}\" failures=\"{}\" skipped=\"{skipped}\" time=\"{:.3}\">",
            self.checks.len(),
            self.failed().len(),
            self.wall_seconds
        );
        for check in &self.checks {
            let _ = write!(out, "  <testcase name=\"{}\" time=\"{:.3}\"", xml(&check.name), check.seconds);
            let _ = match check.outcome {
                Outcome::Pass => writeln!(out, "/>"),
                Outcome::Fail => writeln!(out, "><failure message=\"{}\"/></testcase>", xml(&check.message)),
                Outcome::Quarantined | Outcome::Skipped => {
                    writeln!(out, "><skipped message=\"{}\"/></testcase>", xml(&check.message))
                }
            };
        }
        out.push_str("</testsuite>\n");
        out
    }

    /// TAP version 14 (testanything.org).
    fn tap(&self) -> String {
        let mut out = format!("TAP version 14\n1..{}\n", self.checks.len());
        for (i, check) in self.checks.iter().enumerate() {
            let (ok, todo) = match check.outcome {
                Outcome::Pass => ("ok", ""),
                Outcome::Fail => ("not ok", ""),
                Outcome::Quarantined => ("not ok", " # TODO quarantined"),
                Outcome::Skipped => ("ok", " # SKIP"),
            };
            let _ = writeln!(out, "{ok} {} - {}{todo}", i + 1, check.name);
            if check.outcome != Outcome::Pass {
                let _ = writeln!(out, "  ---\n  message: {:?}\n  ...", check.message);
            }
        }
        out
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Quarantined => "quarantined",
            Self::Skipped => "skipped",
        })
    }
}

/// Escapes text for an XML attribute and replaces characters that XML 1.0 forbids with `?`.
fn xml(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(' '),
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let check = |name: &str, outcome, message: &str| Check {
            name: name.to_owned(),
            outcome,
            seconds: 0.5,
            message: message.to_owned(),
        };
        Report {
            schema: 1,
            boot_id: "b".to_owned(),
            host_keys: vec![],
            os: "debian 13".to_owned(),
            checks: vec![
                check("tool-git", Outcome::Pass, "2.47.3"),
                check("ufw-active", Outcome::Fail, "Status: \"<off>\""),
                check("disk-free", Outcome::Quarantined, "until 2026-12-31"),
            ],
            wall_seconds: 1.0,
            slowest_seconds: 0.5,
            boot: Some(Boot { kernel: Some(6.125), ..Boot::default() }),
        }
    }

    #[test]
    fn report_without_checks_does_not_pass() {
        assert!(!Report { checks: vec![], ..report() }.passed());
        assert!(!report().passed());
        let good = Report { checks: vec![report().checks[0].clone(), report().checks[2].clone()], ..report() };
        assert!(good.passed(), "a quarantined failure does not count");
    }

    #[test]
    fn junit_and_tap() {
        let junit = report().render("junit").unwrap();
        assert!(junit.contains(r#"tests="3" failures="1" skipped="1""#));
        assert!(junit.contains(r#"<failure message="Status: &quot;&lt;off&gt;&quot;"/>"#), "{junit}");
        let tap = report().render("tap").unwrap();
        assert!(tap.starts_with("TAP version 14\n1..3\nok 1 - tool-git\nnot ok 2 - ufw-active\n"), "{tap}");
        assert!(tap.contains("not ok 3 - disk-free # TODO quarantined"));
    }

    #[test]
    fn json_round_trip() {
        let text = report().render("json").unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report());
    }

    #[test]
    fn report_without_boot_times_is_read() {
        let old = Report { boot: None, ..report() };
        let text = old.render("json").unwrap();
        assert!(!text.contains("\"boot\""), "{text}");
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), old);
    }
}

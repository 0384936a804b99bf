//! The checks of `validate`. They read the project's files and return findings; they change nothing but a cache.

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::error::Result;
use crate::event::Event;
use crate::recipe::Digest;

pub mod hcl;
pub mod inputs;
pub mod pins;
pub mod scripts;
pub mod workflows;

/// Severity of a finding. `validate` fails if one is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Must be fixed.
    Error,
    /// Should be reviewed.
    Warning,
}

/// A problem that a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether the finding is an error or a warning.
    pub severity: Severity,
    /// Name of the check or tool that found it.
    pub check: &'static str,
    /// The file, relative to the project.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: Option<usize>,
    /// The problem, as a fragment without a full stop.
    pub message: String,
    /// How to fix it, in the imperative.
    pub hint: String,
}

impl Finding {
    /// A finding with [`Severity::Error`].
    pub fn error(
        check: &'static str,
        file: impl Into<PathBuf>,
        line: Option<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Error, check, file: file.into(), line, message: message.into(), hint: hint.into() }
    }

    /// A finding with [`Severity::Warning`].
    pub fn warning(
        check: &'static str,
        file: impl Into<PathBuf>,
        line: Option<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::error(check, file, line, message, hint) }
    }

    /// The finding as an event.
    pub fn event(&self) -> Event {
        Event::Finding {
            severity: if self.severity == Severity::Error { "error" } else { "warning" }.to_owned(),
            check: self.check.to_owned(),
            file: Some(self.file.clone()),
            line: self.line,
            column: None,
            message: self.message.clone(),
            hint: self.hint.clone(),
        }
    }
}

/// A cache of the inputs in which a slow tool found nothing, so that a second `validate` does not run the tool on them.
#[derive(Debug)]
pub struct Clean {
    dir: PathBuf,
}

impl Clean {
    /// The findings of `ask`, which is not called if it found nothing in exactly these parts before. The parts include the tool's version.
    pub fn unless_known<'a>(
        &self,
        parts: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        ask: impl FnOnce() -> Result<Vec<Finding>>,
    ) -> Result<Vec<Finding>> {
        let known = self.dir.join(Digest::of_parts(parts).to_string());
        if known.exists() {
            return Ok(Vec::new());
        }
        let findings = ask()?;
        if findings.is_empty() {
            fs_err::create_dir_all(&self.dir)?;
            fs_err::write(known, "")?;
        }
        Ok(findings)
    }
}

/// Runs all checks of the project in `root`. `commands` parses the command lines of workflows.
pub fn all(
    root: &Path,
    config: &Config,
    today: jiff::civil::Date,
    commands: workflows::Commands<'_>,
) -> Result<Vec<Finding>> {
    let clean = Clean { dir: root.join(&config.local.state_dir).join("clean") };
    let mut findings = pins::check(root, today)?;
    findings.extend(pins::lock(root)?);
    findings.extend(pins::wheels(root)?);
    for image in config.images.values() {
        findings.extend(pins::spec(root, &image.smoke)?);
        // The format of a template from elsewhere is not the project's.
        if let Some(template) = image.template.in_project() {
            findings.extend(hcl::check(root, &template, &config.packer.binary_path, &clean)?);
        }
    }
    findings.extend(scripts::check(root, &clean)?);
    findings.extend(workflows::check(root, config, &clean, commands)?);
    Ok(findings)
}

/// The line of the first occurrence of `needle`, from 1.
fn line_of(text: &str, needle: &str) -> Option<usize> {
    text.find(needle).map(|at| text[..at].matches('\n').count() + 1)
}

//! The checks behind `validate`: files in, findings out. Nothing is built and nothing is changed.

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

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Must be fixed.
    Error,
    /// Should be looked at.
    Warning,
}

/// Something a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Which check found it.
    pub check: &'static str,
    /// The file, relative to the project.
    pub file: PathBuf,
    /// Line from 1.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What fixes it.
    pub hint: String,
}

impl Finding {
    /// An error.
    pub fn error(
        check: &'static str,
        file: impl Into<PathBuf>,
        line: Option<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Error, check, file: file.into(), line, message: message.into(), hint: hint.into() }
    }

    /// A warning.
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

/// Remembers what a slow tool found nothing in: `validate` must be quick the second time.
#[derive(Debug)]
pub struct Clean {
    dir: PathBuf,
}

impl Clean {
    /// What `ask` finds, unless it found nothing in exactly these parts before. The tool's version is one of the parts.
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

/// Runs every check of the project in `root`.
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
        findings.extend(hcl::check(root, Path::new(&image.template), &config.packer.binary_path, &clean)?);
    }
    findings.extend(scripts::check(root, &clean)?);
    findings.extend(workflows::check(root, config, &clean, commands)?);
    Ok(findings)
}

/// The line of the first occurrence of `needle`, from 1.
fn line_of(text: &str, needle: &str) -> Option<usize> {
    text.find(needle).map(|at| text[..at].matches('\n').count() + 1)
}

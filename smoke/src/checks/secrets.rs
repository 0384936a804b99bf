//! Searches files for text with the format of a secret, wherever a build may have written one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use regex_lite::Regex;

use crate::check::{Check, CheckResult, Host};

/// Directories that are searched, besides the homes below /home and /var/lib/agent-ami.
const PLACES: [&str; 7] = ["/etc", "/root", "/opt", "/srv", "/usr/local", "/var/lib/cloud", "/var/lib/amazon"];
/// Larger files, in bytes, are not read: a build writes no text of this size.
const MAX_FILE: u64 = 1 << 20;

/// A kind of secret: its name, literals of which each such secret has one, and its pattern.
type Kind<P> = (&'static str, &'static [&'static str], P);

/// Kinds of secrets, as their issuers document them (docs.github.com, "Secret scanning patterns"; RFC 7468 for keys).
const KINDS: [Kind<&str>; 12] = [
    ("a private key", &["PRIVATE KEY-----"], r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    ("an AWS access key", &["AKIA", "ASIA"], r"\b(AKIA|ASIA)[A-Z2-7]{16}\b"),
    ("an AWS secret key", &["ecret", "ECRET"], r"(?i)aws_?secret_?access_?key\W{1,4}[A-Za-z0-9/+]{40}\b"),
    ("an Anthropic key", &["sk-ant-"], r"\bsk-ant-[A-Za-z0-9_-]{20,}"),
    ("an OpenAI key", &["sk-"], r"\bsk-(proj-|svcacct-)?[A-Za-z0-9_-]{32,}"),
    ("a Google key", &["AIza"], r"\bAIza[A-Za-z0-9_-]{35}"),
    ("an xAI key", &["xai-"], r"\bxai-[A-Za-z0-9]{40,}"),
    (
        "a GitHub token",
        &["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"],
        r"\b(gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})",
    ),
    ("a GitLab token", &["glpat-"], r"\bglpat-[A-Za-z0-9_-]{20,}"),
    ("an npm token", &["npm_"], r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("a Slack token", &["xox"], r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    ("a password in a URL", &["://"], r"\b[a-z][a-z0-9+.-]*://[^\s/:@'\x22<>{}$]+:[^\s/@'\x22<>{}$]+@[A-Za-z0-9\[]"),
];

/// Bytes before and after a literal that the pattern is applied to.
const CONTEXT: usize = 300;

pub(super) fn all(check: bool) -> Vec<Check> {
    if check { vec![Check::new("residue-secrets", secrets)] } else { vec![] }
}

fn secrets(host: &Host) -> CheckResult {
    let kinds = kinds()?;
    let passwd = host.database("passwd")?;
    let homes = passwd
        .lines()
        .filter_map(|l| l.split(':').nth(5))
        .filter(|h| h.starts_with("/home/") || h.starts_with("/var/lib/agent"));
    let places: BTreeSet<PathBuf> = PLACES.into_iter().chain(homes).map(PathBuf::from).collect();
    let (mut found, mut read) = (Vec::new(), 0_usize);
    for place in places {
        each_file(&place, &mut |file| {
            if Instant::now() > host.deadline {
                return Err(format!("read only {read} files before the deadline"));
            }
            read += 1;
            let Ok(bytes) = fs::read(file) else { return Ok(()) };
            let text = String::from_utf8_lossy(&bytes);
            let kinds = kinds_in(&kinds, &text).into_iter().filter(|kind| !is_own(file, kind));
            found.extend(kinds.map(|kind| format!("{} has {kind}", file.display())));
            Ok(())
        })?;
    }
    if found.is_empty() {
        return Ok(format!("none in {read} files"));
    }
    Err(found.join("; ").into())
}

fn kinds() -> Result<Vec<Kind<Regex>>, String> {
    let compiled =
        |(name, parts, pattern): Kind<&str>| Ok((name, parts, Regex::new(pattern).map_err(|e| e.to_string())?));
    KINDS.into_iter().map(compiled).collect()
}

/// The kinds of secrets in a text.
fn kinds_in(kinds: &[Kind<Regex>], text: &str) -> Vec<&'static str> {
    let matches = |(_, parts, pattern): &&Kind<Regex>| {
        // Patterns are slow and the files are many, so a pattern is applied only to the text around one of its literals.
        parts.iter().any(|part| text.match_indices(part).any(|(at, _)| pattern.is_match(around(text, at))))
    };
    kinds.iter().filter(matches).map(|(name, ..)| *name).collect()
}

/// The text around a position, within its line.
fn around(text: &str, at: usize) -> &str {
    let (before, after) = text.split_at(at);
    let start = before.rfind('\n').map_or(0, |n| n + 1).max(at.saturating_sub(CONTEXT));
    let end = after.find('\n').map_or(text.len(), |n| at + n).min(at + CONTEXT);
    let start = (start..=at).find(|n| text.is_char_boundary(*n)).unwrap_or(at);
    let end = (at..=end).rev().find(|n| text.is_char_boundary(*n)).unwrap_or(at);
    &text[start..end]
}

/// True for the private keys that the instance generates at its first boot.
fn is_own(file: &Path, kind: &str) -> bool {
    let path = file.to_string_lossy();
    let own = ["/etc/ssh/ssh_host_", "/etc/ssl/private/ssl-cert-snakeoil.key", "/var/lib/amazon/ssm/"];
    kind == "a private key" && own.iter().any(|start| path.starts_with(start))
}

/// Calls `each` with every file that may be text; symbolic links are not followed. Of npm and Python packages, only the files that record
/// where a package was downloaded from are read, because the content of the packages is public.
fn each_file(path: &Path, each: &mut dyn FnMut(&Path) -> Result<(), String>) -> Result<(), String> {
    let Ok(about) = fs::symlink_metadata(path) else { return Ok(()) };
    if about.is_file() {
        return if about.len() <= MAX_FILE || is_lock_file(path) { each(path) } else { Ok(()) };
    }
    if !about.is_dir() {
        return Ok(());
    }
    let name = path.file_name().unwrap_or_default();
    if name == "node_modules" {
        return each_file(&path.join(".package-lock.json"), each);
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let entry = entry.path();
        // pip records the origin of a package there (PEP 610).
        let entry = if name == "site-packages" { entry.join("direct_url.json") } else { entry };
        each_file(&entry, each)?;
    }
    Ok(())
}

fn is_lock_file(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "package-lock.json" || name == ".package-lock.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&'static str> {
        kinds_in(&kinds().unwrap(), text)
    }

    #[test]
    fn secrets_by_format() {
        let many = |c: &str, n| c.repeat(n);
        for (text, kind) in [
            (format!("ANTHROPIC_API_KEY=sk-ant-{}", many("a1", 12)), "an Anthropic key"),
            (format!("key: ghp_{}", many("Ab", 18)), "a GitHub token"),
            (format!("AKIA{}", many("Q", 16)), "an AWS access key"),
            ("\"resolved\": \"http://deploy:SECRET-PW@127.0.0.1:8765/locus.tgz\"".to_owned(), "a password in a URL"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(), "a private key"),
        ] {
            assert!(found(&text).contains(&kind), "{text}: {:?}", found(&text));
        }
    }

    #[test]
    fn secret_in_a_long_line() {
        let long = format!("{}é https://deploy:pw@host/x {}", "a".repeat(5000), "b".repeat(5000));
        assert_eq!(found(&long), ["a password in a URL"]);
    }

    #[test]
    fn text_without_secrets() {
        for text in [
            "https://example.org:8080/x",
            "sk-",
            "git@github.com:a/b",
            "http://$USER:$PASS@host",
            "mirror+file:/etc/apt/x",
            "AKIA",
        ] {
            assert!(found(text).is_empty(), "{text}: {:?}", found(text));
        }
    }
}

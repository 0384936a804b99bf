//! Scripts: strict mode, one purpose, shellcheck-clean.

use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::Deserialize;

use super::{Clean, Finding};
use crate::error::Result;
use crate::process::Cmd;

/// Longest script; beyond it, it has more than one purpose.
const MAX_LINES: usize = 99;

/// Checks every `*.sh` below `scripts/`; their tests, `*.bats`, are for shellcheck alone.
pub fn check(root: &Path, clean: &Clean) -> Result<Vec<Finding>> {
    let mut files = Vec::new();
    collect(&root.join("scripts"), &mut files)?;
    files.sort();
    let mut findings = Vec::new();
    let mut texts = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file)?;
        let name = file.strip_prefix(root).unwrap_or(file);
        if !is(file, "sh") {
            texts.push((name.display().to_string(), text));
            continue;
        }
        findings.extend(rules(name, &text, executable(file)?));
        let parsed = Cmd::new("bash").arg("-n").arg(file).output()?;
        if parsed.code != 0 {
            findings.push(Finding::error("scripts", name, None, parsed.stderr.trim(), "fix the syntax"));
        }
        texts.push((name.display().to_string(), text));
    }
    findings.extend(shellcheck(root, &files, &texts, clean)?);
    Ok(findings)
}

/// What can be said from the text alone. Files in a `lib` folder are sourced: they set no options of their caller. Those in `agent`
/// are run by root as they lie on an instance: by the shell that no PATH chooses and no variable enters (bash(1), `-p`).
fn rules(name: &Path, text: &str, executable: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let within = |folder: &str| name.components().any(|c| c.as_os_str() == folder);
    let library = within("lib");
    let shebang = if within("agent") { "#!/bin/bash -p" } else { "#!/usr/bin/env bash" };
    let lines = text.lines().count();
    let mut error =
        |line, message: String, hint: &str| findings.push(Finding::error("scripts", name, line, message, hint));
    if lines > MAX_LINES {
        error(None, format!("{lines} lines, more than {MAX_LINES}"), "split it by purpose");
    }
    if text.lines().next() != Some(shebang) && !library {
        error(Some(1), format!("the first line is not {shebang}"), "every script says what runs it");
    }
    if !text.lines().any(|l| l == "set -euo pipefail") && !library {
        error(None, "no `set -euo pipefail`".to_owned(), "add it below the head comment");
    }
    if !text.lines().nth(1).is_some_and(|l| l.starts_with("# ")) {
        error(Some(2), "the second line does not say what it is for".to_owned(), "write it as a comment");
    }
    for (number, line) in text.lines().enumerate() {
        let program = |part: &str| part.split_whitespace().find(|w| *w != "sudo").map(str::to_owned);
        if line.split('|').skip(1).any(|part| matches!(program(part).as_deref(), Some("sh" | "bash"))) {
            let what = "what comes from elsewhere is piped into a shell".to_owned();
            error(Some(number + 1), what, "fetch it, check its hash or signature, then run it");
        }
    }
    if within("provision") {
        for (number, line) in text.lines().enumerate() {
            if let Some((what, hint)) = exit_code_lies(line) {
                error(Some(number + 1), what.to_owned(), hint);
            }
        }
    }
    if !executable && !library {
        error(None, "not executable".to_owned(), "chmod +x");
    }
    findings
}

/// Commands whose exit code does not say whether they did what they are for.
fn exit_code_lies(line: &str) -> Option<(&'static str, &'static str)> {
    let mut words = line.split_whitespace();
    match (words.next()?, words.find(|word| !word.starts_with('-'))?) {
        ("systemctl", "reload" | "reload-or-restart") => Some((
            "a unit that is not running cannot be reloaded, and need not be",
            "write `systemctl try-reload-or-restart UNIT`",
        )),
        ("apt-get", "update" | "upgrade" | "dist-upgrade" | "install") => Some((
            "apt-get ends with 0 though an archive could not be read or an update was kept back",
            "write `apt_get`, `apt_upgrade` or `apt_install` of scripts/lib/common.sh",
        )),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Comment {
    file: PathBuf,
    line: usize,
    code: u32,
    message: String,
}

fn shellcheck(root: &Path, files: &[PathBuf], texts: &[(String, String)], clean: &Clean) -> Result<Vec<Finding>> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let Ok(version) = Cmd::new("shellcheck").arg("--version").output() else {
        let hint = "`cargo xtask doctor --install` brings it";
        return Ok(vec![Finding::warning(
            "scripts",
            "scripts",
            None,
            "shellcheck is not here: the scripts were not looked at by it",
            hint,
        )]);
    };
    let scripts = texts.iter().map(|(name, text)| (name.as_str(), text.as_bytes()));
    clean.unless_known(scripts.chain([("shellcheck", version.stdout.as_bytes())]), || {
        let output = Cmd::new("shellcheck")
            .args(["--format", "json", "--external-sources", "--source-path", "SCRIPTDIR"])
            .args(files)
            .output()?;
        if output.code > 1 {
            // 1 means findings; more, that it could not do its work.
            let said = output.stderr.trim().to_owned();
            return Ok(vec![Finding::error("shellcheck", "scripts", None, said, "run shellcheck by hand")]);
        }
        Ok(parse(root, &output.stdout))
    })
}

fn parse(root: &Path, json: &str) -> Vec<Finding> {
    let comments: Vec<Comment> = serde_json::from_str(json).unwrap_or_default();
    let finding = |c: Comment| {
        let name = c.file.strip_prefix(root).unwrap_or(&c.file).to_owned();
        Finding::error(
            "shellcheck",
            name,
            Some(c.line),
            format!("SC{}: {}", c.code, c.message),
            format!("shellcheck.net/wiki/SC{}", c.code),
        )
    };
    comments.into_iter().map(finding).collect()
}

fn executable(path: &Path) -> Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::metadata(path)?.permissions().mode() & 0o100 != 0)
}

fn is(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|e| e == extension)
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !dir.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if is(&path, "sh") || is(&path, "bats") || is(&path, "bash") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_without_strict_mode_is_found() {
        let messages = |name: &str, text: &str, x| {
            rules(Path::new(name), text, x).into_iter().map(|f| f.message).collect::<Vec<_>>()
        };
        assert_eq!(messages("scripts/a.sh", "#!/usr/bin/env bash\n# Why.\nset -euo pipefail\n", true), [""; 0]);
        let all = messages("scripts/a.sh", &"echo\n".repeat(101), false);
        assert_eq!(
            all,
            [
                "101 lines, more than 99",
                "the first line is not #!/usr/bin/env bash",
                "no `set -euo pipefail`",
                "the second line does not say what it is for",
                "not executable"
            ]
        );
        assert_eq!(messages("scripts/lib/a.sh", "# shellcheck shell=bash\n# Why.\nsay() { :; }\n", false), [""; 0]);
        let long = format!("#!/usr/bin/env bash\n# Why.\nset -euo pipefail\n{}", "echo\n".repeat(97));
        assert_eq!(messages("scripts/a.sh", &long, true), ["100 lines, more than 99"]);
        let root = "#!/bin/bash -p\n# Why.\nset -euo pipefail\n";
        assert_eq!(messages("scripts/agent/a.sh", root, true), [""; 0]);
        assert_eq!(messages("scripts/a.sh", root, true), ["the first line is not #!/usr/bin/env bash"]);
        let hashed = "#!/usr/bin/env bash\n# Why.\nset -euo pipefail\ncat a | sha256sum\n";
        assert_eq!(messages("scripts/a.sh", hashed, true), [""; 0]);
        let piped = "#!/usr/bin/env bash\n# Why.\nset -euo pipefail\ncurl https://example.org | sudo bash\n";
        assert_eq!(messages("scripts/a.sh", piped, true), ["what comes from elsewhere is piped into a shell"]);
    }

    #[test]
    fn shellchecks_answer_becomes_findings() {
        let json = r#"[{"file":"/p/scripts/a.sh","line":3,"endLine":3,"column":1,"endColumn":2,"level":"info","code":2086,"message":"Double quote","fix":null}]"#;
        let finding = &parse(Path::new("/p"), json)[0];
        assert_eq!(
            (finding.file.as_path(), finding.line, finding.message.as_str()),
            (Path::new("scripts/a.sh"), Some(3), "SC2086: Double quote")
        );
    }

    #[test]
    fn commands_whose_exit_code_says_nothing_are_found() {
        let head = "#!/usr/bin/env bash\n# X.\nset -euo pipefail\n";
        let found = |line: &str| rules(Path::new("scripts/provision/x.sh"), &format!("{head}{line}\n"), true).len();
        for line in ["systemctl reload ssh.service", "apt-get -q update", "  apt-get install -y jq"] {
            assert_eq!(found(line), 1, "{line}");
        }
        for line in [
            "systemctl try-reload-or-restart ssh.service",
            "apt-get clean",
            "apt_get update",
            "systemctl daemon-reload",
        ] {
            assert_eq!(found(line), 0, "{line}");
        }
    }
}

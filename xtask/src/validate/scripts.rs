//! Checks scripts: strict mode, length, a comment with their purpose, exit codes, and shellcheck's findings.

use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::Deserialize;

use super::{Clean, Finding};
use crate::error::Result;
use crate::process::Cmd;

/// The most lines of a script. A longer one must be split.
const MAX_LINES: usize = 99;

/// Checks every `*.sh` below `scripts/`. Other shell files, such as the tests in `*.bats`, are checked by shellcheck only.
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

/// Checks the text of a script. Files in a `lib` directory are sourced, so they must not set options. Files in `agent` run as root on an
/// instance; their shebang names the shell by its path, and `-p` makes it ignore `BASH_ENV` and exported functions (bash(1)).
fn rules(name: &Path, text: &str, executable: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let within = |dir: &str| name.components().any(|c| c.as_os_str() == dir);
    let library = within("lib");
    let shebang = if within("agent") { "#!/bin/bash -p" } else { "#!/usr/bin/env bash" };
    let lines = text.lines().count();
    let mut error =
        |line, message: String, hint: &str| findings.push(Finding::error("scripts", name, line, message, hint));
    if lines > MAX_LINES {
        error(None, format!("{lines} lines, more than {MAX_LINES}"), "split it by purpose");
    }
    if text.lines().next() != Some(shebang) && !library {
        error(Some(1), format!("the first line is not {shebang}"), "begin the script with that line");
    }
    if !text.lines().any(|l| l == "set -euo pipefail") && !library {
        error(None, "no `set -euo pipefail`".to_owned(), "add it below the comment at the top");
    }
    if !text.lines().nth(1).is_some_and(|l| l.starts_with("# ")) {
        error(Some(2), "the second line is not a comment".to_owned(), "describe what the script does in a comment");
    }
    for (number, line) in text.lines().enumerate() {
        let program = |part: &str| part.split_whitespace().find(|w| *w != "sudo").map(str::to_owned);
        if line.split('|').skip(1).any(|part| matches!(program(part).as_deref(), Some("sh" | "bash"))) {
            let what = "the output of a command is piped into a shell".to_owned();
            error(Some(number + 1), what, "download it, verify its hash or signature, then run it");
        }
    }
    if within("provision") {
        for (number, line) in text.lines().enumerate() {
            if let Some((what, hint)) = unreliable_exit_code(line) {
                error(Some(number + 1), what.to_owned(), hint);
            }
        }
    }
    if !executable && !library {
        error(None, "not executable".to_owned(), "run `chmod +x` on it");
    }
    findings
}

/// Finds commands that exit with 0 although they failed, or fail although nothing is wrong.
fn unreliable_exit_code(line: &str) -> Option<(&'static str, &'static str)> {
    let mut words = line.split_whitespace();
    match (words.next()?, words.find(|word| !word.starts_with('-'))?) {
        ("systemctl", "reload" | "reload-or-restart") => {
            Some(("`systemctl reload` fails if the unit is not running", "use `systemctl try-reload-or-restart UNIT`"))
        }
        ("apt-get", "update" | "upgrade" | "dist-upgrade" | "install") => Some((
            "apt-get exits with 0 although an archive could not be read or an update was kept back",
            "use `apt_get`, `apt_upgrade` or `apt_install` of scripts/lib/common.sh",
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
        let hint = "install it with `cargo xtask doctor --install`";
        return Ok(vec![Finding::warning(
            "scripts",
            "scripts",
            None,
            "shellcheck is not installed, so it did not check the scripts",
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
            // Exit code 1 means findings; a higher one, that shellcheck failed.
            let message = output.stderr.trim().to_owned();
            return Ok(vec![Finding::error("shellcheck", "scripts", None, message, "run shellcheck by hand")]);
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
                "the second line is not a comment",
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
        assert_eq!(messages("scripts/a.sh", piped, true), ["the output of a command is piped into a shell"]);
    }

    #[test]
    fn shellcheck_output_is_parsed() {
        let json = r#"[{"file":"/p/scripts/a.sh","line":3,"endLine":3,"column":1,"endColumn":2,"level":"info","code":2086,"message":"Double quote","fix":null}]"#;
        let finding = &parse(Path::new("/p"), json)[0];
        assert_eq!(
            (finding.file.as_path(), finding.line, finding.message.as_str()),
            (Path::new("scripts/a.sh"), Some(3), "SC2086: Double quote")
        );
    }

    #[test]
    fn commands_with_an_unreliable_exit_code_are_found() {
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

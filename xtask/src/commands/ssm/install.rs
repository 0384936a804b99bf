//! `ssm install`: installs the dispatch scripts, as images have them, on running servers. They are sent inside the command, and the
//! installed files are compared with what was sent.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::{Compression, GzBuilder};

use super::each::{self, Job};
use crate::cli;
use crate::commands::{Context, Finish, Provider};
use crate::error::Result;
use crate::process::quote;
use crate::recipe::Digest;
use crate::ssm::Answer;

/// Directory of the scripts in the project.
const SCRIPTS: &str = "scripts/agent";

/// The installer that runs on a node. [`script`] prepends the variables and the function that it uses.
const INSTALL: &str = include_str!("install.sh");

pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::SsmInstall) -> Result<Finish> {
    let archive = archive(&context.root.join(SCRIPTS))?;
    let sum = Digest::of(&archive).to_string();
    let job = Job {
        name: "install",
        origin: match &args.user {
            Some(user) => format!("{SCRIPTS}, installed for {user}"),
            None => SCRIPTS.to_owned(),
        },
        script: script(&archive, &sum, args.user.as_deref()),
        question: "Install the dispatch scripts on",
        done: "the dispatch scripts are installed".to_owned(),
        outcome: &|answer| outcome(answer, &sum),
    };
    each::run(context, provider, &args.nodes, args.timeout, &job)
}

/// The scripts as a compressed tar archive. The same scripts give the same bytes.
fn archive(dir: &std::path::Path) -> Result<Vec<u8>> {
    let mut files = Vec::new();
    for part in ["", "lib"] {
        for entry in fs_err::read_dir(dir.join(part))? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "sh") {
                files.push(path);
            }
        }
    }
    files.sort();
    let mut tar = tar::Builder::new(GzBuilder::new().write(Vec::new(), Compression::best()));
    for path in files {
        let text = fs_err::read(&path)?;
        let name = path.strip_prefix(dir).unwrap_or(&path);
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(if name.starts_with("lib") { 0o644 } else { 0o755 });
        tar.append_data(&mut header, name, text.as_slice())?;
    }
    Ok(tar.into_inner()?.finish()?)
}

/// The script that root runs on a node. Lines of base64 have 76 characters (RFC 2045), so that no tool truncates them.
fn script(archive: &[u8], sum: &str, user: Option<&str>) -> String {
    let text = STANDARD.encode(archive);
    let lines: Vec<&str> = text.as_bytes().chunks(76).filter_map(|l| std::str::from_utf8(l).ok()).collect();
    let user = quote(user.unwrap_or_default());
    format!("sum={sum}\nuser={user}\narchive() {{ base64 -d <<'END'\n{}\nEND\n}}\n{INSTALL}", lines.join("\n"))
}

/// Fails unless the node reports that it installed the archive with this digest.
fn outcome(answer: &Answer, sum: &str) -> Result<String, String> {
    let expected = format!("installed={sum}");
    let Some(line) = answer.stdout.lines().rfind(|l| l.starts_with("installed=")) else {
        return Err("the script ran, but did not report what is installed".to_owned());
    };
    if line != expected {
        return Err(format!("the script ran, but reported {line}, expected {expected}"));
    }
    let moved = answer.stdout.lines().filter(|l| l.contains("moved your")).count();
    let moved = if moved == 0 { String::new() } else { format!(", {moved} existing scripts moved to replaced/") };
    Ok(format!("installed{moved}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Cmd;

    #[test]
    fn the_same_scripts_give_the_same_archive_which_fits_into_a_command() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(SCRIPTS);
        let bytes = archive(&dir).unwrap();
        assert_eq!(bytes, archive(&dir).unwrap());
        // SendCommand accepts 64 KB of parameters as JSON, which escapes line feeds.
        let script = script(&bytes, "sum", Some("ubuntu"));
        assert!(serde_json::to_string(&script).unwrap().len() < 60_000, "{}", script.len());
    }

    #[test]
    fn a_damaged_archive_installs_nothing() {
        let script = script(b"damaged", &Digest::of(b"intact").to_string(), Some("ubuntu"));
        let ran = Cmd::new("bash").args(["-c", &script]).output().unwrap();
        assert_ne!(ran.code, 0);
        assert!(ran.stderr.contains("damaged in transfer"), "{}", ran.stderr);
    }

    #[test]
    fn a_node_must_report_what_it_installed() {
        let answer = Answer::success;
        assert_eq!(outcome(&answer("installed=a\n"), "a").unwrap(), "installed");
        assert!(outcome(&answer("installed=b\n"), "a").unwrap_err().contains("expected installed=a"));
        assert!(outcome(&answer(""), "a").unwrap_err().contains("did not report"));
    }
}

//! `ssm install`: the dispatch scripts, as images have them, on servers that already run. They travel in the command itself, and what is on
//! the node afterwards is compared with what was sent.

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

/// The scripts, in the project.
const SCRIPTS: &str = "scripts/agent";

/// What is done on a node, after the variables that [`script`] writes before it.
const INSTALL: &str = include_str!("install.sh");

/// Runs the command.
pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::SsmInstall) -> Result<Finish> {
    let folder = context.root.join(SCRIPTS);
    let archive = archive(&folder)?;
    let sum = Digest::of(&archive).to_string();
    let job = Job {
        name: "install",
        origin: format!("{SCRIPTS}, installed for {}", args.user),
        script: script(&archive, &sum, &args.user),
        question: "Install the dispatch scripts on",
        done: "the dispatch scripts are installed".to_owned(),
        outcome: &|answer| outcome(answer, &sum),
    };
    each::run(context, provider, &args.nodes, args.timeout, &job)
}

/// The scripts as a compressed tar archive, the same bytes for the same scripts.
fn archive(folder: &std::path::Path) -> Result<Vec<u8>> {
    let mut files = Vec::new();
    for part in ["", "lib"] {
        for entry in fs_err::read_dir(folder.join(part))? {
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
        let name = path.strip_prefix(folder).unwrap_or(&path);
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(if name.starts_with("lib") { 0o644 } else { 0o755 });
        tar.append_data(&mut header, name, text.as_slice())?;
    }
    Ok(tar.into_inner()?.finish()?)
}

/// What root runs on a node. Lines of base64 are 76 characters long (RFC 2045), so that no tool on the way cuts one.
fn script(archive: &[u8], sum: &str, user: &str) -> String {
    let text = STANDARD.encode(archive);
    let lines: Vec<&str> = text.as_bytes().chunks(76).filter_map(|l| std::str::from_utf8(l).ok()).collect();
    let user = quote(user);
    format!("sum={sum}\nuser={user}\narchive() {{ base64 -d <<'END'\n{}\nEND\n}}\n{INSTALL}", lines.join("\n"))
}

/// The node's own word that every file is what was sent.
fn outcome(answer: &Answer, sum: &str) -> Result<String, String> {
    let wanted = format!("installed={sum}");
    let Some(line) = answer.stdout.lines().rfind(|l| l.starts_with("installed=")) else {
        return Err("it ran, but did not say what is installed".to_owned());
    };
    if line != wanted {
        return Err(format!("it ran, but {line}, wanted {wanted}"));
    }
    let moved = answer.stdout.lines().filter(|l| l.contains("moved your")).count();
    let moved = if moved == 0 { String::new() } else { format!(", {moved} scripts of its own moved to replaced/") };
    Ok(format!("installed{moved}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Cmd;

    #[test]
    fn the_same_scripts_are_the_same_archive_and_fit_into_a_command() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(SCRIPTS);
        let bytes = archive(&folder).unwrap();
        assert_eq!(bytes, archive(&folder).unwrap());
        // SendCommand takes 64 KB of parameters, and its JSON escapes line feeds.
        let script = script(&bytes, "sum", "ubuntu");
        assert!(serde_json::to_string(&script).unwrap().len() < 60_000, "{}", script.len());
    }

    #[test]
    fn a_damaged_archive_installs_nothing() {
        let script = script(b"not what was meant", &Digest::of(b"what was meant").to_string(), "ubuntu");
        let ran = Cmd::new("bash").args(["-c", &script]).output().unwrap();
        assert_ne!(ran.code, 0);
        assert!(ran.stderr.contains("arrived damaged"), "{}", ran.stderr);
    }

    #[test]
    fn a_node_must_name_what_it_installed() {
        let answer = Answer::success;
        assert_eq!(outcome(&answer("installed=a\n"), "a").unwrap(), "installed");
        assert!(outcome(&answer("installed=b\n"), "a").unwrap_err().contains("wanted installed=a"));
        assert!(outcome(&answer(""), "a").unwrap_err().contains("did not say"));
    }
}

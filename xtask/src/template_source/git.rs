//! Downloads a commit of a Git repository with git.
//!
//! Only the transports https, ssh and file are allowed, no hooks and no programs of the repository are run, and a password is never asked for.

use std::path::Path;
use std::time::Duration;

use fs_err as fs;

use super::Git;
use super::tree::{MAX_BYTES, Names, too_large};
use crate::error::{Error, Exit, Result};
use crate::event::Stream;
use crate::process::{Cmd, Ended};

/// Time for one git command that downloads.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Bytes that the pack of a commit may have. The repository may contain more than the template.
const MAX_PACK: u64 = 256 << 20;
/// Bytes of the list of a commit's files.
const MAX_LISTING: usize = 16 << 20;
/// Configuration that overrides that of the user.
const CONFIG: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "fetch.recurseSubmodules=false",
    "protocol.ext.allow=never",
    "gc.auto=0",
];

/// The commit that the source's ref names. A tag precedes a branch of the same name, as in git.
pub(super) fn resolve(source: &Git, repository: &Path) -> Result<String> {
    if let Some(commit) = source.reference.as_ref().filter(|reference| is_commit(reference)) {
        return Ok(commit.to_ascii_lowercase());
    }
    create(repository)?;
    let name = source.reference.as_deref();
    let patterns = match name {
        Some(name) => vec![format!("refs/tags/{name}"), format!("refs/tags/{name}^{{}}"), format!("refs/heads/{name}")],
        None => vec!["HEAD".to_owned()],
    };
    let mut arguments = vec!["ls-remote", "--quiet", "--", &source.url];
    arguments.extend(patterns.iter().map(String::as_str));
    let listed = download(repository, &arguments, source, "list the refs of")?;
    let commit = |of: &str| {
        let mut lines = listed.iter().filter_map(|line| line.split_once('\t'));
        lines.find(|(_, name)| *name == of).map(|(commit, _)| commit.to_owned())
    };
    // An annotated tag is listed with the commit that it points to as `^{}`.
    let order = [patterns.get(1), patterns.first(), patterns.get(2)];
    if let Some(found) = order.into_iter().flatten().find_map(|pattern| commit(pattern)) {
        return Ok(found);
    }
    // It may be an abbreviated commit: git resolves one only after everything was fetched.
    if let Some(short) = name.filter(|n| n.len() >= 7 && n.bytes().all(|b| b.is_ascii_hexdigit())) {
        let refs = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
        let fetch = ["fetch", "--quiet", "--no-write-fetch-head", "--", &source.url, refs[0], refs[1]];
        download(repository, &fetch, source, "fetch")?;
        let revision = format!("{short}^{{commit}}");
        let parsed =
            git(repository).args(["rev-parse", "--quiet", "--verify", "--end-of-options", &revision]).output()?;
        if parsed.code == 0 {
            return Ok(parsed.stdout.trim().to_owned());
        }
    }
    let message = match name {
        Some(name) => format!("{} has no tag, branch or commit `{name}`", source.url),
        None => format!("{} has no default branch", source.url),
    };
    Err(Exit::Usage.error(message, "name a tag, a branch or a commit: ?ref=v1.0.0"))
}

/// Fetches the commit, and writes its files to a new directory. Their number and size are checked before they are written.
pub(super) fn export(source: &Git, repository: &Path, commit: &str, to: &Path) -> Result<()> {
    create(repository)?;
    let there = git(repository).args(["cat-file", "-e", &format!("{commit}^{{tree}}")]).output()?.code == 0;
    if !there {
        let fetch = ["fetch", "--quiet", "--no-write-fetch-head", "--no-tags", "--depth=1", "--", &source.url, commit];
        download(repository, &fetch, source, &format!("fetch {commit} of"))?;
    }
    let listing = git(repository).args(["ls-tree", "-r", "-l", "-z", "--full-tree", commit]).output_within(MAX_LISTING);
    let listing = listing.map_err(|error| too_large("has too many files").context(error))?;
    if listing.code != 0 {
        return Err(failed(source, &format!("read {commit} of"), listing.stderr.trim()));
    }
    let (mut names, mut bytes) = (Names::default(), 0_u64);
    for entry in listing.stdout.split('\0').filter(|entry| !entry.is_empty()) {
        // `MODE TYPE OBJECT SIZE<TAB>PATH` (git-ls-tree(1)); a submodule has no size.
        let (about, path) = entry.split_once('\t').unwrap_or_default();
        names.add(path, false)?;
        bytes = bytes.saturating_add(about.split_whitespace().next_back().and_then(|n| n.parse().ok()).unwrap_or(0));
        if bytes > MAX_BYTES {
            return Err(too_large(&format!("has more than {} MiB", MAX_BYTES >> 20)));
        }
    }
    fs::create_dir_all(to)?;
    // Without the user's configuration and attributes, and so without filters, which are programs. The index is a temporary one.
    let index = to.with_extension("index");
    let local = |args: &[&str]| {
        let cmd = plain(Cmd::new("git"), repository)
            .args(args)
            .env("GIT_INDEX_FILE", &index)
            .env("GIT_WORK_TREE", to)
            .dir(to);
        cmd.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_ATTR_NOSYSTEM", "1")
    };
    local(&["read-tree", commit]).read()?;
    local(&["-c", "core.attributesFile=/dev/null", "checkout-index", "--all", "--force"]).read()?;
    Ok(fs::remove_file(index)?)
}

/// True for a whole commit id.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn create(repository: &Path) -> Result<()> {
    if repository.join("HEAD").exists() {
        return Ok(());
    }
    fs::create_dir_all(repository)?;
    let init = git(repository).args(["init", "--quiet", "--bare", "--template="]);
    init.hint("run `cargo xtask doctor`, which prints how to install git").read().map(drop)
}

/// git with this repository, and none of the caller's, as in a hook of git.
fn git(repository: &Path) -> Cmd {
    without_index(plain(Cmd::new("git"), repository))
}

fn without_index(cmd: Cmd) -> Cmd {
    cmd.env_remove("GIT_INDEX_FILE").env_remove("GIT_WORK_TREE")
}

/// Adds the repository, the limits and the settings to a command that runs git with the following arguments.
fn plain(cmd: Cmd, repository: &Path) -> Cmd {
    let inherited = [
        "GIT_OBJECT_DIRECTORY",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_CONFIG_COUNT",
        "GIT_CONFIG_PARAMETERS",
        "GIT_COMMON_DIR",
        "GIT_NAMESPACE",
        "GIT_SHALLOW_FILE",
    ];
    let cmd =
        cmd.env("GIT_DIR", repository).env("GIT_TERMINAL_PROMPT", "0").env("GIT_ALLOW_PROTOCOL", "https:ssh:file");
    inherited.into_iter().fold(cmd, Cmd::env_remove).args(CONFIG.iter().flat_map(|setting| ["-c", setting]))
}

/// Runs a git command that uses the network, with limits for its time and for the files that it writes. Returns its lines.
fn download(repository: &Path, arguments: &[&str], source: &Git, what: &str) -> Result<Vec<String>> {
    // The unit of the limit is 512 bytes.
    let script = format!("ulimit -f {}; exec git \"$@\"", MAX_PACK / 512);
    let cmd = without_index(plain(Cmd::new("sh").args(["-c", &script, "git"]), repository)).args(arguments);
    let (mut lines, mut errors) = (Vec::new(), Vec::new());
    let ended = cmd.stream(Some(TIMEOUT), |stream, line| match stream {
        Stream::Stdout => lines.push(line.to_owned()),
        Stream::Stderr => errors.push(line.to_owned()),
    })?;
    let is_limit = |line: &String| line.contains("signal 25") || line.contains("File too large");
    match ended {
        Ended::Code(0) => Ok(lines),
        // 128 + SIGXFSZ, or the message about the child that writes the pack.
        Ended::Code(code) if code == 153 || errors.iter().any(is_limit) => {
            Err(too_large(&format!("is in a repository whose commit has more than {} MiB", MAX_PACK >> 20)))
        }
        Ended::Code(_) => Err(failed(source, what, &errors.join("; "))),
        Ended::TimedOut => Err(failed(source, what, &format!("no end within {} s", TIMEOUT.as_secs()))),
    }
}

fn failed(source: &Git, what: &str, why: &str) -> Error {
    Exit::Failed.error(
        format_args!("git could not {what} {}: {why}", source.url),
        "check the URL, the network and your access; private repositories need a credential helper or an SSH key",
    )
}

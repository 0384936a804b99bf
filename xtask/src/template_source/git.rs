//! Downloads a commit of a Git repository with git.
//!
//! Only the transports https, ssh and file are allowed, no hooks and no programs of the repository are run, and a password is never asked for.

use std::path::Path;
use std::time::Duration;

use fs_err as fs;

use super::Git;
use super::tree::{MAX_FILES, Names, too_large};
use crate::error::{Error, Exit, Result};
use crate::event::Stream;
use crate::process::{Cmd, Ended};

/// Time for one git command that downloads.
const TIMEOUT: Duration = Duration::from_secs(600);
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

/// The commit that the source's ref names, 40 hexadecimal digits. A tag precedes a branch of the same name, as in git.
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
    let listed = git(repository).args(["ls-remote", "--quiet", "--", &source.url]).args(&patterns);
    let listed = run(&listed, source, "list the refs of")?;
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
        run(
            &git(repository).args(["fetch", "--quiet", "--no-write-fetch-head", "--", &source.url]).args(refs),
            source,
            "fetch",
        )?;
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

/// Fetches the commit, and writes its files to an empty directory.
pub(super) fn export(source: &Git, repository: &Path, commit: &str, to: &Path) -> Result<()> {
    create(repository)?;
    let there = git(repository).args(["cat-file", "-e", &format!("{commit}^{{tree}}")]).output()?.code == 0;
    if !there {
        let fetch = ["fetch", "--quiet", "--no-write-fetch-head", "--no-tags", "--depth=1", "--", &source.url, commit];
        run(&git(repository).args(fetch), source, &format!("fetch {commit} of"))?;
    }
    let listing = git(repository).args(["ls-tree", "-r", "-z", "--full-tree", commit]).read()?;
    let mut names = Names::default();
    for entry in listing.split('\0').filter(|entry| !entry.is_empty()) {
        // `MODE TYPE OBJECT<TAB>PATH` (git-ls-tree(1)).
        let (_, path) = entry.split_once('\t').unwrap_or_default();
        names.add(path, false)?;
    }
    if listing.matches('\0').count() > MAX_FILES {
        return Err(too_large(&format!("has more than {MAX_FILES} files")));
    }
    fs::create_dir_all(to)?;
    // Without the user's configuration, and so without filters, which are programs. The index is a temporary one.
    let index = to.with_extension("index");
    let local = |args: &[&str]| {
        let cmd = plain(repository).args(args).env("GIT_INDEX_FILE", &index).env("GIT_WORK_TREE", to);
        cmd.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").dir(to)
    };
    local(&["read-tree", commit]).read()?;
    local(&["checkout-index", "--all", "--force"]).read()?;
    Ok(fs::remove_file(index)?)
}

/// True for a whole commit id: SHA-1, or SHA-256 in repositories that use it.
pub(super) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn create(repository: &Path) -> Result<()> {
    if repository.join("HEAD").exists() {
        return Ok(());
    }
    fs::create_dir_all(repository)?;
    let init = Cmd::new("git").args(["init", "--quiet", "--bare", "--template=", "--"]).arg(repository);
    init.hint("run `cargo xtask doctor`, which prints how to install git").read().map(drop)
}

/// git with this repository, and none of the caller's, as in a hook of git.
fn git(repository: &Path) -> Cmd {
    plain(repository).env_remove("GIT_INDEX_FILE").env_remove("GIT_WORK_TREE")
}

fn plain(repository: &Path) -> Cmd {
    let settings = CONFIG.iter().flat_map(|setting| ["-c", setting]);
    Cmd::new("git")
        .args(settings)
        .env("GIT_DIR", repository)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ALLOW_PROTOCOL", "https:ssh:file")
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_LFS_SKIP_SMUDGE", "1")
        .env_remove("GIT_OBJECT_DIRECTORY")
        .env_remove("GIT_ALTERNATE_OBJECT_DIRECTORIES")
}

/// Runs a command that uses the network. Returns its lines.
fn run(cmd: &Cmd, source: &Git, what: &str) -> Result<Vec<String>> {
    let (mut lines, mut errors) = (Vec::new(), Vec::new());
    let ended = cmd.stream(Some(TIMEOUT), |stream, line| match stream {
        Stream::Stdout => lines.push(line.to_owned()),
        Stream::Stderr => errors.push(line.to_owned()),
    })?;
    let failed = |why: &str| -> Error {
        Exit::Failed.error(
            format_args!("git could not {what} {}: {why}", source.url),
            "check the URL, the network and your access; private repositories need a credential helper or an SSH key",
        )
    };
    match ended {
        Ended::Code(0) => Ok(lines),
        Ended::Code(_) => Err(failed(&errors.join("; "))),
        Ended::TimedOut => Err(failed(&format!("no end within {} s", TIMEOUT.as_secs()))),
    }
}

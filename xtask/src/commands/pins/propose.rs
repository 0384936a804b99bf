//! A change of pins as one pull request, and what no newer version fixes as one issue. Both are found again and brought up to date.

use std::path::PathBuf;

use crate::commands::Context;
use crate::error::{Exit, Result};
use crate::pins::Pin;
use crate::process::Cmd;

/// The branch of the one pull request.
const BRANCH: &str = "agent-ami/pins";
/// The title of the one issue.
const ISSUE: &str = "Pins are due for a look";

/// What is proposed.
pub(super) struct Proposal<'a> {
    /// What is newer.
    pub(super) pins: &'a [Pin],
    /// The files that were changed.
    pub(super) files: Vec<PathBuf>,
    /// What it asks of the version.
    pub(super) bump: String,
    /// What no version fixes.
    pub(super) due: Vec<String>,
}

/// Opens or updates what is needed, and says which.
pub(super) fn run(context: &Context, proposal: &Proposal<'_>) -> Result<String> {
    let mut told = Vec::new();
    if !proposal.files.is_empty() {
        told.push(pull_request(context, proposal)?);
    }
    if !proposal.due.is_empty() {
        told.push(issue(context, proposal)?);
    }
    Ok(if told.is_empty() { "nothing to propose".to_owned() } else { told.join("; ") })
}

fn title(pins: &[Pin]) -> String {
    let newer: Vec<String> =
        pins.iter().filter_map(|pin| Some(format!("{} {}", pin.name, pin.newest.as_deref()?))).collect();
    match &newer[..] {
        [one] => format!("Pins: {one}"),
        all => format!("Pins: {} newer versions", all.len()),
    }
}

fn body(proposal: &Proposal<'_>) -> String {
    let mut text = String::new();
    for pin in proposal.pins {
        if let Some(newest) = &pin.newest {
            text.push_str(&format!("- {} {} → {newest} ({})\n", pin.name, pin.have, pin.place.display()));
        }
    }
    if !proposal.bump.is_empty() {
        text.push_str(&format!("\n```\n{}```\n", proposal.bump));
    }
    text.push_str(
        "\nWritten by `cargo xtask pins update --propose`. CI builds the image with them and judges it. No check there? \
         Close and open it again: GitHub starts none for what a workflow's own token opened.\n",
    );
    text
}

fn git(context: &Context) -> Cmd {
    Cmd::new("git").dir(&context.root).hint("look at `git status`; nothing was pushed")
}

/// A commit with exactly the changed files, made without touching what the person has checked out: a tree of its own index.
fn pull_request(context: &Context, proposal: &Proposal<'_>) -> Result<String> {
    let scratch = tempfile::tempdir()?;
    let index = scratch.path().join("index");
    let git = || git(context).env("GIT_INDEX_FILE", index.as_os_str());
    let head = git().args(["rev-parse", "HEAD"]).read()?.trim().to_owned();
    git().args(["read-tree", &head]).read()?;
    git().args(["add", "--"]).args(&proposal.files).read()?;
    let tree = git().arg("write-tree").read()?.trim().to_owned();
    let title = title(proposal.pins);
    let message = format!("{title}\n\n{}", body(proposal));
    let commit = author(context, git()).args(["commit-tree", &tree, "-p", &head, "-F", "-"]);
    let commit = commit.stdin(message).read()?.trim().to_owned();
    // gh hands git its token; without gh, git has what the person uses.
    let push = git().args(["-c", "credential.helper=!gh auth git-credential", "push", "--force", "--quiet", "origin"]);
    push.arg(format!("{commit}:refs/heads/{BRANCH}")).hint("may this token push? `gh auth status` tells").read()?;
    let open =
        gh(context).args(["pr", "list", "--head", BRANCH, "--state", "open", "--json", "number", "--jq", ".[].number"]);
    let open = open.read()?.trim().to_owned();
    let text = ["--title".to_owned(), title, "--body".to_owned(), body(proposal)];
    if open.is_empty() {
        let url = gh(context).args(["pr", "create", "--head", BRANCH]).args(text).read()?;
        return Ok(format!("opened {}", url.trim()));
    }
    gh(context).args(["pr", "edit", &open]).args(text).read()?;
    Ok(format!("brought pull request {open} up to date"))
}

/// Who commits: the person, or where nobody is configured, as in a workflow, the workflow's bot.
fn author(context: &Context, git: Cmd) -> Cmd {
    if self::git(context).args(["config", "user.email"]).output().is_ok_and(|said| said.code == 0) {
        return git;
    }
    // The account's number is part of its address (docs.github.com, "Using the GITHUB_TOKEN in a workflow").
    let (name, mail) = ("github-actions[bot]", "41898282+github-actions[bot]@users.noreply.github.com");
    git.args(["-c".to_owned(), format!("user.name={name}"), "-c".to_owned(), format!("user.email={mail}")])
}

fn issue(context: &Context, proposal: &Proposal<'_>) -> Result<String> {
    let list: String = proposal.due.iter().map(|due| format!("- {due}\n")).collect();
    let body = format!("{list}\nWritten by `cargo xtask pins update --propose`.\n");
    let search = format!("in:title \"{ISSUE}\"");
    let open = gh(context).args([
        "issue",
        "list",
        "--state",
        "open",
        "--search",
        &search,
        "--json",
        "number",
        "--jq",
        ".[0].number // empty",
    ]);
    let open = open.read()?.trim().to_owned();
    if open.is_empty() {
        let url = gh(context).args(["issue", "create", "--title", ISSUE, "--body", &body]).read()?;
        return Ok(format!("opened {}", url.trim()));
    }
    gh(context).args(["issue", "edit", &open, "--body", &body]).read()?;
    Ok(format!("brought issue {open} up to date"))
}

fn gh(context: &Context) -> Cmd {
    Cmd::new("gh").dir(&context.root).hint("gh comes from cli.github.com; in a workflow it wants GH_TOKEN")
}

/// Nothing can be proposed without gh, so that is told before anything is changed.
pub(super) fn ready(context: &Context) -> Result<()> {
    if gh(context).arg("--version").output().is_ok_and(|said| said.code == 0) {
        return Ok(());
    }
    Err(Exit::Precondition.error("--propose wants gh, which is not here", "cli.github.com; or leave out --propose"))
}

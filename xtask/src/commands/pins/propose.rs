//! `pins update --propose`: one pull request with the changed pins, and one issue for what no newer version fixes. Where one is open
//! already, it is updated.

use std::path::PathBuf;

use crate::commands::Context;
use crate::error::{Exit, Result};
use crate::pins::Pin;
use crate::process::Cmd;

/// The branch of the pull request, by which an open one is found.
const BRANCH: &str = "agent-ami/pins";
/// The title of the issue, by which an open one is found.
const ISSUE: &str = "Pins are due for review";

pub(super) struct Proposal<'a> {
    /// All pins; those with a newer version are listed.
    pub(super) pins: &'a [Pin],
    /// The files that were changed.
    pub(super) files: Vec<PathBuf>,
    /// The version bump that the changes require, as text.
    pub(super) bump: String,
    /// The findings that no newer version fixes, for the issue.
    pub(super) due: Vec<String>,
}

/// Opens or updates the pull request and the issue, where there is something to propose. Returns what was done, as text.
pub(super) fn run(context: &Context, proposal: &Proposal<'_>) -> Result<String> {
    let mut done = Vec::new();
    if !proposal.files.is_empty() {
        done.push(pull_request(context, proposal)?);
    }
    if !proposal.due.is_empty() {
        done.push(issue(context, proposal)?);
    }
    Ok(if done.is_empty() { "nothing to propose".to_owned() } else { done.join("; ") })
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
        "\nWritten by `cargo xtask pins update --propose`. CI builds the image with these versions and runs its smoke test. \
         If no check has started, close and reopen this pull request: GitHub starts no workflow for a pull request that was \
         opened with a workflow's `GITHUB_TOKEN`.\n",
    );
    text
}

fn git(context: &Context) -> Cmd {
    Cmd::new("git").dir(&context.root).hint("check `git status`; nothing was pushed")
}

/// Commits and pushes exactly the changed files. A temporary index is used, so the user's index and working tree stay as they are.
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
    // git asks gh for a token in addition to the credential helpers that the user has configured.
    let push = git().args(["-c", "credential.helper=!gh auth git-credential", "push", "--force", "--quiet", "origin"]);
    push.arg(format!("{commit}:refs/heads/{BRANCH}"))
        .hint("check with `gh auth status` that the token may push")
        .read()?;
    let open =
        gh(context).args(["pr", "list", "--head", BRANCH, "--state", "open", "--json", "number", "--jq", ".[].number"]);
    let open = open.read()?.trim().to_owned();
    let text = ["--title".to_owned(), title, "--body".to_owned(), body(proposal)];
    if open.is_empty() {
        let url = gh(context).args(["pr", "create", "--head", BRANCH]).args(text).read()?;
        return Ok(format!("opened {}", url.trim()));
    }
    gh(context).args(["pr", "edit", &open]).args(text).read()?;
    Ok(format!("updated pull request {open}"))
}

/// Sets the author of the commit to GitHub's bot where git has no user configured, as in a workflow.
fn author(context: &Context, git: Cmd) -> Cmd {
    if self::git(context).args(["config", "user.email"]).output().is_ok_and(|output| output.code == 0) {
        return git;
    }
    // The id of the bot's account is part of its address (docs.github.com, "Using the GITHUB_TOKEN in a workflow").
    let (name, mail) = ("github-actions[bot]", "41898282+github-actions[bot]@users.noreply.github.com");
    git.args(["-c".to_owned(), format!("user.name={name}"), "-c".to_owned(), format!("user.email={mail}")])
}

fn issue(context: &Context, proposal: &Proposal<'_>) -> Result<String> {
    let list: String = proposal.due.iter().map(|due| format!("- {due}\n")).collect();
    let body = format!("{list}\nWritten by `cargo xtask pins update --propose`.\n");
    // Also finds an issue with the title of earlier versions, "Pins are due for a look".
    let search = "in:title \"Pins are due\"";
    let open = gh(context).args([
        "issue",
        "list",
        "--state",
        "open",
        "--search",
        search,
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
    Ok(format!("updated issue {open}"))
}

fn gh(context: &Context) -> Cmd {
    Cmd::new("gh").dir(&context.root).hint("install gh (cli.github.com); in a workflow, set GH_TOKEN")
}

/// Fails where gh is not installed, so that this is reported before anything is changed.
pub(super) fn ready(context: &Context) -> Result<()> {
    if gh(context).arg("--version").output().is_ok_and(|output| output.code == 0) {
        return Ok(());
    }
    Err(Exit::Precondition
        .error("--propose requires gh, which is not installed", "install gh (cli.github.com), or omit --propose"))
}

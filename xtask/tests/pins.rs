//! `pins`: what is newer is taken whole or not at all, and proposed once. npm, uv and gh are scripts here that answer as the real ones
//! do, git is real and pushes into a real repository. That the real npm and uv answer so, CONTRIBUTING.md tells how to see.

#![expect(clippy::unwrap_used, reason = "a test stops where it cannot go on")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use assert_cmd::Command;
use xtask::process::Cmd;

#[path = "support/project.rs"]
mod project;
use project::{Ended, Project, ended};

/// npm: codex has a release that is old and one of today; a lock file is made by naming what is in package.json.
const NPM: &str = r#"#!/bin/bash
today=$(date -u +%FT%TZ)
for word; do case $word in view) asked=yes ;; @openai/codex) codex=yes ;; esac; done
if [[ ${asked:-} ]]; then
  [[ -e $STAND/offline ]] && { echo "npm error code EAI_AGAIN" >&2; exit 1; }
  if [[ ${codex:-} ]]; then
    echo '{"time": {"9.0.0": "2026-01-01T00:00:00Z", "9.1.0": "'"$today"'"}, "versions": ["9.0.0", "9.1.0"], "dist-tags": {"latest": "9.1.0"}}'
  else
    echo '{"time": {"0.0.1": "2020-01-01T00:00:00Z"}, "versions": ["0.0.1"], "dist-tags": {"latest": "0.0.1"}}'
  fi
  exit
fi
[[ -e $STAND/no-lock ]] && { echo "npm error code E500" >&2; exit 1; }
jq --slurpfile p package.json '.packages["node_modules/@openai/codex"].version = $p[0].dependencies["@openai/codex"]' package-lock.json >l && mv l package-lock.json
"#;

/// uv: the newest is what is pinned.
const UV: &str = "#!/bin/bash\nread -r asked; echo \"${asked%%>*}==0.0.1\"\n";

/// gh: remembers what it was asked, and which pull request is open.
const GH: &str = r#"#!/bin/bash
echo "$*" >>"$STAND/gh.log"
case "$1 $2" in
"pr list") cat "$STAND/open" 2>/dev/null ;;
"pr create") echo 7 >"$STAND/open"; echo https://example.org/pull/7 ;;
"issue create") echo https://example.org/issues/8 ;;
esac
exit 0
"#;

struct Stand {
    project: Project,
}

impl Stand {
    fn new() -> Self {
        let project = Project::new();
        let script = |path: &str, text: &str| {
            let path = project.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        script("stand/npm", NPM);
        script("stand/gh", GH);
        let requirements = fs::read_to_string(project.path("scripts/pip/uv/requirements.txt")).unwrap();
        let version = requirements.lines().find_map(|line| line.strip_prefix("uv==")).unwrap().trim_end_matches(" \\");
        script(&format!(".agent-ami/tools/uv-{version}/bin/uv"), UV);
        let stand = Self { project };
        fs::write(stand.project.path(".gitignore"), "/.agent-ami\n/stand\n/origin\n").unwrap();
        stand.git(&["init", "--quiet", "--bare", "origin"]);
        stand.git(&["init", "--quiet", "--initial-branch=main", "."]);
        stand.git(&["remote", "add", "origin", "./origin"]);
        stand.git(&["add", "."]);
        stand.git(&["-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "-m", "all"]);
        stand
    }

    fn git(&self, args: &[&str]) -> String {
        Cmd::new("git").args(args.iter().copied()).dir(self.project.path("")).read().unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.project.command(args);
        let path = format!("{}:{}", self.project.path("stand").display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env("STAND", self.project.path("stand"));
        // Nobody is configured, as in a workflow.
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null").env_remove("EMAIL");
        command
    }

    fn run(&self, args: &[&str]) -> Ended {
        ended(&mut self.command(args))
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.project.path(name)).unwrap()
    }
}

#[test]
fn what_is_newer_and_old_enough_is_taken_everywhere_at_once() {
    let stand = Stand::new();
    let checked = stand.run(&["pins", "check"]);
    checked.says(0, &["1 newer", "pins update"]);
    assert!(checked.stdout.contains("-> 9.0.0  (9.1.0 is too young)"), "{}", checked.stdout);
    stand.run(&["pins", "update", "--dry-run"]).says(0, &["nothing was written"]);
    assert_eq!(stand.git(&["status", "--porcelain"]), "", "neither check nor --dry-run changes anything");

    let updated = stand.run(&["pins", "update", "--yes"]);
    updated.says(0, &["+ \"@openai/codex\": \"9.0.0\"", "3 files changed"]);
    assert!(updated.stdout.contains("that means MINOR for locus-agent: 1.0.0 -> 1.1.0"), "{}", updated.stdout);
    let changed = stand.git(&["status", "--porcelain"]);
    let changed: Vec<&str> = changed.lines().map(|line| line.trim().trim_start_matches("M ")).collect();
    assert_eq!(changed, ["scripts/npm/package-lock.json", "scripts/npm/package.json", "smoke/specs/locus-agent.toml"]);
    stand.run(&["validate"]).says(0, &[]);

    stand.run(&["pins", "update", "--yes", "--min-age", "0s"]).says(0, &["\"9.1.0\""]);
    assert!(stand.read("smoke/specs/locus-agent.toml").contains("version = \"=9.1.0\""));
}

#[test]
fn a_lock_file_that_cannot_be_made_leaves_all_as_it_was() {
    let stand = Stand::new();
    fs::write(stand.project.path("stand/no-lock"), "").unwrap();
    stand.run(&["pins", "update", "--yes"]).says(4, &["E500"]);
    assert_eq!(stand.git(&["status", "--porcelain"]), "");
}

#[test]
fn without_a_network_that_is_said_and_nothing_asked_twice() {
    let stand = Stand::new();
    fs::write(stand.project.path("stand/offline"), "").unwrap();
    let checked = stand.run(&["pins", "check"]);
    checked.says(0, &["EAI_AGAIN"]);
    let uv = fs::read_dir(stand.project.path(".agent-ami/tools")).unwrap().flatten().next().unwrap().path();
    fs::write(uv.join("bin/uv"), "#!/bin/sh\necho 'client error (Connect)' >&2\nexit 2\n").unwrap();
    stand.run(&["pins", "check"]).says(4, &["without a network nobody knows"]);
}

#[test]
fn a_proposal_is_one_branch_and_one_pull_request_however_often() {
    let stand = Stand::new();
    // What the person was about to commit is not in it.
    fs::write(stand.project.path("mine"), "mine").unwrap();
    stand.git(&["add", "mine"]);
    stand.run(&["pins", "update", "--propose", "--yes"]).says(0, &["opened https://example.org/pull/7"]);
    let head = "refs/heads/agent-ami/pins";
    let origin = |args: &[&str]| stand.git(&[&["--git-dir=origin"][..], args].concat());
    let shown = origin(&["show", "--stat=200", "--format=%an%n%B", head]);
    for word in
        ["github-actions[bot]", "Pins: @openai/codex 9.0.0", "MINOR", "scripts/npm/package.json", "3 files changed"]
    {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    assert!(!shown.contains("mine"), "{shown}");
    assert!(stand.git(&["status", "--porcelain"]).contains("A  mine"), "what was staged still is");

    stand.git(&["checkout", "--quiet", "--", "scripts", "smoke"]);
    stand.run(&["pins", "update", "--propose", "--yes", "--min-age", "0s"]).says(0, &["pull request 7 up to date"]);
    assert!(origin(&["log", "-1", "--format=%s", head]).contains("9.1.0"));
    assert_eq!(origin(&["rev-list", "--count", head]).trim(), "2", "it stands on main, not on the last proposal");
    let log = stand.read("stand/gh.log");
    assert_eq!((log.matches("pr create").count(), log.matches("pr edit 7").count()), (1, 1), "{log}");
}

#[test]
fn what_no_version_mends_becomes_an_issue() {
    let stand = Stand::new();
    stand.project.edit("scripts/pins.json", "\"review_at\": \"2027-01-31\"", "\"review_at\": \"2026-01-31\"");
    stand
        .run(&["pins", "update", "--propose", "--yes", "--min-age", "9999d"])
        .says(0, &["opened https://example.org/issues/8"]);
    let log = stand.read("stand/gh.log");
    assert!(log.contains("the review of ubuntu 22.04 was due on 2026-01-31") && !log.contains("pr create"), "{log}");
}

#[test]
fn without_gh_nothing_is_begun() {
    let stand = Stand::new();
    fs::remove_file(stand.project.path("stand/gh")).unwrap();
    let mut command = stand.command(&["pins", "update", "--propose", "--yes"]);
    let path = format!("{}:/usr/bin:/bin", stand.project.path("stand").display());
    ended(command.env("PATH", path)).says(3, &["gh", "cli.github.com"]);
    assert_eq!(stand.git(&["status", "--porcelain"]), "");
}

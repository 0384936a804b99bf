//! `pins`: an update changes all files or none, and there is one pull request for it. npm, uv and gh are scripts with the output of the
//! real programs; git is real and pushes to a local repository. `cargo xtask pins check` runs the real npm and uv.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use assert_cmd::Command;
use xtask::process::Cmd;

#[path = "support/project.rs"]
mod project;
use project::{Ended, Project, ended};

/// npm: codex has an old release and one of today. A lock file gets the version of codex from package.json.
const NPM: &str = r#"#!/bin/bash
today=$(date -u +%FT%TZ)
for word; do case $word in view) view=yes ;; @openai/codex) codex=yes ;; esac; done
if [[ ${view:-} ]]; then
  [[ -e $FIXTURE/offline ]] && { echo "npm error code EAI_AGAIN" >&2; exit 1; }
  if [[ ${codex:-} ]]; then
    echo '{"time": {"9.0.0": "2026-01-01T00:00:00Z", "9.1.0": "'"$today"'"}, "versions": ["9.0.0", "9.1.0"], "dist-tags": {"latest": "9.1.0"}}'
  else
    echo '{"time": {"0.0.1": "2020-01-01T00:00:00Z"}, "versions": ["0.0.1"], "dist-tags": {"latest": "0.0.1"}}'
  fi
  exit
fi
[[ -e $FIXTURE/no-lock ]] && { echo "npm error code E500" >&2; exit 1; }
jq --slurpfile p package.json '.packages["node_modules/@openai/codex"].version = $p[0].dependencies["@openai/codex"]' package-lock.json >l && mv l package-lock.json
"#;

/// uv: no package has a newer version than its pin.
const UV: &str = "#!/bin/bash\nread -r requirement; echo \"${requirement%%>*}==0.0.1\"\n";

/// gh: logs its command lines, and keeps the number of the open pull request in a file.
const GH: &str = r#"#!/bin/bash
echo "$*" >>"$FIXTURE/gh.log"
case "$1 $2" in
"pr list") cat "$FIXTURE/open" 2>/dev/null ;;
"pr create") echo 7 >"$FIXTURE/open"; echo https://example.org/pull/7 ;;
"issue create") echo https://example.org/issues/8 ;;
esac
exit 0
"#;

struct Fixture {
    project: Project,
}

impl Fixture {
    fn new() -> Self {
        let project = Project::new();
        let script = |path: &str, text: &str| {
            let path = project.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        script("fixture/npm", NPM);
        script("fixture/gh", GH);
        let requirements = fs::read_to_string(project.path("scripts/pip/uv/requirements.txt")).unwrap();
        let version = requirements.lines().find_map(|line| line.strip_prefix("uv==")).unwrap().trim_end_matches(" \\");
        script(&format!(".agent-ami/tools/uv-{version}/bin/uv"), UV);
        let fixture = Self { project };
        fs::write(fixture.project.path(".gitignore"), "/.agent-ami\n/fixture\n/origin\n").unwrap();
        fixture.git(&["init", "--quiet", "--bare", "origin"]);
        fixture.git(&["init", "--quiet", "--initial-branch=main", "."]);
        fixture.git(&["remote", "add", "origin", "./origin"]);
        fixture.git(&["add", "."]);
        fixture.git(&["-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "-m", "all"]);
        fixture
    }

    fn git(&self, args: &[&str]) -> String {
        Cmd::new("git").args(args.iter().copied()).dir(self.project.path("")).read().unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.project.command(args);
        let path = format!("{}:{}", self.project.path("fixture").display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env("FIXTURE", self.project.path("fixture"));
        // No identity is configured, as in a workflow.
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
fn update_changes_pins_lock_file_and_smoke_spec_to_releases_that_are_old_enough() {
    let fixture = Fixture::new();
    let checked = fixture.run(&["pins", "check"]);
    checked.assert_exit(0, &["1 newer", "pins update"]);
    assert!(checked.stdout.contains("-> 9.0.0  (9.1.0 is too young)"), "{}", checked.stdout);
    fixture.run(&["pins", "update", "--dry-run"]).assert_exit(0, &["nothing was written"]);
    assert_eq!(fixture.git(&["status", "--porcelain"]), "", "check or --dry-run changed a file");

    let updated = fixture.run(&["pins", "update", "--yes"]);
    updated.assert_exit(0, &["+ \"@openai/codex\": \"9.0.0\"", "4 files changed"]);
    assert!(updated.stdout.contains("MINOR bump of locus-agent: 1.0.0 -> 1.1.0"), "{}", updated.stdout);
    let changed = fixture.git(&["status", "--porcelain"]);
    let changed: Vec<&str> = changed.lines().map(|line| line.trim().trim_start_matches("M ")).collect();
    assert_eq!(
        changed,
        [
            "scripts/npm/package-lock.json",
            "scripts/npm/package.json",
            "smoke/specs/default-ec2.toml",
            "smoke/specs/locus-agent.toml",
        ]
    );
    fixture.run(&["validate"]).assert_exit(0, &[]);

    fixture.run(&["pins", "update", "--yes", "--min-age", "0s"]).assert_exit(0, &["\"9.1.0\""]);
    assert!(fixture.read("smoke/specs/locus-agent.toml").contains("version = \"=9.1.0\""));
}

#[test]
fn update_changes_nothing_if_a_lock_file_cannot_be_made() {
    let fixture = Fixture::new();
    fs::write(fixture.project.path("fixture/no-lock"), "").unwrap();
    fixture.run(&["pins", "update", "--yes"]).assert_exit(4, &["E500"]);
    assert_eq!(fixture.git(&["status", "--porcelain"]), "");
}

#[test]
fn check_fails_only_if_neither_npm_nor_uv_reaches_its_registry() {
    let fixture = Fixture::new();
    fs::write(fixture.project.path("fixture/offline"), "").unwrap();
    let checked = fixture.run(&["pins", "check"]);
    checked.assert_exit(0, &["EAI_AGAIN"]);
    let uv = fs::read_dir(fixture.project.path(".agent-ami/tools")).unwrap().flatten().next().unwrap().path();
    fs::write(uv.join("bin/uv"), "#!/bin/sh\necho 'client error (Connect)' >&2\nexit 2\n").unwrap();
    fixture.run(&["pins", "check"]).assert_exit(4, &["check the network connection"]);
}

#[test]
fn propose_updates_its_pull_request_when_run_again() {
    let fixture = Fixture::new();
    // Files that the user has staged are not part of the proposal.
    fs::write(fixture.project.path("mine"), "mine").unwrap();
    fixture.git(&["add", "mine"]);
    fixture.run(&["pins", "update", "--propose", "--yes"]).assert_exit(0, &["opened https://example.org/pull/7"]);
    let head = "refs/heads/agent-ami/pins";
    let origin = |args: &[&str]| fixture.git(&[&["--git-dir=origin"][..], args].concat());
    let shown = origin(&["show", "--stat=200", "--format=%an%n%B", head]);
    for word in
        ["github-actions[bot]", "Pins: @openai/codex 9.0.0", "MINOR", "scripts/npm/package.json", "4 files changed"]
    {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    assert!(!shown.contains("mine"), "{shown}");
    assert!(fixture.git(&["status", "--porcelain"]).contains("A  mine"), "the file is not staged any more");

    fixture.git(&["checkout", "--quiet", "--", "scripts", "smoke"]);
    fixture
        .run(&["pins", "update", "--propose", "--yes", "--min-age", "0s"])
        .assert_exit(0, &["updated pull request 7"]);
    assert!(origin(&["log", "-1", "--format=%s", head]).contains("9.1.0"));
    assert_eq!(origin(&["rev-list", "--count", head]).trim(), "2", "the proposal is not one commit on main");
    let log = fixture.read("fixture/gh.log");
    assert_eq!((log.matches("pr create").count(), log.matches("pr edit 7").count()), (1, 1), "{log}");
}

#[test]
fn propose_opens_an_issue_for_what_no_version_fixes() {
    let fixture = Fixture::new();
    fixture.project.edit("scripts/pins.json", "\"review_at\": \"2027-01-31\"", "\"review_at\": \"2026-01-31\"");
    fixture
        .run(&["pins", "update", "--propose", "--yes", "--min-age", "9999d"])
        .assert_exit(0, &["opened https://example.org/issues/8"]);
    let log = fixture.read("fixture/gh.log");
    assert!(log.contains("the review of ubuntu 22.04 was due on 2026-01-31") && !log.contains("pr create"), "{log}");
}

#[test]
fn propose_without_gh_fails_and_changes_nothing() {
    let fixture = Fixture::new();
    fs::remove_file(fixture.project.path("fixture/gh")).unwrap();
    let mut command = fixture.command(&["pins", "update", "--propose", "--yes"]);
    let path = format!("{}:/usr/bin:/bin", fixture.project.path("fixture").display());
    ended(command.env("PATH", path)).assert_exit(3, &["gh", "cli.github.com"]);
    assert_eq!(fixture.git(&["status", "--porcelain"]), "");
}

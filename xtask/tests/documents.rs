//! README.md and CONTRIBUTING.md: each shell command in them is run here, by a part of the test suite, or by another test; the table below
//! states by which, and a test checks that. The files that the pages contain are written to the project unchanged.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use assert_cmd::Command;
use clap::Parser as _;
use regex_lite::Regex;
use xtask::cli::Cli;

#[path = "support/files.rs"]
mod files;
use files::root;
#[path = "support/project.rs"]
mod project;
use project::{Project, clean_environment};

/// What runs a command.
enum Runner {
    /// This test, in a project with two releases.
    Here,
    /// The part of `cargo xtask test` with this id, whose command line contains this text.
    Part(&'static str, &'static str),
    /// The test in this file or directory, whose source contains this text.
    Test(&'static str, &'static str),
}
use Runner::{Here, Part, Test};

/// Every command in a fenced block with the language `sh`.
const COMMANDS: &[(&str, Runner)] = &[
    ("cargo xtask ami release", Part("pipeline", "ami release --yes")),
    ("cargo xtask ami release tiny", Test("xtask/tests/kill.rs", "\"release\"")),
    ("cargo xtask ami release --on aws", Part("aws-release", "--test release")),
    ("cargo xtask --yes test", Test(".ci/run", "test")),
    ("cargo xtask test --part agents,unit", Test("xtask/tests/verbs/test.rs", "\"test\", \"--part\"")),
    ("cargo test", Part("unit", "cargo test")),
    ("cargo xtask validate", Here),
    ("cargo xtask ami plan", Here),
    ("cargo xtask ami plan tiny", Here),
    ("cargo xtask ami build --keep-on-failure", Test("xtask/tests/rebuild.rs", "--keep-on-failure")),
    ("cargo xtask ami smoke --keep-on-failure", Part("documents", "--test documents")),
    ("AGENT_AMI_BREAKS=tool-git cargo test -p xtask --test vm -- --ignored --nocapture", Part("breaks", "--test vm")),
    ("cargo xtask docs", Test("xtask/src/commands/docs.rs", "generated_files_are_up_to_date")),
    ("cargo xtask pins check", Test("xtask/tests/pins.rs", "\"pins\", \"check\"")),
    ("cargo xtask pins update", Test("xtask/tests/pins.rs", "\"pins\", \"update\"")),
    ("cargo xtask iam-policy > policy.json", Test("xtask/aws/tests/release.rs", "policy")),
    ("cargo xtask iam-policy --job plan > plan.json", Test("xtask/aws/src/policy/tests.rs", "Job::Plan")),
    (
        "cargo xtask iam-policy --job build --job promote > staging.json",
        Test("xtask/aws/src/policy/tests.rs", "Job::Build"),
    ),
    (
        "cargo xtask iam-policy --job promote --job gc > production.json",
        Test("xtask/aws/src/policy/tests.rs", "[Job::Promote, Job::Gc]"),
    ),
    ("cargo xtask iam-policy --trust OWNER/REPOSITORY --environment plan > trust.json", Here),
    ("cargo xtask ami bump", Here),
    ("git tag v1.1.0 && git push origin v1.1.0", Test(".github/workflows/release.yml", "tags: [\"v*\"]")),
    ("cargo xtask ami promote --from staging --channel production --image locus-agent", Here),
    ("cargo xtask ami report --documents release", Here),
    ("cargo xtask ami history --channel production --image locus-agent", Here),
    ("cargo xtask ami rollback --channel production --image locus-agent --reason \"codex hangs at its start\"", Here),
    ("cargo xtask ami watch --channel production", Here),
    ("export AWS_PROFILE=images", Test("README.md", "any credentials that the AWS SDK finds")),
    ("/usr/local/lib/agent-ami/agent/dispatch.sh \"fix the failing test\"", Test("xtask/tests/vm.rs", "dispatch.sh")),
    ("dispatch-codex.sh --repo https://github.com/you/it --timeout 30m \"...\"", Test("scripts/tests/agent", "--repo")),
    (
        "dispatch-unified.sh claude,codex,gemini \"...\" --model whatever",
        Test("scripts/tests/agent", "dispatch-unified.sh"),
    ),
];

/// A fenced block: its info string and its lines.
struct Block {
    info: String,
    lines: Vec<String>,
}

fn blocks(name: &str) -> Vec<Block> {
    let (mut blocks, mut open) = (Vec::new(), None::<Block>);
    for line in fs::read_to_string(root().join(name)).unwrap().lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(info), None) => open = Some(Block { info: info.to_owned(), lines: Vec::new() }),
            (None, Some(block)) => block.lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{name}: unclosed fenced block");
    blocks
}

/// The text outside fenced blocks, as one line.
fn outside_blocks(name: &str) -> String {
    let (mut text, mut inside) = (String::new(), false);
    for line in fs::read_to_string(root().join(name)).unwrap().lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if !inside {
            text.push_str(line);
            text.push(' ');
        }
    }
    text
}

/// The command without the comment after it.
fn command(line: &str) -> &str {
    line.split("  #").next().unwrap().trim()
}

#[test]
fn every_command_exists_with_its_flags() {
    let mut seen = 0;
    let inline = Regex::new(r"`(cargo xtask [^`]+)`").unwrap();
    let name = |path: PathBuf| path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
    let mut pages: Vec<String> = files::files("docs/src", ".md").into_iter().map(name).collect();
    pages.retain(|name| !name.starts_with("docs/src/reference/"));
    assert!(pages.len() > 20, "{pages:?}");
    pages.extend(["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"].map(str::to_owned));
    for name in &pages {
        let text = outside_blocks(name);
        let quoted = inline.captures_iter(&text).map(|found| found[1].to_owned());
        let listed: Vec<String> = blocks(name).iter().flat_map(|block| block.lines.clone()).collect();
        let listed = listed.iter().map(|line| command(line).trim_start_matches("$ "));
        // In the README's list of commands a description follows each command after two spaces.
        let listed = listed
            .filter(|line| line.starts_with("cargo xtask"))
            .map(|line| line.split("  ").next().unwrap().to_owned());
        for line in quoted.chain(listed) {
            let line =
                line.replace('…', "").split(['>', '|']).next().unwrap().replace(['[', ']'], "").replace("...", "");
            let words = shell_words::split(line.trim()).unwrap_or_else(|e| panic!("{name}: `{line}`: {e}"));
            let words = std::iter::once("cargo xtask".to_owned()).chain(words.into_iter().skip(2));
            if let Err(error) = Cli::try_parse_from(words) {
                let kind = error.kind();
                // A mention of a command may omit required arguments, or have a placeholder as a value.
                use clap::error::ErrorKind as Kind;
                let help = Kind::DisplayHelpOnMissingArgumentOrSubcommand;
                let mention = [Kind::MissingRequiredArgument, Kind::ValueValidation, help];
                assert!(mention.contains(&kind), "{name}: `{line}`: {error}");
            }
            seen += 1;
        }
    }
    assert!(seen > 50, "only {seen} commands found");
}

/// The file and text of all shell lines of both pages, in order.
fn shell_lines() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for name in ["README.md", "CONTRIBUTING.md"] {
        for block in blocks(name).iter().filter(|block| block.info == "sh") {
            found.extend(block.lines.iter().map(|line| (name.to_owned(), command(line).to_owned())));
        }
    }
    found
}

fn runner(name: &str, line: &str) -> &'static Runner {
    let known = COMMANDS.iter().find(|(command, _)| *command == line);
    &known.unwrap_or_else(|| panic!("{name}: no test runs `{line}`; add the command to COMMANDS in documents.rs")).1
}

#[test]
fn commands_that_are_not_run_here_are_run_by_the_stated_part_or_test() {
    let plan = Project::new().run(&["test", "--full", "--dry-run"]).stdout;
    for (name, line) in shell_lines() {
        match runner(&name, &line) {
            Here => {}
            Part(part, text) => {
                let row = plan.lines().find(|row| row.split_whitespace().next() == Some(*part));
                assert!(row.is_some_and(|row| row.contains(text)), "{line}: no part {part} with `{text}`: {plan}");
            }
            Test(file, text) => {
                let path = root().join(file);
                let files = if path.is_dir() {
                    fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()).collect()
                } else {
                    vec![path]
                };
                let has = |file: &PathBuf| fs::read_to_string(file).is_ok_and(|source| source.contains(text));
                assert!(files.iter().any(has), "{line}: {file} has no `{text}`");
            }
        }
    }
    for (command, _) in COMMANDS {
        assert!(
            shell_lines().iter().any(|(_, line)| line == command),
            "`{command}` is on no page; remove it from COMMANDS"
        );
    }
}

/// The documents with this name of all images, by path.
fn kept(name: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let state = std::env::var_os("AGENT_AMI_LOCAL_STATE_DIR").map_or_else(|| root().join(".agent-ami"), PathBuf::from);
    let inside = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let images = inside(state.join("regions")).flat_map(inside);
    images.filter_map(|image| Some((image.join(name), fs::read(image.join(name)).ok()?))).collect()
}

/// The newest image `locus-agent` in the home region. Another image may be newer, and has another login user.
fn locus_agent() -> String {
    let mut list = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let list =
        list.args(["ami", "list", "--region", "local-1", "--format", "json"]).current_dir(root()).output().unwrap();
    let last: serde_json::Value =
        serde_json::from_str(String::from_utf8_lossy(&list.stdout).lines().last().unwrap()).unwrap();
    let images = last["data"]["images"].as_array().unwrap();
    let newest = images.iter().rfind(|image| image["image"] == "locus-agent").unwrap();
    newest["id"].as_str().unwrap().to_owned()
}

/// With a spec that no image passes, the instance stays up and the printed command connects to it. The image's smoke report does not
/// change.
#[test]
#[ignore = "boots a VM"]
fn keep_on_failure_keeps_the_instance_after_a_failed_check() {
    let results = kept("smoke.json");
    assert!(!results.is_empty(), "no image was smoke-tested");
    let dir = tempfile::tempdir().unwrap();
    let spec = dir.path().join("spec.toml");
    let instance =
        "schema = 1\n[instance]\nuser = \"ubuntu\"\narch = \"x86_64\"\nos = [\"debian 13\", \"ubuntu 22.04\"]\n";
    fs::write(&spec, format!("{instance}[[tool]]\nname = \"no-such-tool\"\n")).unwrap();
    let mut smoke = Command::new(env!("CARGO_BIN_EXE_xtask"));
    smoke.args(["ami", "smoke", &locus_agent(), "--keep-on-failure", "--no-reboot", "--spec"]).arg(&spec);
    smoke.current_dir(root());
    let ended = smoke.output().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("no-such-tool"), "{stderr}");
    let login = stderr.lines().find_map(|line| line.trim().strip_prefix("the instance is kept: ")).unwrap();
    let shell = |line: String| Command::new("bash").args(["-c", &line]).output().unwrap();
    let inside = shell(format!("{login} cat /etc/agent-ami/manifest.json"));
    assert!(String::from_utf8_lossy(&inside.stdout).contains("recipe_hash"), "{login}: {inside:?}");
    shell(format!("{login} sudo poweroff"));
    assert_eq!((kept("smoke.json"), kept("smoke-partial.json").len()), (results, 0));
}

/// A smoke report without the second pass is a separate document and does not replace the complete one.
#[test]
#[ignore = "boots a VM"]
fn a_smoke_test_without_the_reboot_does_not_replace_the_smoke_report() {
    let results = kept("smoke.json");
    assert!(!results.is_empty(), "no image was smoke-tested");
    let mut smoke = Command::new(env!("CARGO_BIN_EXE_xtask"));
    smoke.args(["ami", "smoke", &locus_agent(), "--no-reboot"]).current_dir(root()).assert().code(0);
    assert_eq!(kept("smoke.json"), results);
    let partial = kept("smoke-partial.json");
    assert_eq!(partial.len(), 1, "{partial:?}");
    for record in partial.values() {
        let record: serde_json::Value = serde_json::from_slice(record).unwrap();
        assert_eq!((&record["passed"], &record["passes"]), (&true.into(), &serde_json::json!(["first boot"])));
    }
    for file in partial.keys() {
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn the_commands_of_both_pages_succeed() {
    let project = Project::new();
    // Two releases: an older one in production and a newer one in staging.
    let contents = [("node", "24.1.0"), ("codex", "0.168.0")];
    let old = project.disk("01");
    project.contents(&old, &contents);
    project.run(&["ami", "promote", &old.id.0, "--yes"]).assert_exit(0, &[]);
    let production =
        ["ami", "promote", "--from", "staging", "--channel", "production", "--override", "no wait", "--yes"];
    project.run(&production).assert_exit(0, &[]);
    let new = project.ready("02");
    project.contents(&new, &[("node", "24.1.0"), ("codex", "0.169.0")]);
    project.run(&["ami", "promote", &new.id.0, "--yes"]).assert_exit(0, &[]);
    project.edit("ami.toml", "soak_hours = 48", "soak_hours = 0");

    // `cargo xtask` is the binary under test, with --yes because there is no terminal.
    let shim = project.path("bin/cargo");
    fs::create_dir_all(shim.parent().unwrap()).unwrap();
    let script = format!(
        "#!/bin/bash\n[ \"$1\" = xtask ] || exit 99\nshift\nexec {} --yes \"$@\"\n",
        env!("CARGO_BIN_EXE_xtask")
    );
    fs::write(&shim, script).unwrap();
    fs::set_permissions(&shim, fs::Permissions::from_mode(0o755)).unwrap();
    // As `gh` without a login.
    let github = project.path("bin/gh");
    fs::write(&github, "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(&github, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", project.path("bin").display(), std::env::var("PATH").unwrap());

    for name in ["README.md", "CONTRIBUTING.md"] {
        for block in blocks(name) {
            if let Some((_, file)) = block.info.split_once(' ') {
                let file = project.path(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                let before = fs::read_to_string(&file).unwrap_or_default();
                fs::write(&file, format!("{before}\n{}\n", block.lines.join("\n"))).unwrap();
            }
            for line in block.lines.iter().filter(|_| block.info == "sh").map(|line| command(line)) {
                if !matches!(runner(name, line), Here) {
                    continue;
                }
                // Once the page's ami.toml has added a second image, the name is required.
                let line = if line == "cargo xtask ami plan" { "cargo xtask ami plan locus-agent" } else { line };
                let mut shell = Command::new("bash");
                shell.args(["-ec", line]).current_dir(project.path("")).env("PATH", &path);
                shell.env("CARGO_MANIFEST_DIR", project.path("xtask"));
                clean_environment(&mut shell);
                let ended = shell.output().unwrap();
                let stderr = String::from_utf8_lossy(&ended.stderr);
                assert!(ended.status.success(), "{name}: `{line}`: {}\n{stderr}", ended.status);
            }
        }
    }
    let read = |file: &str| fs::read_to_string(project.path(file)).unwrap();
    assert!(read("trust.json").contains("repo:OWNER/REPOSITORY:environment:plan"));
    assert!(
        read("CHANGELOG.md").contains("codex 0.168.0 -> 0.169.0") && read("ami.toml").contains("version = \"1.1.0\"")
    );
    assert!(
        read("channels/production.env").contains(&format!("LOCUS_AMI_ID={}\n", old.id)),
        "production does not point at the older image"
    );
    assert!(read("release/report.html").contains(&new.id.0) && project.path("release/sbom.cdx.json").exists());
}

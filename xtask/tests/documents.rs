//! README.md and CONTRIBUTING.md: every command in them is run here, or is what a part of the suite or another test runs, which is looked
//! up there. What they show as files is written as it stands.

#![expect(clippy::unwrap_used, reason = "a test stops where it cannot go on")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use clap::Parser as _;
use regex_lite::Regex;
use xtask::cli::Cli;

#[path = "support/project.rs"]
mod project;
use project::{Project, undisturbed};

/// Who runs a command.
enum Who {
    /// This test, in a project with two releases.
    Here,
    /// A part of `cargo xtask test`, whose command line has these words.
    Part(&'static str, &'static str),
    /// A test elsewhere, whose text has these words.
    Test(&'static str, &'static str),
}
use Who::{Here, Part, Test};

/// Every command that stands in a block of shell lines.
const COMMANDS: &[(&str, Who)] = &[
    ("cargo xtask ami release", Part("pipeline", "ami release --yes")),
    ("cargo xtask ami release tiny", Test("xtask/tests/kill.rs", "\"release\"")),
    ("cargo xtask ami release --on aws", Part("aws-release", "--test release")),
    ("cargo xtask --yes test", Test(".ci/run", "test")),
    ("cargo xtask test --part agents,unit", Test("xtask/tests/cli.rs", "\"test\", \"--part\"")),
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

/// A fenced block: what its first line says, and its lines.
struct Block {
    info: String,
    lines: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
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
    assert!(open.is_none(), "{name}: a block has no end");
    blocks
}

/// The command without what explains it.
fn command(line: &str) -> &str {
    line.split("  #").next().unwrap().trim()
}

#[test]
fn every_command_exists_with_its_flags() {
    let mut seen = 0;
    let inline = Regex::new(r"`(cargo xtask [^`]+)`").unwrap();
    for name in ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"] {
        let text = fs::read_to_string(root().join(name)).unwrap().replace('\n', " ");
        let quoted = inline.captures_iter(&text).map(|found| found[1].to_owned());
        let listed: Vec<String> = blocks(name).iter().flat_map(|block| block.lines.clone()).collect();
        let listed = listed.iter().map(|line| command(line).trim_start_matches("$ "));
        // In the README's table stands what each one is for, behind two spaces.
        let listed = listed
            .filter(|line| line.starts_with("cargo xtask"))
            .map(|line| line.split("  ").next().unwrap().to_owned());
        for line in quoted.chain(listed) {
            let line = line.split(['>', '|', '…']).next().unwrap().replace(['[', ']'], "").replace("...", "");
            let words = shell_words::split(line.trim()).unwrap();
            let words = std::iter::once("cargo xtask".to_owned()).chain(words.into_iter().skip(2));
            if let Err(error) = Cli::try_parse_from(words) {
                let kind = error.kind();
                // A command that is named without what it needs, or with a name in the place of a value, is a name.
                use clap::error::ErrorKind as Kind;
                let help = Kind::DisplayHelpOnMissingArgumentOrSubcommand;
                let named = [Kind::MissingRequiredArgument, Kind::ValueValidation, help];
                assert!(named.contains(&kind), "{name}: `{line}`: {error}");
            }
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen} commands: this test looks in the wrong place");
}

/// All shell lines of both pages, in order.
fn shell_lines() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for name in ["README.md", "CONTRIBUTING.md"] {
        for block in blocks(name).iter().filter(|block| block.info == "sh") {
            found.extend(block.lines.iter().map(|line| (name.to_owned(), command(line).to_owned())));
        }
    }
    found
}

fn who(name: &str, line: &str) -> &'static Who {
    let known = COMMANDS.iter().find(|(command, _)| *command == line);
    &known.unwrap_or_else(|| panic!("{name}: nobody runs `{line}`; say in documents.rs who does")).1
}

#[test]
fn what_is_not_run_here_is_run_where_it_is_said_to_be() {
    let plan = Project::new().run(&["test", "--full", "--dry-run"]).stdout;
    for (name, line) in shell_lines() {
        match who(&name, &line) {
            Here => {}
            Part(part, words) => {
                let row = plan.lines().find(|row| row.split_whitespace().next() == Some(*part));
                assert!(row.is_some_and(|row| row.contains(words)), "{line}: no part {part} with `{words}`: {plan}");
            }
            Test(file, words) => {
                let path = root().join(file);
                let files = if path.is_dir() {
                    fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()).collect()
                } else {
                    vec![path]
                };
                let has = |file: &PathBuf| fs::read_to_string(file).is_ok_and(|text| text.contains(words));
                assert!(files.iter().any(has), "{line}: {file} has no `{words}`");
            }
        }
    }
    for (command, _) in COMMANDS {
        assert!(shell_lines().iter().any(|(_, line)| line == command), "`{command}` stands on no page any more");
    }
}

/// The documents of this name of all images.
fn kept(name: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let state = std::env::var_os("AGENT_AMI_LOCAL_STATE_DIR").map_or_else(|| root().join(".agent-ami"), PathBuf::from);
    let inside = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let images = inside(state.join("regions")).flat_map(inside);
    images.filter_map(|image| Some((image.join(name), fs::read(image.join(name)).ok()?))).collect()
}

/// A look with a spec that no image meets: the instance stays up, and the line that is printed leads into it. It is no verdict on the image.
#[test]
#[ignore = "boots a VM"]
fn a_failed_check_leaves_its_instance_up_to_look_at() {
    let results = kept("smoke.json");
    assert!(!results.is_empty(), "no image was smoke-tested");
    let dir = tempfile::tempdir().unwrap();
    let spec = dir.path().join("spec.toml");
    let instance =
        "schema = 1\n[instance]\nuser = \"ubuntu\"\narch = \"x86_64\"\nos = [\"debian 13\", \"ubuntu 22.04\"]\n";
    fs::write(&spec, format!("{instance}[[tool]]\nname = \"no-such-tool\"\n")).unwrap();
    let mut smoke = Command::new(env!("CARGO_BIN_EXE_xtask"));
    smoke.args(["ami", "smoke", "--keep-on-failure", "--no-reboot", "--spec"]).arg(&spec).current_dir(root());
    let ended = smoke.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("no-such-tool"), "{said}");
    let login = said.lines().find_map(|line| line.trim().strip_prefix("the instance is kept: ")).unwrap();
    let shell = |line: String| Command::new("bash").args(["-c", &line]).output().unwrap();
    let inside = shell(format!("{login} cat /etc/agent-ami/manifest.json"));
    assert!(String::from_utf8_lossy(&inside.stdout).contains("recipe_hash"), "{login}: {inside:?}");
    shell(format!("{login} sudo poweroff"));
    assert_eq!((kept("smoke.json"), kept("smoke-partial.json").len()), (results, 0));
}

/// A run without the reboot is kept beside the verdict, which it does not replace.
#[test]
#[ignore = "boots a VM"]
fn a_smoke_test_without_the_reboot_replaces_no_verdict() {
    let results = kept("smoke.json");
    assert!(!results.is_empty(), "no image was smoke-tested");
    let mut smoke = Command::new(env!("CARGO_BIN_EXE_xtask"));
    smoke.args(["ami", "smoke", "--no-reboot"]).current_dir(root()).assert().code(0);
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
fn every_command_does_what_the_page_says() {
    let project = Project::new();
    // Two releases: one in production for long, a newer one in staging.
    let contents = [("node", "24.1.0"), ("codex", "0.168.0")];
    let old = project.disk("01");
    project.contents(&old, &contents);
    project.run(&["ami", "promote", &old.id.0, "--yes"]).says(0, &[]);
    let production =
        ["ami", "promote", "--from", "staging", "--channel", "production", "--override", "no wait", "--yes"];
    project.run(&production).says(0, &[]);
    let new = project.ready("02");
    project.contents(&new, &[("node", "24.1.0"), ("codex", "0.169.0")]);
    project.run(&["ami", "promote", &new.id.0, "--yes"]).says(0, &[]);
    project.edit("ami.toml", "soak_hours = 48", "soak_hours = 0");

    // `cargo xtask` is the binary of this test; nobody is there to be asked.
    let shim = project.path("bin/cargo");
    fs::create_dir_all(shim.parent().unwrap()).unwrap();
    let script = format!(
        "#!/bin/bash\n[ \"$1\" = xtask ] || exit 99\nshift\nexec {} --yes \"$@\"\n",
        env!("CARGO_BIN_EXE_xtask")
    );
    fs::write(&shim, script).unwrap();
    fs::set_permissions(&shim, fs::Permissions::from_mode(0o755)).unwrap();
    // Nobody is signed in at GitHub.
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
                if !matches!(who(name, line), Here) {
                    continue;
                }
                // Two images now: which one is meant must be said where there was one.
                let line = if line == "cargo xtask ami plan" { "cargo xtask ami plan locus-agent" } else { line };
                let mut shell = Command::new("bash");
                shell.args(["-ec", line]).current_dir(project.path("")).env("PATH", &path);
                shell.env("CARGO_MANIFEST_DIR", project.path("xtask"));
                undisturbed(&mut shell);
                let ended = shell.output().unwrap();
                let said = String::from_utf8_lossy(&ended.stderr);
                assert!(ended.status.success(), "{name}: `{line}`: {}\n{said}", ended.status);
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
        "rolled back to the old one"
    );
    assert!(read("release/report.html").contains(&new.id.0) && project.path("release/sbom.cdx.json").exists());
}

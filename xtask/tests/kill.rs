//! A release that is killed before and after each of its changes and then resumed has the same end state as an uninterrupted release. In
//! real virtual machines, with a small template.
//!
//! `cargo test -p xtask --test kill -- --ignored --nocapture`, or `cargo xtask test --full`; takes an hour. Requires a base image and the
//! smoke binary in the state directory; `cargo xtask ami release` creates both.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

#[path = "support/points.rs"]
mod points;
use points::{EndState, SPEC, Stage, kill_everywhere};

const CONFIG: &str = r#"
[images.tiny]
template = "tiny.pkr.hcl"
version = "1.0.0"
smoke = "tiny.toml"
source_local = "qemu.tiny"

[regions]
local = ["local-1", "local-2"]

[channels.staging]
env_file = "staging.env"
ssm_prefix = "/tiny"
"#;

const TEMPLATE: &str = r#"
source "qemu" "tiny" {
  ssh_username = "ubuntu"
}

build {
  sources = ["source.qemu.tiny"]

  provisioner "shell" {
    inline = ["echo one | sudo tee /etc/one"]
  }

  # The smoke test requires that the builder's identity is removed.
  provisioner "shell" {
    inline = ["sudo sh -c 'rm -f /etc/ssh/ssh_host_* /home/ubuntu/.ssh/authorized_keys; cloud-init clean --logs --seed; truncate -s 0 /etc/machine-id; sync'"]
  }
}
"#;

struct Project {
    dir: TempDir,
}

impl Project {
    fn new() -> Self {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let state = std::env::var_os("AGENT_AMI_LOCAL_STATE_DIR").map_or(repository.join(".agent-ami"), PathBuf::from);
        let project = Self { dir: TempDir::new().unwrap() };
        // With links to the same sources, the smoke binary in the state directory is up to date.
        for part in ["scripts", "smoke", "xtask", "Cargo.toml", "Cargo.lock"] {
            symlink(repository.join(part), project.path(part)).unwrap();
        }
        for part in ["base", "bin"] {
            let source = state.join(part);
            assert!(source.exists(), "no {}: run `cargo xtask ami release` first", source.display());
            fs::create_dir_all(project.path("state").join(part)).unwrap();
            for entry in fs::read_dir(source).unwrap().flatten().filter(|e| e.file_name() != "target") {
                symlink(entry.path(), project.path("state").join(part).join(entry.file_name())).unwrap();
            }
        }
        for (name, text) in [("ami.toml", CONFIG), ("tiny.pkr.hcl", TEMPLATE), ("tiny.toml", SPEC)] {
            fs::write(project.path(name), text).unwrap();
        }
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Command lines of the processes that have the project's path on their command line.
    fn processes(&self) -> Vec<String> {
        let mark = self.dir.path().to_string_lossy().into_owned();
        let line = |entry: fs::DirEntry| {
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            Some(String::from_utf8_lossy(&line).replace('\0', " "))
        };
        fs::read_dir("/proc").unwrap().flatten().filter_map(line).filter(|l| l.contains(&mark)).collect()
    }
}

impl Stage for Project {
    #[expect(clippy::disallowed_methods, reason = "the test observes and kills the process")]
    fn start(&self, args: &[&str], pause: &str) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(args).args(["--format", "json", "--yes", "--state", "state"]).current_dir(self.dir.path());
        command.env("CARGO_MANIFEST_DIR", self.path("xtask")).env("LEDGER_PAUSE_AT", pause);
        // The project has a separate state directory.
        command.env_remove("AGENT_AMI_LOCAL_STATE_DIR");
        command.stdout(fs::File::create(self.path("out")).unwrap()).stderr(Stdio::inherit()).spawn().unwrap()
    }

    fn run(&self, args: &[&str]) -> Value {
        let code = self.start(args, "").wait().unwrap().code();
        let stdout = fs::read_to_string(self.path("out")).unwrap();
        let last: Value = serde_json::from_str(stdout.lines().last().unwrap_or("{}")).unwrap();
        assert_eq!(code, Some(0), "{args:?}: {}", last["error"].as_str().unwrap_or_default());
        last["data"].clone()
    }

    fn end_state(&self) -> EndState {
        let images = self.run(&["ami", "list"])["images"].clone();
        let mut state = BTreeMap::new();
        for region in ["local-1", "local-2"] {
            let here = images.as_array().unwrap().iter().filter(|i| i["region"] == region);
            state.insert(format!("images in {region}"), here.count().to_string());
        }
        let history = self.run(&["ami", "history", "--channel", "staging"]);
        let promotions: Vec<&Value> = history["history"].as_array().unwrap().iter().map(|p| &p["kind"]).collect();
        state.insert("promotions".to_owned(), format!("{promotions:?}"));
        for (region, id) in history["now"].as_object().unwrap() {
            let there = images.as_array().unwrap().iter().any(|i| i["id"] == *id && i["region"] == *region);
            state.insert(format!("staging in {region}"), format!("an existing image: {there}"));
        }
        let env = fs::read_to_string(self.path("staging.env")).unwrap();
        state.insert("lines of staging.env".to_owned(), env.lines().count().to_string());
        let gc = self.run(&["ami", "gc"])["decisions"].clone();
        let removals = gc.as_array().unwrap().iter().filter(|d| d["action"] != "keep").count();
        state.insert("resources that gc would remove".to_owned(), removals.to_string());
        state.insert("processes".to_owned(), format!("{:?}", self.processes()));
        let count = |dir: &str| fs::read_dir(self.path(dir)).into_iter().flatten().count().to_string();
        state.insert("run directories".to_owned(), count("state/runs"));
        // One key may have several generations, finished or not.
        let keys = fs::read_dir(self.path("state/layers")).into_iter().flatten().flatten();
        let generations = keys.flat_map(|key| fs::read_dir(key.path()).into_iter().flatten()).count();
        state.insert("layers".to_owned(), generations.to_string());
        state
    }
}

/// The state of a project before the release that is killed.
enum Before<'a> {
    Nothing,
    /// It has the image of this project, without a smoke report.
    Built(&'a Project),
    /// It has the image of this project with a passed smoke report.
    Smoked(&'a Project),
}

/// A project in this state. The directory of an image can be copied to another project.
fn after(before: &Before<'_>) -> Project {
    let project = Project::new();
    let (from, smoked) = match before {
        Before::Nothing => return project,
        Before::Built(from) => (from, false),
        Before::Smoked(from) => (from, true),
    };
    for image in fs::read_dir(from.path("state/regions/local-1")).unwrap().flatten() {
        let to = project.path("state/regions/local-1").join(image.file_name());
        fs::create_dir_all(&to).unwrap();
        for file in fs::read_dir(image.path()).unwrap().flatten() {
            // The marks belong to the channels of the other project.
            let name = file.file_name().into_string().unwrap();
            if name != "marks.json" && (smoked || ["image.json", "disk.qcow2"].contains(&name.as_str())) {
                fs::copy(file.path(), to.join(name)).unwrap();
            }
        }
    }
    project
}

/// Each stage starts with the results of the stages before it, which saves two boots per point.
#[test]
#[ignore = "boots dozens of VMs"]
fn a_release_killed_at_any_point_and_resumed_has_the_same_end_state() {
    let release = ["ami", "release"];
    let complete = Project::new();
    complete.run(&release);
    let starts =
        |name: &'static str| move |call: &Value| call["action"] == "local:StartMachine" && call["subject"] == name;
    let copies = |call: &Value| call["action"] == "local:CopyImage";
    // `KILL_STAGE=promote` runs only this stage, and `KILL_FROM` counts within the stage.
    let only = std::env::var("KILL_STAGE").unwrap_or_default();
    let selected = |stage: &str| only.is_empty() || only == stage;
    if selected("build") {
        println!("--- build");
        kill_everywhere(&release, 3, starts("smoke"), || after(&Before::Nothing));
    }
    if selected("smoke") {
        println!("--- smoke");
        kill_everywhere(&release, 1, copies, || after(&Before::Built(&complete)));
    }
    if selected("promote") {
        println!("--- promote");
        kill_everywhere(&release, 8, |_| false, || after(&Before::Smoked(&complete)));
    }
}

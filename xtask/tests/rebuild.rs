//! In real VMs: a build that is killed, interrupted, repeated and changed. A small template, so that machines are what takes
//! time here, not packages. Needs a base image, which a release makes: `cargo xtask ami build`, then
//! `cargo test -p xtask --test rebuild -- --ignored --nocapture`. `cargo xtask test` does both.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it sees and stops where it cannot go on"
)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const TEMPLATE: &str = r#"
source "qemu" "mini" {
  ssh_username = "ubuntu"
}

build {
  sources = ["source.qemu.mini"]

  provisioner "shell" {
    script = "${path.root}/one.sh"
  }

  provisioner "shell" {
    script = "${path.root}/two.sh"
  }

  provisioner "shell" {
    script = "${path.root}/three.sh"
  }

  post-processor "manifest" {
    strip_path = true
  }

  post-processor "checksum" {
    checksum_types = ["sha256"]
    output         = "{{.BuildName}}.{{.ChecksumType}}"
  }

  post-processor "shell-local" {
    inline = ["echo seen >seen"]
  }
}
"#;

const CONFIG: &str = r#"
[images.mini]
template = "mini"
version = "1.0.0"
smoke = "mini/smoke.toml"
source_local = "qemu.mini"

[regions]
local = ["local-1"]

[channels.staging]
env_file = "staging.env"
"#;

struct Project {
    dir: TempDir,
}

impl Project {
    /// A project of its own, with a state folder of its own whose base image is the repository's.
    fn new() -> Self {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let state = std::env::var_os("AGENT_AMI_LOCAL_STATE_DIR").map_or(repository.join(".agent-ami"), PathBuf::from);
        let bases = state.join("base");
        assert!(bases.exists(), "no base image in {}: run `cargo xtask ami build` first", bases.display());
        let dir = TempDir::new().unwrap();
        let project = Self { dir };
        fs::create_dir_all(project.path("state/base")).unwrap();
        for base in fs::read_dir(bases).unwrap().flatten() {
            std::os::unix::fs::symlink(base.path(), project.path("state/base").join(base.file_name())).unwrap();
        }
        fs::create_dir(project.path("mini")).unwrap();
        std::os::unix::fs::symlink(repository.join("scripts"), project.path("scripts")).unwrap();
        fs::write(project.path("ami.toml"), CONFIG).unwrap();
        fs::write(project.path("mini/mini.pkr.hcl"), TEMPLATE).unwrap();
        for (name, body) in [("one", "true"), ("two", "sleep 20"), ("three", "cat ~/log")] {
            project.script(name, body);
        }
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn script(&self, name: &str, body: &str) {
        fs::write(self.path(&format!("mini/{name}.sh")), format!("echo {name} >>~/log\n{body}\n")).unwrap();
    }

    #[expect(clippy::disallowed_methods, reason = "a child that is killed, which the library's commands hide")]
    fn start(&self) -> Build {
        let mut child = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(["ami", "build", "--format", "json", "--state", "state"])
            .env("CARGO_MANIFEST_DIR", self.path("xtask"))
            .current_dir(self.dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let events =
            lines.map_while(Result::ok).map(|l| serde_json::from_str(&l).unwrap_or_else(|e| panic!("{e}: {l}")));
        Build { child, events: Box::new(events), seen: Vec::new(), started: Instant::now() }
    }

    /// Command lines of processes that belong to this project.
    fn processes(&self) -> Vec<String> {
        let mark = self.dir.path().to_string_lossy().into_owned();
        let lines = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| fs::read(e.path().join("cmdline")).ok());
        lines.map(|l| String::from_utf8_lossy(&l).replace('\0', " ")).filter(|l| l.contains(&mark)).collect()
    }

    /// What commands have left behind.
    fn leftovers(&self) -> Vec<String> {
        let mut found = self.processes();
        let names =
            |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path().display().to_string());
        found.extend(names(self.path("state/runs")));
        found.extend(names(self.path("state/layers")).filter(|n| n.contains("unfinished")));
        found.extend(names(self.path("state/regions/local-1")).filter(|n| n.contains("unfinished")));
        found
    }
}

struct Build {
    child: Child,
    events: Box<dyn Iterator<Item = Value>>,
    seen: Vec<Value>,
    started: Instant,
}

impl Build {
    /// Reads events up to the first that fits.
    fn until(&mut self, what: &str, fits: impl Fn(&Value) -> bool) {
        for event in self.events.by_ref() {
            let found = fits(&event);
            self.seen.push(event);
            if found {
                println!("{:6.1} s  {what}", self.started.elapsed().as_secs_f64());
                return;
            }
        }
        panic!("the build ended before {what}: {:#?}", self.seen.last());
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end; returns the exit code and what became of each step.
    fn end(mut self) -> (Option<i32>, Vec<String>, Value) {
        self.seen.extend(self.events.by_ref());
        let code = self.child.wait().unwrap().code();
        let steps = self.seen.iter().filter(|e| e["event"] == "step-finished");
        let steps = steps.map(|e| e["outcome"].as_str().unwrap().to_owned()).collect();
        println!("{:6.1} s  ended with {code:?}, steps {steps:?}", self.started.elapsed().as_secs_f64());
        (code, steps, self.seen.pop().unwrap_or_default())
    }
}

fn step_started(index: u64) -> impl Fn(&Value) -> bool {
    move |e| e["event"] == "step-started" && e["index"] == index
}

#[test]
#[ignore = "boots VMs"]
fn a_build_that_is_killed_interrupted_repeated_and_changed() {
    let project = Project::new();

    println!("a script that fails in step 2:");
    project.script("two", "seq 50; echo broken >&2; exit 7");
    let (code, steps, result) = project.start().end();
    assert_eq!((code, steps), (Some(4), ["done", "failed"].map(str::to_owned).to_vec()));
    let error = result["error"].as_str().unwrap();
    for word in
        ["step two failed", "mini/two.sh", "exit code 7", "broken", "mini.pkr.hcl:13", "cargo xtask ami build mini"]
    {
        assert!(error.contains(word), "`{word}` is not in {error}");
    }
    assert!(!error.contains("│ 10\n") && error.contains("│ 12\n"), "not the last 40 lines: {error}");
    assert_eq!(project.leftovers(), [""; 0]);

    println!("kill -9 in the middle of step 2, in a build that goes on from the layer after step 1:");
    project.script("two", "sleep 20");
    let mut build = project.start();
    build.until("step 2 began", step_started(2));
    build.signal(Signal::KILL);
    let (code, steps, _) = build.end();
    assert_eq!((code, steps), (None, vec!["up-to-date".to_owned()]));

    println!("the next build does, too:");
    let (code, steps, result) = project.start().end();
    assert_eq!((code, steps), (Some(0), ["up-to-date", "done", "done"].map(str::to_owned).to_vec()), "{result}");
    assert_eq!(result["ok"], true);
    assert_eq!(project.leftovers(), [""; 0]);

    let manifest: Value =
        serde_json::from_str(&fs::read_to_string(project.path("packer-manifest.json")).unwrap()).unwrap();
    let id = result["data"]["image"]["id"].as_str().unwrap();
    assert_eq!(manifest["builds"][0]["artifact_id"], format!("local-1:{id}"));
    let checksum = fs::read_to_string(project.path("mini.sha256")).unwrap();
    assert_eq!(checksum, format!("{}\tdisk.qcow2\n", result["data"]["image"]["disk_sha256"].as_str().unwrap()));
    assert!(project.path("seen").exists(), "the shell-local post-processor did not run in the project's folder");

    println!("nothing changed:");
    let (code, steps, result) = project.start().end();
    assert_eq!((code, steps.len(), &result["data"]["up_to_date"]), (Some(0), 0, &Value::Bool(true)), "{result}");

    println!("Ctrl-C while a machine boots:");
    project.script("three", "cat ~/log; test \"$(cat ~/log | tr '\\n' ' ')\" = 'one two three '");
    let mut build = project.start();
    build.until("the machine was started", |e| e["event"] == "progress" && e["phase"] == "boot");
    assert!(project.processes().iter().any(|p| p.contains("qemu-system")), "no machine to interrupt");
    build.signal(Signal::INT);
    let (code, _, result) = build.end();
    assert_eq!((code, &result["exit"]), (Some(130), &Value::from(130)), "{result}");
    assert_eq!(project.leftovers(), [""; 0]);

    println!("the last script changed: it alone runs, on a disk that every step wrote to once:");
    let (code, steps, result) = project.start().end();
    assert_eq!((code, steps), (Some(0), ["up-to-date", "up-to-date", "done"].map(str::to_owned).to_vec()), "{result}");
    assert_eq!(project.leftovers(), [""; 0]);
}

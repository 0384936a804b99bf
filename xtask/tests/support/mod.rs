//! A small project to build: three short scripts and no packages, so that most of the time is spent on machines. Shared by the rebuild
//! and container tests.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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

[local]
build_gib = 2
"#;

pub(crate) struct Project {
    dir: TempDir,
}

impl Project {
    /// Creates a project in a temporary directory. Its state directory links to the repository's base images; it builds in `builder`.
    pub(crate) fn new(builder: &str) -> Self {
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
        fs::write(project.path("ami.toml"), format!("{CONFIG}builder = \"{builder}\"\n")).unwrap();
        fs::write(project.path("mini/mini.pkr.hcl"), TEMPLATE).unwrap();
        fs::write(project.path("mini/smoke.toml"), "").unwrap();
        for (name, body) in [("one", "true"), ("two", "sleep 20"), ("three", "cat ~/log")] {
            project.script(name, body);
        }
        project
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn script(&self, name: &str, body: &str) {
        fs::write(self.path(&format!("mini/{name}.sh")), format!("echo {name} >>~/log\n{body}\n")).unwrap();
    }

    pub(crate) fn start(&self) -> Build {
        self.start_with(&[])
    }

    pub(crate) fn start_with(&self, more: &[&str]) -> Build {
        self.start_paused(more, "")
    }

    /// Starts a build that stops itself (SIGSTOP) at `pause`, a value of `LEDGER_PAUSE_AT`; if it is empty, the build does not stop.
    #[expect(
        clippy::disallowed_methods,
        reason = "the test kills the child, which the library's commands do not support"
    )]
    pub(crate) fn start_paused(&self, more: &[&str], pause: &str) -> Build {
        let mut child = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(["ami", "build", "--format", "json", "--state", "state"])
            .args(more)
            .env("CARGO_MANIFEST_DIR", self.path("xtask"))
            .env("LEDGER_PAUSE_AT", pause)
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

    /// Ids and command lines of the processes that have the project's path on their command line.
    fn found(&self) -> Vec<(Pid, String)> {
        let mark = self.dir.path().to_string_lossy().into_owned();
        let process = |entry: fs::DirEntry| {
            let pid = entry.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw)?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            Some((pid, String::from_utf8_lossy(&line).replace('\0', " ")))
        };
        fs::read_dir("/proc").unwrap().flatten().filter_map(process).filter(|(_, line)| line.contains(&mark)).collect()
    }

    /// Command lines of the processes that have the project's path on their command line.
    pub(crate) fn processes(&self) -> Vec<String> {
        self.found().into_iter().map(|(_, line)| line).collect()
    }

    /// Waits for this project's QEMU and kills it with SIGKILL, as in a crash.
    pub(crate) fn kill_machine(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if let Some((pid, _)) = self.found().into_iter().find(|(_, line)| line.starts_with("qemu-system")) {
                // If QEMU exits within its first 400 ms, the build reports a failed start instead of a crash.
                std::thread::sleep(Duration::from_secs(3));
                return kill_process(pid, Signal::KILL).unwrap();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("no machine was started");
    }

    /// Processes, run directories, unfinished layers and unfinished images.
    pub(crate) fn orphans(&self) -> Vec<String> {
        let mut found = self.processes();
        let names =
            |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path().display().to_string());
        found.extend(names(self.path("state/runs")));
        let generations = names(self.path("state/layers")).flat_map(|key| names(key.into()));
        found.extend(generations.filter(|n| !Path::new(n).join("layer.json").exists()));
        found.extend(names(self.path("state/regions/local-1")).filter(|n| n.contains("unfinished")));
        found
    }
}

/// A running build.
pub(crate) struct Build {
    child: Child,
    events: Box<dyn Iterator<Item = Value>>,
    seen: Vec<Value>,
    started: Instant,
}

impl Build {
    /// Reads events up to the first one for which `matches` returns true.
    pub(crate) fn until(&mut self, what: &str, mut matches: impl FnMut(&Value) -> bool) {
        for event in self.events.by_ref() {
            let found = matches(&event);
            self.seen.push(event);
            if found {
                println!("{:6.1} s  {what}", self.started.elapsed().as_secs_f64());
                return;
            }
        }
        let result = self.seen.last().map_or("no result", |e| e["error"].as_str().unwrap_or("no error"));
        panic!("the build ended before {what}:\n{result}");
    }

    /// The last event that was read.
    pub(crate) fn last(&self) -> &Value {
        self.seen.last().unwrap()
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until the build exits; returns its exit code, the outcome of each step, and the result.
    pub(crate) fn end(mut self) -> (Option<i32>, Vec<String>, Value) {
        self.seen.extend(self.events.by_ref());
        let code = self.child.wait().unwrap().code();
        let steps = self.seen.iter().filter(|e| e["event"] == "step-finished");
        let steps = steps.map(|e| e["outcome"].as_str().unwrap().to_owned()).collect();
        println!("{:6.1} s  exited with {code:?}, steps {steps:?}", self.started.elapsed().as_secs_f64());
        (code, steps, self.seen.pop().unwrap_or_default())
    }
}

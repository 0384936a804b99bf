//! Builds in real containers: killed at every change and in every step, attempts of a script to reach the host, a step that requires a
//! virtual machine. As root on Linux: `cargo test -p xtask --test container -- --ignored --nocapture`. Requires a base image, which
//! `cargo xtask ami build` makes.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test prints its observations and fails by panicking")]

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use xtask::process::Cmd;

#[expect(dead_code, reason = "the rebuild test uses the other functions")]
mod support;
use support::Project;
#[path = "support/repository.rs"]
mod repository;
#[path = "support/stop.rs"]
mod stop;
use stop::stops;

/// True if no container can be started on this host. Prints the reason; the test is skipped then.
fn skipped() -> bool {
    let result = xtask::cloud::local::container::probe::probe(None).unwrap();
    if let Some(obstacle) = &result.obstacle {
        println!("skipped: {}; {}", obstacle.what, obstacle.remedy);
    }
    result.obstacle.is_some()
}

/// Time that the kernel may take to remove the namespaces of a killed build.
const TEARDOWN: Duration = Duration::from_secs(10);
/// Time that a build may take until it stops at a point.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Mounts, loop devices, namespaces and processes of a project on the host.
fn held(project: &Project) -> Vec<String> {
    let mark = project.path("").display().to_string();
    let read = |cmd: Cmd| cmd.output().unwrap().stdout;
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let loops = read(Cmd::new("losetup").args(["--all", "--list", "--noheadings"]));
    let namespaces = read(Cmd::new("lsns").args(["--noheadings", "--output", "TYPE,PID,COMMAND"]));
    let lines = mounts.lines().chain(loops.lines()).chain(namespaces.lines());
    let mut held: Vec<String> =
        lines.filter(|line| line.contains(mark.trim_end_matches('/'))).map(str::to_owned).collect();
    held.extend(project.processes());
    held
}

/// Waits until the kernel has removed everything that a killed build held; returns what remains at the timeout.
fn left(project: &Project) -> Vec<String> {
    let deadline = Instant::now() + TEARDOWN;
    loop {
        let held = held(project);
        if held.is_empty() || Instant::now() > deadline {
            return held;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The control groups of containers on this host.
fn control_groups() -> Vec<String> {
    let list = "mount -t cgroup2 cgroup2 /mnt && find /mnt -maxdepth 1 -name 'agent-ami-run-*' -printf '%f\\n' | sort";
    let names = Cmd::new("unshare").args(["--mount", "sh", "-c", list]).read().unwrap();
    names.lines().map(str::to_owned).collect()
}

fn outcomes(steps: &[String], outcome: &str) -> usize {
    steps.iter().filter(|step| *step == outcome).count()
}

/// Kills a build before and after every change, and in the middle of every step. After each kill the next build continues from the last
/// layer.
#[test]
#[ignore = "starts containers"]
fn a_build_killed_at_any_point_leaves_nothing_and_the_next_build_continues() {
    if skipped() {
        return;
    }
    let groups = control_groups();
    let points: Vec<String> = (1..=4).flat_map(|n| [format!("before:{n}"), format!("after:{n}")]).collect();
    for point in &points {
        let project = Project::new("container");
        project.script("two", "true");
        let mut build = project.start_paused(&[], point);
        assert!(stops(build.child(), TIMEOUT), "it did not stop at {point}");
        let running = held(&project).len();
        build.signal(Signal::KILL);
        let (_, done, _) = build.end();
        let left = left(&project);
        println!("{point:9} {running} held while it ran, {} remain", left.len());
        assert!(left.is_empty(), "{point}: {}", left.join("\n"));
        continues(&project, outcomes(&done, "done"));
    }
    for step in 1..=3u64 {
        let project = Project::new("container");
        for name in ["one", "two", "three"] {
            project.script(name, "sleep 1");
        }
        let mut build = project.start();
        build.until(&format!("step {step} began"), |e| e["event"] == "step-started" && e["index"] == step);
        assert!(!held(&project).is_empty());
        build.signal(Signal::KILL);
        let (_, done, _) = build.end();
        let left = left(&project);
        assert!(left.is_empty(), "in step {step}: {}", left.join("\n"));
        continues(&project, outcomes(&done, "done"));
    }
    // Another build may run at the same time.
    let new: Vec<String> = control_groups().into_iter().filter(|group| !groups.contains(group)).collect();
    assert_eq!(new, [""; 0], "a control group remains");
}

/// Builds to the end and checks that it starts from the layers of the completed steps. The last of these may have no layer.
fn continues(project: &Project, done: usize) {
    let (code, steps, result) = project.start().end();
    assert_eq!(code, Some(0), "{result}");
    let found = outcomes(&steps, "up-to-date");
    // If the image was complete when the build was killed, no step runs.
    assert!(
        steps.is_empty() || found == done.min(2) || found + 1 == done,
        "{done} steps were completed before, then {steps:?}"
    );
    assert_eq!(result["data"]["image"]["built_in"], "container");
    assert_eq!(project.orphans(), [""; 0]);
    assert_eq!(held(project), [""; 0]);
}

/// What a script tries as root. A line with `no` must fail, the others must succeed.
const ATTEMPTS: &str = r#"
no() { if sudo sh -c "$1" >/dev/null 2>&1; then echo "POSSIBLE: $1"; exit 1; fi; echo "refused: $1"; }
no 'mount -t devtmpfs none /mnt'
no 'mknod /root/disk b 254 0 && dd if=/root/disk of=/dev/null count=1'
no 'mount -t proc proc /mnt && echo /bin/true >/mnt/sys/kernel/core_pattern'
no 'echo 1 >/proc/sys/kernel/panic'
no 'echo h >/proc/sysrq-trigger'
no 'mount -o remount,rw /proc/sys && echo 1 >/proc/sys/kernel/panic'
no 'echo 0 >/sys/kernel/mm/ksm/run || { mount -o remount,rw /sys/kernel && echo 0 >/sys/kernel/mm/ksm/run; }'
no 'modprobe dummy'
no 'dmesg'
no 'python3 -c "import ctypes; l = ctypes.CDLL(None, use_errno=True); raise SystemExit(l.syscall(250, 0, -4, 0) < 0)"'
no 'grep -q . /proc/keys'
no 'timeout 3 bash -c "exec 3<>/dev/tcp/10.0.2.2/PORT"'
no 'timeout 3 bash -c "exec 3<>/dev/tcp/127.0.0.1/PORT"'
no 'ls PROJECT'
test "$(ls /sys/class/net | tr '\n' ' ')" = 'host0 lo '
timeout 3 bash -c 'exec 3<>/dev/tcp/127.0.0.1/22'
sudo ip link set lo down && sudo ip link set lo up
sudo sh -c 'touch /root/mine && chown 33:33 /root/mine && test "$(stat -c %u /root/mine)" = 33'
"#;

#[test]
#[ignore = "starts a container"]
fn a_script_in_a_container_cannot_reach_the_host() {
    if skipped() {
        return;
    }
    let project = Project::new("container");
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port().to_string();
    // The control: on the host, the port that the container must not reach accepts connections.
    std::net::TcpStream::connect(server.local_addr().unwrap()).unwrap();
    let attempts = ATTEMPTS.replace("PORT", &port).replace("PROJECT", &project.path("").display().to_string());
    project.script("one", &attempts);
    project.script("two", "true");
    let mut refused = Vec::new();
    let mut build = project.start();
    build.until("the attempts ended", |e| {
        let line = e["line"].as_str().unwrap_or_default();
        refused.extend(line.strip_prefix("refused: ").map(str::to_owned));
        e["event"] == "step-finished" && e["index"] == 1
    });
    println!("refused:\n  {}", refused.join("\n  "));
    let (code, steps, result) = build.end();
    assert_eq!(code, Some(0), "{steps:?} {result}");
    assert_eq!(refused.len(), ATTEMPTS.lines().filter(|line| line.starts_with("no '")).count());
}

/// The printed command connects to the container of a failed build, and powering off removes it.
#[test]
#[ignore = "starts a container"]
fn a_kept_container_accepts_ssh_until_it_is_powered_off() {
    if skipped() {
        return;
    }
    let project = Project::new("container");
    project.script("two", "exit 3");
    let mut build = project.start_with(&["--keep-on-failure"]);
    build.until("it was kept", |e| e["message"].as_str().is_some_and(|message| message.contains("is kept: ssh ")));
    let login = build.last()["message"].as_str().unwrap().lines().next().unwrap().to_owned();
    let login = login.split_once("is kept: ").unwrap().1.to_owned();
    let (code, _, result) = build.end();
    assert_eq!(code, Some(4), "{result}");
    let shell = |line: String| Cmd::new("bash").args(["-c", &line]).output().unwrap();
    let output = shell(format!("{login} 'cat log; systemd-detect-virt'"));
    assert_eq!(output.stdout, "one\ntwo\nsystemd-nspawn\n", "{}", output.stderr);
    shell(format!("{login} sudo poweroff"));
    assert_eq!(left(&project), [""; 0]);
    project.script("two", "true");
    continues(&project, 1);
}

/// Ctrl-C in the middle of a step; and a template with a restart, for which the plan selects a virtual machine.
#[test]
#[ignore = "starts a container"]
fn ctrl_c_ends_a_build_and_a_restart_selects_a_virtual_machine() {
    if skipped() {
        return;
    }
    let project = Project::new("container");
    let mut build = project.start();
    build.until("step 2 began", |e| e["event"] == "step-started" && e["index"] == 2);
    build.signal(Signal::INT);
    let (code, _, result) = build.end();
    assert_eq!((code, &result["exit"]), (Some(130), &Value::from(130)), "{result}");
    assert_eq!(left(&project), [""; 0]);
    let runs = fs::read_dir(project.path("state/runs")).unwrap().count();
    assert_eq!(runs, 0, "the run's directory remains");

    let template = fs::read_to_string(project.path("mini/mini.pkr.hcl")).unwrap();
    let restarts = template.replacen("two.sh\"\n", "two.sh\"\n    expect_disconnect = true\n", 1);
    fs::write(project.path("mini/mini.pkr.hcl"), restarts).unwrap();
    let (_, _, plan) = project.start_with(&["--dry-run"]).end();
    let builder = &plan["data"]["plan"]["builder"];
    assert_eq!(builder["kind"], "vm", "{builder}");
    let why = builder["why"].as_str().unwrap();
    println!("{why}");
    assert!(why.contains("step two restarts the machine") && why.contains("mini.pkr.hcl:13"), "{why}");
}

/// A template that is not part of the project, with a script beside it.
const FOREIGN: &str = r#"
variable "provider" {
  type    = string
  default = "codex"
}

source "qemu" "foreign" {
  ssh_username = "ubuntu"
}

build {
  sources = ["source.qemu.foreign"]

  provisioner "shell" {
    script = "install.sh"
  }

  provisioner "shell" {
    inline = ["cat ~/installed"]
  }

  post-processor "manifest" {}
}
"#;

/// Commits a version of the foreign template to the branch `main` of a repository; returns the commit.
fn commit(project: &Project, version: &str) -> String {
    let dir = project.path("repository");
    fs::create_dir_all(dir.join("images")).unwrap();
    fs::write(dir.join("images/foreign.pkr.hcl"), FOREIGN).unwrap();
    fs::write(dir.join("images/install.sh"), format!("echo {version} >~/installed\n")).unwrap();
    repository::commit(&dir, version)
}

/// The content of a file of an image, read from its disk; empty if there is no such file.
fn file_of(project: &Project, image: &Value, file: &str) -> String {
    let (region, id) = (image["region"].as_str().unwrap(), image["id"].as_str().unwrap());
    let disk = project.path("state/regions").join(region).join(id).join("disk.qcow2");
    let raw = project.path("raw");
    Cmd::new("qemu-img").args(["convert", "-O", "raw"]).arg(disk).arg(&raw).read().unwrap();
    let table: Value = serde_json::from_str(&Cmd::new("sfdisk").arg("--json").arg(&raw).read().unwrap()).unwrap();
    let parts = table["partitiontable"]["partitions"].as_array().unwrap();
    let root = parts.iter().max_by_key(|part| part["size"].as_u64()).unwrap();
    let offset = root["start"].as_u64().unwrap() * 512;
    let debugfs = Cmd::new("debugfs").args(["-R", &format!("cat {file}")]);
    debugfs.arg(format!("{}?offset={offset}", raw.display())).output().unwrap().stdout
}

fn xtask(project: &Project, args: &[&str]) -> Cmd {
    Cmd::new(env!("CARGO_BIN_EXE_xtask"))
        .args(args)
        .args(["--format", "json", "--yes", "--state", "state"])
        .env("CARGO_MANIFEST_DIR", project.path("xtask").display().to_string())
        .dir(project.path(""))
}

/// The run keeps the commit that it began with; the image has none of the key and certificates that the build put on the machine.
#[test]
#[ignore = "starts containers"]
fn a_template_of_a_repository_is_built_and_a_resumed_build_keeps_its_commit() {
    if skipped() {
        return;
    }
    let project = Project::new("container");
    let first = commit(&project, "first");
    let source = format!("git::file://{}//images?ref=main", project.path("repository").display());
    let mut build = project.start_paused(&["--template", &source], "before:3");
    assert!(stops(build.child(), TIMEOUT), "it did not stop");
    build.signal(Signal::KILL);
    build.end();
    let second = commit(&project, "second");
    let resume = xtask(&project, &["ami", "resume"]);
    let result = |cmd: &Cmd| -> Value {
        let ended = cmd.output().unwrap();
        assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
        serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap()
    };
    let resumed = result(&resume)["data"]["image"].clone();
    let status = result(&xtask(&project, &["ami", "status"]))["data"].clone();
    assert_eq!(
        (&status["build_id"], &status["status"], &status["provider"], &status["region"], &status["image_id"]),
        (&resumed["run"], &"succeeded".into(), &"codex".into(), &resumed["region"], &resumed["id"])
    );
    assert_eq!((&resumed["template"]["commit"], &resumed["agent"]), (&Value::from(first), &Value::from("codex")));
    assert_eq!(file_of(&project, &resumed, "/home/ubuntu/installed"), "first\n");
    // Another build takes what the branch names now.
    let (code, steps, built) = project.start_with(&["--template", &source]).end();
    assert_eq!((code, outcomes(&steps, "done")), (Some(0), 2), "{built}");
    let image = built["data"]["image"].clone();
    assert_eq!(image["template"]["commit"], second);
    assert_ne!(image["recipe_hash"], resumed["recipe_hash"]);
    assert_eq!(file_of(&project, &image, "/home/ubuntu/installed"), "second\n");

    let keys = file_of(&project, &image, "/home/ubuntu/.ssh/authorized_keys");
    assert!(!keys.contains("run-"), "the builder's key: {keys}");
    let certificate = "/usr/local/share/ca-certificates/cloud-init-ca-cert-1.crt";
    assert_eq!(file_of(&project, &image, certificate), "", "a certificate of this host");
    let manifest = project.path("state/outputs/mini/packer-manifest.json");
    let manifest: Value = serde_json::from_str(&fs::read_to_string(manifest).unwrap()).unwrap();
    assert_eq!(manifest["builds"].as_array().unwrap().len(), 2);
    assert_eq!(project.orphans(), [""; 0]);
    assert_eq!(held(&project), [""; 0]);
}

#[test]
#[ignore = "starts containers"]
fn a_step_without_a_timeout_ends_with_the_build() {
    if skipped() {
        return;
    }
    let project = Project::new("container");
    let config = fs::read_to_string(project.path("ami.toml")).unwrap();
    fs::write(project.path("ami.toml"), format!("{config}\n[packer]\nbuild_timeout_secs = 15\n")).unwrap();
    project.script("two", "sleep 300");
    let began = Instant::now();
    let (code, _, result) = project.start().end();
    let error = result["error"].as_str().unwrap().replace('\n', " ");
    assert_eq!(code, Some(4), "{error}");
    let words: Vec<&str> = error.split_whitespace().filter(|word| *word != "│").collect();
    assert!(words.join(" ").contains("the build timed out after 15 seconds (build_timeout_secs)"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(120), "it took {:?}", began.elapsed());
    assert_eq!(left(&project), [""; 0]);
}

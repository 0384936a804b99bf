//! The image that a container builds is the one that a virtual machine builds: every file of both, by path, type, mode, owner,
//! capability and content, but for what differs between any two builds. So packages, units and users are the same, too.
//!
//! `cargo test -p xtask --test equality -- --ignored --nocapture`, or `cargo xtask test --full`. Builds what is not there yet, both ways,
//! which takes half an hour where virtual machines are emulated.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it sees and stops where it cannot go on"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use xtask::process::Cmd;

/// What may differ, by the beginning and the end of its path, and why.
const VOLATILE: [(&str, &str, &str); 13] = [
    ("/etc/agent-ami/manifest.json", "", "names builder, run and time"),
    ("/etc/agent-ami/sbom.cdx.json", "", "carries the time at which it was made"),
    ("/etc/sudoers.d/90-cloud-init-users", "", "cloud-init writes the date into it"),
    ("/usr/", ".pyc", "carries the time at which its source was unpacked"),
    ("/opt/", ".pyc", "carries the time at which its source was unpacked"),
    ("/var/cache/agent-ami/pm2/", "", "what V8 compiled, named by processor features and written in any order"),
    ("/var/cache/ldconfig/aux-cache", "", "holds inode numbers and times (ldconfig(8))"),
    ("/var/lib/systemd/timers/", "", "when a timer last ran; a container leaves the disk's to its host"),
    ("/var/lib/systemd/timesync", "", "the time of the last synchronisation; a container has its host's clock"),
    ("/var/lib/dpkg/", "-old", "the state before the last change, by time"),
    ("/var/lib/apt/", "", "when apt last looked"),
    ("/var/lib/fail2ban/", "", "opened by the service while it ran"),
    ("/home/ubuntu/.gemini/", ".tmp", "random names"),
];

fn volatile(path: &str) -> Option<&'static str> {
    VOLATILE.iter().find(|(start, end, _)| path.starts_with(start) && path.ends_with(end)).map(|(.., why)| *why)
}

/// Builds, or finds that it is built already, and returns the image's record and disk.
fn built(builder: &str) -> (Value, PathBuf) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let cmd = Cmd::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["ami", "build", "locus-agent", "--format", "json", "--builder", builder])
        .env("CARGO_MANIFEST_DIR", root.join("xtask"))
        .dir(root);
    println!("{cmd}");
    let said = cmd.read().unwrap();
    let result: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let image = result["data"]["image"].clone();
    assert_eq!(image["built_in"], builder, "{image}");
    let state = std::env::var_os("AGENT_AMI_LOCAL_STATE_DIR").map_or(root.join(".agent-ami"), PathBuf::from);
    let folder = state.join("regions").join(image["region"].as_str().unwrap()).join(image["id"].as_str().unwrap());
    (image, folder.join("disk.qcow2"))
}

/// Every file of an image by its path: type, mode, owner, group, capability, content.
fn inventory(disk: &Path) -> BTreeMap<String, Value> {
    let dir = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/inventory.py");
    let said = Cmd::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "python3"])
        .args([script.as_path(), disk, dir.path()])
        .read()
        .unwrap();
    let row = |line: &str| {
        let mut row: Vec<Value> = serde_json::from_str(line).unwrap();
        (row.remove(0).as_str().unwrap().to_owned(), Value::Array(row))
    };
    said.lines().map(row).collect()
}

#[test]
#[ignore = "builds an image twice"]
fn a_container_builds_the_image_that_a_virtual_machine_builds() {
    let (container, container_disk) = built("container");
    let (vm, vm_disk) = built("vm");
    assert_eq!(container["recipe_hash"], vm["recipe_hash"]);
    let (in_container, in_vm) = (inventory(&container_disk), inventory(&vm_disk));
    println!("{} files in {}, {} in {}", in_container.len(), container["id"], in_vm.len(), vm["id"]);
    assert!(in_container.len() > 10_000 && in_vm.contains_key("/etc/passwd"), "that is no system");
    let paths = in_container.keys().chain(in_vm.keys().filter(|path| !in_container.contains_key(*path)));
    let (mut excused, mut different) = (BTreeMap::<&str, usize>::new(), Vec::new());
    for path in paths.filter(|path| in_container.get(*path) != in_vm.get(*path)) {
        match volatile(path) {
            Some(why) => *excused.entry(why).or_default() += 1,
            None => {
                let show = |side: Option<&Value>| side.map_or("not there".to_owned(), Value::to_string);
                different.push(format!(
                    "{path}: container {}, virtual machine {}",
                    show(in_container.get(path)),
                    show(in_vm.get(path))
                ));
            }
        }
    }
    for (why, count) in &excused {
        println!("{count:5} differ: {why}");
    }
    println!("{:5} differ in any other way", different.len());
    assert!(different.is_empty(), "{}", different.join("\n"));
    for file in ["/etc/passwd", "/etc/group", "/etc/shadow", "/var/lib/dpkg/status"] {
        assert_eq!(in_container[file], in_vm[file], "{file}");
    }
    let enabled = |files: &BTreeMap<String, Value>| {
        files.keys().filter(|path| path.starts_with("/etc/systemd/system/") && path.contains(".wants/")).count()
    };
    println!("{} units enabled in each", enabled(&in_vm));
}

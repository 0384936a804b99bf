//! A container and a virtual machine build the same image: compares every file of both by path, type, mode, owner, capability and content,
//! except for files that differ between any two builds.
//!
//! `cargo test -p xtask --test equality -- --ignored --nocapture`, or `cargo xtask test --full`. Builds the images that do not exist yet,
//! which takes half an hour where virtual machines are emulated.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test prints its observations and fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use xtask::process::Cmd;

/// Files that may differ, by the beginning and the end of their path, with the reason.
const VOLATILE: [(&str, &str, &str); 13] = [
    ("/etc/agent-ami/manifest.json", "", "contains builder, run and time"),
    ("/etc/agent-ami/sbom.cdx.json", "", "contains the time of its creation"),
    ("/etc/sudoers.d/90-cloud-init-users", "", "cloud-init writes the date into it"),
    ("/usr/", ".pyc", "contains the modification time of its source"),
    ("/opt/", ".pyc", "contains the modification time of its source"),
    ("/var/cache/agent-ami/pm2/", "", "code compiled by V8, in files named after processor features, in any order"),
    ("/var/cache/ldconfig/aux-cache", "", "contains inode numbers and times (ldconfig(8))"),
    ("/var/lib/systemd/timers/", "", "time of a timer's last run; timers for the disk do not run in a container"),
    ("/var/lib/systemd/timesync", "", "time of the last synchronisation; a container uses its host's clock"),
    ("/var/lib/dpkg/", "-old", "backup of the state before the last change"),
    ("/var/lib/apt/", "", "time of apt's last update"),
    ("/var/lib/fail2ban/", "", "written by the service while it ran"),
    ("/home/ubuntu/.gemini/", ".tmp", "random names"),
];

fn volatile(path: &str) -> Option<&'static str> {
    VOLATILE.iter().find(|(start, end, _)| path.starts_with(start) && path.ends_with(end)).map(|(.., why)| *why)
}

/// Builds the image unless it exists; returns its record and its disk.
fn built(builder: &str) -> (Value, PathBuf) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let cmd = Cmd::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["ami", "build", "locus-agent", "--format", "json", "--builder", builder])
        .env("CARGO_MANIFEST_DIR", root.join("xtask"))
        .dir(root);
    println!("{cmd}");
    let stdout = cmd.read().unwrap();
    let result: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    let image = result["data"]["image"].clone();
    assert_eq!(image["built_in"], builder, "{image}");
    let state = std::env::var_os("AGENT_AMI_LOCAL_STATE_DIR").map_or(root.join(".agent-ami"), PathBuf::from);
    let dir = state.join("regions").join(image["region"].as_str().unwrap()).join(image["id"].as_str().unwrap());
    (image, dir.join("disk.qcow2"))
}

/// Type, mode, owner, group, capability and content of every file of an image, by path.
fn inventory(disk: &Path) -> BTreeMap<String, Value> {
    let dir = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/inventory.py");
    let stdout = Cmd::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "python3"])
        .args([script.as_path(), disk, dir.path()])
        .read()
        .unwrap();
    let row = |line: &str| {
        let mut row: Vec<Value> = serde_json::from_str(line).unwrap();
        (row.remove(0).as_str().unwrap().to_owned(), Value::Array(row))
    };
    stdout.lines().map(row).collect()
}

#[test]
#[ignore = "builds an image twice"]
fn a_container_and_a_virtual_machine_build_the_same_image() {
    let (container, container_disk) = built("container");
    let (vm, vm_disk) = built("vm");
    assert_eq!(container["recipe_hash"], vm["recipe_hash"]);
    let (in_container, in_vm) = (inventory(&container_disk), inventory(&vm_disk));
    println!("{} files in {}, {} in {}", in_container.len(), container["id"], in_vm.len(), vm["id"]);
    assert!(in_container.len() > 10_000 && in_vm.contains_key("/etc/passwd"), "the inventories are incomplete");
    let paths = in_container.keys().chain(in_vm.keys().filter(|path| !in_container.contains_key(*path)));
    let (mut excused, mut different) = (BTreeMap::<&str, usize>::new(), Vec::new());
    for path in paths.filter(|path| in_container.get(*path) != in_vm.get(*path)) {
        match volatile(path) {
            Some(why) => *excused.entry(why).or_default() += 1,
            None => {
                let show = |side: Option<&Value>| side.map_or("missing".to_owned(), Value::to_string);
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
    println!("{:5} differ for no known reason", different.len());
    assert!(different.is_empty(), "{}", different.join("\n"));
    for file in ["/etc/passwd", "/etc/group", "/etc/shadow", "/var/lib/dpkg/status"] {
        assert_eq!(in_container[file], in_vm[file], "{file}");
    }
    let enabled = |files: &BTreeMap<String, Value>| {
        files.keys().filter(|path| path.starts_with("/etc/systemd/system/") && path.contains(".wants/")).count()
    };
    println!("{} units enabled in each", enabled(&in_vm));
}

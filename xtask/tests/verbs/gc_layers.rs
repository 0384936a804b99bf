//! Layers and `ami gc`: it prints which layers it would delete and why, deletes them only with `--apply`, writes each deletion to the
//! ledger, and keeps all layers while a build may use them. Disks consist of a header; no machine is started.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use xtask::cloud::Layer;
use xtask::process::Cmd;
use xtask::recipe::Digest;
use xtask::state::State;

use crate::project::Project;

const OLD: &str = "20261101-000000-000000-000001";
const NEW: &str = "20261102-000000-000000-000002";

/// A step's key, or a base's digest.
fn key(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

/// The directory of a generation of a layer.
fn dir(project: &Project, name: &str, generation: &str) -> PathBuf {
    project.path(&format!(".agent-ami/layers/{}/{generation}", key(name)))
}

/// The header of a disk with the backing file `below` (QEMU: docs/interop/qcow2.txt).
fn disk(below: &str) -> Vec<u8> {
    let mut bytes = [&b"QFI\xfb"[..], &3u32.to_be_bytes(), &20u64.to_be_bytes()].concat();
    bytes.extend(u32::try_from(below.len()).unwrap().to_be_bytes());
    bytes.extend(below.as_bytes());
    bytes
}

fn record(name: &str, parent: &str) -> Layer {
    let (step, created, inputs) = (name.to_owned(), String::new(), std::collections::BTreeMap::new());
    Layer { key: key(name), parent: key(parent), step, inputs, seconds: 1.0, created }
}

/// Creates a layer that was last used `days` days ago.
fn layer(project: &Project, (name, generation): (&str, &str), below: Option<(&str, &str)>, days: u64) {
    let dir = dir(project, name, generation);
    fs::create_dir_all(&dir).unwrap();
    let (parent, backing) = match below {
        Some((parent, generation)) => (parent, format!("../../{}/{generation}/disk.qcow2", key(parent))),
        None => ("base", "../../../base/a-base/disk.qcow2".to_owned()),
    };
    fs::write(dir.join("disk.qcow2"), disk(&backing)).unwrap();
    let parent_generation = below.map(|(_, generation)| generation);
    let record = serde_json::json!({
        "generation": generation, "parent_generation": parent_generation, "layer": record(name, parent)
    });
    fs::write(dir.join("layer.json"), record.to_string()).unwrap();
    let used = fs::File::create(dir.join("used")).unwrap();
    used.set_modified(SystemTime::now() - Duration::from_secs(days * 86_400 + 60)).unwrap();
}

/// A chain of three layers, of which the last has not been used for 45 days; older generations of its first two layers, as a forced build
/// leaves them; a layer of an earlier version of the program; and an unfinished layer of a killed build.
fn project() -> Project {
    let project = Project::new();
    drop(State::open(project.path(".agent-ami")).unwrap());
    fs::create_dir_all(project.path(".agent-ami/base/a-base")).unwrap();
    fs::write(project.path(".agent-ami/base/a-base/disk.qcow2"), "").unwrap();
    layer(&project, ("one", OLD), None, 2);
    layer(&project, ("two", OLD), Some(("one", OLD)), 2);
    layer(&project, ("one", NEW), None, 1);
    layer(&project, ("two", NEW), Some(("one", NEW)), 1);
    layer(&project, ("three", NEW), Some(("two", NEW)), 45);
    let before = project.path(&format!(".agent-ami/layers/{}", key("before")));
    fs::create_dir(&before).unwrap();
    fs::write(before.join("disk.qcow2"), disk("../../base/a-base/disk.qcow2")).unwrap();
    fs::write(before.join("layer.json"), serde_json::to_string(&record("before", "base")).unwrap()).unwrap();
    let dead = dir(&project, "dead", NEW);
    fs::create_dir_all(&dead).unwrap();
    fs::write(dead.join("disk.qcow2"), disk("../../../base/a-base/disk.qcow2")).unwrap();
    project
}

/// The layers in the state directory: step and date of the generation.
fn left(project: &Project) -> Vec<String> {
    let names = ["one", "two", "three", "before", "dead"];
    let all = names.iter().flat_map(|name| [OLD, NEW].map(|generation| (name, generation)));
    let there = all.filter(|(name, generation)| dir(project, name, generation).exists());
    let mut left: Vec<String> = there.map(|(name, generation)| format!("{name} {}", &generation[..8])).collect();
    left.extend(names.into_iter().filter(|name| dir(project, name, "layer.json").exists()).map(str::to_owned));
    left
}

#[test]
fn gc_lists_each_layer_to_delete_with_reason_and_size_and_deletes_it_with_apply() {
    let project = project();
    let all = left(&project);
    let ended = project.run(&["ami", "gc"]);
    ended.assert_exit(
        0,
        &[
            "0 to remove, 0 to deprecate, 0 to keep; layers: 5 to remove (",
            " MiB), 2 to keep; pass --apply to carry it out",
        ],
    );
    for (name, generation, reason) in [
        ("two", Some(OLD), "a newer layer of the same step is used instead"),
        ("one", Some(OLD), "a newer layer of the same step is used instead"),
        ("before", None, "made by an older version, whose layers are not used any more"),
        ("dead", Some(NEW), "its step failed or was interrupted"),
        ("three", Some(NEW), "not used for 45 days, kept for 30 (layer_days)"),
    ] {
        let id = generation.map_or(key(name).short(), |generation| format!("{}/{generation}", key(name).short()));
        let line = ended.stdout.lines().find(|line| line.contains(&format!(" {id} "))).unwrap_or_default();
        assert!(
            line.starts_with("remove    layer") && line.contains(reason) && line.ends_with(" MiB"),
            "{name}:\n{}",
            ended.stdout
        );
    }
    assert_eq!(ended.stdout.lines().count(), 5, "{}", ended.stdout);
    project.run(&["ami", "gc", "--apply"]).assert_exit(3, &["--yes"]);
    project.run(&["ami", "gc", "--apply", "--yes", "--dry-run"]).assert_exit(0, &["5 to remove"]);
    assert_eq!(left(&project), all, "a plan removes nothing");

    project.run(&["ami", "gc", "--apply", "--yes"]).assert_exit(0, &["layers: 5 to remove"]);
    assert_eq!(left(&project), ["one 20261102", "two 20261102"]);
    assert_eq!(fs::read_dir(project.path(".agent-ami/layers")).unwrap().count(), 2, "empty directories remain");
    let run = project.data(&["ami", "runs"])["runs"][0]["run"]["id"].as_str().unwrap().to_owned();
    let calls = project.data(&["ami", "show", &run])["calls"].clone();
    let removals = calls.as_array().unwrap().iter().filter(|call| call["action"] == "local:DeleteLayer");
    let removed: Vec<&str> = removals.map(|call| call["subject"].as_str().unwrap_or_default()).collect();
    assert_eq!(removed.len(), 5, "{calls}");
    assert_eq!(removed[0], "two", "a layer is deleted before the layer below it");
    project.run(&["ami", "gc"]).assert_exit(0, &["0 to remove, 0 to deprecate, 0 to keep; layers: 0 to remove"]);
}

#[test]
fn layer_days_sets_the_time_and_layers_gib_must_not_be_zero() {
    let project = project();
    let mut command = project.command(&["ami", "gc", "--all", "--format", "json"]);
    let ended = crate::project::ended(command.env("AGENT_AMI_LOCAL_LAYER_DAYS", "50"));
    let result: Value = serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap();
    let decisions = result["data"]["decisions"].as_array().unwrap().clone();
    let three = decisions.iter().find(|d| d["of"] == "three").unwrap();
    assert_eq!((&three["action"], &three["reason"]), (&"keep".into(), &"used 45 days ago, kept for 50".into()));
    assert!(three["bytes"].is_u64() && three["what"] == "layer", "{three}");
    let mut command = project.command(&["ami", "gc"]);
    crate::project::ended(command.env("AGENT_AMI_LOCAL_LAYERS_GIB", "0")).assert_exit(2, &["layers_gib", "from 1 to"]);
}

#[test]
fn gc_keeps_all_layers_during_a_build_with_a_kept_machine_and_with_run() {
    let project = project();
    let all = left(&project);
    let state = State::open(project.path(".agent-ami")).unwrap();
    let held = state.lock("build", "cargo xtask ami build").unwrap();
    let found = project.data(&["ami", "gc", "--apply", "--yes"]);
    assert!(found["layers_left_alone"].as_str().unwrap().contains("cargo xtask ami build"), "{found}");
    assert_eq!(found["decisions"], serde_json::json!([]));
    project.run(&["ami", "gc"]).assert_exit(0, &["all layers are kept: a running build may use them: process"]);
    drop(held);
    project
        .run(&["ami", "gc", "--run", "run-x", "--apply", "--yes"])
        .assert_exit(0, &["0 to remove, 0 to deprecate, 0 to keep"]);
    assert_eq!(left(&project), all);
    project.run(&["ami", "gc"]).assert_exit(0, &["layers: 5 to remove"]);

    // The machine of a kept run uses some of them. Here it is a shell under the name of a machine's program.
    let run = "run-20261102-000000-abcdef";
    fs::create_dir(project.path(&format!(".agent-ami/runs/{run}"))).unwrap();
    fs::write(project.path(&format!(".agent-ami/runs/{run}/kept")), "").unwrap();
    let program = project.path("qemu-system-test");
    fs::copy("/bin/sh", &program).unwrap();
    let machine = Cmd::new(program).args(["-c", "sleep 60; :", run]).start(&project.path("log")).unwrap();
    while !fs::read_to_string(format!("/proc/{}/cmdline", machine.pid())).unwrap().contains(run) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let found = project.data(&["ami", "gc", "--apply", "--yes"]);
    assert_eq!(found["layers_left_alone"], format!("the machine kept by {run} may use them"));
    assert_eq!(left(&project), all);
    drop(machine);
}

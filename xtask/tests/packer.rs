//! Packer builds the same template in a virtual machine; its image passes the same smoke spec, and both SBOMs are equal. Templates from
//! elsewhere are built by each engine: one that both read, and one that only Packer reads.
//!
//! `cargo test -p xtask --test packer -- --ignored --nocapture`, or `cargo xtask test --full`. Builds Packer from source, which requires
//! Go, and takes as long as a build from the base image.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test prints its observations and fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use xtask::process::Cmd;

#[path = "support/follow.rs"]
mod follow;
use follow::follow;

#[path = "support/files.rs"]
mod files;
use files::root;

#[path = "support/repository.rs"]
mod repository;
use repository::commit;

/// A template whose disk and seed are given in variables. POST is a post-processor.
const TEMPLATE: &str = r#"
variable "disk" {
  default = ""
}

variable "qemu_seed" {
  default = ""
}

variable "qemu_private_key" {
  default = ""
}

variable "qemu_accelerator" {
  default = ""
}

variable "token" {
  default   = "none"
  sensitive = true
}

source "qemu" "small" {
  disk_image           = true
  iso_url              = var.disk
  iso_checksum         = "none"
  output_directory     = "out"
  format               = "qcow2"
  disk_size            = "20G"
  memory               = 2048
  cpus                 = 2
  cpu_model            = "max"
  accelerator          = var.qemu_accelerator
  headless             = true
  ssh_username         = "ubuntu"
  ssh_private_key_file = var.qemu_private_key
  ssh_timeout          = "30m"
  shutdown_command     = "sudo systemctl poweroff"

  qemuargs = [
    ["-blockdev", "driver=vvfat,node-name=seed,dir=${var.qemu_seed},label=cidata,read-only=on"],
    ["-device", "virtio-net,netdev=user.0"],
    ["-device", "virtio-blk-pci,drive=seed,addr=0x1e"],
  ]
}

build {
  sources = ["source.qemu.small"]

  provisioner "shell" {
    inline = ["echo 'the token is ${var.token}' | sudo tee /etc/small"]
  }

  POST
}
"#;

/// What the native engine does not support.
const COMPRESS: &str = r#"post-processor "compress" {
    output              = "small.gz"
    keep_input_artifact = true
  }"#;

/// The directory of Packer and its plugins, which are built if they are missing.
fn tools() -> PathBuf {
    let tools = root().join(".agent-ami/packer-tools");
    Cmd::new(root().join(".ci/packer/provide")).arg(&tools).read().unwrap();
    tools
}

/// Runs a command; returns its exit code and its result.
#[expect(clippy::disallowed_methods, reason = "the test runs the command line as a user does")]
fn xtask(args: &[&str], tools: &Path) -> (Option<i32>, Value) {
    println!("cargo xtask {}", args.join(" "));
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command
        .args(args)
        .args(["--format", "json", "--yes"])
        .env("AGENT_AMI_PACKER_BINARY_PATH", tools.join("packer"))
        .env("AGENT_AMI_PACKER_BUILD_TIMEOUT_SECS", "3600")
        .env("PACKER_PLUGIN_PATH", tools.join("plugins"))
        .current_dir(root());
    follow(&mut command)
}

#[test]
#[ignore = "builds Packer, boots VMs and builds the whole image"]
fn both_engines_build_the_same_image() {
    let tools = tools();
    let built = |args: &[&str]| {
        let (code, result) = xtask(args, &tools);
        assert_eq!(code, Some(0), "{result:#}");
        result["data"]["image"].clone()
    };
    let native = built(&["ami", "build", "--engine", "native"]);
    let native_id = native["id"].as_str().unwrap();
    // The contents of an image are known after its smoke test.
    if xtask(&["ami", "diff", native_id, native_id], &tools).0 != Some(0) {
        assert_eq!(xtask(&["ami", "smoke", native_id], &tools).0, Some(0));
    }
    // --force, because an image of another engine with the same recipe hash counts as up to date.
    let packer = built(&["ami", "build", "--engine", "packer", "--force"]);
    assert_eq!((&native["engine"], &packer["engine"]), (&Value::from("native"), &Value::from("packer")));
    assert_eq!(native["recipe_hash"], packer["recipe_hash"], "the recipe hashes differ");
    let packer_id = packer["id"].as_str().unwrap();
    assert_ne!(native_id, packer_id);

    let (code, result) = xtask(&["ami", "smoke", packer_id], &tools);
    assert_eq!(code, Some(0), "{result:#}");
    let (code, result) = xtask(&["ami", "diff", native_id, packer_id], &tools);
    assert_eq!(code, Some(0), "{result:#}");
    let difference = &result["data"]["difference"];
    println!("{difference:#}");
    for part in ["system", "tools", "packages"] {
        assert_eq!(difference[part], serde_json::json!([]), "{part}");
    }
    assert_eq!(xtask(&["ami", "delete", packer_id, "--force"], &tools).0, Some(0));
}

#[test]
#[ignore = "builds Packer and boots VMs"]
fn templates_from_elsewhere_are_built_by_each_engine() {
    let tools = tools();
    let repository = tempfile::tempdir().unwrap();
    for (name, post) in [("whole", ""), ("unread", COMPRESS)] {
        let dir = repository.path().join(name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("small.pkr.hcl"), TEMPLATE.replace("POST", post)).unwrap();
    }
    let revision = commit(repository.path(), "Two templates");
    let source = |name: &str| format!("git::file://{}//{name}?ref=main", repository.path().display());
    let built = |name: &str, args: &[&str]| {
        let template = source(name);
        let (code, result) = xtask(&[&["ami", "build", "default-ec2", "--template", &template], args].concat(), &tools);
        assert_eq!(code, Some(0), "{result:#}");
        assert_eq!(result["data"]["image"]["template"]["commit"], *revision);
        result["data"]["image"].clone()
    };
    let engine = |image: &Value| (image["engine"].as_str().unwrap().to_owned(), !image["base"].is_null());

    // auto: the native engine, on its base.
    let native = built("whole", &[]);
    assert_eq!(engine(&native), ("native".to_owned(), true));

    let base = root().join(".agent-ami/base").join(native["base"]["name"].as_str().unwrap()).join("disk.qcow2");
    let disk = format!("disk={}", base.display());
    let by_packer = built("whole", &["--engine", "packer", "--var", &disk]);
    assert_eq!(engine(&by_packer), ("packer".to_owned(), false));

    // auto: Packer, because the native engine refuses it.
    let args = ["--var", disk.as_str(), "--var", "token=HUNTER2SECRET"];
    let instead = built("unread", &args);
    assert_eq!(engine(&instead), ("packer".to_owned(), false));
    assert!(root().join(".agent-ami/outputs/default-ec2/small.gz").is_file());
    assert_eq!(built("unread", &args)["id"], instead["id"], "an unchanged build is up to date");
    let ids = [native, by_packer, instead].map(|image| image["id"].as_str().unwrap().to_owned());
    let grep =
        Cmd::new("grep").args(["-r", "--files-with-matches", "HUNTER2SECRET", "--include=*.log", "--include=*.json"]);
    let found =
        grep.arg(root().join(".agent-ami/logs")).arg(root().join(".agent-ami/reports")).output().unwrap().stdout;
    assert_eq!(found, "", "the value was recorded");
    for id in ids {
        assert_eq!(xtask(&["ami", "delete", &id, "--force"], &tools).0, Some(0));
    }
}

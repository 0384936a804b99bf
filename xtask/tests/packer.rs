//! Packer builds the same template in a virtual machine; its image passes the same smoke spec, and both SBOMs are equal.
//!
//! `cargo test -p xtask --test packer -- --ignored --nocapture`, or `cargo xtask test --full`. Builds Packer from source, which requires
//! Go, and takes as long as a build from the base image.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test prints its observations and fails by panicking")]

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

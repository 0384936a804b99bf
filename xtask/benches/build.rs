//! How long a small image takes: from nothing, with nothing changed, and after a change in the last script; beside real
//! `packer build` of the same template on the same base, where Packer with its qemu plugin is there (PATH, or PACKER).
//!
//! `cargo bench --package xtask --bench build`. Needs a base image: `cargo xtask ami build` makes one. Figures of one run
//! can be compared with each other; those of two runs on a busy machine cannot.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark says what it measures and stops where it cannot"
)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "the rebuild test uses the rest")]
mod support;
use support::Project;

/// The project's own sources and their variables: Packer builds on what its users would.
const SOURCES: &str = include_str!("../../packer/sources.pkr.hcl");
const VARIABLES: &str = include_str!("../../packer/variables.pkr.hcl");

fn main() {
    // `cargo test --benches` and the like ask for a list: there is none.
    if std::env::args().any(|a| a == "--list" || a == "--test") {
        return;
    }
    let project = Project::new("auto");
    project.script("two", "sleep 2");
    let timed = |what: &str| {
        let started = Instant::now();
        let (code, steps, result) = project.start().end();
        assert_eq!(code, Some(0), "{what}: {result}");
        (started.elapsed().as_secs_f64(), steps.iter().filter(|s| *s == "done").count())
    };
    let cold = timed("cold");
    let warm = timed("warm");
    project.script("three", "cat ~/log; echo changed");
    let change = timed("one change");
    let packer = std::env::var("PACKER").unwrap_or_else(|_| "packer".to_owned());
    let packers = packer_builds(&project, &packer);
    let column = |n: usize| packers.as_ref().map_or("-".to_owned(), |p| format!("{:.1} s", p[n]));
    println!("\n{:24}{:>10}  {:10}{:>12}", "", "agent-ami", "steps run", "packer");
    for (n, (name, (seconds, steps))) in
        [("cold", cold), ("warm, nothing changed", warm), ("the last script changed", change)].into_iter().enumerate()
    {
        println!("{name:24}{seconds:>8.1} s  {steps:<10}{:>12}", column(n));
    }
    if packers.is_none() {
        println!("packer: not here, or without its qemu plugin");
    }
}

/// The same three builds by Packer, which knows no layers; `None` where it is not there.
#[expect(clippy::disallowed_methods, reason = "Packer is run as a person would")]
fn packer_builds(project: &Project, packer: &str) -> Option<[f64; 3]> {
    let plugins = Command::new(packer).args(["plugins", "installed"]).output().ok()?;
    if !String::from_utf8_lossy(&plugins.stdout).contains("packer-plugin-qemu") {
        return None;
    }
    let template = prepare(project);
    let vars = [
        ("qemu_base", project.path("base.qcow2").display().to_string()),
        ("qemu_seed", project.path("seed").display().to_string()),
        ("qemu_private_key", project.path("key").display().to_string()),
        ("qemu_accelerator", accelerator(project).to_owned()),
        ("output_directory", project.path("output").display().to_string()),
    ];
    let build = |what: &str| {
        let _ = fs::remove_dir_all(project.path("output"));
        let started = Instant::now();
        let status = Command::new(packer)
            .args(["build", "-color=false"])
            .args(vars.iter().flat_map(|(name, value)| ["-var".to_owned(), format!("{name}={value}")]))
            .arg(&template)
            .current_dir(project.path(""))
            .stdout(Stdio::inherit())
            .status()
            .unwrap();
        assert!(status.success(), "packer, {what}");
        started.elapsed().as_secs_f64()
    };
    let cold = build("cold");
    let warm = build("warm");
    project.script("three", "cat ~/log; echo changed again");
    Some([cold, warm, build("one change")])
}

/// Puts base, seed and key beside the template, and the template together from its steps and the project's qemu source.
#[expect(clippy::disallowed_methods, reason = "ssh-keygen is run as a person would")]
fn prepare(project: &Project) -> PathBuf {
    let base = fs::read_dir(project.path("state/base")).unwrap().flatten().next().unwrap().path().join("disk.qcow2");
    std::os::unix::fs::symlink(fs::canonicalize(base).unwrap(), project.path("base.qcow2")).unwrap();
    let key = project.path("key");
    assert!(
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status().unwrap().success()
    );
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    fs::create_dir(project.path("seed")).unwrap();
    fs::write(project.path("seed/meta-data"), "{\"instance-id\": \"packer\", \"local-hostname\": \"packer\"}\n")
        .unwrap();
    let user_data = format!("#cloud-config\nusers: [default]\nssh_authorized_keys: [\"{}\"]\n", public.trim());
    fs::write(project.path("seed/user-data"), user_data).unwrap();
    let ours = fs::read_to_string(project.path("mini/mini.pkr.hcl")).unwrap();
    let build = &ours[ours.find("build {").unwrap()..];
    // Post-processors look at our own image.
    let build = format!("{}\n}}\n", build.split("  post-processor").next().unwrap().trim_end());
    let template = project.path("mini/packer.pkr.hcl");
    let source = SOURCES[SOURCES.find("source \"qemu\"").unwrap()..].replace("\"locus\"", "\"mini\"");
    fs::write(&template, format!("{VARIABLES}\n{source}\n{build}")).unwrap();
    template
}

/// What our own builds were accelerated by.
fn accelerator(project: &Project) -> &'static str {
    let verdict = fs::read_to_string(project.path("state/acceleration.json")).unwrap_or_default();
    if verdict.contains("\"kvm\"") { "kvm" } else { "tcg" }
}

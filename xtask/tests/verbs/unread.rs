//! Templates from elsewhere that the native engine refuses: which engine builds them, and the build by a program that imitates Packer.

use std::os::unix::fs::PermissionsExt as _;

use assert_cmd::Command;
use xtask::process::Cmd;

use super::*;

const TEMPLATE: &str = r#"
variable "token" {
  sensitive = true
  default   = ""
}

source "qemu" "small" {
  output_directory = "out"
}

build {
  sources = ["source.qemu.small"]

  provisioner "ansible" {
    playbook_file = "site.yml"
  }
}
"#;

/// Prints what Packer prints, and makes a disk and a file. It writes its arguments and the settings that it gets to files beside it.
const PACKER: &str = r#"#!/bin/sh
set -eu
here=$(dirname "$0")
case "$1" in
version) echo "Packer v1.16.0" ;;
init) ;;
inspect) printf '> builds:\n\n  > named:\n\n    sources:\n\n      qemu.small\n\n' ;;
validate) env >"$here/environment" && printf '%s\n' "$@" >"$here/arguments" ;;
build)
  mkdir out
  qemu-img create -q -f qcow2 out/packer-small 1M
  echo notes >notes.txt
  echo '1,,ui,say,==> qemu.small: hello%!(PACKER_COMMA) world'
  echo '1,named.qemu.small,artifact,0,builder-id,transcend.qemu'
  echo '1,named.qemu.small,artifact,0,files-count,1'
  echo '1,named.qemu.small,artifact,0,file,0,DISK'
  echo '1,named.qemu.small,artifact,0,end'
  ;;
esac
"#;

/// A project with a repository that has this template, and with an imitated Packer.
struct Elsewhere {
    project: Project,
    source: String,
}

impl Elsewhere {
    fn new(template: &str) -> Self {
        let project = Project::new();
        let dir = project.path("repository");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("small.pkr.hcl"), template).unwrap();
        commit(&dir, "A commit");
        let elsewhere = Self { source: format!("git::file://{}?ref=main", dir.display()), project };
        elsewhere.packer("out/packer-small");
        elsewhere
    }

    /// Writes the imitated Packer, which reports this disk.
    fn packer(&self, disk: &str) {
        let file = self.project.path("bin/packer");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, PACKER.replace("DISK", disk)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn command(&self, verb: &str, args: &[&str]) -> Command {
        let args = [&["ami", verb, "locus-agent", "--template", &self.source], args].concat();
        let mut command = self.project.command(&args);
        command.env("AGENT_AMI_PACKER_BINARY_PATH", self.project.path("bin/packer"));
        command
    }

    fn run(&self, verb: &str, args: &[&str]) -> project::Ended {
        ended(&mut self.command(verb, args))
    }
}

#[test]
fn the_plan_names_the_engine_and_what_the_native_engine_refused_first() {
    let elsewhere = Elsewhere::new(TEMPLATE);
    let plan = elsewhere.run("plan", &[]);
    let why = "small.pkr.hcl:14: the native engine does not support the provisioner `ansible`";
    plan.assert_exit(0, &[&format!("engine: packer: {why}")]);
    assert!(plan.stdout.contains("the steps are unknown"), "{}", plan.stdout);
    assert!(plan.stdout.contains("base     unknown"), "{}", plan.stdout);
    let json = elsewhere.run("plan", &["--format", "json"]);
    let last: Value = serde_json::from_str(json.stdout.lines().last().unwrap()).unwrap();
    let plan = &last["data"]["plan"];
    assert_eq!((&plan["engine"], &plan["engine_reason"]), (&Value::from("packer"), &Value::from(why)));
    assert_eq!((&plan["steps"], &plan["base"], &plan["source"]), (&Value::Null, &Value::Null, &"qemu.small".into()));
    // A template that the native engine reads.
    let whole = Elsewhere::new(
        &TEMPLATE.replace("ansible", "shell").replace("playbook_file = \"site.yml\"", "inline = [\"true\"]"),
    );
    whole.run("plan", &[]).assert_exit(0, &["engine: native: it reads the whole template"]);
    // One of the project is not built by Packer instead.
    let project = &elsewhere.project;
    fs::create_dir(project.path("small")).unwrap();
    fs::write(project.path("small/small.pkr.hcl"), TEMPLATE).unwrap();
    let own = project.run(&["ami", "plan", "locus-agent", "--template", "small"]);
    own.assert_exit(2, &["small.pkr.hcl:14: unknown provisioner `ansible`"]);
    assert!(!own.stderr.contains("Packer can build it"), "{}", own.stderr);
}

#[test]
fn where_packer_does_not_build_it_the_error_is_what_the_native_engine_refused() {
    let refusal = "small.pkr.hcl:14: unknown provisioner `ansible`";
    let elsewhere = Elsewhere::new(TEMPLATE);
    elsewhere.run("plan", &["--engine", "native"]).assert_exit(2, &[refusal]);
    elsewhere.run("plan", &["--keep-on-failure"]).assert_exit(2, &[refusal, "omit --keep-on-failure"]);
    let missing = ended(
        elsewhere
            .command("plan", &[])
            .env("AGENT_AMI_PACKER_BINARY_PATH", "none")
            .env("AGENT_AMI_PACKER_AUTO_INSTALL", "false"),
    );
    missing.assert_exit(2, &[refusal, "it is not installed", "auto_install = true"]);
    let downloaded = ended(elsewhere.command("plan", &[]).env("AGENT_AMI_PACKER_BINARY_PATH", "none"));
    downloaded.assert_exit(0, &["engine: packer"]);
    // There is no terminal for the confirmation.
    elsewhere.run("build", &[]).assert_exit(2, &[refusal, "with Packer", "--yes", "programs of this host"]);
    // What Packer refuses as well.
    elsewhere.run("plan", &["--var", "tokn=x"]).assert_exit(2, &["does not declare the variable `tokn`"]);
    let uefi = Elsewhere::new(&TEMPLATE.replace("output_directory = \"out\"", "efi_boot = true"));
    uefi.run("plan", &[]).assert_exit(2, &["small.pkr.hcl:8: `efi_boot` of qemu.small: an image boots with BIOS"]);
}

#[test]
fn what_would_run_on_this_host_requires_the_name_of_the_engine() {
    let elsewhere = Elsewhere::new(&TEMPLATE.replace("ansible", "shell-local"));
    elsewhere.run("plan", &[]).assert_exit(2, &["would run on this host", "pass --engine packer"]);
    let plan = elsewhere.run("plan", &["--engine", "packer"]);
    plan.assert_exit(0, &["engine: packer: small.pkr.hcl:14: `shell-local`", "would run on this host"]);
}

#[test]
fn packer_builds_an_image_whose_base_is_unknown() {
    let elsewhere = Elsewhere::new(TEMPLATE);
    let args = ["--yes", "--var", "token=HUNTER2SECRET", "--format", "json"];
    let image = |ended: &project::Ended| {
        let last: Value = serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap();
        (last["data"]["image"].clone(), last["data"]["up_to_date"].clone())
    };
    let built = elsewhere.run("build", &args);
    built.assert_exit(0, &[]);
    assert!(built.stdout.contains("hello, world"), "{}", built.stdout);
    let (first, up_to_date) = image(&built);
    assert_eq!((&first["engine"], &first["base"], &up_to_date), (&"packer".into(), &Value::Null, &false.into()));
    assert!(first["template"]["source"].as_str().unwrap().starts_with("git::file://"), "{first}");
    let read = |name: &str| fs::read_to_string(elsewhere.project.path(name)).unwrap();
    let arguments = read("bin/arguments");
    assert!(arguments.contains("-only=named.qemu.small\n"), "{arguments}");
    assert!(arguments.contains("-var\ntoken=HUNTER2SECRET\n"), "{arguments}");
    // What the template does not declare is not passed: Packer would refuse it.
    assert!(!arguments.contains("qemu_seed"), "{arguments}");
    assert_eq!(read(".agent-ami/outputs/locus-agent/notes.txt"), "notes\n");
    let grep = Cmd::new("grep").args(["-r", "--files-with-matches", "HUNTER2SECRET"]);
    assert_eq!(grep.arg(elsewhere.project.path(".agent-ami")).output().unwrap().stdout, "", "the value was recorded");
    let again = elsewhere.run("build", &args);
    assert_eq!(image(&again), (first.clone(), true.into()));
    let other = elsewhere.run("build", &["--yes", "--var", "token=OTHER5SECRET", "--format", "json"]);
    assert_ne!(image(&other).0["id"], first["id"]);
    let list = elsewhere.project.run(&["ami", "show", first["id"].as_str().unwrap()]);
    list.assert_exit(0, &[]);
    assert!(list.stdout.contains("base         unknown"), "{}", list.stdout);
}

#[test]
fn a_disk_that_is_not_the_runs_own_is_refused() {
    let elsewhere = Elsewhere::new(TEMPLATE);
    let secret = elsewhere.project.path("secret");
    fs::write(&secret, "secret").unwrap();
    elsewhere.packer(&secret.display().to_string());
    elsewhere.run("build", &["--yes"]).assert_exit(4, &["is not below the directory of the run"]);
    elsewhere.packer("none");
    elsewhere.run("build", &["--yes"]).assert_exit(4, &["cannot be read"]);
    // A backing file would become part of the image.
    let backed = format!("qemu-img create -q -f qcow2 -F raw -b {} out/packer-small 1M", secret.display());
    elsewhere.packer("out/packer-small");
    let script = elsewhere.project.path("bin/packer");
    let text = fs::read_to_string(&script).unwrap();
    fs::write(&script, text.replace("qemu-img create -q -f qcow2 out/packer-small 1M", &backed)).unwrap();
    elsewhere.run("build", &["--yes"]).assert_exit(4, &["has the backing file", "which Packer did not make"]);
    let images = elsewhere.project.data(&["ami", "list"]);
    assert_eq!(images["images"], serde_json::json!([]));
}

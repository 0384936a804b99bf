//! The command line from outside: bad input gets an error with place and remedy, the documented exit code, and nothing
//! half-made. Each test has a copy of the project's own ami.toml, template, scripts and specs. No test starts a machine.

#![expect(clippy::unwrap_used, reason = "a test stops where it cannot go on")]

use std::fs;

use xtask::recipe::Digest;
use xtask::state::State;

#[path = "support/project.rs"]
mod project;
use project::{Project, ended};

#[test]
fn an_unknown_key_is_refused_with_its_place_and_the_nearest_one() {
    let project = Project::new();
    project.edit("ami.toml", "cpus = 2", "cpu = 2");
    let text = fs::read_to_string(project.path("ami.toml")).unwrap();
    let line = text.lines().position(|l| l.starts_with("cpu = 2")).unwrap() + 1;
    project.run(&["ami", "plan"]).says(2, &["ami.toml", "cpu", "cpus"]);
    project.run(&["validate"]).says(2, &[&format!("ami.toml:{line}"), "cpus"]);
}

#[test]
fn a_plan_names_the_builder_and_why() {
    let project = Project::new();
    let plan = project.run(&["ami", "plan", "--builder", "vm", "--format", "json"]);
    plan.says(0, &[]);
    assert!(plan.stdout.contains(r#""builder":{"kind":"vm","why":"asked for"}"#), "{}", plan.stdout);
    assert!(plan.stdout.contains(r#""key":"local.builder","origin":"--builder""#), "{}", plan.stdout);
    project.run(&["ami", "plan", "--builder", "lxc"]).says(2, &["lxc", "auto, vm, container"]);
    project.edit("ami.toml", "builder = \"auto\"", "builder = \"lxc\"");
    project.run(&["ami", "plan"]).says(2, &["ami.toml", "`builder`", "lxc"]);
}

#[test]
fn broken_hcl_is_refused_with_its_place() {
    let project = Project::new();
    project.edit("packer/locus-ami.pkr.hcl", "build {", "build {{");
    project.run(&["ami", "plan"]).says(2, &["locus-ami.pkr.hcl"]);
}

#[test]
fn what_the_template_reader_does_not_know_it_names() {
    let project = Project::new();
    project.edit("packer/locus-ami.pkr.hcl", "provisioner \"file\"", "provisioner \"ansible\"");
    project.run(&["ami", "plan"]).says(2, &["ansible", "locus-ami.pkr.hcl"]);
}

#[test]
fn unknown_variables_and_bad_values_are_refused() {
    let project = Project::new();
    project.run(&["ami", "plan", "--var", "nod_version=20"]).says(2, &["nod_version", "node_version"]);
    project.run(&["ami", "plan", "--var", "node_version=21"]).says(2, &["Choose 20, 22, 24 or 26"]);
    project.run(&["ami", "plan", "--var", "novalue"]).says(2, &["NAME=VALUE"]);
    project.run(&["ami", "plan", "nonsense"]).says(2, &["nonsense", "locus-agent"]);
}

#[test]
fn a_missing_script_is_refused_before_anything_starts() {
    let project = Project::new();
    fs::remove_file(project.path("scripts/provision/20-git.sh")).unwrap();
    project.run(&["ami", "build"]).says(2, &["20-git.sh", "locus-ami.pkr.hcl"]);
    assert!(!project.path(".agent-ami/base/debian-13").exists(), "a base image was begun");
}

#[test]
fn validate_tells_all_findings_not_the_first() {
    let project = Project::new();
    project.edit("scripts/pins.json", "\"eol\": \"2028-04-30\"", "\"eol\": \"2026-04-30\"");
    project.edit("scripts/provision/20-git.sh", "apt_install git", "apt_install $git");
    project.edit("smoke/specs/locus-agent.toml", "version = \"=7.0.4\"", "version = \"=7.0.5\"");
    let ended = project.run(&["validate"]);
    ended.says(2, &["pins.json", "end of life", "20-git.sh", "locus-agent.toml", "pm2"]);
}

#[test]
fn unknown_images_are_refused_with_the_nearest() {
    let project = Project::new();
    let image = project.image("local-1", "one");
    let near = format!("{}x", image.id);
    project.run(&["ami", "show", &near]).says(2, &[&near, &image.id.0]);
    project.run(&["ami", "smoke", "ami-local-nothing"]).says(2, &["no image", &image.id.0]);
    project.run(&["ami", "copy", &image.id.0, "--region", "local-3"]).says(2, &["local-3", "local-1, local-2"]);
}

#[test]
fn a_damaged_image_is_named_and_the_others_are_still_listed() {
    let project = Project::new();
    let (good, bad) = (project.image("local-1", "good"), project.image("local-1", "bad"));
    let record = project.path(&format!(".agent-ami/regions/local-1/{}/image.json", bad.id));
    fs::write(record, "{").unwrap();
    let listed = project.run(&["ami", "list"]);
    listed.says(0, &[&bad.id.0, "damaged", "ami delete"]);
    assert!(listed.stdout.contains(&good.id.0) && !listed.stdout.contains(&bad.id.0), "{}", listed.stdout);
    project.run(&["ami", "delete", &bad.id.0, "--yes"]).says(0, &["deleted"]);
    project.run(&["ami", "list"]).says(0, &[]);
}

#[test]
fn an_image_is_promoted_only_with_its_own_good_report() {
    let project = Project::new();
    let image = project.image("local-1", "one");
    let id = image.id.0.as_str();
    project.run(&["ami", "promote", id]).says(1, &["no smoke report", "ami smoke"]);
    let report = |disk: Digest, outcome: &str| project.report(&image, disk, outcome);
    report(Digest::of(b"another"), "pass");
    project.run(&["ami", "promote", id, "--yes"]).says(1, &["another disk"]);
    report(image.content, "fail");
    project.run(&["ami", "promote", id, "--yes"]).says(1, &["failed or empty pass"]);
    report(image.content, "pass");
    project.run(&["ami", "promote", id, "--yes"]).says(1, &["not in local-2", "ami copy"]);
    assert!(!project.path("channels").exists(), "a refused promotion wrote something");

    project.run(&["ami", "copy", id]).says(0, &[]);
    project.run(&["ami", "promote", id]).says(3, &["--yes"]);
    project.run(&["ami", "promote", id, "--dry-run"]).says(0, &[]);
    assert!(!project.path("channels").exists(), "an unconfirmed promotion wrote something");
    project.run(&["ami", "promote", id, "--yes"]).says(0, &["LOCUS_AMI_ID", "read back"]);
    let written = fs::read_to_string(project.path("channels/staging.env")).unwrap();
    assert!(written.contains(&format!("LOCUS_AMI_ID={id}\n")) && written.contains("LOCUS_AMI_ID_LOCAL_2=ami-local-"));
    project.run(&["ami", "delete", id, "--yes"]).says(3, &["staging", "--force"]);
}

#[test]
fn a_second_build_is_told_who_builds() {
    let project = Project::new();
    let state = State::open(project.path(".agent-ami")).unwrap();
    let _held = state.lock("build", "cargo xtask ami build").unwrap();
    let holder = format!("process {}", std::process::id());
    project.run(&["ami", "build"]).says(3, &[&holder, "cargo xtask ami build"]);
}

#[test]
fn without_qemu_the_command_that_brings_it_is_told() {
    let project = Project::new();
    let bin = project.path("bin");
    fs::create_dir(&bin).unwrap();
    // A package manager that answers is all that the hint depends on.
    fs::write(bin.join("apt-get"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(bin.join("apt-get"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("/bin/sh", bin.join("sh")).unwrap();
    let mut command = project.command(&["doctor"]);
    ended(command.env("PATH", &bin)).says(3, &["qemu", "doctor --install"]);
}

#[test]
fn json_output_is_lines_of_json_and_the_last_is_the_result() {
    let project = Project::new();
    for (args, code) in [
        (&["ami", "plan", "--format", "json"][..], 0),
        (&["ami", "show", "nothing", "--format", "json"], 2),
        (&["validate", "--format", "json"], 0),
    ] {
        let ended = project.run(args);
        assert_eq!(ended.code, code, "{}", ended.stderr);
        let events: Vec<serde_json::Value> =
            ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(events.iter().all(|e| e["schema"].is_number()), "an event without a schema");
        let last = events.last().unwrap();
        assert_eq!((&last["event"], &last["ok"]), (&"result".into(), &(code == 0).into()), "{last}");
        if code != 0 {
            assert_eq!(last["exit"], code, "{last}");
        }
    }
}

#[test]
fn a_matrix_is_made_of_all_images() {
    let project = Project::new();
    let ended = project.run(&["ami", "plan", "--all", "--format", "json"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let last: serde_json::Value = serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap();
    let images = last["data"]["images"].as_array().unwrap();
    let steps = images[0]["steps"].as_u64().unwrap();
    assert_eq!((images.len(), images[0]["image"].as_str()), (1, Some("locus-agent")));
    assert!(steps > 10 && images[0]["steps_to_run"] == steps && images[0]["up_to_date"].is_null(), "{last}");
    project.run(&["ami", "plan", "locus-agent", "--all"]).says(2, &["--all"]);
}

#[test]
fn parts_of_the_suite_are_named() {
    let project = Project::new();
    project.run(&["test", "--part", "nonsense"]).says(2, &["nonsense", "format, lint, validate, unit, agents"]);
    project.run(&["test", "--part", "format,deny,kill", "--no-vm"]).says(2, &["--part"]);
    let plan = project.run(&["test", "--part", "format,kill", "--dry-run"]);
    let ids: Vec<&str> = plan.stdout.lines().filter_map(|l| l.split_whitespace().next()).collect();
    assert_eq!(ids, ["format", "kill"], "{}", plan.stdout);
}

#[test]
fn servers_that_run_are_named_as_systems_manager_does() {
    let project = Project::new();
    project.run(&["ssm", "keepalive"]).says(2, &["--target"]);
    project.run(&["ssm", "keepalive", "--target", "web-1"]).says(2, &["tag:KEY=VALUE"]);
}

#[test]
fn a_workflow_is_told_ids_a_summary_and_what_is_wrong() {
    let project = Project::new();
    let image = project.ready("one");
    let (output, summary) = (project.path("output"), project.path("summary"));
    let run = |args: &[&str]| {
        let mut command = project.command(args);
        command.env("GITHUB_ACTIONS", "true").env("GITHUB_OUTPUT", &output).env("GITHUB_STEP_SUMMARY", &summary);
        ended(&mut command)
    };
    let read = |file: &std::path::Path| fs::read_to_string(file).unwrap();

    run(&["ami", "promote", "--yes"]).says(0, &["report: .agent-ami/reports/run-"]);
    let outputs = read(&output);
    for line in ["channel=staging\n", &format!("ami_id={}\n", image.id), "ami_id_local_2=ami-local-", "run=run-"] {
        assert!(outputs.contains(line), "{line}: {outputs}");
    }
    let page = outputs.lines().find_map(|line| line.strip_prefix("report=")).unwrap();
    assert!(fs::read_to_string(page).unwrap().contains(&image.id.0));
    assert!(read(&summary).contains(&format!("| local-1 | `{}` |", image.id)), "{}", read(&summary));

    run(&["ami", "plan", "--all"]).says(0, &[]);
    let images = read(&output);
    let images = images.lines().find_map(|line| line.strip_prefix("images=")).unwrap();
    let images: serde_json::Value = serde_json::from_str(images).unwrap();
    assert_eq!(images[0]["image"], "locus-agent");

    project.edit("scripts/pins.json", "\"eol\": \"2028-04-30\"", "\"eol\": \"2026-04-30\"");
    let ended = run(&["validate"]);
    ended.says(2, &["::error title=pins,file=scripts/pins.json,line="]);
    assert!(read(&summary).contains("end of life"), "{}", read(&summary));
    assert!(project.run(&["validate"]).stderr.lines().all(|line| !line.starts_with("::")), "not outside of a workflow");
}

#[test]
fn the_report_of_a_run_or_an_image_is_put_where_somebody_wants_it() {
    let project = Project::new();
    project.run(&["ami", "report"]).says(2, &["no report yet"]);
    let image = project.ready("one");
    project.contents(&image, &[("node", "24.0.0")]);
    let promoted = project.run(&["ami", "promote", "--yes"]);
    let page = promoted.stderr.lines().find_map(|line| line.trim().strip_prefix("report: ")).unwrap();
    let run = std::path::Path::new(page).parent().unwrap().file_name().unwrap().to_str().unwrap();
    let told = project.run(&["ami", "report"]);
    let whole = fs::read_to_string(told.stdout.trim()).unwrap();
    assert!(whole.contains("copy local-2") && whole.contains("promote staging"), "all that was done with it: {whole}");
    let (file, folder) = (project.path("one.html"), project.path("papers"));
    let output = ["--output", file.to_str().unwrap(), "--documents", folder.to_str().unwrap()];
    for what in [run, &image.id.0, &image.name] {
        project.run(&[&["ami", "report", what][..], &output].concat()).says(0, &["report.html", "sbom.cdx.json"]);
        let html = fs::read_to_string(&file).unwrap();
        assert!(html.contains(&image.id.0) && html.contains("channels/staging.env"), "{what}: {html}");
        assert!(folder.join("manifest.json").exists() && folder.join("smoke.json").exists());
    }
    project.run(&["ami", "report", "run-nothing"]).says(2, &["no report of run-nothing"]);
}

#[test]
fn help_teaches() {
    let project = Project::new();
    let help = project.run(&["--help"]);
    for word in ["ami release", "Exit codes", "doctor", "validate"] {
        assert!(help.stdout.contains(word), "{word}: {}", help.stdout);
    }
    project.run(&["ami", "biuld"]).says(2, &["biuld", "build"]);
}

//! The value of a sensitive variable is neither in the output of a command nor in any file of the state directory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

#[path = "support/project.rs"]
mod project;
use project::{Ended, Project, ended};

const SECRET: &str = "S3CRET-t0ken/with'quote";

/// A project whose template has a sensitive variable, and a sensitive local that contains its value.
fn project() -> Project {
    let project = Project::new();
    let file = project.path("packer/variables.pkr.hcl");
    let variable = "\nvariable \"npm_token\" {\n  type        = string\n  default     = \"\"\n  sensitive   = true\n  description = \"A token.\"\n}\n\
        local \"url\" {\n  expression = \"https://x.example/?t=${var.npm_token}\"\n  sensitive  = true\n}\n";
    fs::write(&file, fs::read_to_string(&file).unwrap() + variable).unwrap();
    project
}

/// A build that fails after its run has begun and has taken the build lock, because no program is on PATH.
fn build(project: &Project, args: &[&str]) -> Ended {
    let empty = project.path("empty");
    fs::create_dir_all(&empty).unwrap();
    let failed = ended(project.command(&[&["ami", "build"], args].concat()).env("PATH", empty));
    assert_ne!(failed.code, 0, "{}{}", failed.stdout, failed.stderr);
    failed
}

/// The files below a directory that contain the text.
fn files_with(dir: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if fs::read(&path).is_ok_and(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes())) {
            found.push(path);
        }
    }
    found
}

#[track_caller]
fn assert_hidden(project: &Project, ended: &Ended) {
    for part in [SECRET, "S3CRET-t0ken", "S3CRET%2Dt0ken"] {
        assert!(!ended.stdout.contains(part) && !ended.stderr.contains(part), "{}{}", ended.stdout, ended.stderr);
        let state = project.path(".agent-ami");
        if state.exists() {
            assert_eq!(files_with(&state, part), Vec::<PathBuf>::new(), "{part}");
        }
    }
}

/// hashicorp/packer#7448
#[test]
fn the_value_of_a_flag_is_in_no_output_report_lock_or_ledger() {
    let project = project();
    let var = format!("npm_token={SECRET}");
    for format in ["human", "json"] {
        let failed = build(&project, &["--var", &var, "--verbose", "--format", format]);
        assert_hidden(&project, &failed);
    }
    let runs = project.run(&["ami", "runs"]);
    assert_hidden(&project, &runs);
    assert!(runs.stdout.contains("npm_token=<sensitive>"), "{}", runs.stdout);
    let plan = project.run(&["ami", "plan", "--var", &var]);
    assert_hidden(&project, &plan);
    assert!(plan.stdout.contains("(sensitive)"), "{}", plan.stdout);
}

#[test]
fn a_value_from_a_file_or_the_environment_is_hidden() {
    let project = project();
    fs::write(project.path("secret.pkrvars.hcl"), format!("npm_token = \"{SECRET}\"\n")).unwrap();
    let failed = build(&project, &["--var-file", "secret.pkrvars.hcl"]);
    assert_hidden(&project, &failed);
    let failed =
        ended(project.command(&["ami", "build"]).env("PKR_VAR_npm_token", SECRET).env("PATH", project.path("empty")));
    assert_hidden(&project, &failed);
}

/// If the template cannot be read, every variable may be sensitive.
#[test]
fn every_value_is_hidden_if_the_template_is_invalid() {
    let project = project();
    project.edit("packer/variables.pkr.hcl", "variable \"npm_token\" {", "variable \"npm_token\" {{");
    let failed = build(&project, &["--var", &format!("npm_token={SECRET}")]);
    assert_hidden(&project, &failed);
}

#[test]
fn a_password_in_the_url_of_a_package_is_an_error_and_hidden() {
    let project = project();
    let var = format!("locus_package=https://deploy:{}@packages.example/locus.tgz", "S3CRET-t0ken");
    let refused = project.run(&["ami", "build", "--var", &var]);
    refused.assert_exit(2, &["LOCUS_PACKAGE has a user or a password in its URL", "packer/locus-ami.pkr.hcl:"]);
    assert_hidden(&project, &refused);
}

#[test]
fn the_state_directory_is_accessible_to_its_owner_only() {
    let project = project();
    let state = project.path(".agent-ami");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    build(&project, &[]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    let mut files = vec![state.join("ledger.db"), state.join("locks/build.lock")];
    let report = fs::read_dir(state.join("reports")).unwrap().flatten().next().unwrap().path();
    files.extend(["report.html", "run-report.json"].map(|name| report.join(name)));
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

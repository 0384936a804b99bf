//! A sensitive variable's value is used and stands nowhere: not in what is printed, nor in any file of the state folder.

#![expect(clippy::unwrap_used, reason = "a test stops where it cannot go on")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

#[path = "support/project.rs"]
mod project;
use project::{Ended, Project, ended};

const SECRET: &str = "S3CRET-t0ken/with'quote";

/// A project whose template has a sensitive variable, which a step prints, and whose build fails on this machine at once.
fn project() -> Project {
    let project = Project::new();
    let file = project.path("packer/variables.pkr.hcl");
    let variable = "\nvariable \"npm_token\" {\n  type        = string\n  default     = \"\"\n  sensitive   = true\n  description = \"A token.\"\n}\n\
        local \"url\" {\n  expression = \"https://x.example/?t=${var.npm_token}\"\n  sensitive  = true\n}\n";
    fs::write(&file, fs::read_to_string(&file).unwrap() + variable).unwrap();
    project
}

/// A build that ends when its run has begun and its lock is taken: not one program is found.
fn build(project: &Project, args: &[&str]) -> Ended {
    let nothing = project.path("nothing");
    fs::create_dir_all(&nothing).unwrap();
    let failed = ended(project.command(&[&["ami", "build"], args].concat()).env("PATH", nothing));
    assert_ne!(failed.code, 0, "{}{}", failed.stdout, failed.stderr);
    failed
}

/// Files below a folder that hold the text.
fn holders(dir: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holders(&path, text));
        } else if fs::read(&path).is_ok_and(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes())) {
            found.push(path);
        }
    }
    found
}

#[track_caller]
fn stands_nowhere(project: &Project, ended: &Ended) {
    for part in [SECRET, "S3CRET-t0ken", "S3CRET%2Dt0ken"] {
        assert!(!ended.stdout.contains(part) && !ended.stderr.contains(part), "{}{}", ended.stdout, ended.stderr);
        let state = project.path(".agent-ami");
        if state.exists() {
            assert_eq!(holders(&state, part), Vec::<PathBuf>::new(), "{part}");
        }
    }
}

/// hashicorp/packer#7448
#[test]
fn the_value_of_a_flag_stands_in_no_output_report_lock_or_ledger() {
    let project = project();
    let var = format!("npm_token={SECRET}");
    for format in ["human", "json"] {
        let failed = build(&project, &["--var", &var, "--verbose", "--format", format]);
        stands_nowhere(&project, &failed);
    }
    let runs = project.run(&["ami", "runs"]);
    stands_nowhere(&project, &runs);
    assert!(runs.stdout.contains("npm_token=<sensitive>"), "{}", runs.stdout);
    let plan = project.run(&["ami", "plan", "--var", &var]);
    stands_nowhere(&project, &plan);
    assert!(plan.stdout.contains("(sensitive)"), "{}", plan.stdout);
}

#[test]
fn a_value_from_elsewhere_is_hidden_as_well() {
    let project = project();
    fs::write(project.path("secret.pkrvars.hcl"), format!("npm_token = \"{SECRET}\"\n")).unwrap();
    let failed = build(&project, &["--var-file", "secret.pkrvars.hcl"]);
    stands_nowhere(&project, &failed);
    let failed =
        ended(project.command(&["ami", "build"]).env("PKR_VAR_npm_token", SECRET).env("PATH", project.path("nothing")));
    stands_nowhere(&project, &failed);
}

/// The template is broken, so that any variable may be sensitive.
#[test]
fn a_broken_template_hides_every_value() {
    let project = project();
    project.edit("packer/variables.pkr.hcl", "variable \"npm_token\" {", "variable \"npm_token\" {{");
    let failed = build(&project, &["--var", &format!("npm_token={SECRET}")]);
    stands_nowhere(&project, &failed);
}

#[test]
fn a_password_in_a_packages_url_is_refused_and_hidden() {
    let project = project();
    let var = format!("locus_package=https://deploy:{}@packages.example/locus.tgz", "S3CRET-t0ken");
    let refused = project.run(&["ami", "build", "--var", &var]);
    refused.says(2, &["LOCUS_PACKAGE has a user or a password in its URL", "packer/locus-ami.pkr.hcl:"]);
    stands_nowhere(&project, &refused);
}

#[test]
fn the_state_folder_is_closed_to_others() {
    let project = project();
    let state = project.path(".agent-ami");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    build(&project, &[]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    let mut files = vec![state.join("ledger.db"), state.join("locks/build.lock")];
    let report = fs::read_dir(state.join("reports")).unwrap().flatten().next().unwrap().path();
    files.extend(["report.html", "story.json"].map(|name| report.join(name)));
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

//! `validate`: all errors, each with its place.

use super::*;

#[test]
fn an_unknown_key_is_an_error_with_its_line_and_a_similar_key() {
    let project = Project::new();
    project.edit("ami.toml", "cpus = 2", "cpu = 2");
    let text = fs::read_to_string(project.path("ami.toml")).unwrap();
    let line = text.lines().position(|l| l.starts_with("cpu = 2")).unwrap() + 1;
    project.run(&["ami", "plan"]).assert_exit(2, &["ami.toml", "cpu", "cpus"]);
    project.run(&["validate"]).assert_exit(2, &[&format!("ami.toml:{line}"), "cpus"]);
}

#[test]
fn invalid_hcl_is_an_error_with_its_file() {
    let project = Project::new();
    project.edit("packer/locus-ami.pkr.hcl", "build {", "build {{");
    project.run(&["ami", "plan"]).assert_exit(2, &["locus-ami.pkr.hcl"]);
}

#[test]
fn an_unsupported_provisioner_is_an_error_with_its_name_and_file() {
    let project = Project::new();
    project.edit("packer/locus-ami.pkr.hcl", "provisioner \"file\"", "provisioner \"ansible\"");
    project.run(&["ami", "plan"]).assert_exit(2, &["ansible", "locus-ami.pkr.hcl"]);
}

#[test]
fn validate_prints_all_findings() {
    let project = Project::new();
    project.edit("scripts/pins.json", "\"eol\": \"2028-04-30\"", "\"eol\": \"2026-04-30\"");
    project.edit("scripts/provision/20-git.sh", "apt_install git", "apt_install $git");
    project.edit("smoke/specs/locus-agent.toml", "version = \"=7.0.4\"", "version = \"=7.0.5\"");
    let ended = project.run(&["validate"]);
    ended.assert_exit(2, &["pins.json", "end of life", "20-git.sh", "locus-agent.toml", "pm2"]);
}

//! `ami plan`: what is refused before anything is made.

use super::*;

#[test]
fn plan_contains_the_builder_and_the_reason() {
    let project = Project::new();
    let plan = project.run(&["ami", "plan", "--builder", "vm", "--format", "json"]);
    plan.assert_exit(0, &[]);
    assert!(plan.stdout.contains(r#""builder":{"kind":"vm","why":"requested"}"#), "{}", plan.stdout);
    assert!(plan.stdout.contains(r#""key":"local.builder","origin":"--builder""#), "{}", plan.stdout);
    project.run(&["ami", "plan", "--builder", "lxc"]).assert_exit(2, &["lxc", "auto, vm, container"]);
    project.edit("ami.toml", "builder = \"auto\"", "builder = \"lxc\"");
    project.run(&["ami", "plan"]).assert_exit(2, &["ami.toml", "`builder`", "lxc"]);
}

#[test]
fn unknown_variables_and_invalid_values_are_errors() {
    let project = Project::new();
    project.run(&["ami", "plan", "--var", "nod_version=20"]).assert_exit(2, &["nod_version", "node_version"]);
    project.run(&["ami", "plan", "--var", "node_version=21"]).assert_exit(2, &["Choose 20, 22, 24 or 26"]);
    project.run(&["ami", "plan", "--var", "novalue"]).assert_exit(2, &["NAME=VALUE"]);
    project.run(&["ami", "plan", "nonsense"]).assert_exit(2, &["nonsense", "locus-agent"]);
}

#[test]
fn a_missing_script_is_an_error_before_the_base_image_is_made() {
    let project = Project::new();
    fs::remove_file(project.path("scripts/provision/20-git.sh")).unwrap();
    project.run(&["ami", "build"]).assert_exit(2, &["20-git.sh", "locus-ami.pkr.hcl"]);
    assert!(!project.path(".agent-ami/base/debian-13").exists(), "a base image was begun before the error");
}

#[test]
fn plan_all_prints_a_matrix_of_all_images() {
    let project = Project::new();
    let ended = project.run(&["ami", "plan", "--all", "--format", "json"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let last: Value = serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap();
    let images = last["data"]["images"].as_array().unwrap();
    let names: Vec<&str> = images.iter().map(|image| image["image"].as_str().unwrap()).collect();
    assert_eq!(names, ["default-ec2", "locus-agent"]);
    for image in images {
        let steps = image["steps"].as_u64().unwrap();
        assert!(steps > 10 && image["steps_to_run"] == steps && image["up_to_date"].is_null(), "{last}");
    }
    project.run(&["ami", "plan", "locus-agent", "--all"]).assert_exit(2, &["--all"]);
}

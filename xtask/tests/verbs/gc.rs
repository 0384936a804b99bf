//! `ami gc`: decisions about images, claims and copies. Layers are in gc_layers.rs.

use super::*;

#[test]
fn gc_releases_the_claim_of_an_abandoned_promotion_and_prints_its_channel() {
    let project = with_parameters();
    let image = project.ready("20261121-0001");
    let mut command = project.command(&["ami", "promote", &image.id.0, "--yes"]);
    command.env("LEDGER_PAUSE_AT", "after:4");
    Stopped::start(&command).kill();
    let plan = project.data(&["ami", "gc"])["decisions"].clone();
    let claim = plan.as_array().unwrap().iter().find(|d| d["what"] == "claim").unwrap();
    assert_eq!((&claim["action"], &claim["id"]), (&"remove".into(), &"/locus/ami/claims/locus-agent/staging".into()));
    project
        .run(&["ami", "gc", "--apply", "--yes"])
        .assert_exit(0, &["1 to remove", "staging may point at", "ami promote"]);
    let claim = project.path(".agent-ami/parameters/local-1/locus%2Fami%2Fclaims%2Flocus-agent%2Fstaging.json");
    let claim = fs::read_to_string(claim).unwrap();
    assert!(claim.contains("\"free since "), "the claim is released, not deleted: {claim}");
    assert_eq!(
        project.data(&["ami", "gc"])["decisions"].as_array().unwrap().iter().find(|d| d["what"] == "claim"),
        None
    );
    project.run(&["ami", "resume"]).assert_exit(2, &["no run was interrupted"]);
    project.run(&["ami", "promote", &image.name, "--yes"]).assert_exit(0, &[]);
    assert_eq!(points_at(&project, "staging"), ids(&project, &image));
}

#[test]
fn gc_prints_reasons_and_changes_nothing_without_apply() {
    let project = Project::new();
    project.edit("ami.toml", "keep_days = 30", "keep_days = 0");
    project.edit("ami.toml", "keep_last = 3", "keep_last = 1");
    project.edit("ami.toml", "deprecate_days = 7", "deprecate_days = 0");
    let (old, new) = (project.ready("20261121-0001"), project.ready("20261121-0002"));
    promote(&project, &new, "staging").assert_exit(0, &[]);
    let images = || project.data(&["ami", "list"])["images"].as_array().unwrap().len();
    let plan = project.data(&["ami", "gc"])["decisions"].clone();
    let of = |name: &str| plan.as_array().unwrap().iter().find(|d| d["of"] == name).unwrap().clone();
    assert_eq!((&of(&old.name)["action"], &of(&new.name)["action"]), (&"deprecate".into(), &"keep".into()));
    assert_eq!(of(&new.name)["reason"], "in use: channel staging");
    assert_eq!(images(), 4, "a plan removes nothing");
    project.run(&["ami", "gc", "--apply"]).assert_exit(3, &["--yes"]);
    project.run(&["ami", "gc", "--apply", "--yes"]).assert_exit(0, &["2 to deprecate"]);
    assert_eq!(images(), 4);
    project.run(&["ami", "gc", "--apply", "--yes"]).assert_exit(0, &["2 to remove"]);
    assert_eq!(images(), 2);
    project.run(&["ami", "gc"]).assert_exit(0, &["0 to remove, 0 to deprecate, 2 to keep"]);
}

#[test]
fn gc_keeps_an_image_in_another_parameter_and_deletes_a_version_parameter_with_its_image() {
    let project = with_parameters();
    project.edit("ami.toml", "keep_days = 30", "keep_days = 0");
    project.edit("ami.toml", "keep_last = 3", "keep_last = 1");
    project.edit("ami.toml", "deprecate_days = 7", "deprecate_days = 0");
    let (old, new) = (project.ready("20261121-0001"), project.ready("20261121-0002"));
    promote(&project, &old, "staging").assert_exit(0, &[]);
    promote(&project, &new, "staging").assert_exit(0, &[]);
    let parameter = |region: &str, name: &str| {
        let file = format!("{}.json", name.trim_start_matches('/').replace('/', "%2F"));
        project.path(".agent-ami/parameters").join(region).join(file)
    };
    let foreign = parameter("local-1", "/app/image");
    fs::write(&foreign, serde_json::json!({ "value": old.id, "version": 1 }).to_string()).unwrap();
    project.run(&["ami", "gc", "--all"]).assert_exit(0, &["0 to remove, 0 to deprecate, 4 to keep"]);
    project.run(&["ami", "delete", &old.id.0, "--yes"]).assert_exit(3, &["in use by parameter /app/image"]);
    fs::remove_file(foreign).unwrap();

    let version = format!("/locus/ami/versions/{}", old.name);
    let versions = || ["local-1", "local-2"].map(|region| parameter(region, &version).exists());
    project.run(&["ami", "gc", "--apply", "--yes"]).assert_exit(0, &["2 to deprecate"]);
    assert_eq!(versions(), [true, true]);
    project.run(&["ami", "gc", "--apply", "--yes"]).assert_exit(0, &["2 to remove"]);
    assert_eq!(versions(), [false, false]);
    project.run(&["ami", "delete", &new.id.0, "--yes"]).assert_exit(3, &["in use by channel staging"]);
}

#[test]
fn gc_removes_an_incomplete_copy_of_a_dead_run() {
    let project = Project::new();
    let image = project.image("local-1", "20261121-0001");
    let mut command = project.command(&["ami", "copy", &image.id.0]);
    command.env("LEDGER_PAUSE_AT", "before:1");
    Stopped::start(&command).kill();
    // As if it was killed in the middle of the copy: the directory exists, but no image.
    let half = project.path(&format!(".agent-ami/regions/local-2/.unfinished-{}", image.id));
    let run = project.data(&["ami", "runs"])["runs"][0]["run"]["id"].as_str().unwrap().to_owned();
    fs::create_dir_all(&half).unwrap();
    fs::write(half.join("run"), &run).unwrap();
    let plan = project.data(&["ami", "gc"])["decisions"].clone();
    let found = plan.as_array().unwrap().iter().find(|d| d["what"] == "directory").unwrap().clone();
    assert_eq!((&found["action"], &found["of"]), (&"remove".into(), &run.clone().into()));
    project.run(&["ami", "gc", "--apply", "--yes", "--run", &run]).assert_exit(0, &["1 to remove"]);
    assert!(!half.exists());
    project.run(&["ami", "resume", &run]).assert_exit(2, &["cleaned"]);
}

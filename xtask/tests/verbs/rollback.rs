//! `ami rollback`.

use super::*;

#[test]
fn rollback_restores_the_previous_image_in_all_regions_and_quarantines_the_bad_one() {
    let project = with_parameters();
    let (old, bad) = (project.ready("20261121-0001"), project.ready("20261121-0002"));
    let back = ["ami", "rollback", "--channel", "staging", "--reason", "boots no more", "--yes"];
    promote(&project, &old, "staging").assert_exit(0, &[]);
    project.run(&back).assert_exit(1, &["no image to roll back to"]);
    promote(&project, &bad, "staging").assert_exit(0, &[]);
    project.run(&["ami", "rollback", "--channel", "staging", "--reason", "x"]).assert_exit(3, &["--yes"]);
    project.run(&back).assert_exit(0, &["is quarantined", &old.name]);
    assert_eq!(points_at(&project, "staging"), ids(&project, &old));
    promote(&project, &bad, "staging").assert_exit(1, &["quarantined: boots no more"]);
    let history = project.data(&["ami", "history", "--channel", "staging"])["history"].clone();
    let kinds: Vec<&Value> = history.as_array().unwrap().iter().map(|p| &p["kind"]).collect();
    assert_eq!(kinds, ["promote", "promote", "rollback"]);
    assert_eq!(history[2]["why"], "boots no more");
    let env = fs::read_to_string(project.path("channels/staging.env")).unwrap();
    assert!(env.contains(&format!("LOCUS_AMI_ID={}\n", old.id)), "{env}");

    // As on another machine with an empty ledger: the previous image is found by the marks of the images.
    let newest = project.ready("20261121-0003");
    promote(&project, &newest, "staging").assert_exit(0, &[]);
    for file in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        let _ = fs::remove_file(project.path(&format!(".agent-ami/{file}")));
    }
    project.run(&back).assert_exit(0, &["is quarantined", &old.name]);
}

#[test]
fn rollback_to_a_given_image() {
    let project = Project::new();
    let (first, second) = (project.ready("20261121-0001"), project.ready("20261121-0002"));
    promote(&project, &second, "staging").assert_exit(0, &[]);
    let back = ["ami", "rollback", "--channel", "staging", "--reason", "x", "--yes", "--keep", "--to"];
    project.run(&[&back[..], &["9.9.9"]].concat()).assert_exit(2, &["no image `9.9.9`"]);
    project.run(&[&back[..], &[first.id.0.as_str()]].concat()).assert_exit(0, &[&first.name]);
    // Because of --keep it was not quarantined.
    promote(&project, &second, "staging").assert_exit(0, &[]);
}

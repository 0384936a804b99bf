//! `ami list` and `ami show`.

use super::*;

#[test]
fn an_unknown_image_is_an_error_with_a_similar_id() {
    let project = Project::new();
    let image = project.image("local-1", "one");
    let similar = format!("{}x", image.id);
    project.run(&["ami", "show", &similar]).assert_exit(2, &[&similar, &image.id.0]);
    project.run(&["ami", "smoke", "ami-local-nothing"]).assert_exit(2, &["no image", &image.id.0]);
    project.run(&["ami", "copy", &image.id.0, "--region", "local-3"]).assert_exit(2, &["local-3", "local-1, local-2"]);
}

#[test]
fn list_reports_a_damaged_image_and_prints_the_others() {
    let project = Project::new();
    let (good, bad) = (project.image("local-1", "good"), project.image("local-1", "bad"));
    let record = project.path(&format!(".agent-ami/regions/local-1/{}/image.json", bad.id));
    fs::write(record, "{").unwrap();
    let listed = project.run(&["ami", "list"]);
    listed.assert_exit(0, &[&bad.id.0, "damaged", "ami delete"]);
    assert!(listed.stdout.contains(&good.id.0) && !listed.stdout.contains(&bad.id.0), "{}", listed.stdout);
    project.run(&["ami", "delete", &bad.id.0, "--yes"]).assert_exit(0, &["deleted"]);
    project.run(&["ami", "list"]).assert_exit(0, &[]);
}

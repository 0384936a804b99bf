//! `ami watch`.

use super::*;

#[test]
fn watch_reports_the_region_in_which_an_image_changed() {
    let project = with_parameters();
    project.run(&["ami", "watch", "--channel", "staging"]).assert_exit(1, &["points at no image"]);
    let image = project.disk("20261121-0001");
    promote(&project, &image, "staging").assert_exit(0, &[]);
    project.run(&["ami", "watch", "--channel", "staging"]).assert_exit(0, &["passed 1 checks in 2 regions"]);
    project
        .run(&["ami", "watch", "--channel", "staging", "--for", "2s", "--every", "1s"])
        .assert_exit(0, &["passed 3 checks"]);
    project.run(&["ami", "watch", "--channel", "staging", "--for", "soon"]).assert_exit(2, &["48h"]);

    let copy = ids(&project, &image)["local-2"].as_str().unwrap().to_owned();
    let dir = project.path(&format!(".agent-ami/regions/local-2/{copy}"));
    // The header of the disk is damaged, so no machine would boot from it; the image's record is unchanged.
    let intact = fs::read(dir.join("disk.qcow2")).unwrap();
    let mut damaged = intact.clone();
    damaged[..64].fill(0);
    fs::write(dir.join("disk.qcow2"), &damaged).unwrap();
    project.run(&["ami", "watch", "--channel", "staging"]).assert_exit(1, &["local-2: no instance of", "ami rollback"]);
    fs::write(dir.join("disk.qcow2"), &intact).unwrap();
    project.run(&["ami", "watch", "--channel", "staging"]).assert_exit(0, &[]);
    fs::remove_dir_all(dir).unwrap();
    project
        .run(&["ami", "watch", "--channel", "staging"])
        .assert_exit(1, &[&format!("local-2: {copy} does not exist any more")]);
}

//! Rollback of a channel after an interrupted promotion: the good image is never quarantined. Images have a few bytes; the store, the
//! parameters and the ledger are the real ones.

use std::fs;

use serde_json::Value;
use xtask::cloud::Image;
use xtask::state::{ORPHANS, State};

use crate::project::Project;
use crate::stopped::Stopped;

fn project() -> (Project, Vec<Image>) {
    let project = Project::new();
    project.edit("ami.toml", "ssm_prefix = \"\"", "ssm_prefix = \"/locus/ami\"");
    let images: Vec<Image> = (1..=3).map(|n| project.ready(&format!("20261121-000{n}"))).collect();
    for image in &images[..2] {
        project.run(&promote(image)).assert_exit(0, &[]);
    }
    (project, images)
}

fn promote(image: &Image) -> [&str; 4] {
    ["ami", "promote", &image.id.0, "--yes"]
}

/// Promotes an image and kills the process at `point`, a value of `LEDGER_PAUSE_AT`.
fn killed(project: &Project, image: &Image, point: &str) {
    let mut command = project.command(&promote(image));
    command.env("LEDGER_PAUSE_AT", point);
    Stopped::start(&command).kill();
}

/// The name of the image that the channel points at in each region.
fn points_at(project: &Project) -> Vec<String> {
    let images = project.data(&["ami", "list"])["images"].as_array().unwrap().clone();
    let now = project.data(&["ami", "history", "--channel", "staging"])["now"].clone();
    let name = |id: &Value| images.iter().find(|i| i["id"] == *id).map(|i| i["name"].as_str().unwrap().to_owned());
    now.as_object().unwrap().values().map(|id| name(id).unwrap()).collect()
}

fn is_quarantined(project: &Project, image: &Image) -> bool {
    let marks = project.path(&format!(".agent-ami/regions/local-1/{}/marks.json", image.id));
    fs::read_to_string(marks).unwrap_or_default().contains("quarantined")
}

fn rollback<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["ami", "rollback", "--channel", "staging", "--reason", "boots no more", "--yes"], more].concat()
}

#[test]
fn rollback_after_a_promotion_killed_at_any_point_never_quarantines_the_good_image() {
    for point in (1..=9).flat_map(|n| [format!("before:{n}"), format!("after:{n}")]) {
        let (project, images) = project();
        killed(&project, &images[2], &point);
        let now = points_at(&project);
        let moved = now.iter().all(|name| *name == images[2].name);
        let untouched =
            project.data(&["ami", "history", "--channel", "staging"])["history"].as_array().unwrap().len() == 2;
        let plain = project.run(&rollback(&[]));
        if moved {
            plain.assert_exit(0, &[&images[1].name]);
        } else if untouched {
            // The promotion is not in the ledger yet. The channel points at v2, so the rollback goes from v2 to v1.
            plain.assert_exit(0, &[&images[0].name]);
            continue;
        } else {
            plain.assert_exit(3, &["was interrupted while it moved staging", "--to VERSION", "ami resume"]);
            assert_eq!(points_at(&project), now, "{point}: a refused rollback changed the channel");
            project.run(&rollback(&["--to", &images[1].name])).assert_exit(0, &[&images[1].name]);
        }
        assert_eq!(points_at(&project), [images[1].name.clone(), images[1].name.clone()], "{point}");
        let quarantined = [&images[0], &images[1], &images[2]].map(|image| is_quarantined(&project, image));
        assert_eq!(quarantined, [false, false, true], "{point}");
        // resume does not finish the promotion after the rollback.
        project.run(&["ami", "resume", "--yes"]).assert_exit(1, &["it is quarantined"]);
        assert_eq!(points_at(&project), [images[1].name.clone(), images[1].name.clone()], "{point}");
    }
}

#[test]
fn resume_does_not_finish_a_promotion_after_another_one() {
    let (project, images) = project();
    let newest = project.ready("20261121-0004");
    killed(&project, &images[2], "after:5");
    project.run(&promote(&newest)).assert_exit(0, &["released the claim of"]);
    project.run(&["ami", "resume", "--yes"]).assert_exit(3, &["staging was moved by run-", "after run-"]);
    assert_eq!(points_at(&project), [newest.name.clone(), newest.name.clone()]);
    let history = project.data(&["ami", "history", "--channel", "staging"])["history"].clone();
    assert_eq!(history[2]["superseded"], history[3]["run"]);
    project.run(&["ami", "history", "--channel", "staging"]).assert_exit(0, &[]);
    // A rollback goes to v2, because the promotion of v3 was not completed.
    project.run(&rollback(&[])).assert_exit(0, &[&images[1].name]);
}

/// The channel still points at the image that the rollback goes to.
#[test]
fn resume_does_not_finish_a_promotion_after_a_rollback_to_the_current_image() {
    let begun = (1..=9).find_map(|n| {
        let (project, images) = project();
        killed(&project, &images[2], &format!("after:{n}"));
        let history = project.data(&["ami", "history", "--channel", "staging"])["history"].clone();
        (history.as_array().unwrap().len() == 3).then_some((project, images))
    });
    let (project, images) = begun.unwrap();
    let current = [images[1].name.clone(), images[1].name.clone()];
    assert_eq!(points_at(&project), current, "the channel was changed before the kill");
    project.run(&rollback(&["--to", &images[1].name, "--keep"])).assert_exit(0, &[&images[1].name]);
    project.run(&["ami", "resume", "--yes"]).assert_exit(3, &["staging was moved by run-", "after run-"]);
    assert_eq!(points_at(&project), current);
}

#[test]
fn rollback_requires_to_and_bad_if_the_regions_disagree() {
    let (project, images) = project();
    // As after an interruption on another machine: the ledger on this one has no entry of the promotion.
    killed(&project, &images[2], "after:4");
    for file in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        let _ = fs::remove_file(project.path(&format!(".agent-ami/{file}")));
    }
    let claim = project.path(".agent-ami/parameters/local-1/locus%2Fami%2Fclaims%2Flocus-agent%2Fstaging.json");
    fs::remove_file(claim).unwrap();
    let now = points_at(&project);
    assert_ne!(now[0], now[1], "the regions agree; kill the promotion at another point");
    project
        .run(&rollback(&[]))
        .assert_exit(3, &["the regions of staging disagree", "in local-1", "in local-2", "--to VERSION"]);
    project
        .run(&["ami", "promote", "--from", "staging", "--channel", "production", "--override", "x", "--yes"])
        .assert_exit(3, &["different images"]);
    project
        .run(&rollback(&["--to", &images[0].name]))
        .assert_exit(2, &["more than one image could be the bad one", "--bad"]);
    assert_eq!(points_at(&project), now);
    project.run(&rollback(&["--to", &images[0].name, "--bad", &images[2].name])).assert_exit(0, &["to be quarantined"]);
    assert_eq!([0, 1, 2].map(|n| is_quarantined(&project, &images[n])), [false, false, true]);
    assert_eq!(points_at(&project), [images[0].name.clone(), images[0].name.clone()]);
}

#[test]
fn resume_fails_while_gc_runs() {
    let (project, images) = project();
    killed(&project, &images[2], "after:5");
    let state = State::open(project.path(".agent-ami")).unwrap();
    let gc = state.lock(ORPHANS, "ami gc --apply").unwrap();
    project.run(&["ami", "resume", "--yes"]).assert_exit(3, &["orphans is busy", "ami gc --apply"]);
    drop(gc);
    project.run(&["ami", "resume", "--yes"]).assert_exit(0, &[]);
    assert_eq!(points_at(&project), [images[2].name.clone(), images[2].name.clone()]);
}

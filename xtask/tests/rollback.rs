//! Rollback of a channel that was moved half-way: the good image stays good. Images hold a few bytes; the store, the parameters and the
//! ledger are the real ones.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops where it cannot go on")]

use std::fs;

use serde_json::Value;
use xtask::cloud::Image;
use xtask::state::{LEFTOVERS, State};

#[path = "support/project.rs"]
mod project;
use project::Project;
#[path = "support/stopped.rs"]
mod stopped;
use stopped::Stopped;

fn project() -> (Project, Vec<Image>) {
    let project = Project::new();
    project.edit("ami.toml", "ssm_prefix = \"\"", "ssm_prefix = \"/locus/ami\"");
    let images: Vec<Image> = (1..=3).map(|n| project.ready(&format!("20261121-000{n}"))).collect();
    for image in &images[..2] {
        project.run(&promote(image)).says(0, &[]);
    }
    (project, images)
}

fn promote(image: &Image) -> [&str; 4] {
    ["ami", "promote", &image.id.0, "--yes"]
}

/// Promotes an image and kills the process at the `point`th change of its ledger.
fn killed(project: &Project, image: &Image, point: &str) {
    let mut command = project.command(&promote(image));
    command.env("LEDGER_PAUSE_AT", point);
    Stopped::start(&command).kill();
}

/// The names of the images that the channel points at, one for each region.
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
fn a_promotion_that_died_anywhere_never_makes_a_rollback_quarantine_the_good_image() {
    for point in (1..=9).flat_map(|n| [format!("before:{n}"), format!("after:{n}")]) {
        let (project, images) = project();
        killed(&project, &images[2], &point);
        let now = points_at(&project);
        let moved = now.iter().all(|name| *name == images[2].name);
        let untouched =
            project.data(&["ami", "history", "--channel", "staging"])["history"].as_array().unwrap().len() == 2;
        let plain = project.run(&rollback(&[]));
        if moved {
            plain.says(0, &[&images[1].name]);
        } else if untouched {
            // Nothing was written down yet: the channel still stands at v2, and that is what is gone back from.
            plain.says(0, &[&images[0].name]);
            continue;
        } else {
            plain.says(3, &["was interrupted while it moved staging", "--to VERSION", "ami resume"]);
            assert_eq!(points_at(&project), now, "{point}: a refused rollback moves nothing");
            project.run(&rollback(&["--to", &images[1].name])).says(0, &[&images[1].name]);
        }
        assert_eq!(points_at(&project), [images[1].name.clone(), images[1].name.clone()], "{point}");
        let quarantined = [&images[0], &images[1], &images[2]].map(|image| is_quarantined(&project, image));
        assert_eq!(quarantined, [false, false, true], "{point}");
        // What was interrupted is not finished behind the rollback's back.
        project.run(&["ami", "resume", "--yes"]).says(1, &["under quarantine"]);
        assert_eq!(points_at(&project), [images[1].name.clone(), images[1].name.clone()], "{point}");
    }
}

#[test]
fn a_promotion_that_was_interrupted_is_not_finished_after_another_one() {
    let (project, images) = project();
    let newest = project.ready("20261121-0004");
    killed(&project, &images[2], "after:5");
    project.run(&promote(&newest)).says(0, &["its claim is given up"]);
    project.run(&["ami", "resume", "--yes"]).says(3, &["staging was moved by run-", "after run-"]);
    assert_eq!(points_at(&project), [newest.name.clone(), newest.name.clone()]);
    let history = project.data(&["ami", "history", "--channel", "staging"])["history"].clone();
    assert_eq!(history[2]["superseded"], history[3]["run"]);
    project.run(&["ami", "history", "--channel", "staging"]).says(0, &[]);
    // Rolled back, it goes to v2: v3 was never in the channel.
    project.run(&rollback(&[])).says(0, &[&images[1].name]);
}

/// A rollback to the image at which the channel stands still.
#[test]
fn a_promotion_that_moved_nothing_is_not_finished_after_the_channel_was_left_where_it_is() {
    let begun = (1..=9).find_map(|n| {
        let (project, images) = project();
        killed(&project, &images[2], &format!("after:{n}"));
        let history = project.data(&["ami", "history", "--channel", "staging"])["history"].clone();
        (history.as_array().unwrap().len() == 3).then_some((project, images))
    });
    let (project, images) = begun.unwrap();
    let stays = [images[1].name.clone(), images[1].name.clone()];
    assert_eq!(points_at(&project), stays, "nothing is moved yet");
    project.run(&rollback(&["--to", &images[1].name, "--keep"])).says(0, &[&images[1].name]);
    project.run(&["ami", "resume", "--yes"]).says(3, &["staging was moved by run-", "after run-"]);
    assert_eq!(points_at(&project), stays);
}

#[test]
fn regions_that_disagree_need_the_good_image_and_the_bad_one_is_named() {
    let (project, images) = project();
    // As another machine left it: the ledger of this one knows nothing.
    killed(&project, &images[2], "after:4");
    for file in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        let _ = fs::remove_file(project.path(&format!(".agent-ami/{file}")));
    }
    let claim = project.path(".agent-ami/parameters/local-1/locus%2Fami%2Fclaims%2Flocus-agent%2Fstaging.json");
    fs::remove_file(claim).unwrap();
    let now = points_at(&project);
    assert_ne!(now[0], now[1], "the test needs a half-moved channel");
    project
        .run(&rollback(&[]))
        .says(3, &["the regions of staging disagree", "in local-1", "in local-2", "--to VERSION"]);
    project
        .run(&["ami", "promote", "--from", "staging", "--channel", "production", "--override", "x", "--yes"])
        .says(3, &["different images"]);
    project.run(&rollback(&["--to", &images[0].name])).says(2, &["more than one image could be the bad one", "--bad"]);
    assert_eq!(points_at(&project), now);
    project
        .run(&rollback(&["--to", &images[0].name, "--bad", &images[2].name]))
        .says(0, &["to be put under quarantine"]);
    assert_eq!([0, 1, 2].map(|n| is_quarantined(&project, &images[n])), [false, false, true]);
    assert_eq!(points_at(&project), [images[0].name.clone(), images[0].name.clone()]);
}

#[test]
fn a_run_is_not_taken_up_while_gc_takes_away_what_it_left() {
    let (project, images) = project();
    killed(&project, &images[2], "after:5");
    let state = State::open(project.path(".agent-ami")).unwrap();
    let gc = state.lock(LEFTOVERS, "ami gc --apply").unwrap();
    project.run(&["ami", "resume", "--yes"]).says(3, &["leftovers is busy", "ami gc --apply"]);
    drop(gc);
    project.run(&["ami", "resume", "--yes"]).says(0, &[]);
    assert_eq!(points_at(&project), [images[2].name.clone(), images[2].name.clone()]);
}

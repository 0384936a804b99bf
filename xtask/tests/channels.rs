//! Channels from outside: what may be promoted, what is written where, the way back, and what a process that dies or a second one beside it
//! leaves. Images hold a few bytes; the store, the parameters and the ledger are the real ones.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops where it cannot go on")]

use std::fs;

use proptest::prelude::*;
use serde_json::Value;
use xtask::cloud::Image;

#[path = "support/project.rs"]
mod project;
use project::{Project, ended};
#[path = "support/stopped.rs"]
mod stopped;
use stopped::Stopped;

/// A project whose channels are parameters too.
fn with_parameters() -> Project {
    let project = Project::new();
    project.edit("ami.toml", "ssm_prefix = \"\"", "ssm_prefix = \"/locus/ami\"");
    project
}

fn points_at(project: &Project, channel: &str) -> Value {
    project.data(&["ami", "history", "--channel", channel])["now"].clone()
}

fn ids(project: &Project, image: &Image) -> Value {
    let images = project.data(&["ami", "list"])["images"].as_array().unwrap().clone();
    images
        .iter()
        .filter(|i| i["name"] == image.name)
        .map(|i| (i["region"].as_str().unwrap().to_owned(), i["id"].clone()))
        .collect()
}

fn promote(project: &Project, image: &Image, channel: &str) -> project::Ended {
    project.run(&["ami", "promote", &image.id.0, "--channel", channel, "--yes"])
}

#[test]
fn a_promotion_writes_the_version_first_then_the_channel_and_is_in_the_history() {
    let project = with_parameters();
    let image = project.ready("20261121-0001");
    promote(&project, &image, "staging").says(0, &["/locus/ami/locus-agent/staging", "read back"]);
    assert_eq!(points_at(&project, "staging"), ids(&project, &image));
    let runs = project.data(&["ami", "runs"])["runs"].as_array().unwrap().clone();
    let run = runs.last().unwrap()["run"]["id"].as_str().unwrap().to_owned();
    let calls = project.data(&["ami", "show", &run])["calls"].clone();
    let written: Vec<&str> = calls.as_array().unwrap().iter().map(|c| c["subject"].as_str().unwrap()).collect();
    let version = format!("/locus/ami/versions/{}", image.name);
    let (claim, pointer) = ("/locus/ami/claims/locus-agent/staging", "/locus/ami/locus-agent/staging");
    assert_eq!(written[..6], [claim, &version, &version, pointer, pointer, "staging"]);
    assert_eq!(written.last(), Some(&claim), "the claim is given up at the end");
    let history = project.data(&["ami", "history", "--channel", "staging"]);
    assert_eq!((&history["history"][0]["image"], &history["history"][0]["run"]), (&image.name.into(), &run.into()));
    project.run(&["ami", "history", "--channel", "staging"]).says(0, &[]);
}

#[test]
fn production_wants_staging_and_time_or_a_reason_that_is_written_down() {
    let project = with_parameters();
    let image = project.ready("20261121-0001");
    promote(&project, &image, "production").says(1, &["staging does not point at it", "--channel staging"]);
    promote(&project, &image, "staging").says(0, &[]);
    promote(&project, &image, "production").says(1, &["48 hours are wanted", "wait 47 h 59 min more", "--override"]);
    let args = ["ami", "promote", &image.id.0, "--channel", "production", "--yes", "--override", "CVE-2026-1"];
    project.run(&args).says(0, &["/locus/ami/locus-agent/production"]);
    let history = project.data(&["ami", "history", "--channel", "production"]);
    assert_eq!(history["history"][0]["why"], "override: CVE-2026-1");
    // The same without an override after the time: the mark says since when.
    let next = project.ready("20261121-0002");
    promote(&project, &next, "staging").says(0, &[]);
    for id in ids(&project, &next).as_object().unwrap().iter() {
        let file = project.path(&format!(".agent-ami/regions/{}/{}/marks.json", id.0, id.1.as_str().unwrap()));
        fs::write(file, r#"{"promoted:staging":"2026-01-01T00:00:00Z by ann in run-1"}"#).unwrap();
    }
    promote(&project, &next, "production").says(0, &[]);
}

#[test]
fn what_a_channel_points_at_is_promoted_by_the_channels_name_as_a_workflow_does() {
    let project = with_parameters();
    let (image, newer) = (project.ready("20261121-0001"), project.ready("20261121-0002"));
    let onward = |why| ["ami", "promote", "--from", "staging", "--channel", "production", "--override", why, "--yes"];
    project.run(&onward("x")).says(1, &["staging points at no image"]);
    promote(&project, &image, "staging").says(0, &[]);
    project.run(&onward("")).says(1, &["48 hours are wanted"]);
    project.run(&onward("CVE-2026-1")).says(0, &[]);
    assert_eq!(points_at(&project, "production"), ids(&project, &image), "not the newest, {}", newer.name);
    project.run(&["ami", "promote", &image.id.0, "--from", "staging"]).says(2, &["--from"]);
}

#[test]
fn a_workflow_resumes_and_cleans_up_whether_or_not_there_is_anything() {
    let project = with_parameters();
    project.run(&["ami", "resume"]).says(2, &["no run was cut off"]);
    project.run(&["ami", "resume", "--if-any"]).says(0, &["no run was cut off"]);
    project.run(&["ami", "gc", "--mine"]).says(0, &["no run of this state folder has ended"]);
    let image = project.ready("20261121-0001");
    let mut command = project.command(&["ami", "promote", &image.id.0, "--yes"]);
    command.env("LEDGER_PAUSE_AT", "after:1");
    Stopped::start(&command).kill();
    project.run(&["ami", "resume", "--if-any", "--yes"]).says(0, &[]);
    assert_eq!(points_at(&project, "staging"), ids(&project, &image));
    let mine = project.data(&["ami", "gc", "--mine", "--apply", "--yes"]);
    assert_eq!(mine["decisions"].as_array().unwrap().len(), 0, "{mine}");
}

#[test]
fn a_rollback_goes_back_everywhere_and_the_bad_image_stays_away() {
    let project = with_parameters();
    let (old, bad) = (project.ready("20261121-0001"), project.ready("20261121-0002"));
    let back = ["ami", "rollback", "--channel", "staging", "--reason", "boots no more", "--yes"];
    promote(&project, &old, "staging").says(0, &[]);
    project.run(&back).says(1, &["no image to go back to"]);
    promote(&project, &bad, "staging").says(0, &[]);
    project.run(&["ami", "rollback", "--channel", "staging", "--reason", "x"]).says(3, &["--yes"]);
    project.run(&back).says(0, &["under quarantine", &old.name]);
    assert_eq!(points_at(&project, "staging"), ids(&project, &old));
    promote(&project, &bad, "staging").says(1, &["under quarantine: boots no more"]);
    let history = project.data(&["ami", "history", "--channel", "staging"])["history"].clone();
    let kinds: Vec<&Value> = history.as_array().unwrap().iter().map(|p| &p["kind"]).collect();
    assert_eq!(kinds, ["promote", "promote", "rollback"]);
    assert_eq!(history[2]["why"], "boots no more");
    let env = fs::read_to_string(project.path("channels/staging.env")).unwrap();
    assert!(env.contains(&format!("LOCUS_AMI_ID={}\n", old.id)), "{env}");

    // On another machine, whose ledger knows nothing: the marks on the images tell where to go back to.
    let newest = project.ready("20261121-0003");
    promote(&project, &newest, "staging").says(0, &[]);
    for file in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        let _ = fs::remove_file(project.path(&format!(".agent-ami/{file}")));
    }
    project.run(&back).says(0, &["under quarantine", &old.name]);
}

#[test]
fn a_version_that_is_named_is_gone_back_to() {
    let project = Project::new();
    let (first, second) = (project.ready("20261121-0001"), project.ready("20261121-0002"));
    promote(&project, &second, "staging").says(0, &[]);
    let back = ["ami", "rollback", "--channel", "staging", "--reason", "x", "--yes", "--keep", "--to"];
    project.run(&[&back[..], &["9.9.9"]].concat()).says(2, &["no image `9.9.9`"]);
    project.run(&[&back[..], &[first.id.0.as_str()]].concat()).says(0, &[&first.name]);
    // It was kept out of quarantine.
    promote(&project, &second, "staging").says(0, &[]);
}

#[test]
fn of_two_promotions_at_once_one_wins_and_the_other_is_told() {
    let project = with_parameters();
    let (one, two) = (project.ready("20261121-0001"), project.ready("20261121-0002"));
    let args = |image: &Image| ["ami", "promote", &image.id.0, "--channel", "staging", "--yes"].map(str::to_owned);
    // The first stops between two writes; the second comes in the meantime.
    let mut first = project.command(&args(&one).each_ref().map(String::as_str));
    first.env("LEDGER_PAUSE_AT", "before:3");
    let first = Stopped::start(&first);
    promote(&project, &two, "staging").says(3, &["channel-staging is busy", &one.id.0]);
    first.goes_on(0);
    assert_eq!(points_at(&project, "staging"), ids(&project, &one));

    // Another machine sees the claim.
    let elsewhere = ["ami", "promote", &two.id.0, "--channel", "staging", "--yes"];
    let claim = project.path(".agent-ami/parameters/local-1/locus%2Fami%2Fclaims%2Flocus-agent%2Fstaging.json");
    let held = format!(r#"{{"value":"run-x by ann at {}","version":1}}"#, jiff::Timestamp::now());
    fs::write(&claim, held).unwrap();
    project.run(&elsewhere).says(3, &["is being moved by somebody else: run-x by ann"]);
    assert_eq!(points_at(&project, "staging"), ids(&project, &one));
    fs::remove_file(claim).unwrap();

    // Another state folder is another machine: no lock is shared, only the env file, which changed since it was read.
    let mut first = project.command(&args(&two).each_ref().map(String::as_str));
    first.env("LEDGER_PAUSE_AT", "before:6");
    let first = Stopped::start(&first);
    fs::write(project.path("channels/staging.env"), "LOCUS_AMI_ID=ami-other\n").unwrap();
    let told = first.goes_on(4);
    assert!(told.contains("changed by someone else in between"), "{told}");
    assert_eq!(fs::read_to_string(project.path("channels/staging.env")).unwrap(), "LOCUS_AMI_ID=ami-other\n");
}

#[test]
fn a_promotion_that_is_killed_anywhere_is_finished_by_resume() {
    let whole = {
        let project = with_parameters();
        let image = project.ready("20261121-0001");
        promote(&project, &image, "staging").says(0, &[]);
        (points_at(&project, "staging"), fs::read_to_string(project.path("channels/staging.env")).unwrap())
    };
    for point in 1..=9 {
        for when in ["before", "after"] {
            let project = with_parameters();
            let image = project.ready("20261121-0001");
            let mut command = project.command(&["ami", "promote", &image.id.0, "--yes"]);
            command.env("LEDGER_PAUSE_AT", format!("{when}:{point}"));
            Stopped::start(&command).kill();
            let runs = project.data(&["ami", "runs", "--unfinished"])["runs"].clone();
            assert_eq!(runs[0]["standing"], "cut off", "{when} {point}");
            project.run(&["ami", "resume", "--yes"]).says(0, &[]);
            let now =
                (points_at(&project, "staging"), fs::read_to_string(project.path("channels/staging.env")).unwrap());
            assert_eq!(now, whole, "{when} {point}");
            let history = project.data(&["ami", "history", "--channel", "staging"])["history"].clone();
            assert_eq!(history.as_array().unwrap().len(), 1, "{when} {point}: {history}");
            assert!(history[0]["ended"].is_string());
            project.run(&["ami", "resume"]).says(2, &["no run was cut off"]);
        }
    }
}

#[test]
fn a_promotion_that_is_given_up_leaves_no_claim_and_is_told() {
    let project = with_parameters();
    let image = project.ready("20261121-0001");
    let mut command = project.command(&["ami", "promote", &image.id.0, "--yes"]);
    command.env("LEDGER_PAUSE_AT", "after:4");
    Stopped::start(&command).kill();
    let plan = project.data(&["ami", "gc"])["decisions"].clone();
    let claim = plan.as_array().unwrap().iter().find(|d| d["what"] == "claim").unwrap();
    assert_eq!((&claim["action"], &claim["id"]), (&"remove".into(), &"/locus/ami/claims/locus-agent/staging".into()));
    project.run(&["ami", "gc", "--apply", "--yes"]).says(0, &["1 to remove", "staging may point at", "ami promote"]);
    let claim = project.path(".agent-ami/parameters/local-1/locus%2Fami%2Fclaims%2Flocus-agent%2Fstaging.json");
    let claim = fs::read_to_string(claim).unwrap();
    assert!(claim.contains("\"free since "), "a claim is given up, not deleted: {claim}");
    assert_eq!(
        project.data(&["ami", "gc"])["decisions"].as_array().unwrap().iter().find(|d| d["what"] == "claim"),
        None
    );
    project.run(&["ami", "resume"]).says(2, &["no run was cut off"]);
    project.run(&["ami", "promote", &image.name, "--yes"]).says(0, &[]);
    assert_eq!(points_at(&project, "staging"), ids(&project, &image));
}

#[test]
fn a_rollback_that_is_killed_anywhere_goes_back_once_not_twice() {
    for point in 1..=9 {
        for when in ["before", "after"] {
            let project = with_parameters();
            let images: Vec<Image> = (1..=3).map(|n| project.ready(&format!("20261121-000{n}"))).collect();
            for image in &images {
                promote(&project, image, "staging").says(0, &[]);
            }
            let mut command =
                project.command(&["ami", "rollback", "--channel", "staging", "--reason", "boots no more", "--yes"]);
            command.env("LEDGER_PAUSE_AT", format!("{when}:{point}"));
            Stopped::start(&command).kill();
            project.run(&["ami", "resume", "--yes"]).says(0, &[]);
            assert_eq!(points_at(&project, "staging"), ids(&project, &images[1]), "{when} {point}");
            promote(&project, &images[2], "staging").says(1, &["under quarantine"]);
            let history = project.data(&["ami", "history", "--channel", "staging"])["history"].clone();
            assert_eq!(history.as_array().unwrap().len(), 4, "{when} {point}: {history}");
        }
    }
}

#[test]
fn a_deletion_that_is_killed_anywhere_is_finished_by_resume() {
    for when in ["before", "after"] {
        let project = Project::new();
        let image = project.image("local-1", "20261121-0001");
        let mut command = project.command(&["ami", "delete", &image.id.0, "--yes"]);
        command.env("LEDGER_PAUSE_AT", format!("{when}:1"));
        Stopped::start(&command).kill();
        project.run(&["ami", "resume", "--yes"]).says(0, &[]);
        assert_eq!(project.data(&["ami", "list"])["images"], serde_json::json!([]));
        project.run(&["ami", "gc"]).says(0, &["0 to remove"]);
    }
}

#[test]
fn a_ledger_that_is_damaged_is_set_aside_and_said() {
    let project = Project::new();
    let image = project.ready("20261121-0001");
    fs::write(project.path(".agent-ami/ledger.db"), "x".repeat(5000)).unwrap();
    for file in ["ledger.db-wal", "ledger.db-shm"] {
        let _ = fs::remove_file(project.path(&format!(".agent-ami/{file}")));
    }
    promote(&project, &image, "staging").says(0, &["ledger", "damaged"]);
    ended(&mut project.command(&["ami", "runs"])).says(0, &[]);
}

#[test]
fn the_next_version_is_proposed_by_what_changed_and_written_with_its_reasons() {
    let project = Project::new();
    let (old, new) = (project.ready("20261121-0001"), project.ready("20261121-0002"));
    project.run(&["ami", "bump"]).says(0, &["nothing was released before"]);
    promote(&project, &old, "staging").says(0, &[]);
    project.contents(&old, &[("node", "24.1.0"), ("claude", "2.1.0")]);
    project.run(&["ami", "bump", &new.id.0]).says(3, &["not known here", "ami smoke"]);
    project.contents(&new, &[("node", "24.1.0"), ("claude", "2.1.0")]);
    project.run(&["ami", "bump", &new.id.0]).says(0, &["no new version is needed"]);
    project.contents(&new, &[("node", "26.0.0"), ("claude", "2.1.9"), ("gemini", "1.0.0")]);
    let proposed = project.data(&["ami", "bump", &new.id.0, "--dry-run"]);
    assert_eq!(
        (&proposed["from"], &proposed["to"], &proposed["level"]),
        (&"1.0.0".into(), &"2.0.0".into(), &"major".into())
    );
    let before = fs::read_to_string(project.path("ami.toml")).unwrap();
    project.run(&["ami", "bump", &new.id.0]).says(3, &["--yes"]);
    project.run(&["ami", "bump", &new.id.0, "--yes"]).says(0, &["2.0.0"]);
    let after = fs::read_to_string(project.path("ami.toml")).unwrap();
    assert_eq!(after, before.replace("version = \"1.0.0\"", "version = \"2.0.0\""), "only the version changed");
    let log = fs::read_to_string(project.path("CHANGELOG.md")).unwrap();
    for line in
        ["## locus-agent 2.0.0", "- MAJOR: node 24.1.0 -> 26.0.0", "- MINOR: gemini 1.0.0 is new", "- PATCH: claude"]
    {
        assert!(log.contains(line), "{line} is not in {log}");
    }
    project.run(&["ami", "bump", &new.id.0]).says(0, &["2.0.0 already"]);
}

#[test]
fn a_watch_tells_the_region_in_which_something_changed() {
    let project = with_parameters();
    project.run(&["ami", "watch", "--channel", "staging"]).says(1, &["points at no image"]);
    let image = project.disk("20261121-0001");
    promote(&project, &image, "staging").says(0, &[]);
    project.run(&["ami", "watch", "--channel", "staging"]).says(0, &["well in 2 regions, 1 looks"]);
    project.run(&["ami", "watch", "--channel", "staging", "--for", "2s", "--every", "1s"]).says(0, &["3 looks"]);
    project.run(&["ami", "watch", "--channel", "staging", "--for", "soon"]).says(2, &["48h"]);

    let copy = ids(&project, &image)["local-2"].as_str().unwrap().to_owned();
    let dir = project.path(&format!(".agent-ami/regions/local-2/{copy}"));
    // A cluster of the disk is damaged: no machine would boot from it, whatever its record says.
    let whole = fs::read(dir.join("disk.qcow2")).unwrap();
    let mut damaged = whole.clone();
    damaged[..64].fill(0);
    fs::write(dir.join("disk.qcow2"), &damaged).unwrap();
    project.run(&["ami", "watch", "--channel", "staging"]).says(1, &["local-2: no instance of", "ami rollback"]);
    fs::write(dir.join("disk.qcow2"), &whole).unwrap();
    project.run(&["ami", "watch", "--channel", "staging"]).says(0, &[]);
    fs::remove_dir_all(dir).unwrap();
    project.run(&["ami", "watch", "--channel", "staging"]).says(1, &[&format!("local-2: {copy} is gone")]);
}

/// What somebody may do to channels and images.
#[derive(Clone, Debug)]
enum Deed {
    Promote(usize, &'static str),
    Rollback(&'static str),
    Collect,
    Delete(usize),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let channel = prop::sample::select(vec!["staging", "production"]);
    let deed = prop_oneof![
        4 => (0..4_usize, channel.clone()).prop_map(|(i, c)| Deed::Promote(i, c)),
        2 => channel.prop_map(Deed::Rollback),
        3 => Just(Deed::Collect),
        1 => (0..4_usize).prop_map(Deed::Delete),
    ];
    prop::collection::vec(deed, 4..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 40, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_done_in_whatever_order_no_channel_points_at_a_missing_image(deeds in deeds()) {
        let project = with_parameters();
        // As greedy as it can be set: nothing is kept for its age.
        project.edit("ami.toml", "keep_days = 30", "keep_days = 0");
        project.edit("ami.toml", "keep_last = 3", "keep_last = 1");
        project.edit("ami.toml", "deprecate_days = 7", "deprecate_days = 0");
        let images: Vec<Image> = (1..=4).map(|n| project.ready(&format!("20261121-000{n}"))).collect();
        for deed in &deeds {
            match deed {
                Deed::Promote(i, channel) => {
                    let id = &images[*i].id.0;
                    let ended = project.run(&["ami", "promote", id, "--channel", channel, "--yes", "--override", "a test"]);
                    // Refused: it is gone, or under quarantine.
                    prop_assert!([0, 1, 2].contains(&ended.code), "{}", ended.stderr);
                }
                Deed::Rollback(channel) => {
                    let ended = project.run(&["ami", "rollback", "--channel", channel, "--reason", "bad", "--yes"]);
                    prop_assert!([0, 1].contains(&ended.code), "{}", ended.stderr);
                }
                Deed::Collect => project.run(&["ami", "gc", "--apply", "--yes"]).says(0, &[]),
                Deed::Delete(i) => {
                    let ended = project.run(&["ami", "delete", &images[*i].id.0, "--yes"]);
                    prop_assert!([0, 2, 3].contains(&ended.code), "{}", ended.stderr);
                }
            }
            let there = project.data(&["ami", "list"])["images"].clone();
            let there: Vec<&str> = there.as_array().unwrap().iter().map(|i| i["id"].as_str().unwrap()).collect();
            for channel in ["staging", "production"] {
                for (region, id) in points_at(&project, channel).as_object().unwrap() {
                    prop_assert!(there.contains(&id.as_str().unwrap()), "{channel} in {region} points at {id}: {deed:?}");
                }
            }
        }
    }
}

#[test]
fn collecting_tells_why_and_is_done_only_when_asked() {
    let project = Project::new();
    project.edit("ami.toml", "keep_days = 30", "keep_days = 0");
    project.edit("ami.toml", "keep_last = 3", "keep_last = 1");
    project.edit("ami.toml", "deprecate_days = 7", "deprecate_days = 0");
    let (old, new) = (project.ready("20261121-0001"), project.ready("20261121-0002"));
    promote(&project, &new, "staging").says(0, &[]);
    let images = || project.data(&["ami", "list"])["images"].as_array().unwrap().len();
    let plan = project.data(&["ami", "gc"])["decisions"].clone();
    let of = |name: &str| plan.as_array().unwrap().iter().find(|d| d["of"] == name).unwrap().clone();
    assert_eq!((&of(&old.name)["action"], &of(&new.name)["action"]), (&"deprecate".into(), &"keep".into()));
    assert_eq!(of(&new.name)["reason"], "in use: channel staging");
    assert_eq!(images(), 4, "a plan removes nothing");
    project.run(&["ami", "gc", "--apply"]).says(3, &["--yes"]);
    project.run(&["ami", "gc", "--apply", "--yes"]).says(0, &["2 to deprecate"]);
    assert_eq!(images(), 4);
    project.run(&["ami", "gc", "--apply", "--yes"]).says(0, &["2 to remove"]);
    assert_eq!(images(), 2);
    project.run(&["ami", "gc"]).says(0, &["0 to remove, 0 to deprecate, 2 stay"]);
}

#[test]
fn what_somebody_elses_parameter_holds_stays_and_a_versions_own_goes_with_it() {
    let project = with_parameters();
    project.edit("ami.toml", "keep_days = 30", "keep_days = 0");
    project.edit("ami.toml", "keep_last = 3", "keep_last = 1");
    project.edit("ami.toml", "deprecate_days = 7", "deprecate_days = 0");
    let (old, new) = (project.ready("20261121-0001"), project.ready("20261121-0002"));
    promote(&project, &old, "staging").says(0, &[]);
    promote(&project, &new, "staging").says(0, &[]);
    let parameter = |region: &str, name: &str| {
        let file = format!("{}.json", name.trim_start_matches('/').replace('/', "%2F"));
        project.path(".agent-ami/parameters").join(region).join(file)
    };
    let foreign = parameter("local-1", "/app/image");
    fs::write(&foreign, serde_json::json!({ "value": old.id, "version": 1 }).to_string()).unwrap();
    project.run(&["ami", "gc", "--all"]).says(0, &["0 to remove, 0 to deprecate, 4 stay"]);
    project.run(&["ami", "delete", &old.id.0, "--yes"]).says(3, &["in use: parameter /app/image points at it"]);
    fs::remove_file(foreign).unwrap();

    let version = format!("/locus/ami/versions/{}", old.name);
    let versions = || ["local-1", "local-2"].map(|region| parameter(region, &version).exists());
    project.run(&["ami", "gc", "--apply", "--yes"]).says(0, &["2 to deprecate"]);
    assert_eq!(versions(), [true, true]);
    project.run(&["ami", "gc", "--apply", "--yes"]).says(0, &["2 to remove"]);
    assert_eq!(versions(), [false, false]);
    project.run(&["ami", "delete", &new.id.0, "--yes"]).says(3, &["in use: channel staging points at it"]);
}

#[test]
fn a_half_made_copy_of_a_dead_run_is_found_and_taken_away() {
    let project = Project::new();
    let image = project.image("local-1", "20261121-0001");
    let mut command = project.command(&["ami", "copy", &image.id.0]);
    command.env("LEDGER_PAUSE_AT", "before:1");
    Stopped::start(&command).kill();
    // Killed in the middle of the copy: its folder is there and no image.
    let half = project.path(&format!(".agent-ami/regions/local-2/.unfinished-{}", image.id));
    let run = project.data(&["ami", "runs"])["runs"][0]["run"]["id"].as_str().unwrap().to_owned();
    fs::create_dir_all(&half).unwrap();
    fs::write(half.join("run"), &run).unwrap();
    let plan = project.data(&["ami", "gc"])["decisions"].clone();
    let found = plan.as_array().unwrap().iter().find(|d| d["what"] == "folder").unwrap().clone();
    assert_eq!((&found["action"], &found["of"]), (&"remove".into(), &run.clone().into()));
    project.run(&["ami", "gc", "--apply", "--yes", "--run", &run]).says(0, &["1 to remove"]);
    assert!(!half.exists());
    project.run(&["ami", "resume", &run]).says(2, &["cleaned"]);
}

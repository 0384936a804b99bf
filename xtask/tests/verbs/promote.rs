//! `ami promote`: which images can be promoted, and what is written where.

use super::*;

#[test]
fn promotion_writes_the_version_then_the_channel_and_appears_in_the_history() {
    let project = with_parameters();
    let image = project.ready("20261121-0001");
    promote(&project, &image, "staging").assert_exit(0, &["/locus/ami/locus-agent/staging", "read back"]);
    assert_eq!(points_at(&project, "staging"), ids(&project, &image));
    let runs = project.data(&["ami", "runs"])["runs"].as_array().unwrap().clone();
    let run = runs.last().unwrap()["run"]["id"].as_str().unwrap().to_owned();
    let calls = project.data(&["ami", "show", &run])["calls"].clone();
    let written: Vec<&str> = calls.as_array().unwrap().iter().map(|c| c["subject"].as_str().unwrap()).collect();
    let version = format!("/locus/ami/versions/{}", image.name);
    let (claim, pointer) = ("/locus/ami/claims/locus-agent/staging", "/locus/ami/locus-agent/staging");
    assert_eq!(written[..6], [claim, &version, &version, pointer, pointer, "staging"]);
    assert_eq!(written.last(), Some(&claim), "the claim is released at the end");
    let history = project.data(&["ami", "history", "--channel", "staging"]);
    assert_eq!((&history["history"][0]["image"], &history["history"][0]["run"]), (&image.name.into(), &run.into()));
    project.run(&["ami", "history", "--channel", "staging"]).assert_exit(0, &[]);
}

#[test]
fn production_requires_the_soak_time_in_staging_or_a_recorded_reason() {
    let project = with_parameters();
    let image = project.ready("20261121-0001");
    promote(&project, &image, "production").assert_exit(1, &["staging does not point at it", "--channel staging"]);
    promote(&project, &image, "staging").assert_exit(0, &[]);
    promote(&project, &image, "production")
        .assert_exit(1, &["48 hours are required", "wait 47 h 59 min more", "--override"]);
    let args = ["ami", "promote", &image.id.0, "--channel", "production", "--yes", "--override", "CVE-2026-1"];
    project.run(&args).assert_exit(0, &["/locus/ami/locus-agent/production"]);
    let history = project.data(&["ami", "history", "--channel", "production"]);
    assert_eq!(history["history"][0]["why"], "override: CVE-2026-1");
    // After the soak time no override is needed; the mark contains the time of the promotion to staging.
    let next = project.ready("20261121-0002");
    promote(&project, &next, "staging").assert_exit(0, &[]);
    for id in ids(&project, &next).as_object().unwrap().iter() {
        let file = project.path(&format!(".agent-ami/regions/{}/{}/marks.json", id.0, id.1.as_str().unwrap()));
        fs::write(file, r#"{"promoted:staging":"2026-01-01T00:00:00Z by ann in run-1"}"#).unwrap();
    }
    promote(&project, &next, "production").assert_exit(0, &[]);
}

#[test]
fn promote_from_a_channel_promotes_the_image_that_it_points_at() {
    let project = with_parameters();
    let (image, newer) = (project.ready("20261121-0001"), project.ready("20261121-0002"));
    let promote_on =
        |why| ["ami", "promote", "--from", "staging", "--channel", "production", "--override", why, "--yes"];
    project.run(&promote_on("x")).assert_exit(1, &["staging points at no image"]);
    promote(&project, &image, "staging").assert_exit(0, &[]);
    project.run(&promote_on("")).assert_exit(1, &["48 hours are required"]);
    project.run(&promote_on("CVE-2026-1")).assert_exit(0, &[]);
    assert_eq!(points_at(&project, "production"), ids(&project, &image), "not the newest, {}", newer.name);
    project.run(&["ami", "promote", &image.id.0, "--from", "staging"]).assert_exit(2, &["--from"]);
}

#[test]
fn of_two_concurrent_promotions_one_succeeds_and_the_other_fails() {
    let project = with_parameters();
    let (one, two) = (project.ready("20261121-0001"), project.ready("20261121-0002"));
    let args = |image: &Image| ["ami", "promote", &image.id.0, "--channel", "staging", "--yes"].map(str::to_owned);
    // The first stops between two writes, and the second runs meanwhile.
    let mut first = project.command(&args(&one).each_ref().map(String::as_str));
    first.env("LEDGER_PAUSE_AT", "before:3");
    let first = Stopped::start(&first);
    promote(&project, &two, "staging").assert_exit(3, &["channel-staging is busy", &one.id.0]);
    first.finish(0);
    assert_eq!(points_at(&project, "staging"), ids(&project, &one));

    // A claim of another machine.
    let second = ["ami", "promote", &two.id.0, "--channel", "staging", "--yes"];
    let claim = project.path(".agent-ami/parameters/local-1/locus%2Fami%2Fclaims%2Flocus-agent%2Fstaging.json");
    let held = format!(r#"{{"value":"run-x by ann at {}","version":1}}"#, jiff::Timestamp::now());
    fs::write(&claim, held).unwrap();
    project.run(&second).assert_exit(3, &["is being moved by another run: run-x by ann"]);
    assert_eq!(points_at(&project, "staging"), ids(&project, &one));
    fs::remove_file(claim).unwrap();

    // A process with another state directory has other locks, but the same env file. It changes the file after the first process read it.
    let mut first = project.command(&args(&two).each_ref().map(String::as_str));
    first.env("LEDGER_PAUSE_AT", "before:6");
    let first = Stopped::start(&first);
    fs::write(project.path("channels/staging.env"), "LOCUS_AMI_ID=ami-other\n").unwrap();
    let stderr = first.finish(4);
    assert!(stderr.contains("changed by another process meanwhile"), "{stderr}");
    assert_eq!(fs::read_to_string(project.path("channels/staging.env")).unwrap(), "LOCUS_AMI_ID=ami-other\n");
}

#[test]
fn promote_requires_a_passed_smoke_report_of_the_same_disk() {
    let project = Project::new();
    let image = project.image("local-1", "one");
    let id = image.id.0.as_str();
    project.run(&["ami", "promote", id]).assert_exit(1, &["no smoke report", "ami smoke"]);
    let report = |disk: Digest, outcome: &str| project.report(&image, disk, outcome);
    report(Digest::of(b"another"), "pass");
    project.run(&["ami", "promote", id, "--yes"]).assert_exit(1, &["another disk"]);
    report(image.content, "fail");
    project.run(&["ami", "promote", id, "--yes"]).assert_exit(1, &["failed or empty pass"]);
    report(image.content, "pass");
    project.run(&["ami", "promote", id, "--yes"]).assert_exit(1, &["not in local-2", "ami copy"]);
    assert!(!project.path("channels").exists(), "a refused promotion wrote something");

    project.run(&["ami", "copy", id]).assert_exit(0, &[]);
    project.run(&["ami", "promote", id]).assert_exit(3, &["--yes"]);
    project.run(&["ami", "promote", id, "--dry-run"]).assert_exit(0, &[]);
    assert!(!project.path("channels").exists(), "an unconfirmed promotion wrote something");
    project.run(&["ami", "promote", id, "--yes"]).assert_exit(0, &["LOCUS_AMI_ID", "read back"]);
    let written = fs::read_to_string(project.path("channels/staging.env")).unwrap();
    assert!(written.contains(&format!("LOCUS_AMI_ID={id}\n")) && written.contains("LOCUS_AMI_ID_LOCAL_2=ami-local-"));
    project.run(&["ami", "delete", id, "--yes"]).assert_exit(3, &["staging", "--force"]);
}

//! The HTML page and the job summary of a release, rendered from a run report that is built from events. Hostile content is escaped.

use std::collections::BTreeMap;

use smoke::boot::{Boot, Link, Unit};
use smoke::report::Report;
use xtask::cloud::{BaseRecord, EngineKind, Identity, Image, ImageId};
use xtask::contents::{Change, Difference};
use xtask::event::{Event, Outcome, Phase};
use xtask::recipe::Digest;
use xtask::report::{markdown, page};
use xtask::run_report::{RunReport, Since};
use xtask::stage::smoke::Record;
use xtask::stage::version::Level;

const HOSTILE: &str = "<script>alert(1)</script> | `x` **y** ```";

fn image(id: &str, region: &str, from: Option<&str>) -> Image {
    Image {
        schema: 1,
        id: ImageId(id.to_owned()),
        name: "locus-agent-v1.1.0-20261122-0900".to_owned(),
        region: region.into(),
        image: "locus-agent".to_owned(),
        arch: None,
        account: None,
        version: "1.1.0".to_owned(),
        created: "2026-11-22T09:00:00.5Z".parse().ok(),
        recipe_hash: Digest::of(b"recipe"),
        base: Some(BaseRecord::local("debian-13", Digest::of(b"base"))),
        content: Digest::of(b"disk"),
        disk_bytes: 3_029_000_000,
        copied_from: from.map(|id| ImageId(id.to_owned())),
        run: "run-1".into(),
        engine: EngineKind::Native,
        built_in: None,
        agent: None,
        template: None,
        builder: Identity::default(),
        tags: BTreeMap::new(),
    }
}

/// The run report of a release; with an exit code other than 0, of a failed one.
fn recorded(exit: u8) -> RunReport {
    let mut run_report = RunReport { command: "cargo xtask ami release".to_owned(), ..RunReport::default() };
    let started = |phase, subject: &str| Event::PhaseStarted { phase, subject: subject.to_owned() };
    let ended = |phase, outcome, seconds, summary: &str| Event::PhaseFinished {
        phase,
        outcome,
        seconds,
        summary: summary.to_owned(),
    };
    let step = |index, name: &str, outcome, seconds| Event::StepFinished {
        index,
        total: 2,
        name: name.to_owned(),
        outcome,
        seconds,
        exit_code: None,
    };
    let check = |pass: &str, outcome: &str| Event::Check {
        pass: pass.to_owned(),
        name: "ufw".to_owned(),
        outcome: outcome.to_owned(),
        seconds: 1.5,
        message: HOSTILE.to_owned(),
    };
    let events = [
        (0.0, Event::RunStarted { run: "run-1".into(), command: "cargo xtask ami release".to_owned() }),
        (0.0, started(Phase::Build, "locus-agent")),
        (0.1, step(1, "10-base", Outcome::UpToDate, 0.0)),
        (60.1, step(2, "20-git", Outcome::Done, 60.0)),
        (61.0, ended(Phase::Build, Outcome::Done, 61.0, "1 of 2 steps run")),
        (61.0, started(Phase::Smoke, "first boot")),
        (90.0, check("first boot", "pass")),
        (95.0, check("after reboot", if exit == 0 { "pass" } else { "fail" })),
        (100.0, ended(Phase::Smoke, Outcome::Done, 39.0, "all checks passed")),
        (100.0, Event::Warning { message: HOSTILE.to_owned(), hint: "look".to_owned() }),
        (100.0, Event::Diff { file: "channels/staging.env".into(), diff: "+LOCUS_AMI_ID=ami-1\n```\n".to_owned() }),
    ];
    for (at, event) in &events {
        run_report.take(*at, event);
    }
    let error = (exit != 0).then(|| format!("the image failed: {HOSTILE}"));
    let end =
        Event::Result { ok: exit == 0, exit, summary: "released".to_owned(), error, data: serde_json::Value::Null };
    run_report.take(100.0, &end);
    run_report.about.show(
        "staging",
        &[image("ami-local-1", "local-1", None), image("ami-local-2", "local-2", Some("ami-local-1"))],
    );
    let change = |name: &str, from: Option<&str>, to: Option<&str>| Change {
        name: name.to_owned(),
        from: from.map(str::to_owned),
        to: to.map(str::to_owned),
    };
    run_report.about.since = Some(Since {
        name: "locus-agent-v1.0.0-20261101-0900".to_owned(),
        version: "1.0.0".to_owned(),
        difference: Difference {
            system: Vec::new(),
            tools: vec![change("codex", Some("0.168.0"), Some("0.169.0")), change("grok", None, Some("1.0.41"))],
            packages: (0..150).map(|n| change(&format!("deb/p{n}"), Some("1"), Some("2"))).collect(),
            bytes: (2_900_000_000, 3_029_000_000),
            boots: Vec::new(),
        },
        reasons: vec![(Level::Minor, "grok 1.0.41 added".to_owned())],
    });
    run_report
}

#[test]
fn the_summary_has_ids_changes_and_times() {
    let text = markdown::render(&recorded(0));
    insta::assert_snapshot!(text.lines().take(30).collect::<Vec<_>>().join("\n"));
    assert!(text.contains("- and 50 more") && text.contains("| = 10-base | cached |"), "{text}");
}

/// A run report with two measured boots; the second one has a unit with a hostile name.
fn measured() -> RunReport {
    let mut run_report = recorded(0);
    let unit = |name: &str, seconds| Unit { name: name.to_owned(), seconds };
    let boot = |to_ssh, slowest: &str| Boot {
        to_ssh: Some(to_ssh),
        kernel: Some(6.1),
        userspace: Some(40.0),
        slowest: vec![unit(slowest, 12.8), unit("ufw.service", 7.3)],
        ssh_chain: vec![Link { name: "network.target".to_owned(), at: 11.2, seconds: 0.0 }],
        ..Boot::default()
    };
    let report = |boot| Report {
        schema: 1,
        boot_id: String::new(),
        host_keys: Vec::new(),
        os: "debian 13".to_owned(),
        checks: Vec::new(),
        wall_seconds: 80.0,
        slowest_seconds: 60.0,
        boot: Some(boot),
    };
    run_report.about.smoke = Some(Record {
        schema: 1,
        content: Digest::of(b"disk"),
        spec_sha256: Digest::of(b"spec"),
        passed: true,
        at: jiff::Timestamp::UNIX_EPOCH,
        passes: vec!["first boot".to_owned(), "after reboot".to_owned()],
        reports: vec![report(boot(51.0, "pm2-ubuntu.service")), report(boot(33.2, HOSTILE))],
    });
    run_report
}

#[test]
fn boots_stand_side_by_side() {
    let text = markdown::render(&measured());
    let table: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("| boot")).take(7).collect();
    insta::assert_snapshot!(table.join("\n"));
    let html = page::render(&measured());
    for cells in [
        "<td>machine start to SSH</td><td>51.0 s</td><td>33.2 s</td>",
        "<td>pm2-ubuntu.service</td><td>12.8 s</td><td>–</td>",
        "<td>network.target</td><td>11.2 s</td><td>0.0 s</td>",
    ] {
        assert!(html.contains(cells), "{cells}: {html}");
    }
    let unmeasured = page::render(&recorded(0));
    assert!(!unmeasured.contains("<h2>Boot</h2>"), "{unmeasured}");
}

#[test]
fn hostile_content_is_escaped() {
    for run_report in [recorded(0), recorded(1), measured()] {
        let (markdown, html) = (markdown::render(&run_report), page::render(&run_report));
        let outside = markdown.split("````").step_by(2).collect::<String>();
        assert!(!outside.contains("<script"), "{markdown}");
        assert!(!html.contains("<script") && html.contains("&lt;script&gt;"), "{html}");
        assert!(
            markdown.lines().filter(|line| line.starts_with("| ")).all(|line| !line.contains(" `x` ")),
            "{markdown}"
        );
    }
}

#[test]
fn a_failed_release_begins_with_its_failure() {
    let run_report = recorded(1);
    let (markdown, html) = (markdown::render(&run_report), page::render(&run_report));
    assert!(markdown.starts_with("## ❌ locus-agent-v1.1.0-20261122-0900"), "{markdown}");
    assert!(markdown.contains("Exit code 1:") && markdown.contains("**ufw** (after reboot, fail)"), "{markdown}");
    assert!(html.contains("Exit code 1") && html.contains("<td class=\"bad\">fail"), "{html}");
}

#[test]
fn the_page_is_one_file_without_external_resources() {
    let html = page::render(&recorded(0));
    for word in ["http://", "https://", "src=", "url(", "@import", "<link"] {
        assert!(!html.contains(word), "{word}");
    }
    for word in ["20-git", "cached", "ami-local-2", "channels/staging.env", "0.169.0", "first boot", "after reboot"] {
        assert!(html.contains(word), "{word}");
    }
}

#[test]
fn a_run_report_survives_serialization() {
    let run_report = recorded(0);
    let again: RunReport = serde_json::from_slice(&serde_json::to_vec(&run_report).unwrap()).unwrap();
    assert_eq!(page::render(&again), page::render(&run_report));
}

#[test]
fn a_summary_above_the_limit_of_github_is_truncated() {
    let mut run_report = recorded(0);
    run_report.documents.push(("gc".to_owned(), "ä".repeat(1_000_000)));
    assert!(markdown::render(&run_report).len() < 1024 * 1024);
}

#[test]
fn a_command_without_effects_adds_no_summary() {
    let mut run_report = RunReport { command: "cargo xtask ami list".to_owned(), ..RunReport::default() };
    let end = Event::Result { ok: true, exit: 0, summary: String::new(), error: None, data: serde_json::Value::Null };
    run_report.take(0.1, &end);
    assert_eq!(markdown::render(&run_report), "");
}

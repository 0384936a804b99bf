//! The ledger with an endpoint: every mutating call is written to it first. Resources of a dead run are found by the ledger and by their
//! tags.

#![expect(clippy::unwrap_used, reason = "a test stops at the first failure")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use xtask::cloud::{BuilderKind, Capture, Cloud as _, Image, ImageId, Kind, Start};
use xtask::error::{Exit, plain};
use xtask::ids::Region;
use xtask::ledger::Call;
use xtask::recipe::Digest;
use xtask::state::{RunRequest, State};
use xtask_aws::cloud::Ec2;
use xtask_aws::image;
use xtask_aws::record::Facts;

mod support;
#[path = "support/settings.rs"]
mod settings;
#[path = "support/account.rs"]
mod account;
use account::{Account, REGIONS, capture};
use settings::{settings, source};
use support::{PIPELINE, clients};

/// The calls of the newest run in the ledger.
fn written(account: &Account) -> Vec<Call> {
    let state = State::open(account.dir.path().join("state")).unwrap();
    let run = state.ledger().runs().unwrap().pop().unwrap();
    state.ledger().calls(&run.id).unwrap()
}

fn released(account: &Account, ec2: &Ec2) -> Image {
    let image = account.build(ec2).unwrap();
    assert!(account.copy(ec2, &image).iter().all(|c| c.result.is_ok()));
    image
}

#[test]
fn every_mutating_call_is_in_the_ledger_with_the_ids_that_it_returned() {
    let account = Account::new();
    let ec2 = account.with(Vec::new());
    let image = released(&account, &ec2);
    let calls = written(&account);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for call in &calls {
        *counts.entry(call.action.clone()).or_default() += 1;
    }
    let mut made = ec2.clients().calls().counts();
    made.retain(|action, _| !action.contains(":Describe") && !action.contains(":Get"));
    // The permissions were checked by DryRun before, which is not in the ledger.
    for action in ["ec2:DeleteKeyPair", "ec2:DeleteSecurityGroup", "ec2:TerminateInstances"] {
        assert_eq!(made.insert(action.to_owned(), 1), Some(2), "{action}");
    }
    assert_eq!(counts, made);
    assert!(calls.iter().all(|c| c.settled.is_some() && c.error.is_none()), "{calls:#?}");
    let one = |action: &str| calls.iter().find(|c| c.action == action).unwrap();
    let started = one("ec2:RunInstances");
    assert!(started.ids[0].starts_with("i-") && started.token.as_ref().is_some_and(|t| t.len() == 64), "{started:?}");
    assert!(started.tags.iter().any(|t| t.starts_with("agent-ami:run=run-")), "{started:?}");
    assert_eq!(one("ec2:CreateImage").ids, [image.id.0.as_str()]);
    assert_eq!(one("ec2:CreateImage").subject.as_ref(), Some(&image.name));
    let copies: Vec<&Call> = calls.iter().filter(|c| c.action == "ec2:CopyImage").collect();
    assert!(copies.len() == 3 && copies.iter().all(|c| c.ids[0].starts_with("ami-") && c.token.is_some()));
}

#[test]
fn a_call_that_cannot_be_written_to_the_ledger_is_not_sent() {
    let account = Account::new();
    let ec2 = account.with(Vec::new());
    let ledger = rusqlite::Connection::open(account.dir.path().join("state/ledger.db")).unwrap();
    ledger.execute_batch("ALTER TABLE call RENAME TO renamed").unwrap();
    let error = account.build(&ec2).unwrap_err();
    assert_eq!(error.exit(), Exit::Precondition);
    assert!(plain(&error).contains("the ledger"), "{}", plain(&error));
    account.assert_left(&[]);
    let sent = account.moto.calls(PIPELINE);
    assert!(!sent.is_empty(), "the log has no call of the pipeline");
    assert!(sent.keys().all(|c| c.contains(":Describe") || c.contains(":Get")), "{sent:?}");
}

#[test]
fn without_a_run_mutating_calls_are_errors() {
    let account = Account::new();
    let image = account.build(&account.with(Vec::new())).unwrap();
    let state = State::open(account.dir.path().join("state")).unwrap();
    let reader = Ec2::new(
        Arc::clone(&account.driver),
        &clients(&account.moto.url, Vec::new()),
        settings(&REGIONS),
        &state,
        None,
    );
    let error = reader.delete(&image).unwrap_err();
    assert!(plain(&error).contains("no run has begun"), "{}", plain(&error));
    assert_eq!(reader.images(&REGIONS[0].into()).unwrap().len(), 1);
}

#[test]
fn orphans_of_a_dead_run_are_found_by_its_tag_and_removed() {
    let account = Account::new();
    let ec2 = account.with(Vec::new());
    let source = source();
    let base = ec2.base(&source, &|_| {}).unwrap();
    let machine = ec2
        .begin(Start { builder: BuilderKind::Instance, source: &source, base: &base, from: None, next: None }, &|_| {})
        .unwrap();
    // As if the process was killed: nothing is cleaned up.
    std::mem::forget(machine);
    let left = ec2.orphans().unwrap();
    let kinds: Vec<Kind> = left.iter().map(|l| l.kind).collect();
    assert_eq!(kinds, [Kind::Machine, Kind::KeyPair, Kind::SecurityGroup]);
    assert!(left.iter().all(|l| l.run.as_ref().unwrap().starts_with("run-") && l.expires.is_some()), "{left:?}");
    for orphan in &left {
        ec2.remove_orphan(orphan).unwrap();
    }
    account.assert_left(&[]);
    assert_eq!(ec2.orphans().unwrap(), []);
}

/// A policy with a tag condition denies calls on resources that do not exist any more, because they have no tags.
#[test]
fn removing_an_orphan_twice_is_not_an_error() {
    let account = Account::new();
    let ec2 = account.with(Vec::new());
    let source = source();
    let base = ec2.base(&source, &|_| {}).unwrap();
    let start = Start { builder: BuilderKind::Instance, source: &source, base: &base, from: None, next: None };
    std::mem::forget(ec2.begin(start, &|_| {}).unwrap());
    let left = ec2.orphans().unwrap();
    assert_eq!(left.len(), 3);
    for orphan in left.iter().chain(&left) {
        ec2.remove_orphan(orphan).unwrap();
    }
    account.assert_left(&[]);
}

#[test]
fn a_resumed_run_finishes_the_image_of_the_interrupted_one() {
    let account = Account::new();
    let source = source();
    let state = State::open(account.dir.path().join("state")).unwrap();
    let run = Arc::new(state.begin_run(RunRequest { command: "test", words: &[], on: "aws" }).unwrap());
    let id = run.id().to_owned();
    let ec2 = |run| {
        let clients = clients(&account.moto.url, Vec::new());
        Ec2::new(Arc::clone(&account.driver), &clients, settings(&REGIONS), &state, Some(run))
    };
    let first = ec2(Arc::clone(&run));
    let base = first.base(&source, &|_| {}).unwrap();
    let captured = capture(&source);
    let tags = Facts::of_capture(&captured, &base, run.id()).tags(&BTreeMap::new());
    let start = Start { builder: BuilderKind::Instance, source: &source, base: &base, from: None, next: None };
    let machine = first.begin(start, &|_| {}).unwrap();
    let raw = clients(&account.moto.url, Vec::new()).of_run(Some(Arc::clone(&run))).ec2(REGIONS[0]);
    let create = image::create(&raw, machine.id(), "locus-agent-v1.0.0-x", None, &tags, Duration::from_millis(20));
    let made = account.driver.finish(create).unwrap();
    // CreateImage has returned, and the image is not visible yet; then the process died.
    drop((machine, raw, first, run));

    let record = state.ledger().run(&id).unwrap().unwrap();
    let second = ec2(Arc::new(state.resume_run(&record).unwrap()));
    let resumed = second.finish_capture(&base, &captured, &|_| {}).unwrap().unwrap();
    assert_eq!((&resumed.id, resumed.run.as_str()), (&ImageId(made), id.as_str()));
    let another = Capture { recipe_hash: Digest::of(b"another recipe"), ..captured };
    assert_eq!(second.finish_capture(&base, &another, &|_| {}).unwrap(), None);
}

#[test]
fn a_parameter_is_written_only_at_the_expected_version() {
    let account = Account::new();
    let ec2 = account.with(Vec::new());
    let image = account.build(&ec2).unwrap();
    let (region, name, id) = (&Region::from(REGIONS[0]), "/locus/ami/staging", image.id.0.as_str());
    assert_eq!(ec2.parameter(region, name).unwrap(), None);
    ec2.put_parameter(region, name, id, None).unwrap();
    let there = ec2.parameter(region, name).unwrap().unwrap();
    assert_eq!((there.value.as_str(), there.version), (id, 1));
    let error = ec2.put_parameter(region, name, id, None).unwrap_err();
    assert!(error.to_string().contains("was changed by another process meanwhile"), "{error}");
    ec2.put_parameter(region, name, id, Some(1)).unwrap();
    let error = ec2.put_parameter(region, name, id, Some(1)).unwrap_err();
    assert!(error.to_string().contains("version 2"), "{error}");
    assert_eq!(ec2.parameter(&REGIONS[1].into(), name).unwrap(), None, "the parameter is in one region");
    let put = written(&account).into_iter().filter(|c| c.action == "ssm:PutParameter").count();
    assert_eq!(put, 2, "a write that was not sent is not in the ledger");
}

#[test]
fn parameters_that_hold_image_ids_are_found_under_any_name() {
    let account = Account::new();
    let ec2 = account.with(Vec::new());
    let image = account.build(&ec2).unwrap();
    // More than one GetParameters returns.
    let mut names: Vec<String> = (0..12).map(|n| format!("/locus/other/{n:02}")).collect();
    for name in &names {
        ec2.put_parameter(&REGIONS[0].into(), name, &image.id.0, None).unwrap();
    }
    ec2.put_parameter(&REGIONS[0].into(), "/locus/other/text", "not an image", None).unwrap();
    let found = ec2.parameters(&REGIONS[0].into()).unwrap();
    names.sort();
    assert_eq!(found.iter().map(|(name, _)| name).collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
    assert!(found.iter().all(|(_, id)| *id == image.id));
    assert_eq!(ec2.parameters(&REGIONS[1].into()).unwrap(), []);
}

#[test]
fn marks_are_stored_in_tags() {
    let account = Account::new();
    let ec2 = account.with(Vec::new());
    let image = account.build(&ec2).unwrap();
    assert_eq!(ec2.marks(&image).unwrap(), BTreeMap::new());
    ec2.mark(&image, "quarantined", "boots no more").unwrap();
    ec2.mark(&image, "promoted:staging", "2026-11-21T10:00:00Z by ann in run-1").unwrap();
    ec2.mark(&image, "quarantined", "boots at last").unwrap();
    let marks = account.with(Vec::new()).marks(&image).unwrap();
    assert_eq!(marks["quarantined"], "boots at last");
    assert_eq!(marks.len(), 2);
}

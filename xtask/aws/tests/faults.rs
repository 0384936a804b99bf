//! One test for each known fault of EC2: the result of the command, and the resources that remain at the endpoint.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first failure")]

use std::collections::BTreeMap;
use std::time::Duration;

use xtask::cloud::{BuilderKind, Cloud as _, Start};
use xtask::error::{Error, Exit};
use xtask_aws::clients::Clients;
use xtask_aws::cloud::Ec2;
use xtask_aws::drive::Driver;
use xtask_aws::settings::Settings;

mod support;
#[path = "support/settings.rs"]
mod settings;
#[path = "support/account.rs"]
mod account;
use account::{Account, REGIONS, capture};
use settings::{settings, source};
use support::{AS_AWS, Fault, Moto, Plan, inventory, owner};

const ONE_IMAGE: [(&str, usize); 2] = [("images in us-east-1", 1), ("snapshots in us-east-1", 1)];

fn everywhere() -> Vec<(String, usize)> {
    REGIONS.iter().flat_map(|r| [(format!("images in {r}"), 1), (format!("snapshots in {r}"), 1)]).collect()
}

fn assert_everywhere(account: &Account) {
    let expected = everywhere();
    account.assert_left(&expected.iter().map(|(k, n)| (k.as_str(), *n)).collect::<Vec<_>>());
}

fn code(error: &Error) -> Exit {
    error.exit()
}

#[test]
fn without_a_fault_there_is_one_image_per_region_and_nothing_else() {
    let account = Account::new();
    let ec2 = account.with(Vec::new());
    let image = account.build(&ec2).unwrap();
    assert_eq!(
        image.base.as_ref().unwrap().id,
        "ami-0jammynew00000002",
        "the newest image of Canonical, not of any owner"
    );
    account.assert_left(&ONE_IMAGE);
    let copies = account.copy(&ec2, &image);
    for copied in &copies {
        let (copy, made) = copied.result.as_ref().unwrap();
        assert!(*made && copy.content == image.content && copy.recipe_hash == image.recipe_hash);
        assert_eq!((copy.copied_from.as_ref(), &copy.tags), (Some(&image.id), &image.tags));
    }
    assert_everywhere(&account);
    // A second run uses the existing copies.
    assert!(account.copy(&ec2, &image).iter().all(|c| matches!(c.result, Ok((_, false)))));
    assert_everywhere(&account);
    for copied in copies {
        ec2.delete(&copied.result.unwrap().0).unwrap();
    }
    ec2.delete(&image).unwrap();
    account.assert_left(&[]);
}

#[test]
fn a_build_and_its_copies_wait_for_eventual_consistency() {
    let account = Account::at(Moto::start_with(&AS_AWS));
    let ec2 = account.with(Vec::new());
    let image = account.build(&ec2).unwrap();
    assert!(account.copy(&ec2, &image).iter().all(|c| c.result.is_ok()));
    assert_everywhere(&account);
}

#[test]
fn throttling_server_errors_and_dropped_connections_are_retried() {
    let account = Account::new();
    let mut plans = Vec::new();
    for action in
        ["RunInstances", "CreateImage", "CopyImage", "DescribeImages", "CreateSecurityGroup", "TerminateInstances"]
    {
        plans.push(Plan::next(action, 2, Fault::Refuse(503, "RequestLimitExceeded")));
        plans.push(Plan::next(action, 1, Fault::Refuse(500, "InternalError")).after(2));
        plans.push(Plan::next(action, 1, Fault::HangUpBefore).after(3));
    }
    let ec2 = account.with(plans);
    let image = account.build(&ec2).unwrap();
    assert!(account.copy(&ec2, &image).iter().all(|c| c.result.is_ok()));
    assert_everywhere(&account);
}

#[test]
fn a_lost_response_creates_nothing_twice() {
    let account = Account::new();
    let lost = |action| Plan::next(action, 1, Fault::HangUpAfter);
    let ec2 =
        account.with(vec![lost("RunInstances"), lost("CreateImage"), lost("CopyImage"), lost("TerminateInstances")]);
    let image = account.build(&ec2).unwrap();
    assert!(account.copy(&ec2, &image).iter().all(|c| c.result.is_ok()));
    assert_everywhere(&account);
}

#[test]
fn a_builder_whose_start_has_no_response_is_found_and_terminated() {
    let account = Account::new();
    let ec2 = account.with(vec![Plan::next("RunInstances", 100, Fault::HangUpAfter)]);
    assert_eq!(code(&account.build(&ec2).unwrap_err()), Exit::Failed);
    account.assert_left(&[]);
}

#[test]
fn not_found_after_create_means_not_yet() {
    let account = Account::new();
    let empty = Fault::Rewrite("(?s)<imagesSet>.*</imagesSet>", "<imagesSet/>");
    let unknown = Fault::Refuse(400, "InvalidInstanceID.NotFound");
    // The first DescribeImages is for the base image.
    let ec2 = account
        .with(vec![Plan::next("DescribeImages", 5, empty).after(1), Plan::next("DescribeInstances", 3, unknown)]);
    account.build(&ec2).unwrap();
    account.assert_left(&ONE_IMAGE);
}

#[test]
fn an_image_that_stays_invisible_fails_the_build_and_is_removed() {
    let account = Account::new();
    let empty = Fault::Rewrite("(?s)<imagesSet>.*</imagesSet>", "<imagesSet/>");
    let ec2 = account.with(vec![Plan::next("DescribeImages", 1000, empty).after(1)]);
    let error = account.build(&ec2).unwrap_err();
    assert_eq!(code(&error), Exit::Failed);
    assert!(format!("{error:?}").contains("was not found for"), "{error:?}");
    account.assert_left(&[]);
}

#[test]
fn a_name_that_is_in_use_is_reported_and_the_builder_is_removed() {
    let account = Account::new();
    let first = account.build(&account.with(Vec::new())).unwrap();
    // Another run in the same minute.
    let error = account.build(&account.with(Vec::new())).unwrap_err();
    assert!(
        error.to_string().contains("InvalidAMIName.Duplicate") && error.to_string().contains(&first.name),
        "{error}"
    );
    account.assert_left(&ONE_IMAGE);
}

#[test]
fn without_capacity_the_next_zone_and_type_are_tried() {
    let account = Account::new();
    let none = || Fault::Refuse(500, "InsufficientInstanceCapacity");
    // Seven refusals: six zones of the first type, one of the second.
    let ec2 = account.with(vec![Plan::next("RunInstances", 7, none())]);
    account.build(&ec2).unwrap();
    account.assert_left(&ONE_IMAGE);

    let account = Account::new();
    let ec2 = account.with(vec![Plan::next("RunInstances", 1000, none())]);
    let error = account.build(&ec2).unwrap_err();
    assert_eq!(code(&error), Exit::Failed);
    assert!(error.to_string().contains("t3a.medium in us-east-1"), "{error}");
    account.assert_left(&[]);
}

#[test]
fn another_refusal_than_capacity_ends_the_build_at_once() {
    let account = Account::new();
    let ec2 = account.with(vec![Plan::next("RunInstances", 1000, Fault::Refuse(400, "VcpuLimitExceeded"))]);
    let error = account.build(&ec2).unwrap_err();
    assert_eq!(code(&error), Exit::Precondition);
    assert_eq!(calls(&ec2, "ec2:RunInstances"), 1);
    account.assert_left(&[]);
}

#[test]
fn a_failed_image_is_removed() {
    let account = Account::new();
    let failed = Fault::Rewrite("<imageState>available</imageState>", "<imageState>failed</imageState>");
    let ec2 = account.with(vec![Plan::next("DescribeImages", 1000, failed).after(1)]);
    let error = account.build(&ec2).unwrap_err();
    assert!(error.to_string().contains("failed"), "{error}");
    account.assert_left(&[]);
}

/// EC2 reads the builder's volumes until the image's snapshots are complete.
#[test]
fn the_builder_is_terminated_only_after_its_image_is_complete() {
    let account = Account::at(Moto::start_with(&[]));
    let pending = Fault::Rewrite("<imageState>available</imageState>", "<imageState>pending</imageState>");
    let ec2 = account.with(vec![Plan::next("DescribeImages", 3, pending).after(1)]);
    let source = source();
    let base = ec2.base(&source, &|_| {}).unwrap();
    let start = Start { builder: BuilderKind::Instance, source: &source, base: &base, from: None, next: None };
    let machine = ec2.begin(start, &|_| {}).unwrap();
    let instances = std::sync::Mutex::new(Vec::new());
    let on_progress = |message: &str| {
        if message == "pending" {
            // A tokio runtime cannot block inside another one.
            let url = account.moto.url.clone();
            let count = std::thread::spawn(move || {
                let left = Driver::new().unwrap().finish(inventory(&owner(&url), &[REGIONS[0].to_owned()]));
                left.get("instances in us-east-1").copied()
            });
            instances.lock().unwrap().push(count.join().unwrap());
        }
    };
    ec2.capture(machine, &base, &capture(&source), &on_progress).unwrap();
    let instances = instances.into_inner().unwrap();
    assert!(!instances.is_empty() && instances.iter().all(|n| *n == Some(1)), "{instances:?}");
    account.assert_left(&ONE_IMAGE);
}

#[test]
fn a_failed_copy_is_repeated_in_its_region_alone() {
    let account = Account::at(Moto::start_with(&[]));
    let image = account.build(&account.with(Vec::new())).unwrap();
    let failed = Fault::Rewrite("<imageState>available</imageState>", "<imageState>failed</imageState>");
    // Two calls look for an existing copy, the third one returns the failed copy.
    let ec2 = account.with(vec![Plan::next("DescribeImages", 1, failed.clone()).after(2).only_in("eu-west-1")]);
    assert!(account.copy(&ec2, &image).iter().all(|c| c.result.is_ok()));
    assert_everywhere(&account);
    assert_eq!(calls(&ec2, "ec2:CopyImage"), 4, "one more call, for the failed copy");

    let account = Account::at(Moto::start_with(&[]));
    let image = account.build(&account.with(Vec::new())).unwrap();
    let ec2 = account.with(vec![Plan::next("DescribeImages", 1000, failed).only_in("eu-west-1")]);
    let results = account.copy(&ec2, &image);
    for copied in &results {
        assert_eq!(copied.result.is_ok(), copied.region != "eu-west-1", "{}: {:?}", copied.region, copied.result);
    }
    let mut left = account.left();
    left.retain(|what, _| what.ends_with("eu-west-1"));
    assert_eq!(left, BTreeMap::new());
}

#[test]
fn a_copy_waits_for_a_free_slot_at_the_destination() {
    let account = Account::new();
    let image = account.build(&account.with(Vec::new())).unwrap();
    let full = Fault::Refuse(400, "ResourceLimitExceeded");
    let ec2 = account.with(vec![Plan::next("CopyImage", 5, full).only_in("us-west-2")]);
    assert!(account.copy(&ec2, &image).iter().all(|c| c.result.is_ok()));
    assert_everywhere(&account);
}

#[test]
fn an_expired_token_ends_the_wait_as_a_precondition() {
    let account = Account::new();
    let expired = Fault::Refuse(400, "RequestExpired");
    let ec2 = account.with(vec![Plan::next("DescribeImages", 1, expired).after(2)]);
    let error = account.build(&ec2).unwrap_err();
    assert_eq!(code(&error), Exit::Precondition);
    assert!(xtask::error::plain(&error).contains("renew the credentials"), "{error}");
    account.assert_left(&[]);
}

#[test]
fn a_slow_response_is_waited_for() {
    let account = Account::new();
    let slow = |action| Plan::next(action, 1, Fault::Slow(Duration::from_secs(2)));
    let ec2 = account.with(vec![slow("RunInstances"), slow("CreateImage"), slow("DescribeImages")]);
    account.build(&ec2).unwrap();
    account.assert_left(&ONE_IMAGE);
}

#[test]
fn a_machine_without_a_connection_is_removed_with_its_resources() {
    let account = Account::new();
    let ec2 = account.with_settings(
        Vec::new(),
        Settings { ssh_host: Some("127.0.0.1".to_owned()), ssh_port: Some(1), ..settings(&REGIONS) },
    );
    let source = source();
    let base = ec2.base(&source, &|_| {}).unwrap();
    let start = Start { builder: BuilderKind::Instance, source: &source, base: &base, from: None, next: None };
    let Err(error) = ec2.start_builder(start, &|_| {}) else { panic!("the connection succeeded") };
    assert_eq!(code(&error), Exit::Failed);
    assert!(format!("{error:?}").contains("the console of i-"), "{error:?}");
    account.assert_left(&[]);
}

#[test]
fn the_users_of_an_image_are_named() {
    let account = Account::new();
    let ec2 = account.with(Vec::new());
    let image = account.build(&ec2).unwrap();
    assert_eq!(ec2.users(&image).unwrap(), [""; 0]);
    let raw = owner(&account.moto.url).ec2("us-east-1");
    let call = raw.run_instances().image_id(&image.id.0).min_count(1).max_count(1);
    let started = account.driver.finish(call.send()).unwrap();
    let id = started.instances()[0].instance_id().unwrap();
    assert_eq!(ec2.users(&image).unwrap(), [format!("instance {id}")]);
}

#[test]
fn every_call_is_in_the_policy() {
    let account = Account::new();
    let ec2 = account.with(Vec::new());
    let source = source();
    ec2.ready(Some(&source), true).unwrap();
    let image = account.build(&ec2).unwrap();
    account.copy(&ec2, &image);
    ec2.users(&image).unwrap();
    ec2.images(&"us-east-1".into()).unwrap();
    ec2.delete(&image).unwrap();
    let made = ec2.clients().calls().counts();
    assert!(made.len() > 12, "{made:?}");
    let missing: Vec<&String> = made.keys().filter(|action| !xtask_aws::policy::allows(action)).collect();
    assert_eq!(missing, [""; 0]);
}

fn calls(ec2: &Ec2, action: &str) -> usize {
    let clients: &Clients = ec2.clients();
    clients.calls().counts().get(action).copied().unwrap_or(0)
}

//! Semantics of AWS that a simple endpoint does not have: client tokens that return deregistered copies, parameters that are validated
//! after the response, deleted names that cannot be reused at once, racing writers, and users of images that only complete lists show.

#![expect(clippy::unwrap_used, reason = "a test stops at the first failure")]

use std::collections::BTreeSet;
use std::sync::{Arc, Barrier};

use aws_sdk_ec2::types::RequestLaunchTemplateData;
use xtask::channel::{Target, claim};
use xtask::cloud::{BuilderKind, Cloud as _, Image, ImageId, Kind, Start};
use xtask::error::plain;
use xtask::ids::RunId;
use xtask::ledger::Call;
use xtask::state::{Run, RunRequest, State};
use xtask_aws::cloud::Ec2;
use xtask_aws::drive::Driver;

mod support;
#[path = "support/settings.rs"]
mod settings;
#[path = "support/account.rs"]
mod account;
use account::{REGIONS, capture};
use settings::{settings, source};
use support::{Fault, Moto, Plan, clients, owner};

const HOME: &str = REGIONS[0];
const AWAY: &str = REGIONS[1];
const POINTER: &str = "/locus/ami/locus-agent/staging";

/// An account at an endpoint with these semantics.
struct World {
    moto: Moto,
    driver: Arc<Driver>,
    dir: tempfile::TempDir,
}

impl World {
    fn new(env: &[(&str, &str)]) -> Self {
        let driver = Arc::new(Driver::new().unwrap());
        Self { moto: Moto::start_with(env), driver, dir: tempfile::tempdir().unwrap() }
    }

    fn state(&self) -> State {
        State::open(self.dir.path().join("state")).unwrap()
    }

    fn run(&self) -> Arc<Run> {
        Arc::new(self.state().begin_run(RunRequest { command: "test", words: &[], on: "aws" }).unwrap())
    }

    fn provider(&self, run: &Arc<Run>, plans: Vec<Plan>) -> Ec2 {
        let clients = clients(&self.moto.url, plans);
        Ec2::new(Arc::clone(&self.driver), &clients, settings(&REGIONS), &self.state(), Some(Arc::clone(run)))
    }

    fn ec2(&self) -> Ec2 {
        self.provider(&self.run(), Vec::new())
    }

    fn image(&self, ec2: &Ec2) -> Image {
        let source = source();
        let base = ec2.base(&source, &|_| {}).unwrap();
        let start = Start { builder: BuilderKind::Instance, source: &source, base: &base, from: None, next: None };
        let machine = ec2.begin(start, &|_| {}).unwrap();
        ec2.capture(machine, &base, &capture(&source), &|_| {}).unwrap()
    }

    fn calls(&self, run: &Run, action: &str) -> Vec<Call> {
        let mut calls = self.state().ledger().calls(run.id()).unwrap();
        calls.retain(|call| call.action == action);
        calls
    }
}

/// Copies to one region.
fn copied(ec2: &Ec2, image: &Image) -> xtask::error::Result<Image> {
    let mut result = None;
    ec2.copy(image, &[AWAY.into()], &|_, _, _| {}, &mut |copied| {
        result = Some(copied.result.map(|(copy, _)| copy));
        Ok(())
    })
    .unwrap();
    result.unwrap()
}

#[test]
fn a_deregistered_copy_is_created_again_with_another_token() {
    let world = World::new(&[]);
    let (first, second) = (world.run(), world.run());
    let ec2 = world.provider(&first, Vec::new());
    let image = world.image(&ec2);
    let deleted = copied(&ec2, &image).unwrap();
    ec2.delete(&deleted).unwrap();
    // The same run repeats its token, gets the id of an image that never becomes visible, and creates another copy.
    let again = copied(&ec2, &image).unwrap();
    assert_ne!(again.id, deleted.id);
    ec2.delete(&again).unwrap();
    let other = copied(&world.provider(&second, Vec::new()), &image).unwrap();
    assert!(![&deleted.id, &again.id].contains(&&other.id));
    let tokens: Vec<_> = world.calls(&first, "ec2:CopyImage").into_iter().map(|call| call.token).collect();
    assert_eq!(tokens[0], tokens[1], "a repeated call has the same token");
    assert!(!tokens.contains(&world.calls(&second, "ec2:CopyImage")[0].token), "another run has another token");
}

#[test]
fn a_token_that_belongs_to_another_call_is_not_used_again() {
    let world = World::new(&[]);
    let run = world.run();
    let image = world.image(&world.ec2());
    let mismatch = Plan::next("CopyImage", 1, Fault::Refuse(400, "IdempotentParameterMismatch"));
    copied(&world.provider(&run, vec![mismatch]), &image).unwrap();
    let tokens: BTreeSet<_> = world.calls(&run, "ec2:CopyImage").into_iter().map(|call| call.token).collect();
    assert_eq!(tokens.len(), 2);
}

#[test]
fn an_exceeded_quota_ends_a_copy_at_once_and_is_named() {
    let world = World::new(&[]);
    let run = world.run();
    let image = world.image(&world.ec2());
    let full = Plan::next("CopyImage", 1000, Fault::Refuse(400, "SnapshotLimitExceeded"));
    let error = copied(&world.provider(&run, vec![full]), &image).unwrap_err();
    assert!(plain(&error).contains("Snapshots per Region"), "{}", plain(&error));
    assert_eq!(world.calls(&run, "ec2:CopyImage").len(), 1);
}

#[test]
fn a_copy_in_progress_belongs_to_the_copying_run_and_has_an_expiry() {
    let world = World::new(&[]);
    let (built, copying) = (world.run(), world.run());
    let image = world.image(&world.provider(&built, Vec::new()));
    let copy = copied(&world.provider(&copying, Vec::new()), &image).unwrap();
    assert_eq!(copy.run, *built.id(), "the run that built its source");
    let pending = || Fault::Rewrite("<imageState>available</imageState>", "<imageState>pending</imageState>");
    let reader = world.provider(&world.run(), vec![Plan::next("DescribeImages", 1000, pending())]);
    let left = reader.orphans().unwrap();
    let found = left.iter().find(|l| l.kind == Kind::UnfinishedImage && l.region == AWAY).unwrap();
    assert_eq!((found.id.as_str(), found.run.as_ref()), (copy.id.0.as_str(), Some(copying.id())));
    let expires: jiff::Timestamp = found.expires.as_ref().unwrap().parse().unwrap();
    assert!(expires > jiff::Timestamp::now());
    // The copy was in progress when it was found, and is available since: it is not removed.
    let error = world.ec2().remove_orphan(found).unwrap_err();
    assert!(error.to_string().contains("is available now"), "{error}");
}

#[test]
fn a_write_has_succeeded_only_when_it_can_be_read_back() {
    let world = World::new(&[("SSM_ASYNC_SECONDS", "0.5")]);
    let ec2 = world.ec2();
    let (first, second) = (world.image(&ec2), "text");
    ec2.put_parameter(&HOME.into(), POINTER, &first.id.0, None).unwrap();
    let there = ec2.parameter(&HOME.into(), POINTER).unwrap().unwrap();
    assert_eq!((there.value.as_str(), there.version), (first.id.0.as_str(), 1));
    ec2.put_parameter(&HOME.into(), "/locus/ami/text", second, None).unwrap();
    let error = ec2.put_parameter(&HOME.into(), "/locus/ami/none", "ami-0123456789abcdef0", None).unwrap_err();
    assert!(plain(&error).contains("did not accept ami-0123456789abcdef0"), "{}", plain(&error));
    assert!(plain(&error).contains("Parameter Store Change"), "{}", plain(&error));
}

#[test]
fn a_write_waits_until_a_deleted_name_can_be_used_again() {
    let world = World::new(&[("SSM_NAME_SECONDS", "0.7")]);
    let ec2 = world.ec2();
    ec2.put_parameter(&HOME.into(), "/locus/ami/text", "one", None).unwrap();
    ec2.delete_parameter(&HOME.into(), "/locus/ami/text").unwrap();
    ec2.put_parameter(&HOME.into(), "/locus/ami/text", "two", None).unwrap();
    assert_eq!(ec2.parameter(&HOME.into(), "/locus/ami/text").unwrap().unwrap().value, "two");
}

#[test]
fn a_released_claim_can_be_taken_again_at_once() {
    let world = World::new(&[("SSM_NAME_SECONDS", "30")]);
    let ec2 = world.ec2();
    let target = Target {
        name: "staging".into(),
        image: "locus-agent".to_owned(),
        prefix: Some("/locus/ami".to_owned()),
        ..Target::default()
    };
    for run in ["run-1", "run-2", "run-3"].map(RunId::from) {
        claim::take(&ec2, &target, &run, "ann").unwrap();
        assert_eq!(claim::held(&ec2, &target).unwrap().unwrap().run.as_ref(), Some(&run));
        let error = claim::take(&ec2, &target, &"run-9".into(), "bob").unwrap_err();
        assert!(error.to_string().contains(run.as_str()), "{error}");
        claim::release(&ec2, &target, &"run-9".into()).unwrap();
        assert!(claim::held(&ec2, &target).unwrap().is_some(), "the claim of another run is not released");
        claim::release(&ec2, &target, &run).unwrap();
        assert_eq!(claim::held(&ec2, &target).unwrap(), None);
    }
}

#[test]
fn of_several_writers_at_the_same_version_at_most_one_succeeds() {
    const WRITERS: usize = 4;
    let world = World::new(&[("LATENCY_MS", "30")]);
    let before = world.ec2();
    before.put_parameter(&HOME.into(), "/locus/ami/text", "before", None).unwrap();
    for round in 0..10 {
        let version = before.parameter(&HOME.into(), "/locus/ami/text").unwrap().unwrap().version;
        let barrier = Barrier::new(WRITERS);
        let won: Vec<bool> = std::thread::scope(|scope| {
            let write = |n: usize| {
                let (world, barrier) = (&world, &barrier);
                move || {
                    let driver = Arc::new(Driver::new().unwrap());
                    let clients = clients(&world.moto.url, Vec::new());
                    let ec2 = Ec2::new(driver, &clients, settings(&REGIONS), &world.state(), Some(world.run()));
                    barrier.wait();
                    ec2.put_parameter(&HOME.into(), "/locus/ami/text", &format!("{round} of {n}"), Some(version))
                        .is_ok()
                }
            };
            let writers: Vec<_> = (0..WRITERS).map(|n| scope.spawn(write(n))).collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        let winners: Vec<usize> = (0..WRITERS).filter(|n| won[*n]).collect();
        assert!(winners.len() <= 1, "round {round}: {winners:?} all succeeded");
        if let [winner] = winners[..] {
            let there = before.parameter(&HOME.into(), "/locus/ami/text").unwrap().unwrap();
            assert_eq!(there.value, format!("{round} of {winner}"), "the other writers restored its value");
        }
    }
}

#[test]
fn auto_scaling_groups_without_instances_are_users() {
    let world = World::new(&[]);
    let ec2 = world.ec2();
    let (pinned, configured, unused) = (world.image(&ec2), ImageId("ami-0configured".to_owned()), "ami-0newest");
    let raw = owner(&world.moto.url);
    let (raw_ec2, groups) = (raw.ec2(HOME), raw.autoscaling(HOME));
    world.driver.finish(async {
        let data = |id: &str| RequestLaunchTemplateData::builder().image_id(id).build();
        let call =
            raw_ec2.create_launch_template().launch_template_name("agents").launch_template_data(data(&pinned.id.0));
        let template = call.send().await.unwrap().launch_template().unwrap().launch_template_id().unwrap().to_owned();
        let call = raw_ec2.create_launch_template_version().launch_template_id(&template);
        call.launch_template_data(data(unused)).send().await.unwrap();
        raw_ec2.modify_launch_template().launch_template_id(&template).default_version("2").send().await.unwrap();
        let version = aws_sdk_autoscaling::types::LaunchTemplateSpecification::builder();
        let version = version.launch_template_id(&template).version("1").build();
        let group = |name: &str| {
            let group =
                groups.create_auto_scaling_group().auto_scaling_group_name(name).availability_zones("us-east-1a");
            group.min_size(0).max_size(5).desired_capacity(0)
        };
        group("workers").launch_template(version).send().await.unwrap();
        let call = groups.create_launch_configuration().launch_configuration_name("old").instance_type("t3.micro");
        call.image_id(&configured.0).send().await.unwrap();
        group("old-workers").launch_configuration_name("old").send().await.unwrap();
    });
    assert_eq!(ec2.users(&pinned).unwrap(), ["launch template agents version 1 of Auto Scaling group workers"]);
    let configured = Image { id: configured, ..pinned };
    assert_eq!(ec2.users(&configured).unwrap(), ["launch configuration old of Auto Scaling group old-workers"]);
}

#[test]
fn a_recently_launched_image_is_in_use_after_its_instances_are_terminated() {
    let world = World::new(&[]);
    let ec2 = world.ec2();
    let image = world.image(&ec2);
    assert_eq!(ec2.users(&image).unwrap(), [""; 0]);
    let raw = owner(&world.moto.url).ec2(HOME);
    world.driver.finish(async {
        let call = raw.run_instances().image_id(&image.id.0).min_count(1).max_count(1);
        let id = call.send().await.unwrap().instances()[0].instance_id().unwrap().to_owned();
        raw.terminate_instances().instance_ids(id).send().await.unwrap();
    });
    let users = ec2.users(&image).unwrap();
    assert!(users.len() == 1 && users[0].starts_with("a launch at "), "{users:?}");
}

#[test]
fn a_readable_string_parameter_that_is_an_id_refers_to_the_image() {
    let world = World::new(&[]);
    let ec2 = world.ec2();
    let raw = owner(&world.moto.url).ssm(HOME);
    let put = |name: &str| raw.put_parameter().name(name).value("ami-0123456789abcdef0").r#type("String".into()).send();
    world.driver.finish(put("/locus/app/image")).unwrap();
    world.driver.finish(put("/app/image")).unwrap();
    let id = ImageId("ami-0123456789abcdef0".to_owned());
    assert_eq!(ec2.parameters(&HOME.into()).unwrap(), [("/locus/app/image".to_owned(), id)]);
}

#[test]
fn an_unreadable_parameter_is_found_by_ec2_or_counts_as_a_user() {
    let world = World::new(&[]);
    let ec2 = world.ec2();
    let image = world.image(&ec2);
    let raw = owner(&world.moto.url).ssm(HOME);
    let put = raw.put_parameter().name("/app/image").value(&image.id.0).r#type("String".into());
    world.driver.finish(put.data_type("aws:ec2:image").send()).unwrap();
    assert_eq!(ec2.parameters(&HOME.into()).unwrap(), []);
    let users = ec2.users(&image).unwrap();
    assert!(users.len() == 1 && users[0].contains("parameter/app/image"), "{users:?}");
    let denied = Plan::next("DescribeImageReferences", 1, Fault::Refuse(403, "UnauthorizedOperation"));
    let users = world.provider(&world.run(), vec![denied]).users(&image).unwrap();
    assert!(
        users.len() == 1 && users[0].starts_with("possibly EC2's image references, which cannot be read"),
        "{users:?}"
    );
    let unknown = Plan::next("DescribeImageReferences", 1, Fault::Refuse(400, "InvalidAction"));
    let without = world.provider(&world.run(), vec![unknown]);
    assert_eq!(without.users(&image).unwrap(), ["possibly parameter /app/image, which this identity may not read"]);
    assert!(without.caveats()[0].contains("EC2 Image Builder"), "{:?}", without.caveats());
}

#[test]
fn the_image_of_a_channel_cannot_be_deregistered_for_a_day() {
    let world = World::new(&[("COOLDOWN_SECONDS", "60")]);
    let ec2 = world.ec2();
    let image = world.image(&ec2);
    ec2.protect(&image).unwrap();
    let error = ec2.delete(&image).unwrap_err();
    assert!(error.to_string().contains("24 hours"), "{error}");
    assert_eq!(ec2.images(&HOME.into()).unwrap().len(), 1);
}

#[test]
fn a_disabled_image_is_complete_and_cannot_be_used() {
    let world = World::new(&[]);
    let ec2 = world.ec2();
    let image = world.image(&ec2);
    ec2.usable(&image).unwrap();
    ec2.disable(&image).unwrap();
    ec2.disable(&image).unwrap();
    // The image is listed, and neither the image nor its snapshot is an orphan.
    assert_eq!(ec2.images(&HOME.into()).unwrap().len(), 1);
    assert!(!ec2.orphans().unwrap().iter().any(|left| matches!(left.kind, Kind::UnfinishedImage | Kind::Snapshot)));
    for refused in [ec2.usable(&image).unwrap_err(), ec2.launchable(&image).unwrap_err()] {
        assert!(plain(&refused).contains("aws ec2 enable-image"), "{}", plain(&refused));
    }
    ec2.delete(&image).unwrap();
    assert!(ec2.images(&HOME.into()).unwrap().is_empty());
}

//! The provider with an EC2 in this process (winterbaume) and virtual time: the timeouts of production, in which hours pass in
//! milliseconds.

#![expect(clippy::unwrap_used, reason = "a test stops at the first failure")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_sdk_ec2::types::{BlockDeviceMapping, EbsBlockDevice};
use tokio::time::Instant;
use winterbaume_core::MockAws;
use winterbaume_ec2::Ec2Service;
use winterbaume_sts::StsService;
use xtask::error::{Error, Exit, plain};
use xtask::ids::Region;
use xtask_aws::amazon_ebs_source::AmazonEbsSource;
use xtask_aws::clients::Clients;
use xtask_aws::drive::Driver;
use xtask_aws::wait::{Patience, WaitError};
use xtask_aws::{image, preflight};

mod support;
#[path = "support/settings.rs"]
mod settings;
use support::{Fault, Plan, clients_over};

/// More calls than any test makes.
const ALWAYS: usize = usize::MAX / 2;

/// A driver with a paused clock, which advances only while every task waits.
fn driver() -> Driver {
    Driver::over(tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap())
}

/// An account in this process with one image.
struct Account {
    mock: MockAws,
    clients: Clients,
    /// A region of this test alone: the SDK's adaptive retries slow down all calls to a region in which any call was throttled.
    region: Region,
    image: String,
}

impl Account {
    fn new(driver: &Driver, plans: Vec<Plan>) -> Self {
        static REGIONS: AtomicUsize = AtomicUsize::new(1);
        let region = Region::from(format!("us-test{}-1", REGIONS.fetch_add(1, Ordering::Relaxed)));
        let mock = MockAws::builder().with_service(Ec2Service::new()).with_service(StsService::new()).build();
        driver.finish(async {
            let disk = BlockDeviceMapping::builder()
                .device_name("/dev/sda1")
                .ebs(EbsBlockDevice::builder().snapshot_id("snap-1").volume_size(20).build())
                .build();
            let ec2 = clients_over(mock.http_client(), Vec::new()).ec2(&region);
            let call = ec2.register_image().name("one").root_device_name("/dev/sda1").block_device_mappings(disk);
            let image = call.send().await.unwrap().image_id().unwrap().to_owned();
            Self { clients: clients_over(mock.http_client(), plans), mock, region, image }
        })
    }

    /// Replaces the injected faults.
    fn inject(&mut self, plans: Vec<Plan>) {
        self.clients = clients_over(self.mock.http_client(), plans);
    }
}

/// Waits for the image with the timeouts of production; returns the result and the time waited.
fn waited(plans: Vec<Plan>) -> (Result<String, WaitError>, Duration) {
    let driver = driver();
    let account = Account::new(&driver, plans);
    driver.finish(async {
        let started = Instant::now();
        let ec2 = account.clients.ec2(&account.region);
        let result = image::available(&ec2, &account.image, Patience::IMAGE, &|_| {}).await;
        (result.map(|ami| ami.image_id().unwrap().to_owned()), started.elapsed())
    })
}

fn pending() -> Fault {
    Fault::Rewrite("<imageState>[a-z]+</imageState>", "<imageState>pending</imageState>")
}

fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

#[test]
fn an_image_that_takes_an_hour_is_waited_for() {
    // One poll every 15 seconds.
    let (result, took) = waited(vec![Plan::next("DescribeImages", 240, pending())]);
    result.unwrap();
    assert!(took > minutes(45) && took < minutes(80), "{took:?}");
}

#[test]
fn an_image_that_stays_pending_fails_at_the_timeout() {
    let (result, took) = waited(vec![Plan::next("DescribeImages", ALWAYS, pending())]);
    assert!(matches!(result, Err(WaitError::Deadline(_, last)) if last == "pending"));
    assert!(took >= minutes(90) && took < minutes(92), "{took:?}");
}

#[test]
fn an_image_that_stays_invisible_fails_after_five_minutes() {
    let unseen = || Fault::Rewrite("(?s)<imagesSet>.*</imagesSet>", "<imagesSet/>");
    let (result, took) = waited(vec![Plan::next("DescribeImages", ALWAYS, unseen())]);
    assert!(matches!(result, Err(WaitError::Missing(_))));
    assert!(took >= minutes(5) && took < minutes(6), "{took:?}");
    let (result, _) = waited(vec![Plan::next("DescribeImages", 12, unseen())]);
    result.unwrap();
}

#[test]
fn throttling_and_an_unreachable_endpoint_are_retried() {
    let throttled = || Fault::Refuse(503, "RequestLimitExceeded");
    let (result, took) = waited(vec![Plan::next("DescribeImages", 60, throttled())]);
    result.unwrap();
    assert!(took > minutes(3), "the SDK's own retries did not slow down: {took:?}");
    let (result, _) = waited(vec![Plan::next("DescribeImages", 60, Fault::HangUpBefore)]);
    result.unwrap();
}

#[test]
fn a_call_without_a_response_times_out_and_is_retried() {
    let (result, took) = waited(vec![Plan::next("DescribeImages", 2, Fault::Slow(minutes(600)))]);
    result.unwrap();
    assert!(took < minutes(10), "{took:?}");
}

#[test]
fn a_token_that_expires_meanwhile_is_a_precondition_with_a_hint() {
    let (result, _) = waited(vec![Plan::next("DescribeImages", ALWAYS, Fault::Refuse(400, "RequestExpired")).after(5)]);
    // Two positive polls are enough, so the fault in the sixth call never applies.
    result.unwrap();
    let plans = vec![
        Plan::next("DescribeImages", 5, pending()),
        Plan::next("DescribeImages", ALWAYS, Fault::Refuse(400, "RequestExpired")),
    ];
    let (result, _) = waited(plans);
    let error = result.unwrap_err().into_error("ami-1");
    assert_eq!(error.exit(), Exit::Precondition);
    assert!(plain(&error).contains("aws sso login"), "{}", plain(&error));
}

/// The result of the preflight where these calls are denied.
fn checked(denied: &[&'static str], accounts: &[&str]) -> Result<String, Error> {
    let permit = |action| Plan::next(action, ALWAYS, Fault::Refuse(412, "DryRunOperation"));
    let deny = |action| Plan::next(action, ALWAYS, Fault::Refuse(403, "UnauthorizedOperation"));
    let actions =
        ["ImportKeyPair", "CreateSecurityGroup", "RunInstances", "CreateImage", "CreateTags", "DeregisterImage"];
    let plans = actions.into_iter().map(|action| if denied.contains(&action) { deny(action) } else { permit(action) });
    let driver = driver();
    let mut account = Account::new(&driver, Vec::new());
    // The region exists only in this test. The first DescribeImages is for the base image, the second one is a DryRun.
    let regions = format!(
        "<regionInfo><item><regionName>{}</regionName><optInStatus>opted-in</optInStatus></item></regionInfo>",
        account.region
    );
    let subnets = "<subnetSet><item><subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId></item></subnetSet>";
    let plans = plans.chain([
        Plan::next("DescribeRegions", ALWAYS, Fault::Rewrite("(?s)<regionInfo.*</regionInfo>", regions.leak())),
        Plan::next("DescribeSubnets", ALWAYS, Fault::Rewrite("(?s)<subnetSet(/>|.*</subnetSet>)", subnets)),
        Plan::next("GetServiceQuota", ALWAYS, Fault::Refuse(400, "NoSuchResourceException")),
        Plan::next("DescribeImages", 1, Fault::Refuse(412, "DryRunOperation")).after(1),
    ]);
    account.inject(plans.collect());
    let mut settings = settings::settings(&[&account.region]);
    settings.accounts = accounts.iter().map(|a| (*a).to_owned()).collect();
    let mut ebs_source = AmazonEbsSource::read(&settings::source()).unwrap();
    ebs_source.region.clone_from(&account.region);
    ebs_source.source_ami = Some(account.image.clone());
    ebs_source.source_ami_filter.clear();
    preflight::check(&driver, &account.clients, &settings, &account.region, &ebs_source)
}

#[test]
fn the_preflight_reports_all_problems_at_once() {
    let error = checked(&["RunInstances", "CreateImage"], &["999999999999"]).unwrap_err();
    assert_eq!(error.exit(), Exit::Precondition);
    let text: String = plain(&error).split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    for expected in [
        "`accounts` in ami.toml",
        "allow ec2:RunInstances for this identity",
        "allow ec2:CreateImage for this identity",
    ] {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
    assert!(!text.contains("ec2:ImportKeyPair"), "{text}");
}

#[test]
fn the_preflight_returns_the_identity() {
    let identity = checked(&[], &[]).unwrap();
    assert!(identity.starts_with("working as arn:aws:"), "{identity}");
}

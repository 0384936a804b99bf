//! The provider over an EC2 in this process (winterbaume), in virtual time: the patience of every day, and hours pass in milliseconds.

#![expect(clippy::unwrap_used, reason = "a test stops where it cannot go on")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_sdk_ec2::types::{BlockDeviceMapping, EbsBlockDevice};
use tokio::time::Instant;
use winterbaume_core::MockAws;
use winterbaume_ec2::Ec2Service;
use winterbaume_sts::StsService;
use xtask::error::{Error, Exit, plain};
use xtask_aws::amazon_ebs_source::AmazonEbsSource;
use xtask_aws::clients::Clients;
use xtask_aws::drive::Driver;
use xtask_aws::wait::{GaveUp, Patience};
use xtask_aws::{image, preflight};

mod support;
#[path = "support/settings.rs"]
mod settings;
use support::{Plan, Strike, clients_over};

/// For ever, as far as a test lives.
const ALWAYS: usize = usize::MAX / 2;

/// A driver whose clock stands still until everybody waits.
fn driver() -> Driver {
    Driver::over(tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap())
}

/// An account in this process with one image.
struct Account {
    mock: MockAws,
    clients: Clients,
    /// One that no other test asks: the SDK slows down for a whole region, whoever it was that was throttled there.
    region: String,
    image: String,
}

impl Account {
    fn new(driver: &Driver, plans: Vec<Plan>) -> Self {
        static REGIONS: AtomicUsize = AtomicUsize::new(1);
        let region = format!("us-test{}-1", REGIONS.fetch_add(1, Ordering::Relaxed));
        let mock = MockAws::builder().with_service(Ec2Service::new()).with_service(StsService::new()).build();
        driver.finish(async {
            let disk = BlockDeviceMapping::builder()
                .device_name("/dev/sda1")
                .ebs(EbsBlockDevice::builder().snapshot_id("snap-1").volume_size(20).build())
                .build();
            let untouched = clients_over(mock.http_client(), Vec::new()).ec2(&region);
            let call = untouched.register_image().name("one").root_device_name("/dev/sda1").block_device_mappings(disk);
            let image = call.send().await.unwrap().image_id().unwrap().to_owned();
            Self { clients: clients_over(mock.http_client(), plans), mock, region, image }
        })
    }

    /// Other faults from here on.
    fn strike(&mut self, plans: Vec<Plan>) {
        self.clients = clients_over(self.mock.http_client(), plans);
    }
}

/// Waits for the image with the patience of every day; returns how it ended and how long that took.
fn waited(plans: Vec<Plan>) -> (Result<String, GaveUp>, Duration) {
    let driver = driver();
    let account = Account::new(&driver, plans);
    driver.finish(async {
        let started = Instant::now();
        let ec2 = account.clients.ec2(&account.region);
        let result = image::available(&ec2, &account.image, Patience::IMAGE, &|_| {}).await;
        (result.map(|ami| ami.image_id().unwrap().to_owned()), started.elapsed())
    })
}

fn pending() -> Strike {
    Strike::Rewrite("<imageState>[a-z]+</imageState>", "<imageState>pending</imageState>")
}

fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

#[test]
fn an_image_that_takes_an_hour_is_waited_for() {
    // A look every quarter of a minute.
    let (result, took) = waited(vec![Plan::next("DescribeImages", 240, pending())]);
    result.unwrap();
    assert!(took > minutes(45) && took < minutes(80), "{took:?}");
}

#[test]
fn one_that_takes_for_ever_is_given_up_at_the_deadline() {
    let (result, took) = waited(vec![Plan::next("DescribeImages", ALWAYS, pending())]);
    assert!(matches!(result, Err(GaveUp::Deadline(_, last)) if last == "pending"));
    assert!(took >= minutes(90) && took < minutes(92), "{took:?}");
}

#[test]
fn one_that_nobody_sees_is_given_up_after_five_minutes() {
    let unseen = || Strike::Rewrite("(?s)<imagesSet>.*</imagesSet>", "<imagesSet/>");
    let (result, took) = waited(vec![Plan::next("DescribeImages", ALWAYS, unseen())]);
    assert!(matches!(result, Err(GaveUp::Missing(_))));
    assert!(took >= minutes(5) && took < minutes(6), "{took:?}");
    let (result, _) = waited(vec![Plan::next("DescribeImages", 12, unseen())]);
    result.unwrap();
}

#[test]
fn ten_minutes_of_throttling_and_an_endpoint_that_is_away_are_survived() {
    let throttled = || Strike::Refuse(503, "RequestLimitExceeded");
    let (result, took) = waited(vec![Plan::next("DescribeImages", 60, throttled())]);
    result.unwrap();
    assert!(took > minutes(3), "the SDK's own retries did not slow down: {took:?}");
    let (result, _) = waited(vec![Plan::next("DescribeImages", 60, Strike::HangUpBefore)]);
    result.unwrap();
}

#[test]
fn an_answer_that_takes_for_ever_is_cut_off_and_asked_again() {
    let (result, took) = waited(vec![Plan::next("DescribeImages", 2, Strike::Slow(minutes(600)))]);
    result.unwrap();
    assert!(took < minutes(10), "{took:?}");
}

#[test]
fn a_token_that_ends_in_the_middle_is_a_precondition_that_says_what_to_do() {
    let (result, _) =
        waited(vec![Plan::next("DescribeImages", ALWAYS, Strike::Refuse(400, "RequestExpired")).after(5)]);
    // Two good answers are enough: it never meets the sixth.
    result.unwrap();
    let plans = vec![
        Plan::next("DescribeImages", 5, pending()),
        Plan::next("DescribeImages", ALWAYS, Strike::Refuse(400, "RequestExpired")),
    ];
    let (result, _) = waited(plans);
    let error = result.unwrap_err().told("ami-1");
    assert_eq!(error.exit(), Exit::Precondition);
    assert!(plain(&error).contains("aws sso login"), "{}", plain(&error));
}

/// What the preflight says where these calls are refused.
fn checked(refused: &[&'static str], accounts: &[&str]) -> Result<String, Error> {
    let would = |action| Plan::next(action, ALWAYS, Strike::Refuse(412, "DryRunOperation"));
    let denied = |action| Plan::next(action, ALWAYS, Strike::Refuse(403, "UnauthorizedOperation"));
    let asked =
        ["ImportKeyPair", "CreateSecurityGroup", "RunInstances", "CreateImage", "CreateTags", "DeregisterImage"];
    let plans = asked.into_iter().map(|action| if refused.contains(&action) { denied(action) } else { would(action) });
    let driver = driver();
    let mut account = Account::new(&driver, Vec::new());
    // The region is the test's own. The first look at images is for the base; the second one is a DryRun.
    let regions = format!(
        "<regionInfo><item><regionName>{}</regionName><optInStatus>opted-in</optInStatus></item></regionInfo>",
        account.region
    );
    let subnets = "<subnetSet><item><subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId></item></subnetSet>";
    let plans = plans.chain([
        Plan::next("DescribeRegions", ALWAYS, Strike::Rewrite("(?s)<regionInfo.*</regionInfo>", regions.leak())),
        Plan::next("DescribeSubnets", ALWAYS, Strike::Rewrite("(?s)<subnetSet(/>|.*</subnetSet>)", subnets)),
        Plan::next("GetServiceQuota", ALWAYS, Strike::Refuse(400, "NoSuchResourceException")),
        Plan::next("DescribeImages", 1, Strike::Refuse(412, "DryRunOperation")).after(1),
    ]);
    account.strike(plans.collect());
    let mut settings = settings::settings(&[&account.region]);
    settings.accounts = accounts.iter().map(|a| (*a).to_owned()).collect();
    let mut ebs_source = AmazonEbsSource::read(&settings::source()).unwrap();
    ebs_source.source_ami.clone_from(&account.image);
    ebs_source.source_ami_filter.clear();
    preflight::check(&driver, &account.clients, &settings, &account.region, &ebs_source)
}

#[test]
fn the_preflight_tells_all_that_is_wrong_at_once() {
    let error = checked(&["RunInstances", "CreateImage"], &["999999999999"]).unwrap_err();
    assert_eq!(error.exit(), Exit::Precondition);
    let text: String = plain(&error).split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    for wanted in
        ["`accounts` in ami.toml", "let the identity do ec2:RunInstances", "let the identity do ec2:CreateImage"]
    {
        assert!(text.contains(wanted), "{wanted} is not in {text}");
    }
    assert!(!text.contains("ec2:ImportKeyPair"), "{text}");
}

#[test]
fn the_preflight_says_who_we_are() {
    let who = checked(&[], &[]).unwrap();
    assert!(who.starts_with("working as arn:aws:"), "{who}");
}

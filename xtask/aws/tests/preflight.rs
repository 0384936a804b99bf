//! The preflight: finds all problems of all regions at once, before anything is created. An endpoint that ignores DryRun is refused.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first failure")]

use std::fs;
use std::path::Path;

use aws_sdk_ec2::config::SharedHttpClient;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use xtask::cli::Job;
use xtask::cloud::{BuilderKind, Cloud as _, Start};
use xtask::error::{Error, Exit, plain};
use xtask::partition::Partition;
use xtask::process::{Cmd, Finished};
use xtask_aws::amazon_ebs_source::AmazonEbsSource;
use xtask_aws::clients::{Clients, http_client};
use xtask_aws::policy::{Key, Scope, policy};
use xtask_aws::preflight;
use xtask_aws::settings::Settings;

mod support;
#[path = "support/settings.rs"]
mod settings;
#[path = "support/account.rs"]
mod account;
use account::{Account, REGIONS};
use settings::{settings, source};
use support::{Fault, Moto, Plan, clients, clients_over, owner, root};

const ALWAYS: usize = usize::MAX / 2;

fn checked(account: &Account, clients: &Clients, settings: &Settings) -> Result<String, Error> {
    let ebs_source = AmazonEbsSource::read(&source()).unwrap();
    preflight::check(&account.driver, clients, settings, &REGIONS[0].into(), &ebs_source)
}

fn denied(action: &'static str) -> Plan {
    Plan::next(action, ALWAYS, Fault::Refuse(403, "UnauthorizedOperation"))
}

#[test]
fn a_preflight_without_problems_creates_nothing() {
    let account = Account::new();
    let clients = clients(&account.moto.url, Vec::new());
    let settings = Settings { prefixes: vec!["/agent-ami".to_owned()], ..settings(&REGIONS) };
    let identity = checked(&account, &clients, &settings).unwrap();
    assert!(identity.starts_with("working as arn:aws:"), "{identity}");
    account.assert_left(&[]);
    // Every region was checked, the home region also for a builder.
    let counts = clients.calls().counts();
    let times = |action: &str| counts.get(action).copied().unwrap_or_default();
    assert_eq!((times("ec2:CopyImage"), times("ssm:GetParameter"), times("ec2:RunInstances")), (3, 4, 1), "{counts:?}");
}

#[test]
fn the_problems_of_all_regions_are_reported_at_once_each_with_its_fix() {
    let account = Account::new();
    let closed = Fault::Rewrite(
        "<optInStatus>[^<]*</optInStatus>(\\s*)<regionName>ap-southeast-1</regionName>",
        "<optInStatus>not-opted-in</optInStatus>$1<regionName>ap-southeast-1</regionName>",
    );
    let empty = Fault::Rewrite("(?s)<subnetSet>.*</subnetSet>", "<subnetSet/>");
    let plans = vec![
        Plan::next("DescribeRegions", ALWAYS, closed),
        Plan::next("DescribeSubnets", ALWAYS, empty),
        denied("RunInstances"),
        denied("CopyImage").only_in("eu-west-1"),
    ];
    let clients = clients(&account.moto.url, plans);
    let settings = Settings { accounts: vec!["999999999999".to_owned()], ..settings(&REGIONS) };
    let error = checked(&account, &clients, &settings).unwrap_err();
    assert_eq!(error.exit(), Exit::Precondition);
    let text: String = plain(&error).split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    for expected in [
        "`accounts` in ami.toml does not list",
        "ap-southeast-1: the region is not enabled for this account: run `aws account enable-region",
        "us-east-1: the account has no default subnet: set `build_subnet_id`",
        "us-east-1: ec2:RunInstances was refused: UnauthorizedOperation",
        "eu-west-1: ec2:CopyImage was refused: UnauthorizedOperation",
        "allow ec2:CopyImage for this identity",
    ] {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
    assert!(!text.contains("us-west-2:"), "{text}");
    account.assert_left(&[]);
}

/// The text of an error in one line, without the frame of its lines.
fn words(error: &Error) -> String {
    plain(error).split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

#[test]
fn an_exhausted_quota_is_found_before_the_build() {
    let full = [("QUOTA_AMIS", "0"), ("QUOTA_VCPUS", "1")];
    let account = Account::at(Moto::start_with(&full));
    let error = checked(&account, &clients(&account.moto.url, Vec::new()), &settings(&REGIONS)).unwrap_err();
    assert_eq!(error.exit(), Exit::Precondition);
    let text = words(&error);
    for region in REGIONS {
        assert!(text.contains(&format!("{region}: the quota \"AMIs\" is 0, ")), "{text}");
    }
    assert!(text.contains("us-east-1: the quota \"Running On-Demand Standard"), "{text}");
    assert!(text.contains("is 1, 0 are used, and 2 more are needed"), "{text}");
    account.assert_left(&[]);
}

#[test]
fn a_key_that_cannot_encrypt_is_found_before_the_build() {
    let policies = [policy(
        &[Job::All],
        &Scope { keys: keys().to_vec(), prefixes: Vec::new(), ..Scope::full(Partition::Commercial) },
    )];
    let account = Account::at(Moto::under(&policies, &[("KMS_KEYS", "us-west-2:alias/ours,eu-west-1:alias/ours")]));
    let kms = owner(&account.moto.url).kms("eu-west-1");
    account.driver.finish(async {
        let id = kms.describe_key().key_id("alias/ours").send().await.unwrap();
        kms.disable_key().key_id(id.key_metadata().unwrap().key_id()).send().await.unwrap();
    });
    let kms_keys = keys().map(|key| (key.region, key.id)).into();
    let settings = Settings { kms_keys, ..settings(&REGIONS) };
    let text = words(&checked(&account, &clients(&account.moto.url, Vec::new()), &settings).unwrap_err());
    assert!(text.contains("eu-west-1: KMS key alias/ours is Disabled"), "{text}");
    assert!(text.contains("ap-southeast-1: KMS key alias/ours does not exist"), "{text}");
    assert!(!text.contains("us-west-2:"), "{text}");
    account.assert_left(&[]);
}

fn keys() -> [Key; 3] {
    ["us-west-2", "eu-west-1", "ap-southeast-1"]
        .map(|region| Key { region: region.into(), id: "alias/ours".to_owned() })
}

#[test]
fn a_best_effort_region_does_not_stop_a_release() {
    let account = Account::new();
    let plans = || vec![denied("CopyImage").only_in("eu-west-1")];
    let tolerant = Settings { best_effort: vec!["eu-west-1".into()], ..settings(&REGIONS) };
    let text = checked(&account, &clients(&account.moto.url, plans()), &tolerant).unwrap();
    assert!(text.contains("eu-west-1, best effort: ec2:CopyImage was refused"), "{text}");
    checked(&account, &clients(&account.moto.url, plans()), &settings(&REGIONS)).unwrap_err();
}

#[test]
fn a_region_that_does_not_exist_is_named() {
    let account = Account::new();
    let clients = clients(&account.moto.url, Vec::new());
    let error = checked(&account, &clients, &settings(&["us-east-1", "us-esat-2"])).unwrap_err();
    assert!(plain(&error).contains("us-esat-2: EC2 in us-east-1 has no region of this name"), "{}", plain(&error));
}

/// An HTTP client that removes the parameter DryRun from the calls of one action, as if the endpoint ignored it.
#[derive(Clone, Debug)]
struct NoDryRun {
    inner: SharedHttpClient,
    url: String,
    action: &'static str,
}

#[derive(Clone, Debug)]
struct NoDryRunConnector {
    inner: SharedHttpConnector,
    no_dry_run: NoDryRun,
}

impl HttpClient for NoDryRun {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(NoDryRunConnector { inner, no_dry_run: self.clone() })
    }
}

impl HttpConnector for NoDryRunConnector {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
        if body.contains(&format!("Action={}&", self.no_dry_run.action)) {
            let body = body.replace("&DryRun=true", "");
            request.headers_mut().insert("content-length", body.len().to_string());
            *request.body_mut() = SdkBody::from(body);
        }
        request.set_uri(format!("{}/", self.no_dry_run.url)).unwrap();
        self.inner.call(request)
    }
}

fn without_dry_run(account: &Account, action: &'static str) -> Clients {
    let no_dry_run = NoDryRun { inner: http_client(), url: account.moto.url.clone(), action };
    account.driver.finish(async { clients_over(SharedHttpClient::new(no_dry_run), Vec::new()) })
}

#[test]
fn what_a_dry_run_creates_is_removed_at_once_and_the_run_stops() {
    for action in ["DescribeImages", "ImportKeyPair", "CreateSecurityGroup", "RunInstances", "CopyImage"] {
        let account = Account::new();
        let error = checked(&account, &without_dry_run(&account, action), &settings(&REGIONS)).unwrap_err();
        assert_eq!(error.exit(), Exit::Precondition, "{action}: {}", plain(&error));
        let text = error.to_string();
        assert!(text.contains(&format!("executes ec2:{action} despite DryRun")), "{text}");
        assert_eq!(text.contains("which was removed"), action != "DescribeImages", "{text}");
        account.assert_left(&[]);
    }
}

#[test]
fn launchable_uses_a_dry_run_or_without_permission_read_calls() {
    let account = Account::new();
    let image = account.build(&account.with(Vec::new())).unwrap();
    let before = account.left();
    account.with(Vec::new()).launchable(&image).unwrap();
    // A role that may only read: RunInstances is denied.
    let ec2 = account.with(vec![denied("RunInstances")]);
    ec2.launchable(&image).unwrap();
    let gone = Fault::Refuse(400, "InvalidSnapshot.NotFound");
    let ec2 = account.with(vec![denied("RunInstances"), Plan::next("DescribeSnapshots", ALWAYS, gone)]);
    assert!(ec2.launchable(&image).unwrap_err().to_string().contains("InvalidSnapshot.NotFound"));
    let failed = Fault::Rewrite("<imageState>available</imageState>", "<imageState>disabled</imageState>");
    let ec2 = account.with(vec![denied("RunInstances"), Plan::next("DescribeImages", ALWAYS, failed)]);
    assert!(ec2.launchable(&image).unwrap_err().to_string().contains("is disabled"));
    assert_eq!(account.left(), before);
}

/// The preflight cannot check CreateImage with an instance that does not exist, so it is checked with the builder.
#[test]
fn create_image_is_checked_as_soon_as_there_is_a_builder() {
    let account = Account::new();
    let ec2 = account.with(vec![denied("CreateImage")]);
    let source = source();
    let base = ec2.base(&source, &|_| {}).unwrap();
    let start = Start { builder: BuilderKind::Instance, source: &source, base: &base, from: None, next: None };
    let Err(error) = ec2.start_builder(start, &|_| {}) else { panic!("the builder was started") };
    assert_eq!(error.exit(), Exit::Precondition, "{}", plain(&error));
    assert!(error.to_string().contains("ec2:CreateImage"), "{error}");
    assert!(!ec2.clients().calls().counts().contains_key("ec2:GetConsoleOutput"), "the builder was connected to");
    account.assert_left(&[]);
}

/// Runs the binary with this environment.
fn ran(dir: &Path, env: &[(&str, &str)]) -> Finished {
    let mut cmd = Cmd::new(env!("CARGO_BIN_EXE_xtask-aws")).args(["ami", "build", "--on", "aws", "--engine", "native"]);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_") || name.starts_with("AGENT_AMI_")) {
        cmd = cmd.env_remove(name);
    }
    let env = env.iter().copied().chain([("AWS_EC2_METADATA_DISABLED", "true")]);
    let cmd = env.fold(cmd, |cmd, (name, value)| cmd.env(name, value));
    cmd.env("HOME", dir).env("CARGO_MANIFEST_DIR", dir.join("xtask")).dir(dir).output().unwrap()
}

/// A copy of the project's configuration and template.
fn project() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for part in ["ami.toml", "packer", "scripts", "smoke", "xtask", "Cargo.toml", "Cargo.lock"] {
        std::os::unix::fs::symlink(root().join(part), dir.path().join(part)).unwrap();
    }
    dir
}

/// Missing credentials are the most common first error. No error contains the Debug text of the SDK's types.
#[test]
fn no_credentials_at_all_is_one_line_with_the_fixes() {
    let dir = project();
    let ended = ran(dir.path(), &[]);
    let text: String = ended.stderr.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    for expected in ["no AWS credentials were found", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "a role is attached"] {
        assert!(text.contains(expected), "{expected}: {}", ended.stderr);
    }
    for debug in ["DispatchFailure", "ConnectorError", "CredentialsNotLoaded", "source:", "Some("] {
        assert!(!ended.stderr.contains(debug), "{debug}: {}", ended.stderr);
    }
    assert!(ended.stderr.lines().count() < 14, "{}", ended.stderr);
}

/// A session in the environment that expires in five minutes.
#[test]
fn credentials_that_expire_during_a_release_stop_it_before_anything_is_created() {
    let account = Account::new();
    let dir = project();
    let run = |minutes: i64| {
        let end = (jiff::Timestamp::now() + jiff::SignedDuration::from_mins(minutes)).to_string();
        let env = [
            ("AWS_ENDPOINT_URL", account.moto.url.as_str()),
            ("AWS_ACCESS_KEY_ID", "ASIATEST"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_SESSION_TOKEN", "token"),
            ("AWS_CREDENTIAL_EXPIRATION", end.as_str()),
            // A problem that the preflight finds, so that the run always ends there.
            ("AGENT_AMI_AWS_SSH_CIDRS", "192.0.2.0/24"),
            ("AGENT_AMI_AWS_ACCOUNTS", "999999999999"),
        ];
        ran(dir.path(), &env)
    };
    let soon = run(5);
    assert_eq!(soon.code, 3, "{}", soon.stderr);
    let text: String = soon.stderr.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    assert!(text.contains("the credentials expire in 4 min and cannot be renewed"), "{}", soon.stderr);
    let later = run(120);
    assert!(
        later.stderr.contains("does not list") && !later.stderr.contains("credentials expire in"),
        "{}",
        later.stderr
    );
    account.assert_left(&[]);
    let journal = dir.path().join(".agent-ami");
    assert!(fs::metadata(journal).is_ok(), "there is no state directory in the project");
}

//! An EC2 endpoint over HTTP (`moto_server`), and faults between it and the SDK.

#![allow(dead_code, reason = "shared by tests of which none needs all of it")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::config::{Credentials, SharedCredentialsProvider, SharedHttpClient};
use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use serde_json::Value;
use xtask::cli::Job;
use xtask::partition::Partition;
use xtask::process::{Background, Cmd};
use xtask_aws::clients::{Clients, http_client, retries, timeouts};
use xtask_aws::policy::{Scope, policy};

/// Signs the calls of the pipeline that runs in this process. 20 characters, else moto does not see a key.
pub(crate) const PIPELINE: &str = "AKIAPIPELINE00000000";
/// Signs a test's own calls: the account owner's, whom no policy restricts.
pub(crate) const OWNER: &str = "AKIAOWNER00000000000";

/// What the pipeline's calls are evaluated against: the policy of a role with all jobs, for the parameters that tests write.
pub(crate) fn policies() -> Vec<Value> {
    let prefixes = ["agent-ami", "locus", "tiny"].map(str::to_owned).to_vec();
    vec![policy(&[Job::All], &Scope { prefixes, ..Scope::full(Partition::Commercial) })]
}

/// Environment variables of `serve.py` that make the endpoint take the times that AWS takes, in tenths of a second.
pub(crate) const AS_AWS: [(&str, &str); 5] = [
    ("CONSISTENCY_SECONDS", "0.3"),
    ("SSM_ASYNC_SECONDS", "0.3"),
    ("SSM_NAME_SECONDS", "0.6"),
    ("COPY_SECONDS", "0.2"),
    ("COOLDOWN_SECONDS", "0.6"),
];

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A running `moto_server` that knows the images in `tests/fixtures/amis.json` and nothing else.
pub(crate) struct Moto {
    _process: Background,
    /// Where it listens.
    pub(crate) url: String,
    /// Where agents of Systems Manager ask for commands.
    pub(crate) agents_port: u16,
    dir: tempfile::TempDir,
}

impl Moto {
    /// Starts one on a free loopback port, on which the calls of every key but the owner's are evaluated against [`policies`], and which takes
    /// AWS's times.
    pub(crate) fn start() -> Self {
        Self::start_with(&AS_AWS)
    }

    /// Starts one with these variables of `serve.py`.
    pub(crate) fn start_with(env: &[(&str, &str)]) -> Self {
        Self::under(&policies(), env)
    }

    /// Starts one with other policies.
    pub(crate) fn under(policies: &[Value], env: &[(&str, &str)]) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        serde_json::to_writer(&file, policies).unwrap();
        let path = file.path().to_str().unwrap();
        Self::unrestricted(&[&[("POLICY_FILE", path), ("OWNER_KEY", OWNER)], env].concat())
    }

    /// Starts one on which everybody may do everything.
    pub(crate) fn unrestricted(env: &[(&str, &str)]) -> Self {
        // A port that was free may be taken until it is used.
        (0..5).find_map(|_| Self::listening(env)).unwrap()
    }

    fn listening(env: &[(&str, &str)]) -> Option<Self> {
        let python = provided("moto").join("python");
        let dir = tempfile::tempdir().unwrap();
        let (port, agents_port) = (free_port(), free_port());
        let log = dir.path().join("moto.log");
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/amis.json");
        let mut cmd = Cmd::new(python);
        for (name, value) in env {
            cmd = cmd.env(*name, *value);
        }
        let process = cmd
            .arg(root().join(".ci/moto/serve.py"))
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .env("MOTO_AMIS_PATH", fixtures)
            .env("AGENTS_PORT", agents_port.to_string())
            .env("CALLS_LOG", dir.path().join("calls"))
            .start(&log)
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            if said.contains("Address already in use") {
                return None;
            }
            assert!(process.ended().is_none() && Instant::now() < deadline, "moto_server does not listen: {said}");
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(Self { _process: process, url: format!("http://127.0.0.1:{port}"), agents_port, dir })
    }
}

impl Moto {
    /// The calls that were made with this access key, `ec2:RunInstances`, and how often.
    pub(crate) fn calls(&self, access_key: &str) -> BTreeMap<String, usize> {
        let log = std::fs::read_to_string(self.dir.path().join("calls")).unwrap();
        let mut counts = BTreeMap::new();
        for line in log.lines() {
            let mut words = line.split(' ');
            if words.next() == Some(access_key) {
                *counts.entry(words.next().unwrap().to_owned()).or_default() += 1;
            }
        }
        counts
    }
}

/// A loopback port that is free now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// The programs of a virtual environment, installed once into the state folder from `.ci/NAME/requirements.txt`.
pub(crate) fn provided(name: &str) -> PathBuf {
    static ONCE: Mutex<()> = Mutex::new(());
    let _guard = ONCE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let requirements = root().join(format!(".ci/{name}/requirements.txt"));
    let digest = xtask::recipe::Digest::of(&std::fs::read(&requirements).unwrap()).short();
    let venv = root().join(format!(".agent-ami/{name}-{digest}"));
    let done = venv.join("done");
    if !done.exists() {
        Cmd::new("python3").args(["-m", "venv", "--clear"]).arg(&venv).read().unwrap();
        let pip = Cmd::new(venv.join("bin/pip")).args(["install", "--quiet", "--no-deps", "--require-hashes", "-r"]);
        pip.arg(&requirements).read().unwrap();
        std::fs::write(done, "").unwrap();
    }
    venv.join("bin")
}

/// What happens to a call.
#[derive(Clone, Debug)]
pub(crate) enum Strike {
    /// The service refuses with this status and code.
    Refuse(u16, &'static str),
    /// The connection breaks before the request arrives.
    HangUpBefore,
    /// The request is carried out and the answer is lost.
    HangUpAfter,
    /// The answer comes this late.
    Slow(Duration),
    /// The answer is changed: text, replacement.
    Rewrite(&'static str, &'static str),
}

/// Which calls are struck: this action, in this region if one is named, from call `first` on, so many times.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    action: &'static str,
    region: Option<&'static str>,
    first: usize,
    times: usize,
    strike: Strike,
    seen: usize,
}

impl Plan {
    /// Strikes the next `times` calls of an action.
    pub(crate) fn next(action: &'static str, times: usize, strike: Strike) -> Self {
        Self { action, region: None, first: 0, times, strike, seen: 0 }
    }

    /// Only in this region.
    pub(crate) fn only_in(mut self, region: &'static str) -> Self {
        self.region = Some(region);
        self
    }

    /// Only from call `first` on, of those that no plan before this one strikes.
    pub(crate) fn after(mut self, first: usize) -> Self {
        self.first = first;
        self
    }
}

/// The SDK's way out, with faults on it.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    inner: SharedHttpClient,
    plans: Arc<Mutex<Vec<Plan>>>,
}

impl Faults {
    /// Faults before the network.
    pub(crate) fn new(plans: Vec<Plan>) -> Self {
        Self::over(http_client(), plans)
    }

    /// Faults before something else.
    pub(crate) fn over(inner: SharedHttpClient, plans: Vec<Plan>) -> Self {
        Self { inner, plans: Arc::new(Mutex::new(plans)) }
    }

    fn strike(&self, request: &HttpRequest) -> Option<Strike> {
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
        let target = request.headers().get("x-amz-target").and_then(|target| target.rsplit('.').next());
        let action = target.or_else(|| body.split('&').find_map(|pair| pair.strip_prefix("Action=")))?;
        // `Credential=KEY/20261121/us-east-1/ec2/aws4_request`
        let region = request.headers().get("authorization").and_then(|a| a.split('/').nth(2)).unwrap_or_default();
        let mut plans = self.plans.lock().unwrap();
        plans.iter_mut().find_map(|plan| {
            if plan.action != action || plan.region.is_some_and(|r| r != region) {
                return None;
            }
            plan.seen += 1;
            let due = plan.seen > plan.first && plan.seen <= plan.first + plan.times;
            due.then(|| plan.strike.clone())
        })
    }
}

impl HttpClient for Faults {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(Struck { inner, faults: self.clone() })
    }
}

#[derive(Clone, Debug)]
struct Struck {
    inner: SharedHttpConnector,
    faults: Faults,
}

impl HttpConnector for Struck {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let hang_up = || ConnectorError::io("the connection was dropped".into());
        let inner = self.inner.clone();
        match self.faults.strike(&request) {
            None => inner.call(request),
            Some(Strike::Refuse(status, code)) if request.headers().contains_key("x-amz-target") => {
                let body = serde_json::json!({ "__type": code, "message": "refused by the test" }).to_string();
                HttpConnectorFuture::ready(Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))))
            }
            Some(Strike::Refuse(status, code)) => HttpConnectorFuture::ready(Ok(refusal(status, code))),
            Some(Strike::HangUpBefore) => HttpConnectorFuture::ready(Err(hang_up())),
            Some(Strike::HangUpAfter) => HttpConnectorFuture::new(async move {
                inner.call(request).await?;
                Err(hang_up())
            }),
            Some(Strike::Slow(time)) => HttpConnectorFuture::new(async move {
                tokio::time::sleep(time).await;
                inner.call(request).await
            }),
            Some(Strike::Rewrite(from, to)) => HttpConnectorFuture::new(async move {
                let mut response = inner.call(request).await?;
                let body = ByteStream::new(response.take_body()).collect().await;
                let body = body.map_err(|e| ConnectorError::io(e.into()))?.to_vec();
                let text = String::from_utf8_lossy(&body).into_owned();
                let changed = regex_lite::Regex::new(from).unwrap().replace_all(&text, to).into_owned();
                response.headers_mut().remove("content-length");
                *response.body_mut() = SdkBody::from(changed);
                Ok(response)
            }),
        }
    }
}

/// EC2's answer to a call that it does not carry out.
pub(crate) fn refusal(status: u16, code: &str) -> HttpResponse {
    let body = format!(
        "<Response><Errors><Error><Code>{code}</Code><Message>refused by the test</Message></Error></Errors>\
         <RequestID>0</RequestID></Response>"
    );
    HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))
}

/// The pipeline's clients of an endpoint, with faults on the way and retries that do not wait.
pub(crate) fn clients(url: &str, plans: Vec<Plan>) -> Clients {
    clients_of(PIPELINE, url, plans)
}

/// The account owner's clients of an endpoint.
pub(crate) fn owner(url: &str) -> Clients {
    clients_of(OWNER, url, Vec::new())
}

fn clients_of(key: &str, url: &str, plans: Vec<Plan>) -> Clients {
    let config = settings(key, Faults::new(plans)).into_builder().endpoint_url(url);
    let retries = RetryConfig::standard().with_max_attempts(4).with_initial_backoff(Duration::from_millis(5));
    Clients::new(config.retry_config(retries).build())
}

/// Clients of something in this process, with faults on the way, the retries of every day and tokio's clock.
pub(crate) fn clients_over(inner: SharedHttpClient, plans: Vec<Plan>) -> Clients {
    let config = settings(PIPELINE, Faults::over(inner, plans)).into_builder().retry_config(retries());
    Clients::new(
        config.time_source(SharedTimeSource::new(Clock(SystemTime::now(), tokio::time::Instant::now()))).build(),
    )
}

/// Goes with tokio's clock: adaptive retries count how much time has passed since they were throttled.
#[derive(Debug)]
struct Clock(SystemTime, tokio::time::Instant);

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        self.0 + self.1.elapsed()
    }
}

fn settings(key: &str, faults: Faults) -> SdkConfig {
    let credentials = Credentials::new(key, "test", None, None, "test");
    let sleep = aws_smithy_async::rt::sleep::TokioSleep::new();
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(SharedHttpClient::new(faults))
        .timeout_config(timeouts())
        .sleep_impl(aws_smithy_async::rt::sleep::SharedAsyncSleep::new(sleep))
        .build()
}

/// Everything of ours that is there, by kind: what a test compares with what should be.
pub(crate) async fn inventory(clients: &Clients, regions: &[String]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let mut add = |kind: &str, region: &str, n: usize| {
        if n > 0 {
            counts.insert(format!("{kind} in {region}"), n);
        }
    };
    for region in regions {
        let ec2 = clients.ec2(region);
        let images = ec2.describe_images().owners("self").send().await.unwrap();
        add("images", region, images.images().len());
        let snapshots = ec2.describe_snapshots().owner_ids("self").send().await.unwrap();
        add("snapshots", region, snapshots.snapshots().len());
        let instances = ec2.describe_instances().send().await.unwrap();
        let living = instances.reservations().iter().flat_map(aws_sdk_ec2::types::Reservation::instances);
        let living = living.filter(|i| i.state().and_then(|s| s.name()).is_some_and(|n| n.as_str() != "terminated"));
        add("instances", region, living.count());
        let keys = ec2.describe_key_pairs().send().await.unwrap();
        add("key pairs", region, keys.key_pairs().len());
        let groups = ec2.describe_security_groups().send().await.unwrap();
        let ours = groups.security_groups().iter().filter(|g| g.group_name() != Some("default"));
        add("security groups", region, ours.count());
        let volumes = ec2.describe_volumes().send().await.unwrap();
        add("volumes", region, volumes.volumes().len());
    }
    counts
}

/// What an inventory holds that an earlier one did not.
pub(crate) fn added(mut now: BTreeMap<String, usize>, before: &BTreeMap<String, usize>) -> BTreeMap<String, usize> {
    for (kind, n) in &mut now {
        *n -= before.get(kind).copied().unwrap_or_default();
    }
    now.retain(|_, n| *n > 0);
    now
}

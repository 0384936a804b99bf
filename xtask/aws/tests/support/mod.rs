//! An EC2 endpoint over HTTP (`moto_server`), and injected faults between the SDK and the endpoint.

#![allow(dead_code, reason = "shared by tests that each use a part of it")]

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

/// Access key of the pipeline in this process. 20 characters, which moto requires of a key.
pub(crate) const PIPELINE: &str = "AKIAPIPELINE00000000";
/// Access key of the account's owner, for calls of the test itself. No policy applies to it.
pub(crate) const OWNER: &str = "AKIAOWNER00000000000";

/// The policies for the pipeline's calls: that of a role with all jobs, with the prefixes of the parameters that tests write.
pub(crate) fn policies() -> Vec<Value> {
    let prefixes = ["agent-ami", "locus", "tiny"].map(str::to_owned).to_vec();
    vec![policy(&[Job::All], &Scope { prefixes, ..Scope::full(Partition::Commercial) })]
}

/// Environment variables of `serve.py` with the delays of AWS, shortened to tenths of a second.
pub(crate) const AS_AWS: [(&str, &str); 5] = [
    ("CONSISTENCY_SECONDS", "0.3"),
    ("SSM_ASYNC_SECONDS", "0.3"),
    ("SSM_NAME_SECONDS", "0.6"),
    ("COPY_SECONDS", "0.2"),
    ("COOLDOWN_SECONDS", "0.6"),
];

/// Root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A running `moto_server` that has only the images in `tests/fixtures/amis.json`.
pub(crate) struct Moto {
    _process: Background,
    /// Its URL.
    pub(crate) url: String,
    /// Port from which agents of Systems Manager get commands.
    pub(crate) agents_port: u16,
    dir: tempfile::TempDir,
}

impl Moto {
    /// Starts one on a free loopback port, with the delays of AWS. Calls of every key but the owner's are evaluated against [`policies`].
    pub(crate) fn start() -> Self {
        Self::start_with(&AS_AWS)
    }

    /// As [`Moto::start`], with these variables of `serve.py` instead.
    pub(crate) fn start_with(env: &[(&str, &str)]) -> Self {
        Self::under(&policies(), env)
    }

    /// As [`Moto::start_with`], with these policies instead.
    pub(crate) fn under(policies: &[Value], env: &[(&str, &str)]) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        serde_json::to_writer(&file, policies).unwrap();
        let path = file.path().to_str().unwrap();
        Self::unrestricted(&[&[("POLICY_FILE", path), ("OWNER_KEY", OWNER)], env].concat())
    }

    /// Starts one without policies.
    pub(crate) fn unrestricted(env: &[(&str, &str)]) -> Self {
        // Another process may use the port before the endpoint does.
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
            let output = std::fs::read_to_string(&log).unwrap_or_default();
            if output.contains("Address already in use") {
                return None;
            }
            assert!(process.ended().is_none() && Instant::now() < deadline, "moto_server does not listen: {output}");
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(Self { _process: process, url: format!("http://127.0.0.1:{port}"), agents_port, dir })
    }
}

impl Moto {
    /// The calls with this access key (`ec2:RunInstances`), and their numbers.
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

/// The programs of a virtual environment, installed once to the state directory from `.ci/NAME/requirements.txt`.
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

/// A fault that is injected into a call.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The service returns an error with this status and code.
    Refuse(u16, &'static str),
    /// The connection breaks before the request arrives.
    HangUpBefore,
    /// The connection breaks after the request was executed; the response is lost.
    HangUpAfter,
    /// The request is delayed by this time.
    Slow(Duration),
    /// The response is changed: regular expression, replacement.
    Rewrite(&'static str, &'static str),
}

/// The calls that get a fault: this action, in this region if there is one, `times` calls after the first `first`.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    action: &'static str,
    region: Option<&'static str>,
    first: usize,
    times: usize,
    fault: Fault,
    seen: usize,
}

impl Plan {
    /// A fault in the next `times` calls of an action.
    pub(crate) fn next(action: &'static str, times: usize, fault: Fault) -> Self {
        Self { action, region: None, first: 0, times, fault, seen: 0 }
    }

    /// Only in this region.
    pub(crate) fn only_in(mut self, region: &'static str) -> Self {
        self.region = Some(region);
        self
    }

    /// Only after `first` calls, without those that get the fault of an earlier plan.
    pub(crate) fn after(mut self, first: usize) -> Self {
        self.first = first;
        self
    }
}

/// The SDK's HTTP client, with injected faults.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    inner: SharedHttpClient,
    plans: Arc<Mutex<Vec<Plan>>>,
}

impl Faults {
    /// Faults in calls to the network.
    pub(crate) fn new(plans: Vec<Plan>) -> Self {
        Self::over(http_client(), plans)
    }

    /// Faults in calls to another HTTP client.
    pub(crate) fn over(inner: SharedHttpClient, plans: Vec<Plan>) -> Self {
        Self { inner, plans: Arc::new(Mutex::new(plans)) }
    }

    fn due(&self, request: &HttpRequest) -> Option<Fault> {
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
            due.then(|| plan.fault.clone())
        })
    }
}

impl HttpClient for Faults {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(FaultConnector { inner, faults: self.clone() })
    }
}

#[derive(Clone, Debug)]
struct FaultConnector {
    inner: SharedHttpConnector,
    faults: Faults,
}

impl HttpConnector for FaultConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let hang_up = || ConnectorError::io("the connection was dropped".into());
        let inner = self.inner.clone();
        match self.faults.due(&request) {
            None => inner.call(request),
            Some(Fault::Refuse(status, code)) if request.headers().contains_key("x-amz-target") => {
                let body = serde_json::json!({ "__type": code, "message": "refused by the test" }).to_string();
                HttpConnectorFuture::ready(Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))))
            }
            Some(Fault::Refuse(status, code)) => HttpConnectorFuture::ready(Ok(refusal(status, code))),
            Some(Fault::HangUpBefore) => HttpConnectorFuture::ready(Err(hang_up())),
            Some(Fault::HangUpAfter) => HttpConnectorFuture::new(async move {
                inner.call(request).await?;
                Err(hang_up())
            }),
            Some(Fault::Slow(time)) => HttpConnectorFuture::new(async move {
                tokio::time::sleep(time).await;
                inner.call(request).await
            }),
            Some(Fault::Rewrite(from, to)) => HttpConnectorFuture::new(async move {
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

/// An error response of EC2.
pub(crate) fn refusal(status: u16, code: &str) -> HttpResponse {
    let body = format!(
        "<Response><Errors><Error><Code>{code}</Code><Message>refused by the test</Message></Error></Errors>\
         <RequestID>0</RequestID></Response>"
    );
    HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))
}

/// The pipeline's clients of an endpoint, with injected faults and retries without waits.
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

/// The pipeline's clients of a service in this process, with injected faults, the retries of production and tokio's clock.
pub(crate) fn clients_over(inner: SharedHttpClient, plans: Vec<Plan>) -> Clients {
    let config = settings(PIPELINE, Faults::over(inner, plans)).into_builder().retry_config(retries());
    Clients::new(
        config.time_source(SharedTimeSource::new(Clock(SystemTime::now(), tokio::time::Instant::now()))).build(),
    )
}

/// Time by tokio's clock: adaptive retries depend on the time since they were throttled.
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

/// The number of resources in the account by kind and region.
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

/// The difference of an inventory to an earlier one.
pub(crate) fn added(mut now: BTreeMap<String, usize>, before: &BTreeMap<String, usize>) -> BTreeMap<String, usize> {
    for (kind, n) in &mut now {
        *n -= before.get(kind).copied().unwrap_or_default();
    }
    now.retain(|_, n| *n > 0);
    now
}

//! A build that dies before and after every mutating call, with an EC2 in this process (winterbaume), and is resumed: it ends in the same
//! state as an undisturbed build. The thread that makes the call stops forever, so that it cleans up nothing.

#![expect(clippy::unwrap_used, reason = "a test stops at the first failure")]

use std::collections::BTreeMap;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use aws_sdk_ec2::config::SharedHttpClient;
use aws_sdk_ec2::types::{BlockDeviceMapping, EbsBlockDevice};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use winterbaume_core::MockAws;
use winterbaume_ec2::Ec2Service;
use winterbaume_sts::StsService;
use xtask::cloud::{BaseRecord, BuilderKind, Cloud as _, Image, Start};
use xtask::recipe::Digest;
use xtask::state::{RunRequest, State};
use xtask_aws::cloud::Ec2;
use xtask_aws::drive::Driver;

mod support;
#[path = "support/settings.rs"]
mod settings;
#[path = "support/account.rs"]
mod account;
use account::{REGIONS, capture};
use settings::{settings, source};
use support::{clients_over, inventory, refusal};

/// An HTTP client that may stop its thread at a call.
#[derive(Clone, Debug)]
struct StoppingClient {
    inner: SharedHttpClient,
    /// The number of the mutating call to stop at, and whether the call is executed before.
    at: Option<(usize, bool)>,
    made: Arc<Mutex<usize>>,
    stopped: Sender<String>,
}

impl HttpClient for StoppingClient {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(StoppingConnector { inner, client: self.clone() })
    }
}

#[derive(Clone, Debug)]
struct StoppingConnector {
    inner: SharedHttpConnector,
    client: StoppingClient,
}

impl HttpConnector for StoppingConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
        let action = body.split('&').find_map(|pair| pair.strip_prefix("Action=")).unwrap_or_default().to_owned();
        if body.contains("DryRun=true") {
            // winterbaume would execute the call.
            return HttpConnectorFuture::ready(Ok(refusal(412, "DryRunOperation")));
        }
        let reads = ["Describe", "Get"].iter().any(|verb| action.starts_with(verb));
        let n = {
            let mut made = self.client.made.lock().unwrap();
            *made += usize::from(!reads);
            *made
        };
        let (inner, stopped) = (self.inner.clone(), self.client.stopped.clone());
        match self.client.at.filter(|(at, _)| !reads && n == *at) {
            None => inner.call(request),
            Some((_, after)) => HttpConnectorFuture::new(async move {
                if after {
                    let _ = inner.call(request).await;
                }
                stopped.send(action).unwrap();
                loop {
                    std::thread::park();
                }
            }),
        }
    }
}

/// An account in this process.
struct Account {
    mock: MockAws,
    base: BaseRecord,
    dir: tempfile::TempDir,
}

impl Account {
    fn new() -> Self {
        let mock = MockAws::builder().with_service(Ec2Service::new()).with_service(StsService::new()).build();
        let dir = tempfile::tempdir().unwrap();
        let disk = BlockDeviceMapping::builder()
            .device_name("/dev/sda1")
            .ebs(EbsBlockDevice::builder().snapshot_id("snap-1").volume_size(20).build())
            .build();
        let ec2 = clients_in(&mock).ec2(REGIONS[0]);
        let call = ec2.register_image().name("base").root_device_name("/dev/sda1").block_device_mappings(disk);
        let id = runtime().block_on(async {
            ec2.create_default_vpc().send().await.unwrap();
            ec2.create_default_subnet().availability_zone("us-east-1a").send().await.unwrap();
            call.send().await.unwrap().image_id().unwrap().to_owned()
        });
        let base = BaseRecord { name: "ubuntu-jammy".to_owned(), digest: Digest::of(id.as_bytes()), id };
        Self { mock, base, dir }
    }

    fn state(&self) -> State {
        State::open(self.dir.path().join("state")).unwrap()
    }

    fn inventory(&self) -> BTreeMap<String, usize> {
        runtime().block_on(inventory(&clients_in(&self.mock), &REGIONS.map(str::to_owned)))
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn clients_in(mock: &MockAws) -> xtask_aws::clients::Clients {
    let _runtime = runtime();
    let _entered = _runtime.enter();
    clients_over(mock.http_client(), Vec::new())
}

/// Clients that never stop.
fn undisturbed_clients(account: &Account) -> xtask_aws::clients::Clients {
    let runtime = runtime();
    let _entered = runtime.enter();
    let client =
        StoppingClient { inner: account.mock.http_client(), at: None, made: Arc::default(), stopped: channel().0 };
    clients_over(SharedHttpClient::new(client), Vec::new())
}

/// Builds an image unless this run has created one already, and marks it. There is no machine behind the service, so the builder is not
/// connected to.
fn release(ec2: &Ec2, base: &BaseRecord, resumed: bool) -> Image {
    let source = source();
    let captured = capture(&source);
    let mut made = None;
    if resumed {
        for orphan in ec2.orphans().unwrap().iter().filter(|l| l.kind.is_temporary()) {
            ec2.remove_orphan(orphan).unwrap();
        }
        made = ec2.finish_capture(base, &captured, &|_| {}).unwrap();
    }
    let image = made.unwrap_or_else(|| {
        let machine = ec2
            .begin(Start { builder: BuilderKind::Instance, source: &source, base, from: None, next: None }, &|_| {})
            .unwrap();
        ec2.capture(machine, base, &captured, &|_| {}).unwrap()
    });
    // No copies: winterbaume looks for the source of a copy in the destination region. `kill.rs` and `killed.rs` test copies, with moto.
    if let Err(error) = ec2.mark(&image, "promoted:staging", "now") {
        // winterbaume does not return tags that an image got after its creation.
        assert!(error.to_string().contains("cannot be read back"), "{error}");
    }
    image
}

/// Releases until the end or until a client stops; returns the action at which it stopped.
fn release_until(account: &Account, at: Option<(usize, bool)>) -> Option<String> {
    let (stopped, ended) = channel();
    let (http, base, state) = (account.mock.http_client(), account.base.clone(), account.state());
    let finished = stopped.clone();
    std::thread::spawn(move || {
        let runtime = runtime();
        let clients = {
            let _entered = runtime.enter();
            let client = StoppingClient { inner: http, at, made: Arc::default(), stopped };
            clients_over(SharedHttpClient::new(client), Vec::new())
        };
        let run = Arc::new(state.begin_run(RunRequest { command: "test", words: &[], on: "aws" }).unwrap());
        let ec2 = Ec2::new(Arc::new(Driver::over(runtime)), &clients, settings(&REGIONS), &state, Some(run));
        release(&ec2, &base, false);
        finished.send(String::new()).unwrap();
    });
    Some(ended.recv().unwrap()).filter(|action| !action.is_empty())
}

#[test]
fn a_release_that_dies_at_any_call_ends_as_an_undisturbed_one() {
    let undisturbed = {
        let account = Account::new();
        assert_eq!(release_until(&account, None), None);
        account.inventory()
    };
    println!("undisturbed: {undisturbed:?}");
    let mut points = 0;
    for n in 1.. {
        let mut reached = false;
        for after in [false, true] {
            let account = Account::new();
            let Some(action) = release_until(&account, Some((n, after))) else { break };
            (reached, points) = (true, points + 1);
            // The kernel releases the lock of a dead process; a stopped thread keeps it, so the file is removed here.
            let id = account.dir.path().join("state/runs").read_dir().unwrap().flatten().next().unwrap().file_name();
            std::fs::remove_file(account.dir.path().join("state/runs").join(&id).join("lock")).unwrap();
            let state = account.state();
            let record = state.ledger().run(id.to_str().unwrap()).unwrap().unwrap();
            let run = Arc::new(state.resume_run(&record).unwrap());
            let driver = Arc::new(Driver::new().unwrap());
            let ec2 = Ec2::new(driver, &undisturbed_clients(&account), settings(&REGIONS), &state, Some(run));
            release(&ec2, &account.base, true);
            let when = if after { "after" } else { "before" };
            println!("{n:3} {when:6} {action}");
            assert_eq!(account.inventory(), undisturbed, "{when} {n} {action}");
        }
        if !reached {
            break;
        }
    }
    assert!(points > 14, "only {points} points");
}

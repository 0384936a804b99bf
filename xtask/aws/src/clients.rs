//! The SDK's configuration, once, and one client for each region.
//!
//! Everything the SDK leaves open is set here: time-outs (without them a call can hang for ever), one retry layer, the behaviour
//! version, the TLS provider. No other file configures the SDK.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ec2::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::config::{ConfigBag, Intercept, RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use xtask::state::Run;

use crate::journal::Journal;

/// What the SDK is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The home region, for calls that belong to none.
    pub home: String,
    /// `AWS_PROFILE`, or `profile` in ami.toml.
    pub profile: Option<String>,
}

/// Every call made, in order: for the report, and for the test that holds the policy against them.
#[derive(Clone, Debug, Default)]
pub struct Calls(Arc<Mutex<Vec<Call>>>);

/// One attempt at a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `ec2:RunInstances`, as an IAM action.
    pub action: String,
    /// The host it went to.
    pub host: String,
}

/// The clients.
#[derive(Clone, Debug)]
pub struct Clients {
    config: SdkConfig,
    calls: Calls,
    /// `None` for clients whose calls nobody writes down: a test's own.
    journal: Option<Option<Arc<Run>>>,
}

impl Clients {
    /// Loads credentials and settings as every AWS tool does: environment, profile, SSO, container, instance role.
    pub async fn load(settings: &Settings) -> Self {
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(http_client())
            .region(Region::new(settings.home.clone()))
            .timeout_config(timeouts())
            .retry_config(retries());
        if let Some(profile) = &settings.profile {
            loader = loader.profile_name(profile);
        }
        Self::new(loader.load().await)
    }

    /// Clients over a configuration that a test made.
    pub fn new(config: SdkConfig) -> Self {
        Self { config, calls: Calls::default(), journal: None }
    }

    /// The same clients for a run: what they change is in its ledger before it is sent. Without a run they change nothing.
    #[must_use]
    pub fn of_run(&self, run: Option<Arc<Run>>) -> Self {
        Self { journal: Some(run), ..self.clone() }
    }

    fn journal(&self, region: &str) -> Option<Journal> {
        self.journal.as_ref().map(|run| Journal::new(run.clone(), region))
    }

    /// EC2 in a region.
    pub fn ec2(&self, region: &str) -> aws_sdk_ec2::Client {
        let config = aws_sdk_ec2::config::Builder::from(&self.config);
        let mut config = config.region(Region::new(region.to_owned())).interceptor(self.calls.clone());
        if let Some(journal) = self.journal(region) {
            config = config.interceptor(journal);
        }
        aws_sdk_ec2::Client::from_conf(config.build())
    }

    /// SSM in a region.
    pub fn ssm(&self, region: &str) -> aws_sdk_ssm::Client {
        let config = aws_sdk_ssm::config::Builder::from(&self.config);
        let mut config = config.region(Region::new(region.to_owned())).interceptor(self.calls.clone());
        if let Some(journal) = self.journal(region) {
            config = config.interceptor(journal);
        }
        aws_sdk_ssm::Client::from_conf(config.build())
    }

    /// STS in the home region.
    pub fn sts(&self) -> aws_sdk_sts::Client {
        let config = aws_sdk_sts::config::Builder::from(&self.config).interceptor(self.calls.clone());
        aws_sdk_sts::Client::from_conf(config.build())
    }

    /// The credentials' provider, to ask how long they last.
    pub fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// The calls made so far.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }
}

/// Connections by rustls with ring and the host's own trusted certificates.
pub fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// The SDK sets only the connect time-out by itself; a server that accepts and says nothing would hold us for ever
/// (awslabs/coldsnap#438).
pub fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(4))
        .read_timeout(Duration::from_secs(20))
        .operation_attempt_timeout(Duration::from_secs(30))
        .operation_timeout(Duration::from_secs(180))
        .build()
}

/// One layer of retries, the SDK's: adaptive slows down when the account is throttled.
pub fn retries() -> RetryConfig {
    RetryConfig::adaptive().with_max_attempts(6).with_max_backoff(Duration::from_secs(20))
}

impl Calls {
    /// All of them.
    pub fn list(&self) -> Vec<Call> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often each action was called.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for call in self.list() {
            *counts.entry(call.action).or_insert(0) += 1;
        }
        counts
    }
}

impl Intercept for Calls {
    fn name(&self) -> &'static str {
        "Calls"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(operation) = bag.load::<Metadata>() {
            let action = format!("{}:{}", operation.service().to_lowercase(), operation.name());
            let host = context.request().uri().split('/').nth(2).unwrap_or_default().to_owned();
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Call { action, host });
        }
        Ok(())
    }
}

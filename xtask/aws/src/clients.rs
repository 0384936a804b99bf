//! The SDK's configuration, once, and one client for each region.
//!
//! Everything the SDK leaves open is set here: time-outs (without them a call can hang for ever), one retry layer, the behaviour
//! version, the TLS provider. No other file configures the SDK.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::credential_feature::AwsCredentialFeature;
use aws_credential_types::provider::ProvideCredentials as _;
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

/// The variable that says when the credentials in the environment end, RFC 3339 (AWS CLI, `aws configure export-credentials`). The SDK does
/// not read it.
const EXPIRATION: &str = "AWS_CREDENTIAL_EXPIRATION";

/// The clients.
#[derive(Clone, Debug)]
pub struct Clients {
    config: SdkConfig,
    calls: Calls,
    /// When credentials that stand in the environment end.
    environment_ends: Option<SystemTime>,
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
        let ends = std::env::var(EXPIRATION).ok().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        Self { environment_ends: ends.map(SystemTime::from), ..Self::new(loader.load().await) }
    }

    /// Clients over a configuration that a test made.
    pub fn new(config: SdkConfig) -> Self {
        Self { config, calls: Calls::default(), environment_ends: None, journal: None }
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

    /// Auto Scaling in a region.
    pub fn autoscaling(&self, region: &str) -> aws_sdk_autoscaling::Client {
        let config = aws_sdk_autoscaling::config::Builder::from(&self.config);
        let mut config = config.region(Region::new(region.to_owned())).interceptor(self.calls.clone());
        if let Some(journal) = self.journal(region) {
            config = config.interceptor(journal);
        }
        aws_sdk_autoscaling::Client::from_conf(config.build())
    }

    /// Service Quotas in a region, for reading.
    pub fn service_quotas(&self, region: &str) -> aws_sdk_servicequotas::Client {
        let config = aws_sdk_servicequotas::config::Builder::from(&self.config);
        let config = config.region(Region::new(region.to_owned())).interceptor(self.calls.clone());
        aws_sdk_servicequotas::Client::from_conf(config.build())
    }

    /// KMS in a region, for reading.
    pub fn kms(&self, region: &str) -> aws_sdk_kms::Client {
        let config = aws_sdk_kms::config::Builder::from(&self.config);
        let config = config.region(Region::new(region.to_owned())).interceptor(self.calls.clone());
        aws_sdk_kms::Client::from_conf(config.build())
    }

    /// STS in the home region.
    pub fn sts(&self) -> aws_sdk_sts::Client {
        let config = aws_sdk_sts::config::Builder::from(&self.config).interceptor(self.calls.clone());
        aws_sdk_sts::Client::from_conf(config.build())
    }

    /// The same clients without a ledger: for taking away at once what a DryRun made, which no run knows of.
    #[must_use]
    pub(crate) fn unrecorded(&self) -> Self {
        Self { journal: None, ..self.clone() }
    }

    /// When the credentials end for good. `None` for keys that never end, for credentials that the SDK renews, and where nobody says.
    pub async fn credentials_end(&self) -> Option<SystemTime> {
        let credentials = self.config.credentials_provider()?.provide_credentials().await.ok()?;
        ends(&credentials, self.environment_ends)
    }

    /// The calls made so far.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }
}

/// When credentials end that the SDK cannot renew: those of the environment, of a profile with a session token, and of a caller's own
/// provider. All other providers of the SDK are asked again before what they gave expires: IAM Identity Center, assumed roles, web
/// identity, processes, containers, instances.
fn ends(credentials: &Credentials, environment_ends: Option<SystemTime>) -> Option<SystemTime> {
    use AwsCredentialFeature as From;
    let renewed = |from: &From| {
        matches!(
            from,
            From::CredentialsEnvVarsStsWebIdToken
                | From::CredentialsStsAssumeRole
                | From::CredentialsStsAssumeRoleSaml
                | From::CredentialsStsAssumeRoleWebId
                | From::CredentialsProfileStsWebIdToken
                | From::CredentialsProfileSso
                | From::CredentialsSso
                | From::CredentialsProfileProcess
                | From::CredentialsProcess
                | From::CredentialsHttp
                | From::CredentialsImds
        )
    };
    let sources = credentials.get_property::<Vec<From>>().map(Vec::as_slice).unwrap_or_default();
    if sources.iter().any(renewed) {
        return None;
    }
    let environment = environment_ends.filter(|_| sources.contains(&From::CredentialsEnvVars));
    // Long-term keys have no token.
    credentials.session_token().and(credentials.expiry().or(environment))
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
            // IAM's prefix of a service has no spaces: `autoscaling` for "Auto Scaling".
            let action = format!("{}:{}", operation.service().to_lowercase().replace(' ', ""), operation.name());
            let host = context.request().uri().split('/').nth(2).unwrap_or_default().to_owned();
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Call { action, host });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(token: Option<&str>, expiry: Option<SystemTime>, from: &[AwsCredentialFeature]) -> Credentials {
        let mut credentials = Credentials::new("key", "secret", token.map(str::to_owned), expiry, "test");
        credentials.get_property_mut_or_default::<Vec<AwsCredentialFeature>>().extend(from.iter().cloned());
        credentials
    }

    #[test]
    fn what_the_sdk_renews_has_no_end_and_the_rest_the_one_that_is_known() {
        use AwsCredentialFeature as From;
        let soon = Some(SystemTime::now() + Duration::from_secs(300));
        let later = Some(SystemTime::now() + Duration::from_secs(7200));
        for renewed in [
            From::CredentialsSso,
            From::CredentialsStsAssumeRole,
            From::CredentialsStsAssumeRoleWebId,
            From::CredentialsProcess,
            From::CredentialsHttp,
            From::CredentialsImds,
        ] {
            assert_eq!(
                ends(&credentials(Some("token"), soon, std::slice::from_ref(&renewed)), soon),
                None,
                "{renewed:?}"
            );
        }
        let environment = [From::CredentialsEnvVars];
        assert_eq!(ends(&credentials(Some("token"), None, &environment), soon), soon);
        assert_eq!(ends(&credentials(Some("token"), None, &environment), None), None, "nobody says");
        assert_eq!(ends(&credentials(None, None, &environment), soon), None, "long-term keys");
        // The variable is the environment's, and says nothing of a profile's credentials.
        assert_eq!(ends(&credentials(Some("token"), None, &[From::CredentialsProfile]), soon), None);
        assert_eq!(ends(&credentials(Some("token"), later, &[]), soon), later, "a provider of one's own");
    }
}

//! The configuration of the SDK, and its clients by region.
//!
//! Sets timeouts (without them a call can hang forever), retries, the behavior version and the TLS provider. No other module configures the
//! SDK, except for single calls without retries.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region as SdkRegion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::credential_feature::AwsCredentialFeature;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sdk_ec2::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::config::{ConfigBag, Intercept, RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use xtask::ids::Region;
use xtask::state::Run;

use crate::journal::Journal;

/// Settings of the SDK.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The home region, for calls without a region.
    pub home: Region,
    /// `AWS_PROFILE`, or `profile` in ami.toml.
    pub profile: Option<String>,
}

/// Every call made, in order. Tests compare the IAM policy with it.
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

/// Environment variable with the expiry of the credentials in the environment, RFC 3339 (AWS CLI, `aws configure export-credentials`). The
/// SDK does not read it.
const EXPIRATION: &str = "AWS_CREDENTIAL_EXPIRATION";

/// Creates clients by service and region.
#[derive(Clone, Debug)]
pub struct Clients {
    config: SdkConfig,
    calls: Calls,
    /// Expiry of the credentials in the environment.
    environment_expiry: Option<SystemTime>,
    /// `None` for clients without a ledger, `Some(None)` for clients without a run.
    journal: Option<Option<Arc<Run>>>,
}

impl Clients {
    /// Loads credentials and settings from the SDK's default chain: environment, profile, SSO, container, instance role.
    pub async fn load(settings: &Settings) -> Self {
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(http_client())
            .region(SdkRegion::new(settings.home.to_string()))
            .timeout_config(timeouts())
            .retry_config(retries());
        if let Some(profile) = &settings.profile {
            loader = loader.profile_name(profile);
        }
        let expiry = std::env::var(EXPIRATION).ok().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        Self { environment_expiry: expiry.map(SystemTime::from), ..Self::new(loader.load().await) }
    }

    /// Clients with this configuration and without a ledger; tests use them directly.
    pub fn new(config: SdkConfig) -> Self {
        Self { config, calls: Calls::default(), environment_expiry: None, journal: None }
    }

    /// The same clients for a run: mutating calls are written to its ledger before they are sent. Without a run, mutating calls are errors.
    #[must_use]
    pub fn of_run(&self, run: Option<Arc<Run>>) -> Self {
        Self { journal: Some(run), ..self.clone() }
    }

    fn journal(&self, region: &str) -> Option<Journal> {
        self.journal.as_ref().map(|run| Journal::new(run.clone(), &region.into()))
    }

    /// EC2 in a region.
    pub fn ec2(&self, region: &str) -> aws_sdk_ec2::Client {
        let config = aws_sdk_ec2::config::Builder::from(&self.config);
        let mut config = config.region(SdkRegion::new(region.to_owned())).interceptor(self.calls.clone());
        if let Some(journal) = self.journal(region) {
            config = config.interceptor(journal);
        }
        aws_sdk_ec2::Client::from_conf(config.build())
    }

    /// SSM in a region.
    pub fn ssm(&self, region: &str) -> aws_sdk_ssm::Client {
        let config = aws_sdk_ssm::config::Builder::from(&self.config);
        let mut config = config.region(SdkRegion::new(region.to_owned())).interceptor(self.calls.clone());
        if let Some(journal) = self.journal(region) {
            config = config.interceptor(journal);
        }
        aws_sdk_ssm::Client::from_conf(config.build())
    }

    /// Auto Scaling in a region.
    pub fn autoscaling(&self, region: &str) -> aws_sdk_autoscaling::Client {
        let config = aws_sdk_autoscaling::config::Builder::from(&self.config);
        let mut config = config.region(SdkRegion::new(region.to_owned())).interceptor(self.calls.clone());
        if let Some(journal) = self.journal(region) {
            config = config.interceptor(journal);
        }
        aws_sdk_autoscaling::Client::from_conf(config.build())
    }

    /// Service Quotas in a region, for reading.
    pub fn service_quotas(&self, region: &str) -> aws_sdk_servicequotas::Client {
        let config = aws_sdk_servicequotas::config::Builder::from(&self.config);
        let config = config.region(SdkRegion::new(region.to_owned())).interceptor(self.calls.clone());
        aws_sdk_servicequotas::Client::from_conf(config.build())
    }

    /// KMS in a region, for reading.
    pub fn kms(&self, region: &str) -> aws_sdk_kms::Client {
        let config = aws_sdk_kms::config::Builder::from(&self.config);
        let config = config.region(SdkRegion::new(region.to_owned())).interceptor(self.calls.clone());
        aws_sdk_kms::Client::from_conf(config.build())
    }

    /// STS in the home region.
    pub fn sts(&self) -> aws_sdk_sts::Client {
        let config = aws_sdk_sts::config::Builder::from(&self.config).interceptor(self.calls.clone());
        aws_sdk_sts::Client::from_conf(config.build())
    }

    /// The same clients without a ledger, for removing what a DryRun created: the ledger has no record of it.
    #[must_use]
    pub(crate) fn unrecorded(&self) -> Self {
        Self { journal: None, ..self.clone() }
    }

    /// When the credentials expire and cannot be renewed. `None` for long-term keys, for credentials that the SDK renews, and for an
    /// unknown expiry.
    pub async fn credentials_expiry(&self) -> Option<SystemTime> {
        let credentials = self.config.credentials_provider()?.provide_credentials().await.ok()?;
        expiry(&credentials, self.environment_expiry)
    }

    /// The calls made so far.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }
}

/// Expiry of credentials that the SDK cannot renew: those of the environment, of a profile with a session token, and of a custom provider.
/// The SDK renews the credentials of all other providers before they expire: IAM Identity Center, assumed roles, web identity, processes,
/// containers, instances.
fn expiry(credentials: &Credentials, environment_expiry: Option<SystemTime>) -> Option<SystemTime> {
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
    let environment = environment_expiry.filter(|_| sources.contains(&From::CredentialsEnvVars));
    // Long-term keys have no token.
    credentials.session_token().and(credentials.expiry().or(environment))
}

/// HTTPS by rustls with ring and the host's trusted certificates.
pub fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// By default the SDK has only a connect timeout: a call would wait forever for a server that accepts the connection and does not respond
/// (awslabs/coldsnap#438).
pub fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(4))
        .read_timeout(Duration::from_secs(20))
        .operation_attempt_timeout(Duration::from_secs(30))
        .operation_timeout(Duration::from_secs(180))
        .build()
}

/// The SDK's adaptive retries, which reduce the request rate when the account is throttled.
pub fn retries() -> RetryConfig {
    RetryConfig::adaptive().with_max_attempts(6).with_max_backoff(Duration::from_secs(20))
}

impl Calls {
    /// All calls, in order.
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
    fn credentials_that_the_sdk_renews_have_no_expiry() {
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
                expiry(&credentials(Some("token"), soon, std::slice::from_ref(&renewed)), soon),
                None,
                "{renewed:?}"
            );
        }
        let environment = [From::CredentialsEnvVars];
        assert_eq!(expiry(&credentials(Some("token"), None, &environment), soon), soon);
        assert_eq!(expiry(&credentials(Some("token"), None, &environment), None), None, "unknown expiry");
        assert_eq!(expiry(&credentials(None, None, &environment), soon), None, "long-term keys");
        // The variable applies only to the credentials in the environment, not to those of a profile.
        assert_eq!(expiry(&credentials(Some("token"), None, &[From::CredentialsProfile]), soon), None);
        assert_eq!(expiry(&credentials(Some("token"), later, &[]), soon), later, "a custom provider");
    }
}

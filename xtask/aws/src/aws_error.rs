//! AWS errors: the SDK's errors, classified by how to handle them.
//!
//! Every call goes through [`Called::called`]; no other module inspects an SDK error.

use std::fmt;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use xtask::error::{Error, Exit};

use crate::causes::{causes, in_one_line};
use crate::journal::NotWritten;

/// Kinds of AWS errors that callers handle differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The resource does not exist, or is not visible yet (EC2 is eventually consistent).
    NotFound,
    /// The name is in use: `InvalidAMIName.Duplicate`, `InvalidKeyPair.Duplicate`, `InvalidGroup.Duplicate`.
    Duplicate,
    /// The availability zone has no capacity for the instance type now.
    Capacity,
    /// A quota of the account is reached.
    Quota,
    /// Too many calls; the SDK's own retries are used up.
    Throttled,
    /// The credentials have expired.
    Expired,
    /// No credentials were found.
    NoCredentials,
    /// The credentials are invalid, or could not be loaded.
    Credentials,
    /// The region is not enabled for the account.
    NotEnabled,
    /// The identity has no permission for the action.
    Denied,
    /// `DryRunOperation`: the call would have succeeded.
    WouldSucceed,
    /// The endpoint cannot be reached, or the connection broke.
    Transport,
    /// A server error of the endpoint (5xx).
    Server,
    /// The call could not be written to the ledger, so it was not sent.
    NotWritten,
    /// The request is invalid, or any other error.
    Other,
}

/// The error of a call to AWS.
#[derive(Clone, Debug)]
pub struct AwsError {
    /// How to handle it.
    pub kind: Kind,
    /// The IAM action of the call: `ec2:RunInstances`.
    pub action: &'static str,
    /// The error code of the service, if it responded.
    pub code: Option<String>,
    /// The message of the service, or of the transport error.
    pub message: String,
}

/// Classifies the error codes of EC2, STS and Systems Manager (EC2 API reference, "Error codes for the Amazon EC2 API").
fn kind_of(code: &str, status: Option<u16>) -> Kind {
    match code {
        "DryRunOperation" => Kind::WouldSucceed,
        "RequestLimitExceeded" | "Throttling" | "ThrottlingException" | "EC2ThrottledException" | "SlowDown" => {
            Kind::Throttled
        }
        "InsufficientInstanceCapacity"
        | "InsufficientHostCapacity"
        | "Unsupported"
        | "SpotMaxPriceTooLow"
        | "MaxSpotInstanceCountExceeded"
        | "InsufficientCapacity" => Kind::Capacity,
        "RequestExpired" | "ExpiredToken" | "ExpiredTokenException" => Kind::Expired,
        "AuthFailure"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "SignatureDoesNotMatch"
        | "MissingAuthenticationToken" => Kind::Credentials,
        "OptInRequired" => Kind::NotEnabled,
        "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" => Kind::Denied,
        "InvocationDoesNotExist" | "ParameterNotFound" | "NotFoundException" | "NoSuchResourceException" => {
            Kind::NotFound
        }
        _ if code.ends_with(".NotFound") || code.ends_with(".Malformed") && code.starts_with("InvalidAMIID") => {
            Kind::NotFound
        }
        _ if code.ends_with(".Duplicate") => Kind::Duplicate,
        _ if code.ends_with("LimitExceeded") || code.ends_with("QuotaExceeded") => Kind::Quota,
        "InternalError" | "InternalFailure" | "Unavailable" | "ServiceUnavailable" | "Internal" => Kind::Server,
        _ if status.is_some_and(|s| s >= 500) => Kind::Server,
        _ => Kind::Other,
    }
}

/// Why a call was not written to the ledger, if that is the error. The SDK wraps the error of the interceptor.
fn not_written(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    causes(error).find_map(|cause| cause.downcast_ref::<NotWritten>()).map(ToString::to_string)
}

/// Kind and message of a credentials error, if that is the error.
fn without_credentials(error: &(dyn std::error::Error + 'static)) -> Option<(Kind, String)> {
    let found = causes(error).find_map(|cause| cause.downcast_ref::<CredentialsError>())?;
    Some(match found {
        CredentialsError::CredentialsNotLoaded(_) => (Kind::NoCredentials, "no AWS credentials were found".to_owned()),
        other => (Kind::Credentials, format!("the credentials could not be loaded: {}", in_one_line(other))),
    })
}

/// Converts a result of the SDK.
pub trait Called<T> {
    /// `action` is the IAM action of the call, for messages.
    fn called(self, action: &'static str) -> Result<T, AwsError>;
}

impl<T, E> Called<T> for Result<T, SdkError<E>>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    fn called(self, action: &'static str) -> Result<T, AwsError> {
        self.map_err(|error| {
            let status = error.raw_response().map(|r| r.status().as_u16());
            let code = error.as_service_error().and_then(|e| e.code()).map(str::to_owned);
            if let Some(why) = not_written(&error) {
                return AwsError { kind: Kind::NotWritten, action, code: None, message: why };
            }
            if let Some((kind, message)) = without_credentials(&error) {
                return AwsError { kind, action, code: None, message };
            }
            let kind = match (&error, &code) {
                (SdkError::ServiceError(_), Some(code)) => kind_of(code, status),
                (SdkError::ServiceError(_) | SdkError::ResponseError(_), _) if status.is_some_and(|s| s >= 500) => {
                    Kind::Server
                }
                (SdkError::DispatchFailure(_) | SdkError::TimeoutError(_) | SdkError::ResponseError(_), _) => {
                    Kind::Transport
                }
                _ => Kind::Other,
            };
            let message = match error.as_service_error().and_then(|e| e.message()) {
                Some(message) => message.to_owned(),
                None => in_one_line(&error),
            };
            AwsError { kind, action, code, message }
        })
    }
}

impl AwsError {
    /// True if a later retry may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, Kind::Throttled | Kind::Transport | Kind::Server)
    }

    /// The hint for the error.
    pub(crate) fn hint(&self) -> String {
        match self.kind {
            Kind::Expired => "renew the credentials (`aws sso login`, or assume the role again), then run the same command again; it finds what exists by its tags".to_owned(),
            Kind::NoCredentials => "set AWS_PROFILE to a profile (run `aws sso login` first for a profile of IAM Identity Center), or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where a role is attached: on an instance, in a container, in a workflow with OpenID Connect".to_owned(),
            Kind::Credentials => "check AWS_PROFILE, AWS_ACCESS_KEY_ID or the attached role; `aws sso login` renews a session of IAM Identity Center".to_owned(),
            Kind::NotEnabled => "enable the region (`aws account enable-region --region-name NAME`), or remove it from [regions] in ami.toml".to_owned(),
            Kind::Denied => format!("allow {} for this identity (`cargo xtask iam-policy` prints the policy)", self.action),
            Kind::Quota => "request a higher quota in Service Quotas, or remove resources that are not needed any more".to_owned(),
            Kind::Capacity => "add `build_instance_types` in ami.toml, or try again later".to_owned(),
            Kind::Throttled => "run the same command again later; other programs of the account use up its request rate".to_owned(),
            Kind::Transport | Kind::Server => "run the same command again; it continues with what exists".to_owned(),
            Kind::NotFound => "check with `cargo xtask ami list --on aws` whether another process has deleted it".to_owned(),
            Kind::NotWritten => "fix the problem with the ledger, then resume the run with `cargo xtask ami resume`; this call was not sent".to_owned(),
            Kind::Duplicate | Kind::WouldSucceed | Kind::Other => "see the code in the EC2 API reference, \"Error codes\"".to_owned(),
        }
    }

    fn exit(&self) -> Exit {
        match self.kind {
            Kind::Expired
            | Kind::NoCredentials
            | Kind::Credentials
            | Kind::NotEnabled
            | Kind::Denied
            | Kind::Quota
            | Kind::NotWritten => Exit::Precondition,
            _ => Exit::Failed,
        }
    }
}

impl fmt::Display for AwsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            // The error does not depend on the action.
            None if self.kind == Kind::NoCredentials => f.write_str(&self.message),
            Some(code) => write!(f, "{} was refused: {code}: {}", self.action, self.message),
            None => write!(f, "{} failed: {}", self.action, self.message),
        }
    }
}

impl std::error::Error for AwsError {}

impl From<AwsError> for Error {
    fn from(aws_error: AwsError) -> Self {
        let hint = aws_error.hint();
        aws_error.exit().error(&aws_error, hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_classified_by_how_to_handle_them() {
        let cases = [
            ("InvalidAMIID.NotFound", Kind::NotFound),
            ("InvalidInstanceID.NotFound", Kind::NotFound),
            ("InvalidAMIName.Duplicate", Kind::Duplicate),
            ("InsufficientInstanceCapacity", Kind::Capacity),
            ("VcpuLimitExceeded", Kind::Quota),
            ("RequestLimitExceeded", Kind::Throttled),
            ("RequestExpired", Kind::Expired),
            ("UnauthorizedOperation", Kind::Denied),
            ("DryRunOperation", Kind::WouldSucceed),
            ("InvalidParameterValue", Kind::Other),
        ];
        for (code, kind) in cases {
            assert_eq!(kind_of(code, Some(400)), kind, "{code}");
        }
        assert_eq!(kind_of("SomethingNew", Some(503)), Kind::Server);
    }

    /// An error with a source, as the SDK nests them.
    #[derive(Debug)]
    struct Outer(CredentialsError);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("dispatch failure")
        }
    }

    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn no_credentials_is_one_line_with_the_usual_fixes() {
        let (kind, message) = without_credentials(&Outer(CredentialsError::not_loaded("no providers"))).unwrap();
        let error = Error::from(AwsError { kind, action: "sts:GetCallerIdentity", code: None, message });
        assert_eq!((error.exit(), error.to_string()), (Exit::Precondition, "no AWS credentials were found".to_owned()));
        let text = xtask::error::plain(&error);
        for fix in ["AWS_PROFILE", "AWS_ACCESS_KEY_ID", "role is attached"] {
            assert!(text.contains(fix), "{fix}: {text}");
        }
        let (kind, _) =
            without_credentials(&Outer(CredentialsError::provider_error("the session has expired"))).unwrap();
        assert_eq!(kind, Kind::Credentials);
    }

    #[test]
    fn a_missing_permission_is_a_precondition_and_names_the_action() {
        let aws_error = AwsError {
            kind: Kind::Denied,
            action: "ec2:CopyImage",
            code: Some("UnauthorizedOperation".to_owned()),
            message: "You are not authorized".to_owned(),
        };
        let error = Error::from(aws_error);
        assert_eq!(error.exit(), Exit::Precondition);
        let text = xtask::error::plain(&error);
        assert!(text.contains("allow ec2:CopyImage for this identity"), "{text}");
    }
}

//! An interceptor of the SDK that writes every mutating call to the ledger before it is sent.
//!
//! A call that cannot be written to the ledger is not sent. Read calls and calls with `DryRun` are not written.

use std::fmt;
use std::sync::Arc;

use aws_sdk_ec2::config::interceptors::{BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef};
use aws_sdk_ec2::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use xtask::error::plain;
use xtask::ids::Region;
use xtask::ledger::{Intent, Ticket};
use xtask::state::Run;

use crate::causes::in_one_line;

/// Verbs of read calls.
const READS: [&str; 5] = ["Describe", "Get", "List", "Search", "Assume"];
/// Prefixes of the ids of the resources that a call creates (EC2 user guide, "Resource IDs").
const ID_PREFIXES: [(&str, &str); 7] = [
    ("RunInstances", "i-"),
    ("CreateImage", "ami-"),
    ("CopyImage", "ami-"),
    ("CopySnapshot", "snap-"),
    ("ImportKeyPair", "key-"),
    ("CreateKeyPair", "key-"),
    ("CreateSecurityGroup", "sg-"),
];
/// Parameters that name the subject of a call, in order of preference.
const SUBJECTS: [&str; 12] = [
    "Name",
    "GroupName",
    "KeyName",
    "SnapshotId",
    "ImageId",
    "InstanceId",
    "InstanceId.1",
    "InstanceIds",
    "GroupId",
    "KeyPairId",
    "ResourceId.1",
    "DocumentName",
];

/// The interceptor for the calls of a run in a region. Without a run, mutating calls are errors.
#[derive(Clone, Debug)]
pub struct Journal {
    run: Option<Arc<Run>>,
    region: Region,
}

/// A call that was not sent because it could not be written to the ledger.
#[derive(Debug)]
pub struct NotWritten(String);

/// The ledger entry of a call in progress.
#[derive(Debug)]
struct Pending(Ticket);

impl Storable for Pending {
    type Storer = StoreReplace<Self>;
}

impl Journal {
    /// An interceptor for the calls to one region.
    pub fn new(run: Option<Arc<Run>>, region: &Region) -> Self {
        Self { run, region: region.clone() }
    }
}

impl Intercept for Journal {
    fn name(&self) -> &'static str {
        "Journal"
    }

    fn read_after_serialization(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(operation) = bag.load::<Metadata>() else { return Ok(()) };
        let (service, name) = (operation.service().to_lowercase(), operation.name().to_owned());
        let parameters = parameters(context.request().body().bytes().unwrap_or_default());
        if READS.iter().any(|verb| name.starts_with(verb)) || value(&parameters, "DryRun") == Some("true") {
            return Ok(());
        }
        let intent = intent(format!("{service}:{name}"), &self.region, &parameters);
        let Some(run) = &self.run else {
            return Err(NotWritten(format!("{} was not sent: no run has begun", intent.action)).into());
        };
        let ticket = run.ledger().intend(run.id(), &intent).map_err(|error| NotWritten(plain(&error)))?;
        bag.interceptor_state().store_put(Pending(ticket));
        Ok(())
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let (Some(run), Some(Pending(ticket)), Some(operation)) =
            (&self.run, bag.load::<Pending>(), bag.load::<Metadata>())
        else {
            return Ok(());
        };
        let body = context.response().and_then(|r| r.body().bytes()).unwrap_or_default();
        let body = String::from_utf8_lossy(body);
        let outcome = match context.output_or_error() {
            Some(Ok(_)) => Ok(made(operation.name(), &body)),
            Some(Err(error)) => Err(code(&body).unwrap_or_else(|| in_one_line(error))),
            None => Err("the call ended without a response".to_owned()),
        };
        run.ledger().settle(*ticket, &outcome).map_err(|error| NotWritten(plain(&error)).into())
    }
}

impl fmt::Display for NotWritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotWritten {}

/// The parameters of a request: a form for EC2, JSON for Systems Manager. Of JSON only strings and the first strings of arrays are
/// returned.
fn parameters(body: &[u8]) -> Vec<(String, String)> {
    if let Ok(serde_json::Value::Object(fields)) = serde_json::from_slice(body) {
        let text = |value: serde_json::Value| match value {
            serde_json::Value::String(text) => Some(text),
            serde_json::Value::Array(items) => items.first()?.as_str().map(str::to_owned),
            _ => None,
        };
        return fields.into_iter().filter_map(|(name, value)| Some((name, text(value)?))).collect();
    }
    form_urlencoded::parse(body).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

fn value<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
}

fn intent(action: String, region: &Region, parameters: &[(String, String)]) -> Intent {
    let text = |name: &str| value(parameters, name).map(str::to_owned);
    // `TagSpecification.1.Tag.2.Value` is the value of the tag `TagSpecification.1.Tag.2.Key`.
    let tags = parameters.iter().filter_map(|(name, key)| {
        let tag = name.strip_suffix(".Key").filter(|n| n.contains("Tag."))?;
        Some(format!("{key}={}", text(&format!("{tag}.Value")).unwrap_or_default()))
    });
    let mut tags: Vec<String> = tags.collect();
    tags.sort();
    tags.dedup();
    let subject = SUBJECTS.iter().find_map(|name| text(name));
    Intent { action, region: Some(region.clone()), token: text("ClientToken"), subject, tags }
}

/// The ids of the resources that a call created, from its response.
fn made(operation: &str, body: &str) -> Vec<String> {
    let Some((_, prefix)) = ID_PREFIXES.iter().find(|(name, _)| *name == operation) else { return Vec::new() };
    let mut ids: Vec<String> = Vec::new();
    for (at, _) in body.match_indices(&format!(">{prefix}")) {
        let id: String = body[at + 1..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

/// Error code and message of a response: XML from EC2, JSON from Systems Manager.
fn code(body: &str) -> Option<String> {
    if let Ok(answer) = serde_json::from_str::<serde_json::Value>(body) {
        let kind = answer.get("__type")?.as_str()?;
        let message = answer.get("message").or_else(|| answer.get("Message")).and_then(|m| m.as_str());
        return Some(format!("{}: {}", kind.rsplit('#').next().unwrap_or(kind), message.unwrap_or_default()));
    }
    let between = |tag: &str| {
        let (_, rest) = body.split_once(&format!("<{tag}>"))?;
        rest.split_once("</").map(|(text, _)| text.to_owned())
    };
    Some(format!("{}: {}", between("Code")?, between("Message").unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_subject_and_tags_are_read_from_a_request() {
        let body = b"Action=RunInstances&Version=2016-11-15&ClientToken=abc&ImageId=ami-1&MinCount=1\
            &TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=agent-ami%3Arun&TagSpecification.1.Tag.1.Value=run-1\
            &TagSpecification.2.ResourceType=volume&TagSpecification.2.Tag.1.Key=agent-ami%3Arun&TagSpecification.2.Tag.1.Value=run-1";
        let intent = intent("ec2:RunInstances".to_owned(), &"us-east-1".into(), &parameters(body));
        assert_eq!((intent.token.as_deref(), intent.subject.as_deref()), (Some("abc"), Some("ami-1")));
        assert_eq!(intent.tags, ["agent-ami:run=run-1"]);
    }

    #[test]
    fn json_requests_are_read_and_scripts_are_not_stored() {
        let body =
            br#"{"DocumentName":"AWS-RunShellScript","InstanceIds":["i-1"],"Parameters":{"commands":["secret"]}}"#;
        let intent = intent("ssm:SendCommand".to_owned(), &"us-east-1".into(), &parameters(body));
        assert_eq!(intent.subject.as_deref(), Some("i-1"));
        assert!(!format!("{intent:?}").contains("secret"));
    }

    #[test]
    fn ids_and_error_codes_are_read_from_responses() {
        let body =
            "<instanceId>i-0a</instanceId><imageId>ami-1</imageId><groupId>sg-2</groupId><instanceId>i-0a</instanceId>";
        assert_eq!(made("RunInstances", body), ["i-0a"]);
        assert_eq!(made("TerminateInstances", body), [""; 0]);
        let refusal = "<Errors><Error><Code>VcpuLimitExceeded</Code><Message>too many</Message></Error></Errors>";
        assert_eq!(code(refusal).as_deref(), Some("VcpuLimitExceeded: too many"));
        let refusal = r#"{"__type": "com.amazonaws.ssm#AccessDeniedException", "Message": "not authorized"}"#;
        assert_eq!(code(refusal).as_deref(), Some("AccessDeniedException: not authorized"));
        assert_eq!(code("<html>bad gateway</html>"), None);
    }
}

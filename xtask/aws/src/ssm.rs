//! Managed nodes of Systems Manager, EC2 instances and hybrid nodes (`mi-…`), and AWS-RunShellScript on many of them at once.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ssm::Client;
use aws_sdk_ssm::operation::get_command_invocation::GetCommandInvocationOutput;
use aws_sdk_ssm::types::{CommandInvocationStatus as Status, InstanceInformation, InstanceInformationStringFilter};
use tokio::time::Instant;
use xtask::error::{Error, Result};
use xtask::ids::Region;
use xtask::ssm::{Answer, ManagedNodes, Node, Policy, Target};

use crate::aws_error::{AwsError, Kind};
use crate::clients::Clients;
use crate::drive::Driver;
use crate::wait::retried;

/// Limit of instance ids in one SendCommand (API reference, SendCommand, InstanceIds).
const BATCH: usize = 50;
/// Limit of values in one filter.
const FILTER: usize = 40;

/// The managed nodes of these regions.
#[derive(Debug)]
pub struct Ssm {
    driver: Arc<Driver>,
    clients: Clients,
    regions: Vec<Region>,
    /// Time between two polls of a command.
    pause: Duration,
}

impl Ssm {
    /// `clients` are those of a run, so that commands are written to its ledger.
    pub fn new(driver: &Arc<Driver>, clients: Clients, regions: &[Region], pause: Duration) -> Self {
        Self { driver: Arc::clone(driver), clients, regions: regions.to_vec(), pause }
    }

    async fn find(&self, targets: &[Target]) -> std::result::Result<Vec<Node>, AwsError> {
        let ids: Vec<&String> =
            targets.iter().filter_map(|t| if let Target::Id(id) = t { Some(id) } else { None }).collect();
        let filter = |key: String, values: Vec<String>| {
            InstanceInformationStringFilter::builder().key(key).set_values(Some(values)).build().ok()
        };
        let mut filters: Vec<Option<InstanceInformationStringFilter>> = ids
            .chunks(FILTER)
            .map(|some| filter("InstanceIds".to_owned(), some.iter().map(|s| (*s).clone()).collect()))
            .collect();
        filters.extend(targets.iter().filter_map(|target| match target {
            Target::Tag(key, value) => Some(filter(format!("tag:{key}"), vec![value.clone()])),
            Target::Id(_) => None,
        }));
        if targets.is_empty() {
            filters.push(None);
        }
        let mut nodes = Vec::new();
        for region in &self.regions {
            for filter in &filters {
                nodes.extend(described(&self.clients.ssm(region), region, filter.clone()).await?);
            }
        }
        Ok(nodes)
    }

    /// Sends a script to nodes of one region, and waits until each has a result or times out.
    async fn batch(
        &self,
        region: &Region,
        ids: Vec<String>,
        script: &str,
        within: Duration,
        on_answer: &dyn Fn(&Answer),
    ) -> Vec<Answer> {
        let client = self.clients.ssm(region);
        let answer = |id: &str, status: &str, stderr: String| Answer {
            id: id.to_owned(),
            region: region.clone(),
            status: status.to_owned(),
            code: None,
            stdout: String::new(),
            stderr,
        };
        let seconds = within.as_secs().max(30);
        let call = client.send_command().document_name("AWS-RunShellScript").set_instance_ids(Some(ids.clone()));
        // TimeoutSeconds limits the time until the node accepts the command, executionTimeout the execution (API reference).
        let call = call.timeout_seconds(i32::try_from(seconds).unwrap_or(i32::MAX));
        let call = call
            .parameters("executionTimeout", vec![seconds.to_string()])
            .parameters("commands", vec![script.to_owned()]);
        let command = match retried(|| call.clone().send(), "ssm:SendCommand").await {
            Ok(sent) => sent.command().and_then(|c| c.command_id()).unwrap_or_default().to_owned(),
            Err(aws_error) => {
                // One node that does not accept commands fails the whole call, so each node is tried separately.
                if ids.len() > 1 && aws_error.code.as_deref() == Some("InvalidInstanceId") {
                    let mut answers = Vec::new();
                    for id in ids {
                        answers.extend(Box::pin(self.batch(region, vec![id], script, within, on_answer)).await);
                    }
                    return answers;
                }
                let answers: Vec<Answer> = ids.iter().map(|id| answer(id, "NotSent", aws_error.to_string())).collect();
                answers.iter().for_each(on_answer);
                return answers;
            }
        };
        let deadline = Instant::now() + within + Duration::from_secs(30);
        let mut waiting = ids;
        let mut answers = Vec::new();
        while !waiting.is_empty() {
            let late = Instant::now() >= deadline;
            let mut left = Vec::new();
            for id in waiting {
                let new = match invocation(&client, &command, &id).await {
                    Ok(Some(done)) => answered(&id, region, &done),
                    Ok(None) if !late => {
                        left.push(id);
                        continue;
                    }
                    Ok(None) => answer(&id, "TimedOut", format!("no answer within {seconds} s")),
                    Err(aws_error) => answer(&id, "Unknown", aws_error.to_string()),
                };
                on_answer(&new);
                answers.push(new);
            }
            waiting = left;
            if !waiting.is_empty() {
                tokio::time::sleep(self.pause).await;
            }
        }
        answers
    }
}

impl ManagedNodes for Ssm {
    fn nodes(&self, targets: &[Target]) -> Result<Vec<Node>> {
        self.driver.wait(self.find(targets))?.map_err(Error::from)
    }

    fn run(&self, nodes: &[Node], script: &str, within: Duration, on_answer: &dyn Fn(&Answer)) -> Result<Vec<Answer>> {
        let mut answers = Vec::new();
        for region in &self.regions {
            let ids: Vec<String> = nodes.iter().filter(|n| n.region == *region).map(|n| n.id.clone()).collect();
            for some in ids.chunks(BATCH) {
                answers.extend(self.driver.wait(self.batch(region, some.to_vec(), script, within, on_answer))?);
            }
        }
        Ok(answers)
    }
}

/// All pages of DescribeInstanceInformation.
async fn described(
    client: &Client,
    region: &Region,
    filter: Option<InstanceInformationStringFilter>,
) -> std::result::Result<Vec<Node>, AwsError> {
    let (mut nodes, mut next) = (Vec::new(), None);
    loop {
        let call = client.describe_instance_information().set_filters(filter.clone().map(|f| vec![f]));
        let call = call.max_results(50).set_next_token(next.take());
        let page = retried(|| call.clone().send(), "ssm:DescribeInstanceInformation").await?;
        nodes.extend(page.instance_information_list().iter().map(|found| node(region, found)));
        next = page.next_token().filter(|t| !t.is_empty()).map(str::to_owned);
        if next.is_none() {
            return Ok(nodes);
        }
    }
}

fn node(region: &Region, found: &InstanceInformation) -> Node {
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let ping = found.ping_status().map_or("Unknown", |p| p.as_str()).to_owned();
    let last = found.last_ping_date_time().and_then(|t| jiff::Timestamp::from_second(t.secs()).ok());
    let system =
        format!("{} {}", found.platform_name().unwrap_or_default(), found.platform_version().unwrap_or_default());
    Node {
        id: text(found.instance_id()),
        region: region.clone(),
        name: text(found.name().or(found.computer_name())),
        last_ping: last.map(|t| t.to_string()).unwrap_or_default(),
        agent: text(found.agent_version()),
        platform: found.platform_type().map_or("unknown", |p| p.as_str()).to_owned(),
        system: system.trim().to_owned(),
        policy: Policy::Unknown { why: if ping == "Online" { "not queried".to_owned() } else { ping.clone() } },
        ping,
    }
}

/// The result of a command on a node; `None` while it runs.
async fn invocation(
    client: &Client,
    command: &str,
    id: &str,
) -> std::result::Result<Option<GetCommandInvocationOutput>, AwsError> {
    let call = client.get_command_invocation().command_id(command).instance_id(id);
    match retried(|| call.clone().send(), "ssm:GetCommandInvocation").await {
        // The invocation becomes visible shortly after SendCommand returns.
        Err(aws_error) if aws_error.kind == Kind::NotFound => Ok(None),
        Err(aws_error) => Err(aws_error),
        Ok(answer) => match answer.status() {
            Some(Status::Pending | Status::InProgress | Status::Delayed | Status::Cancelling) | None => Ok(None),
            _ => Ok(Some(answer)),
        },
    }
}

fn answered(id: &str, region: &Region, found: &GetCommandInvocationOutput) -> Answer {
    Answer {
        id: id.to_owned(),
        region: region.clone(),
        status: found.status().map_or("Unknown", Status::as_str).to_owned(),
        // The response code is -1 if the command has not run (API reference).
        code: Some(found.response_code()).filter(|code| *code >= 0),
        stdout: found.standard_output_content().unwrap_or_default().to_owned(),
        stderr: found.standard_error_content().unwrap_or_default().to_owned(),
    }
}

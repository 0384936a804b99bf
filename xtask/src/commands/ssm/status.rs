//! `ssm status`: lists the managed nodes with their ping status, agent version and restart policy.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;

use super::{regions, select};
use crate::cli;
use crate::commands::{Context, Finish, Provider};
use crate::error::{Exit, Result};
use crate::ssm::{ASK_POLICY, Answer, Node, Policy, policy};

/// Timeout for the answer of a node that is online.
const TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::SsmStatus) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let regions = regions(&args.regions, &config.regions.aws);
    let query_policy = !args.no_policy && !context.common.dry_run;
    let run = query_policy.then(|| context.begin_run(&state)).transpose()?;
    let managed_nodes = provider.managed_nodes(&config, &regions, run)?;
    let mut nodes = select(managed_nodes.as_ref(), &args.targets, &regions)?;
    if query_policy {
        let queried: Vec<Node> = nodes.iter().filter(|n| n.is_online() && n.platform == "Linux").cloned().collect();
        let answers = managed_nodes.run(&queried, ASK_POLICY, TIMEOUT, &|_| {})?;
        let answers: HashMap<&str, &Answer> = answers.iter().map(|a| (a.id.as_str(), a)).collect();
        for node in &mut nodes {
            if let Some(answer) = answers.get(node.id.as_str()) {
                node.policy = reported(answer);
            }
        }
    }
    context.document("fleet", json!({ "nodes": nodes }), table(&nodes));
    let away: Vec<String> =
        nodes.iter().filter(|n| !n.is_online()).map(|n| format!("{} is {}", n.id, n.ping)).collect();
    if away.is_empty() {
        return Ok(Finish::new(format!("all {} nodes are online", nodes.len()), json!({ "nodes": nodes })));
    }
    let hint =
        "start the machine or its agent; run `cargo xtask ssm keepalive` so that systemd restarts the agent in future";
    Err(Exit::ImageFailed.error(away.join("\n"), hint))
}

fn reported(answer: &Answer) -> Policy {
    if answer.is_good() {
        return policy(&answer.stdout);
    }
    let why = answer.stderr.lines().next().filter(|l| !l.is_empty()).unwrap_or(&answer.status);
    Policy::Unknown { why: format!("query failed: {why}") }
}

/// A table with one line for each node.
fn table(nodes: &[Node]) -> String {
    let head = ["node", "region", "ping", "last ping", "agent", "system", "name", "restart policy"].map(str::to_owned);
    let row = |n: &Node| {
        let last = n.last_ping.replace('T', " ");
        let last = last.split('.').next().unwrap_or_default().trim_end_matches('Z').to_owned();
        [n.id.as_str(), &n.region, &n.ping, &last, &n.agent, &n.system, &n.name, &n.policy.brief()].map(str::to_owned)
    };
    let rows: Vec<[String; 8]> = std::iter::once(head).chain(nodes.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..8).map(width).collect();
    let line = |r: &[String; 8]| {
        let cells: Vec<String> = r.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_one_line_for_each_node() {
        let node = |id: &str, ping: &str, policy| Node {
            id: id.to_owned(),
            region: "us-east-1".into(),
            name: "web".to_owned(),
            ping: ping.to_owned(),
            last_ping: "2026-11-22T05:00:00.25Z".to_owned(),
            agent: "3.3.40.0".to_owned(),
            platform: "Linux".to_owned(),
            system: "Ubuntu 22.04".to_owned(),
            policy,
        };
        let known = policy("unit=amazon-ssm-agent.service restart=always after=10s start-limit=0");
        let unknown = Policy::Unknown { why: "ConnectionLost".to_owned() };
        let nodes =
            [node("i-0aaaaaaaaaaaaaaa1", "Online", known), node("mi-0aaaaaaaaaaaaaaa1", "ConnectionLost", unknown)];
        insta::assert_snapshot!(table(&nodes), @"
        node                  region     ping            last ping            agent     system        name  restart policy
        i-0aaaaaaaaaaaaaaa1   us-east-1  Online          2026-11-22 05:00:00  3.3.40.0  Ubuntu 22.04  web   always after 10s
        mi-0aaaaaaaaaaaaaaa1  us-east-1  ConnectionLost  2026-11-22 05:00:00  3.3.40.0  Ubuntu 22.04  web   unknown: ConnectionLost
        ");
    }
}

//! `ssm status`: every managed node, whether it takes commands, and whether its agent would come back.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;

use super::{regions, wanted};
use crate::cli;
use crate::commands::{Context, Finish, Provider};
use crate::error::{Exit, Result};
use crate::ssm::{ASK_POLICY, Answer, Node, Policy, policy};

/// How long a node that is online may take to answer.
const WITHIN: Duration = Duration::from_secs(60);

/// Runs the command.
pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::SsmStatus) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let regions = regions(&args.regions, &config.regions.aws);
    let asks = !args.no_policy && !context.common.dry_run;
    let run = asks.then(|| context.begin_run(&state)).transpose()?;
    let managed_nodes = provider.managed_nodes(&config, &regions, run)?;
    let mut nodes = wanted(managed_nodes.as_ref(), &args.targets, &regions)?;
    if asks {
        let asked: Vec<Node> = nodes.iter().filter(|n| n.is_online() && n.platform == "Linux").cloned().collect();
        let answers = managed_nodes.run(&asked, ASK_POLICY, WITHIN, &|_| {})?;
        let answers: HashMap<&str, &Answer> = answers.iter().map(|a| (a.id.as_str(), a)).collect();
        for node in &mut nodes {
            if let Some(answer) = answers.get(node.id.as_str()) {
                node.policy = learned(answer);
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
        "start the machine or its agent; `cargo xtask ssm keepalive` has systemd bring the agent back the next time";
    Err(Exit::ImageFailed.error(away.join("\n"), hint))
}

fn learned(answer: &Answer) -> Policy {
    if answer.is_good() {
        return policy(&answer.stdout);
    }
    let why = answer.stderr.lines().next().filter(|l| !l.is_empty()).unwrap_or(&answer.status);
    Policy::Unknown { why: format!("asked, {why}") }
}

/// A line a node, in columns.
fn table(nodes: &[Node]) -> String {
    let head =
        ["node", "region", "ping", "last ping", "agent", "system", "name", "agent comes back"].map(str::to_owned);
    let row = |n: &Node| {
        let last = n.last_ping.replace('T', " ");
        let last = last.split('.').next().unwrap_or_default().trim_end_matches('Z').to_owned();
        [&n.id, &n.region, &n.ping, &last, &n.agent, &n.system, &n.name, &n.policy.brief()].map(Clone::clone)
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
    fn the_table_has_a_line_a_node() {
        let node = |id: &str, ping: &str, policy| Node {
            id: id.to_owned(),
            region: "us-east-1".to_owned(),
            name: "web".to_owned(),
            ping: ping.to_owned(),
            last_ping: "2026-11-22T05:00:00.25Z".to_owned(),
            agent: "3.3.40.0".to_owned(),
            platform: "Linux".to_owned(),
            system: "Ubuntu 22.04".to_owned(),
            policy,
        };
        let told = policy("unit=amazon-ssm-agent.service restart=always after=10s start-limit=0");
        let away = Policy::Unknown { why: "ConnectionLost".to_owned() };
        let nodes = [node("i-0aaaaaaaaaaaaaaa1", "Online", told), node("mi-0aaaaaaaaaaaaaaa1", "ConnectionLost", away)];
        insta::assert_snapshot!(table(&nodes), @"
        node                  region     ping            last ping            agent     system        name  agent comes back
        i-0aaaaaaaaaaaaaaa1   us-east-1  Online          2026-11-22 05:00:00  3.3.40.0  Ubuntu 22.04  web   always after 10s
        mi-0aaaaaaaaaaaaaaa1  us-east-1  ConnectionLost  2026-11-22 05:00:00  3.3.40.0  Ubuntu 22.04  web   unknown: ConnectionLost
        ");
    }
}

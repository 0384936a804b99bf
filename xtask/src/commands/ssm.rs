//! `ssm …`: manages running servers through AWS Systems Manager.

use crate::error::{Exit, Result};
use crate::ids::Region;
use crate::ssm::{ManagedNodes, Node, Target};

mod each;
pub(super) mod install;
pub(super) mod keepalive;
pub(super) mod status;

/// The regions to search: those of the command line, else those of ami.toml.
fn regions(requested: &[String], configured: &[Region]) -> Vec<Region> {
    if requested.is_empty() {
        configured.to_vec()
    } else {
        requested.iter().map(|region| region.as_str().into()).collect()
    }
}

/// The nodes that the targets select. An unknown id is an error, so that a missing node is not reported as success.
fn select(managed_nodes: &dyn ManagedNodes, targets: &[Target], regions: &[Region]) -> Result<Vec<Node>> {
    let mut nodes = managed_nodes.nodes(targets)?;
    nodes.sort_by(|a, b| (&a.region, &a.id).cmp(&(&b.region, &b.id)));
    nodes.dedup_by(|a, b| a.id == b.id);
    let unknown: Vec<&str> = targets
        .iter()
        .filter_map(|target| match target {
            Target::Id(id) if !nodes.iter().any(|node| node.id == *id) => Some(id.as_str()),
            _ => None,
        })
        .collect();
    if !unknown.is_empty() {
        let message = format!("no managed node {} in {}", unknown.join(", "), regions.join(", "));
        let hint = "check the id and --region; a node is registered by an instance profile with AmazonSSMManagedInstanceCore, or by a \
                    hybrid activation";
        return Err(Exit::Precondition.error(message, hint));
    }
    if nodes.is_empty() {
        let message = format!("no managed node in {}", regions.join(", "));
        return Err(Exit::Precondition.error(message, "check --target and --region"));
    }
    Ok(nodes)
}

//! `ssm …`: servers that already run, by AWS Systems Manager.

use crate::error::{Exit, Result};
use crate::ssm::{ManagedNodes, Node, Target};

mod each;
pub(super) mod install;
pub(super) mod keepalive;
pub(super) mod status;

/// The regions to look in: those asked for, else ami.toml's.
fn regions(asked: &[String], configured: &[String]) -> Vec<String> {
    if asked.is_empty() { configured.to_vec() } else { asked.to_vec() }
}

/// The nodes that are meant. An id that nobody knows is a mistake: what should be kept alive and is not there must not look well.
fn wanted(managed_nodes: &dyn ManagedNodes, targets: &[Target], regions: &[String]) -> Result<Vec<Node>> {
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
        let message = format!("Systems Manager does not know {} in {}", unknown.join(", "), regions.join(", "));
        let hint = "look at the id and --region; a node is known once its agent was registered: an instance profile with \
                    AmazonSSMManagedInstanceCore, or a hybrid activation";
        return Err(Exit::Precondition.error(message, hint));
    }
    if nodes.is_empty() {
        let message = format!("there is no managed node in {}", regions.join(", "));
        return Err(Exit::Precondition.error(message, "look at --target and --region"));
    }
    Ok(nodes)
}

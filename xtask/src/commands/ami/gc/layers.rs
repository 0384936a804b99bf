//! The layers in `ami gc`. They are listed and removed under the build lock, and are all kept if a build or a kept machine may use them.

use jiff::{SignedDuration, Timestamp};

use crate::cloud::{Cloud, StoredLayer};
use crate::commands::Context;
use crate::config::Config;
use crate::error::Result;
use crate::event::Event;
use crate::ids::Region;
use crate::stage::gc::layers::{self as stage, Policy};
use crate::stage::gc::{Action, Decision};
use crate::state::{Lock, State};

/// The decisions about the layers.
#[derive(Debug, Default)]
pub(super) struct Layers {
    decisions: Vec<stage::Decision>,
    region: Region,
    /// Why no decisions were made; `None` if they were.
    pub(super) left_alone: Option<String>,
    /// The build lock, held until the layers are removed.
    _lock: Option<Lock>,
}

impl Layers {
    /// Decides which layers to remove, unless a build is running or a machine was kept after one.
    pub(super) fn plan<C: Cloud>(context: &Context, cloud: &C, config: &Config, state: &State) -> Result<Self> {
        let lock = match state.try_lock("build", &context.line)? {
            Ok(lock) => lock,
            Err(holder) => return Ok(Self::left_alone(context, format!("a running build may use them: {holder}"))),
        };
        if let Some(run) = state.kept_runs()?.first() {
            return Ok(Self::left_alone(context, format!("the machine kept by {run} may use them")));
        }
        let decisions = stage::plan(&cloud.stored_layers()?, &policy(config), Timestamp::now());
        let region = cloud.home();
        Ok(Self { decisions, region, left_alone: None, _lock: Some(lock) })
    }

    fn left_alone(context: &Context, why: String) -> Self {
        context.events.event(Event::Note { message: format!("all layers are kept: {why}") });
        Self { left_alone: Some(why), ..Self::default() }
    }

    /// The decisions in the order in which they are carried out.
    pub(super) fn decisions(&self) -> impl Iterator<Item = Decision> {
        self.decisions.iter().map(|decision| Decision {
            action: decision.action,
            what: "layer",
            id: decision.layer.id.to_string(),
            region: self.region.clone(),
            of: decision.layer.step.clone().unwrap_or_default(),
            reason: decision.reason.clone(),
            monthly: None,
            bytes: Some(decision.layer.bytes),
        })
    }

    /// The layer that a decision is about.
    pub(super) fn find(&self, decision: &Decision) -> Option<&StoredLayer> {
        let mut layers = self.decisions.iter().map(|d| &d.layer).filter(|_| decision.what == "layer");
        layers.find(|layer| layer.id.to_string() == decision.id)
    }

    /// How many layers are removed and kept, as text; empty without layers.
    pub(super) fn summary(&self) -> String {
        if self.decisions.is_empty() {
            return String::new();
        }
        let removed: Vec<&stage::Decision> = self.decisions.iter().filter(|d| d.action == Action::Remove).collect();
        let bytes = removed.iter().map(|d| d.layer.bytes).sum();
        let (remove, keep) = (removed.len(), self.decisions.len() - removed.len());
        format!("; layers: {remove} to remove ({}), {keep} to keep", stage::size(bytes))
    }
}

fn policy(config: &Config) -> Policy {
    let local = &config.local;
    let days = i64::try_from(local.layer_days).unwrap_or(3650);
    Policy { unused: SignedDuration::from_hours(24 * days), bytes: local.layers_gib << 30 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    #[test]
    fn the_settings_of_the_configuration_are_the_policy() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let env = [("AGENT_AMI_LOCAL_LAYERS_GIB".to_owned(), "3".to_owned())].into();
        let policy = policy(&Config::load(root, &Overrides::default(), &env).unwrap());
        assert_eq!((policy.bytes, policy.unused), (3 << 30, SignedDuration::from_hours(30 * 24)));
    }
}

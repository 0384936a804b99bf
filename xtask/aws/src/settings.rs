//! What `ami.toml` says about EC2, in this crate's own types.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::wait::Patience;

/// `[aws]` and its neighbours.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The regions, home first.
    pub regions: Vec<String>,
    /// Regions whose failure is told, but does not fail the copy.
    pub best_effort: Vec<String>,
    /// Named profile, if one is set.
    pub profile: Option<String>,
    /// Accounts that may be worked in; empty for any.
    pub accounts: Vec<String>,
    /// Instance types for the builder after the template's own, tried in order when there is no capacity.
    pub more_builder_types: Vec<String>,
    /// Instance types of smoke instances, one instance each.
    pub smoke_types: Vec<String>,
    /// How instances are entered.
    pub via: Via,
    /// Instance profile that lets an instance speak with Systems Manager; empty for what the template says.
    pub ssm_profile: String,
    /// Subnet of a smoke instance; empty for a default one.
    pub subnet: String,
    /// Networks that temporary security groups let in; empty for the caller's own address.
    pub ssh_cidrs: Vec<String>,
    /// Address to use instead of an instance's own: a tunnel, a bastion's port.
    pub ssh_host: Option<String>,
    /// Port to use with it.
    pub ssh_port: Option<u16>,
    /// What the names of the channels' parameters begin with, `/agent-ami`.
    pub prefixes: Vec<String>,
    /// KMS key of the copies in a region; the region's default key where none is named.
    pub kms_keys: BTreeMap<String, String>,
    /// Ask for copies within this time (time-based copies, 15-minute steps).
    pub copy_within: Option<Duration>,
    /// An instance ends itself after this long, in case nobody is left to end it.
    pub lifetime: Duration,
    /// How long an instance may take to let us in.
    pub boot_timeout: Duration,
    /// How EC2 is waited for.
    pub patience: Patiences,
}

/// How instances are entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// SSH, with a temporary key and a temporary security group.
    Ssh,
    /// AWS Systems Manager Run Command; nothing is opened.
    Ssm,
}

/// How EC2 is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patiences {
    /// Images that are made.
    pub image: Patience,
    /// Images that are copied.
    pub copy: Patience,
    /// Instances.
    pub instance: Patience,
    /// Before a refused call is made again.
    pub pause: Duration,
    /// Between two looks at a command of Systems Manager.
    pub command: Duration,
}

impl Default for Patiences {
    fn default() -> Self {
        Self {
            image: Patience::IMAGE,
            copy: Patience::COPY,
            instance: Patience::INSTANCE,
            pause: Duration::from_secs(5),
            command: Duration::from_secs(1),
        }
    }
}

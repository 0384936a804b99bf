//! The settings of `ami.toml` for EC2, in this crate's types.

use std::collections::BTreeMap;
use std::time::Duration;

use xtask::ids::Region;

use crate::wait::Patience;

/// `[aws]` and related sections of ami.toml.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The regions, home first.
    pub regions: Vec<Region>,
    /// Regions whose failure is reported, but does not fail the copy.
    pub best_effort: Vec<Region>,
    /// Named profile, if one is set.
    pub profile: Option<String>,
    /// Allowed accounts; empty for any.
    pub accounts: Vec<String>,
    /// Instance types for the builder after the template's, tried in order after capacity errors.
    pub more_builder_types: Vec<String>,
    /// Instance types of smoke instances, one instance each.
    pub smoke_types: Vec<String>,
    /// How to connect to instances.
    pub via: Via,
    /// Instance profile of smoke instances, and of builders whose template has none; Systems Manager requires one.
    pub ssm_profile: Option<String>,
    /// Subnet of a smoke instance; `None` for a default one.
    pub subnet: Option<String>,
    /// Networks that temporary security groups allow; empty for the caller's own address.
    pub ssh_cidrs: Vec<String>,
    /// Address for SSH instead of an instance's own, for example of a tunnel or a bastion.
    pub ssh_host: Option<String>,
    /// Port for SSH instead of the order's.
    pub ssh_port: Option<u16>,
    /// Prefixes of the channels' parameters, `/agent-ami`.
    pub prefixes: Vec<String>,
    /// KMS key of the copies in a region; the region's default key where none is named.
    pub kms_keys: BTreeMap<Region, String>,
    /// Completion duration of copies (time-based copies, 15-minute steps).
    pub copy_within: Option<Duration>,
    /// Time after which an instance powers itself off, in case its run is dead.
    pub lifetime: Duration,
    /// Timeout for the connection to a booting instance, and for cloud-init.
    pub boot_timeout: Duration,
    /// Timeouts and intervals of waits.
    pub patience: Patiences,
}

/// How to connect to instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// SSH, with a temporary key and a temporary security group.
    Ssh,
    /// AWS Systems Manager Run Command, without an open port.
    Ssm,
}

/// Timeouts and intervals of waits.
#[derive(Clone, Copy, Debug)]
pub struct Patiences {
    /// New images.
    pub image: Patience,
    /// Copies.
    pub copy: Patience,
    /// Instances.
    pub instance: Patience,
    /// Time before a refused call is repeated.
    pub pause: Duration,
    /// Time between two polls of a command of Systems Manager.
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

//! Orphans: resources of runs that are not images, such as machines, volumes, snapshots and directories.

use serde::Serialize;

use crate::ids::{Region, RunId};

/// A resource that a run made and that is not a usable image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Orphan {
    /// The kind of resource.
    pub kind: Kind,
    /// Its id at the provider.
    pub id: String,
    pub region: Region,
    /// The run that made it, if it is known.
    pub run: Option<RunId>,
    /// Time after which it may be removed whatever the outcome of its run, RFC 3339.
    pub expires: Option<String>,
    /// Its size, if it is billed by size.
    pub bytes: Option<u64>,
}

/// The kinds of orphans in the order of their removal: an earlier one may use a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An instance, or a QEMU process.
    Machine,
    /// A volume that is not attached to an instance.
    Volume,
    KeyPair,
    SecurityGroup,
    /// An image whose creation is in progress or failed.
    UnfinishedImage,
    /// A snapshot that no image uses.
    Snapshot,
    /// A directory on this machine.
    Directory,
    /// A claim on a channel.
    Claim,
}

impl Kind {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Volume => "volume",
            Self::KeyPair => "key pair",
            Self::SecurityGroup => "security group",
            Self::UnfinishedImage => "unfinished image",
            Self::Snapshot => "snapshot",
            Self::Directory => "directory",
            Self::Claim => "claim",
        }
    }

    /// True for resources that a run needs only while it works. The others may still become part of an image when the run is resumed.
    pub fn is_temporary(self) -> bool {
        !matches!(self, Self::UnfinishedImage | Self::Snapshot | Self::Directory | Self::Claim)
    }
}

//! What runs leave that is no image: machines, volumes, snapshots, folders.

use serde::Serialize;

/// Something a run made that is no image anybody can use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Orphan {
    /// What it is.
    pub kind: Kind,
    /// Its id there.
    pub id: String,
    /// Its region.
    pub region: String,
    /// The run that made it, as far as that is known.
    pub run: Option<String>,
    /// When it may be taken away whatever became of its run, RFC 3339.
    pub expires: Option<String>,
    /// How large it is, if it is paid by size.
    pub bytes: Option<u64>,
}

/// What a leftover is. In the order in which they are taken away: the first hold the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An instance, or a QEMU process.
    Machine,
    /// A volume of no instance.
    Volume,
    /// A key pair.
    KeyPair,
    /// A security group.
    SecurityGroup,
    /// An image that is being made, or never came to be.
    UnfinishedImage,
    /// A snapshot of no image.
    Snapshot,
    /// A folder on this machine.
    Folder,
    /// A claim on a channel.
    Claim,
}

impl Kind {
    /// Its name for a person.
    pub fn name(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Volume => "volume",
            Self::KeyPair => "key pair",
            Self::SecurityGroup => "security group",
            Self::UnfinishedImage => "unfinished image",
            Self::Snapshot => "snapshot",
            Self::Folder => "folder",
            Self::Claim => "claim",
        }
    }

    /// True for what a run needs only while it works; the rest may still become what it was to be.
    pub fn is_temporary(self) -> bool {
        !matches!(self, Self::UnfinishedImage | Self::Snapshot | Self::Folder | Self::Claim)
    }
}

//! The kinds of builders, in which recipes are carried out.

use serde::{Deserialize, Serialize};

use crate::recipe::Digest;

/// The environment in which a recipe is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BuilderKind {
    /// A virtual machine on this host.
    Vm,
    /// A container on this host's kernel.
    Container,
    /// An EC2 instance.
    Instance,
}

impl BuilderKind {
    /// Its name in ami.toml, in records and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vm => "vm",
            Self::Container => "container",
            Self::Instance => "instance",
        }
    }

    /// The parent key of the first layer on a base. It differs by builder, so that no build continues in a VM what was begun in a
    /// container or the other way round.
    pub fn root(self, base: Digest) -> Digest {
        match self {
            Self::Container => Digest::of_parts([("base", base.bytes()), ("builder", self.name().as_bytes())]),
            Self::Vm | Self::Instance => base,
        }
    }
}

/// The choice of a builder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Builder {
    /// The chosen kind.
    pub kind: BuilderKind,
    /// The reason, for messages.
    pub why: String,
}

//! What an image is built in, and why.

use serde::{Deserialize, Serialize};

use crate::recipe::Digest;

/// What a recipe is carried out in.
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
    /// Its name in ami.toml, in records and for a person.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vm => "vm",
            Self::Container => "container",
            Self::Instance => "instance",
        }
    }

    /// What the layer keys of a chain begin with. Each builder has a chain of its own on a base, so that no image is begun in one and
    /// finished in the other.
    pub fn root(self, base: Digest) -> Digest {
        match self {
            Self::Container => Digest::of_parts([("base", base.bytes()), ("builder", self.name().as_bytes())]),
            Self::Vm | Self::Instance => base,
        }
    }
}

/// A builder that was chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Builder {
    /// What it is.
    pub kind: BuilderKind,
    /// Why, for a person.
    pub why: String,
}

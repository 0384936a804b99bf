//! Records of images and base images.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::BuilderKind;
use crate::ids::{Region, RunId};
use crate::recipe::{Digest, Origin};

/// An image's id: `ami-…` on EC2, `ami-local-…` at the local provider.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageId(pub String);

/// An image in one region, as in its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Version of the record's format.
    pub schema: u32,
    /// Its id, unique across regions.
    pub id: ImageId,
    /// `{recipe name}-v{version}-{YYYYMMDD-HHmm}`, unique in a region (docs/src/reference-image.md#versioning).
    pub name: String,
    /// The region it is stored in.
    pub region: Region,
    /// Its name in `ami.toml`, which all builds of it share.
    pub image: String,
    /// The processor architecture in EC2's terms: `x86_64`, `arm64`; `None` in records that are older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// The account that owns it; `None` where there are no accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The version in `ami.toml` when it was built.
    pub version: String,
    /// When it was captured; `None` if the provider did not report it.
    #[serde(default)]
    pub created: Option<Timestamp>,
    /// Hash of the recipe, which includes the base.
    pub recipe_hash: Digest,
    /// The base image; `None` for a template that only Packer reads, whose base is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseRecord>,
    /// Identifies the content; the same in every region the image was copied to. The SHA-256 of the disk file, or on EC2, where the
    /// disk cannot be read, of the id of the image that the copies were made from.
    pub content: Digest,
    /// Size of the disk file, or on EC2 of the root volume, in bytes.
    pub disk_bytes: u64,
    /// The image this one was copied from; `None` if it is not a copy.
    pub copied_from: Option<ImageId>,
    /// The run that made it.
    pub run: RunId,
    /// The engine that built it: `native`, `packer`.
    pub engine: EngineKind,
    /// The builder; `None` in records that are older than this field, and on EC2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built_in: Option<BuilderKind>,
    /// The agent in it: the value of the template variable `provider`; `None` for a template without this variable, and in records that are
    /// older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Where its template comes from; `None` for a template of the project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Origin>,
    /// The identity of the builder. An instance of the image must have another one.
    pub builder: Identity,
    /// Free-form tags.
    pub tags: BTreeMap<String, String>,
}

/// The values by which one machine is distinguished from another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// SHA-256 fingerprints of its SSH host keys, sorted.
    pub host_keys: Vec<String>,
    /// machine-id(5).
    pub machine_id: String,
}

/// The base image that an image was built on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseRecord {
    /// `ubuntu-22.04`, `debian-13`; on EC2 the base AMI's name.
    pub name: String,
    /// The base AMI's id; at the local provider the same as `name`.
    pub id: String,
    /// SHA-256 of the base disk, or of the base AMI's id.
    pub digest: Digest,
}

impl BaseRecord {
    /// The record of a local base image.
    pub fn local(name: &str, digest: Digest) -> Self {
        Self { name: name.to_owned(), id: name.to_owned(), digest }
    }

    /// True if images built on this base may be published: only those on Ubuntu, the required base (docs/src/reference-image.md#base).
    /// The Debian fallback is for testing a recipe locally.
    pub fn may_leave_local(&self) -> bool {
        self.name.starts_with("ubuntu")
    }
}

/// The engine that built an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// This program.
    #[default]
    Native,
    /// Packer.
    Packer,
}

impl EngineKind {
    /// Its name in records, tags and plans.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Packer => "packer",
        }
    }

    /// The engine with this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Native, Self::Packer].into_iter().find(|engine| engine.name() == name)
    }
}

/// An entry of an image list. A record that cannot be read is an entry too, so that it does not hide the others.
#[derive(Debug)]
pub enum Listed {
    /// An image with a readable record.
    Image(Box<Image>),
    /// An image with a damaged record.
    Corrupt(Corrupt),
}

/// An image whose record cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// Its id, as far as it can be determined.
    pub id: ImageId,
    pub region: Region,
    /// Where to look for it: a directory, or the image in a region.
    pub place: String,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
impl Image {
    /// An image for tests, with a valid value in each field.
    pub(crate) fn sample() -> Self {
        Self {
            schema: 1,
            id: ImageId("ami-1".to_owned()),
            name: "v1".to_owned(),
            region: "us-east-1".into(),
            image: "locus-agent".to_owned(),
            arch: None,
            account: None,
            version: "1.0.0".to_owned(),
            created: None,
            recipe_hash: Digest::of(b"recipe"),
            base: Some(BaseRecord::local("base", Digest::of(b"base"))),
            content: Digest::of(b"disk"),
            disk_bytes: 1,
            copied_from: None,
            run: "run-1".into(),
            engine: EngineKind::Native,
            built_in: None,
            agent: None,
            template: None,
            builder: Identity::default(),
            tags: BTreeMap::new(),
        }
    }
}

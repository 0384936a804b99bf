//! Where images live: the trait that stages are generic over, and its types.
//!
//! `local` (QEMU on this machine) is below this module; `aws` will be a crate of its own. Nothing here knows either, prints, or
//! decides what a pipeline does.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Exit, Result};
use crate::process;
use crate::recipe::{Digest, Recipe, Source};
use crate::remote::Remote;

mod builder;
mod layer;
mod orphan;
pub mod local;

pub use builder::{Builder, BuilderKind};
pub use layer::{Generation, Layer, LayerId, NoGeneration, Standing, StoredLayer, layer_of};
pub use orphan::{Kind, Orphan};

/// An image's id: `ami-…` on EC2, `ami-local-…` here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageId(pub String);

/// An image in one region, as its record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Version of this record's layout.
    pub schema: u32,
    /// Its id, unique across regions.
    pub id: ImageId,
    /// `{recipe name}-v{version}-{YYYYMMDD-HHmm}`, unique in a region (guide, section 8).
    pub name: String,
    /// The region it lies in.
    pub region: String,
    /// Which image of `ami.toml` it is.
    pub image: String,
    /// The architecture of its processors, as EC2 calls it: `x86_64`, `arm64`; `None` in records that are older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// The account that owns it; `None` where there are no accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Its version in `ami.toml` when it was built.
    pub version: String,
    /// When it was captured, RFC 3339.
    pub created: String,
    /// What was done to which base.
    pub recipe_hash: Digest,
    /// The base image.
    pub base: BaseRecord,
    /// What is the same in every region the image was copied to: the SHA-256 of the disk file, or on EC2, where nobody sees
    /// the bytes, of the id of the image that the copies were made from.
    pub content: Digest,
    /// Size of the disk file, or on EC2 of the root volume, in bytes.
    pub disk_bytes: u64,
    /// The image this one was copied from, if it was.
    pub copied_from: Option<ImageId>,
    /// The run that made it.
    pub run: String,
    /// Who built it: `native`, `packer`.
    pub engine: String,
    /// What it was built in; `None` in records that are older than the choice, and on EC2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built_in: Option<BuilderKind>,
    /// Who the builder was, which no instance may be.
    pub builder: Identity,
    /// Free-form tags.
    pub tags: BTreeMap<String, String>,
}

/// What tells one machine from another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// SHA-256 fingerprints of its SSH host keys, sorted.
    pub host_keys: Vec<String>,
    /// machine-id(5).
    pub machine_id: String,
}

/// What an image was built on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseRecord {
    /// `ubuntu-22.04`, `debian-13`; on EC2 the base AMI's name.
    pub name: String,
    /// The base AMI's id; here the same as `name`.
    pub id: String,
    /// SHA-256 of the base disk, or of the base AMI's id.
    pub digest: Digest,
}

impl BaseRecord {
    /// A base on this machine.
    pub fn local(name: &str, digest: Digest) -> Self {
        Self { name: name.to_owned(), id: name.to_owned(), digest }
    }

    /// Only the guide's base may leave this machine: a fallback base proves the recipe, it is not the product.
    pub fn may_leave_local(&self) -> bool {
        self.name.starts_with("ubuntu")
    }
}

/// What `list` found in a place: a good record, or one that cannot be read and is named so that the others still count.
#[derive(Debug)]
pub enum Listed {
    /// A readable record.
    Image(Box<Image>),
    /// A damaged one.
    Corrupt(Corrupt),
}

/// An image whose record cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// Its id, as far as that can be told.
    pub id: ImageId,
    /// Its region.
    pub region: String,
    /// Where a person looks: a folder, or the image in a region.
    pub place: String,
    /// What is wrong with it.
    pub problem: String,
}

/// A running machine that can be worked on.
pub trait Machine {
    /// The open way in.
    fn remote(&self) -> &dyn Remote;
    /// Restarts it and waits until it lets us in again.
    fn reboot(&mut self, told: &dyn Fn(&str)) -> Result<()>;
    /// Waits until it lets us in again after a restart that a step started.
    fn reboot_finished(&mut self, told: &dyn Fn(&str)) -> Result<()>;
    /// The serial console so far, for error messages.
    fn console(&self) -> String;
    /// Why a first machine, or a first boot of this one, was given up since the last time somebody asked.
    fn second_try(&mut self) -> Option<String>;
    /// From starting the machine, or from ordering its last restart, until it let us in; nothing where that was not measured.
    fn boot_seconds(&self) -> Option<f64> {
        None
    }
    /// Leaves it running when the run ends, and returns the line that gets a person in.
    fn keep(&mut self) -> Result<String>;
}

/// What a captured image's record is made from.
#[derive(Clone, Debug)]
pub struct Capture {
    /// Which image of `ami.toml`.
    pub image: String,
    /// Its version.
    pub version: String,
    /// What was done.
    pub recipe_hash: Digest,
    /// The engine's name.
    pub engine: String,
    /// What it was built in.
    pub built_in: BuilderKind,
    /// The home region.
    pub region: String,
    /// Who the builder is.
    pub builder: Identity,
    /// The template's source, which says how the image is called and tagged where that is the provider's to do.
    pub source: Source,
}

/// What a builder is started for.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// What the builder is.
    pub builder: BuilderKind,
    /// The template's source: what the builder is made of.
    pub source: &'a Source,
    /// The base image.
    pub base: &'a BaseRecord,
    /// The layer to start from, instead of the base.
    pub from: Option<Digest>,
    /// The key of the layer to come.
    pub next: Option<Digest>,
}

/// The mark of an image whose marks were damaged; its value says where they are.
pub const DAMAGED: &str = "damaged";

/// How far work is: done and all, in a unit of the teller's.
pub type Fraction = Option<(u64, u64)>;

/// What a tool beside us made, to be taken over as an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// An image that lies where it belongs.
    Image {
        /// Its region.
        region: String,
        /// Its id.
        id: ImageId,
    },
    /// A disk on this machine.
    Disk(PathBuf),
}

/// What became of one region when an image was copied.
#[derive(Debug)]
pub struct Copied {
    /// The region.
    pub region: String,
    /// The copy and whether it was made now, or why there is none.
    pub result: Result<(Image, bool)>,
    /// How long it took.
    pub took: Duration,
}

/// A parameter as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// What it holds.
    pub value: String,
    /// How often it was written.
    pub version: u64,
}

/// A parameter is not what it was when the write was planned.
pub fn changed_in_between(region: &str, name: &str, there: Option<&Parameter>) -> Error {
    let holds = there.map_or("nothing".to_owned(), |p| format!("{} (version {})", p.value, p.version));
    Exit::Failed.error(
        format_args!("{name} in {region} was changed by someone else in between: it holds {holds}"),
        "run the command again and look at the new diff",
    )
}

/// A place where images are built, kept and started.
pub trait Cloud {
    /// The machines it starts.
    type Machine: Machine;

    /// `local` or `aws`.
    fn name(&self) -> &'static str;

    /// The regions `ami.toml` names, home first.
    fn regions(&self) -> &[String];

    /// Those of them whose failure to get a copy is told, but fails nothing.
    fn best_effort(&self) -> &[String];

    /// The base image of a source, fetched or made if need be. `told` gets progress for a person.
    fn base(&self, source: &Source, told: &dyn Fn(&str)) -> Result<BaseRecord>;

    /// The base image's record if it is at hand without fetching or making anything.
    fn base_at_hand(&self, source: &Source) -> Result<Option<BaseRecord>>;

    /// What a recipe is built in here, by this engine, and why. An error if it was asked for and is not possible.
    fn builder(&self, recipe: &Recipe, engine: &str) -> Result<Builder>;

    /// The builder that was asked for by name, if one was.
    fn builder_wanted(&self) -> Option<BuilderKind>;

    /// The layers a build could start from: at most one a key, each with all that it stands on.
    fn layers(&self) -> Result<Vec<Layer>>;

    /// The layers that a build could start from once: what is known of earlier runs of their steps.
    fn earlier_layers(&self) -> Result<Vec<Layer>> {
        Ok(Vec::new())
    }

    /// All layers that lie here, those among them that no build can start from.
    fn stored_layers(&self) -> Result<Vec<StoredLayer>> {
        Ok(Vec::new())
    }

    /// Removes one of those; what is gone already is no failure. Only for the holder of the build lock.
    fn remove_layer(&self, _: &StoredLayer) -> Result<()> {
        Ok(())
    }

    /// Removes what a killed build left here. Only for the holder of the build lock.
    fn remove_unfinished(&self) -> Result<()>;

    /// Refuses a build that is bound to fail: no room, no permission. `cold` is a build that starts from the base. Returns what a
    /// person should know before it begins.
    fn ready(&self, source: &Source, cold: bool) -> Result<Option<String>>;

    /// CA certificates that builders trust and instances must not.
    fn build_certificates(&self) -> Result<Vec<String>>;

    /// Starts a machine to build on.
    fn start_builder(&self, start: Start<'_>, told: &dyn Fn(&str)) -> Result<Self::Machine>;

    /// Keeps the disk as it is now as a layer, and lets the machine go on above it. `next` is the key of the state to come.
    fn checkpoint(&self, machine: &mut Self::Machine, layer: &Layer, next: Option<Digest>) -> Result<()>;

    /// Stops the builder and makes its disk an image.
    fn capture(
        &self,
        machine: Self::Machine,
        base: &BaseRecord,
        capture: &Capture,
        told: &dyn Fn(&str),
    ) -> Result<Image>;

    /// The template variables that Packer needs to build here what [`Cloud::start_builder`] would start.
    fn for_packer(&self, start: Start<'_>) -> Result<Vec<(String, String)>>;

    /// Takes over what Packer made.
    fn adopt(&self, made: &Made, base: &BaseRecord, capture: &Capture, told: &dyn Fn(&str)) -> Result<Image>;

    /// The instance types an image is judged on, one instance each; an empty name where there are no types.
    fn instance_types(&self) -> Vec<String>;

    /// Starts a fresh instance of an image, of one of those types.
    fn launch(&self, image: &Image, instance_type: &str, told: &dyn Fn(&str)) -> Result<Self::Machine>;

    /// All images of a region, damaged records among them.
    fn images(&self, region: &str) -> Result<Vec<Listed>>;

    /// Copies an image to some regions. A copy that is there already is returned as it is; a region that fails does not stop the
    /// others. `told` gets the region, what happens there and a fraction, and `done` each region's result as soon as it is known.
    fn copy(
        &self,
        image: &Image,
        regions: &[String],
        told: &dyn Fn(&str, &str, Fraction),
        done: &mut dyn FnMut(Copied) -> Result<()>,
    ) -> Result<()>;

    /// The image that this run was making when it was cut off, brought to its end.
    fn take_up(&self, base: &BaseRecord, capture: &Capture, told: &dyn Fn(&str)) -> Result<Option<Image>>;

    /// What runs made, dead and living ones, and what is no image anybody can use.
    fn orphans(&self) -> Result<Vec<Orphan>>;

    /// Takes one of those away; what is gone already is no failure.
    fn take_away(&self, orphan: &Orphan) -> Result<()>;

    /// The image's files on this host, if it lies here.
    fn files(&self, image: &Image) -> Vec<PathBuf>;

    /// What refers to the image outside of channels and parameters: instances, launch templates. A list that could not be read is among
    /// them, because it may hold a user.
    fn users(&self, image: &Image) -> Result<Vec<String>>;

    /// What a person should know of the calls so far: what [`Cloud::users`] could not look at, and what was removed and is kept all the same.
    fn caveats(&self) -> Vec<String> {
        Vec::new()
    }

    /// Removes an image and all that belongs to it.
    fn delete(&self, image: &Image) -> Result<()>;

    /// Removes an image whose record is damaged.
    fn discard(&self, corrupt: &Corrupt) -> Result<()>;

    /// A parameter of a region that holds an image's id, or a line of text.
    fn parameter(&self, region: &str, name: &str) -> Result<Option<Parameter>>;

    /// Writes a parameter if its version is still `expected`, `None` for one that is not there yet, and reads it back; else somebody else
    /// was faster, and that is the error.
    fn put_parameter(&self, region: &str, name: &str, value: &str, expected: Option<u64>) -> Result<()>;

    /// An error unless a parameter may be written. One that is not there is made with this value; one that is there keeps its own.
    fn writable(&self, _region: &str, _name: &str, _value: &str) -> Result<()> {
        Ok(())
    }

    /// The parameters of a region that hold an image's id and can be read, whoever wrote them: names and ids.
    fn parameters(&self, region: &str) -> Result<Vec<(String, ImageId)>>;

    /// Removes a parameter; one that is gone already is no failure.
    fn delete_parameter(&self, region: &str, name: &str) -> Result<()>;

    /// What people and pipelines have noted on an image: `quarantined`, `promoted:production`.
    fn marks(&self, image: &Image) -> Result<BTreeMap<String, String>>;

    /// Notes something on an image.
    fn mark(&self, image: &Image, key: &str, value: &str) -> Result<()>;

    /// Judges whether an instance of the image would start, without starting one.
    fn launchable(&self, image: &Image) -> Result<()>;

    /// Marks an image as one that should not be started any more, and lifts its protection; those who know it still can start it.
    fn deprecate(&self, image: &Image) -> Result<()>;

    /// An error unless everything is permitted that is done with an image when a channel is pointed at it; asked before the channel moves.
    fn promotable(&self, _: &Image) -> Result<()> {
        Ok(())
    }

    /// Protects an image from removal by whoever may remove images. On EC2 it cannot be removed for another day after that is lifted.
    fn protect(&self, _: &Image) -> Result<()> {
        Ok(())
    }

    /// True if images can be disabled here: nobody can start one then, until it is enabled again.
    fn disables(&self) -> bool {
        false
    }

    /// An error if nobody can start the image because it is disabled.
    fn usable(&self, _: &Image) -> Result<()> {
        Ok(())
    }

    /// Disables an image; one that is disabled already is left alone.
    fn disable(&self, _: &Image) -> Result<()> {
        Ok(())
    }

    /// Keeps a document that belongs to an image: smoke report, manifest, SBOM.
    fn put_document(&self, image: &Image, name: &str, bytes: &[u8]) -> Result<()>;

    /// Reads such a document back.
    fn document(&self, image: &Image, name: &str) -> Result<Option<Vec<u8>>>;
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything readable in all regions, oldest first, with the damaged records beside it.
pub fn all_images<C: Cloud>(cloud: &C) -> Result<(Vec<Image>, Vec<Corrupt>)> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for region in cloud.regions() {
        for listed in cloud.images(region)? {
            match listed {
                Listed::Image(image) => good.push(*image),
                Listed::Corrupt(corrupt) => bad.push(corrupt),
            }
        }
    }
    good.sort_by(|a, b| (&a.created, &a.region).cmp(&(&b.created, &b.region)));
    Ok((good, bad))
}

/// The image in every region, the home region's first: images of the same name; those in other regions are copies.
pub fn everywhere<C: Cloud>(cloud: &C, all: &[Image], image: &Image) -> Vec<Image> {
    let copies = all.iter().filter(|i| i.name == image.name && i.region != image.region);
    let mut images: Vec<Image> = std::iter::once(image).chain(copies).cloned().collect();
    images.sort_by_key(|i| cloud.regions().iter().position(|r| *r == i.region));
    images
}

/// The image a person names: by id, by name (in the home region), or by its name in `ami.toml` (the newest in the home region).
pub fn find<C: Cloud>(cloud: &C, wanted: &str) -> Result<Image> {
    let home = cloud.regions().first().cloned().unwrap_or_default();
    // Most are at home, and there may be many regions, each of which is a call.
    let at_home = cloud.images(&home)?.into_iter().find_map(|listed| match listed {
        Listed::Image(image) if image.id.0 == wanted => Some(*image),
        Listed::Image(_) | Listed::Corrupt(_) => None,
    });
    if let Some(image) = at_home {
        return Ok(image);
    }
    let (images, bad) = all_images(cloud)?;
    let by_id = images.iter().find(|i| i.id.0 == wanted);
    let by_name = || images.iter().rev().find(|i| i.region == home && (i.name == wanted || i.image == wanted));
    if let Some(image) = by_id.or_else(by_name) {
        return Ok(image.clone());
    }
    if let Some(Corrupt { place, problem, .. }) = bad.iter().find(|c| c.id.0 == wanted) {
        let hint = format!("remove it with `cargo xtask ami delete {wanted}`; the other images are not affected");
        return Err(Exit::Failed.error(format_args!("the record of {wanted} is damaged ({place}): {problem}"), hint));
    }
    let mut near: Vec<(f64, &Image)> = images
        .iter()
        .map(|i| (strsim::jaro_winkler(wanted, &i.id.0).max(strsim::jaro_winkler(wanted, &i.name)), i))
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near: Vec<String> = near.iter().take(3).map(|(_, i)| format!("{} ({}, {})", i.id, i.name, i.region)).collect();
    let hint = if near.is_empty() {
        "there is no image yet: `cargo xtask ami build` makes one".to_owned()
    } else {
        format!("nearest: {}; `cargo xtask ami list` shows all", near.join(", "))
    };
    Err(Exit::Usage.error(format_args!("no image `{wanted}`"), hint))
}

/// The SHA-256 of a file, by the host's `sha256sum` (coreutils), which is several times faster than an unoptimised build of ours.
pub fn sha256_file(path: &Path) -> Result<Digest> {
    let program = if cfg!(target_os = "macos") { "shasum" } else { "sha256sum" };
    let cmd = process::Cmd::new(program);
    let cmd = if cfg!(target_os = "macos") { cmd.args(["-a", "256"]) } else { cmd };
    let text = cmd.arg(path).read()?;
    let digits = text.split_whitespace().next().unwrap_or_default().trim_start_matches('\\');
    digits.parse().map_err(|e| {
        Exit::Failed.error(format_args!("{program} printed no digest: {e}"), "check that the disk is healthy")
    })
}

#[cfg(test)]
impl Image {
    /// An image for tests, which change what they are about.
    pub(crate) fn sample() -> Self {
        Self {
            schema: 1,
            id: ImageId("ami-1".to_owned()),
            name: "v1".to_owned(),
            region: "us-east-1".to_owned(),
            image: "locus-agent".to_owned(),
            arch: None,
            account: None,
            version: "1.0.0".to_owned(),
            created: String::new(),
            recipe_hash: Digest::of(b"recipe"),
            base: BaseRecord::local("base", Digest::of(b"base")),
            content: Digest::of(b"disk"),
            disk_bytes: 1,
            copied_from: None,
            run: "run-1".to_owned(),
            engine: "native".to_owned(),
            built_in: None,
            builder: Identity::default(),
            tags: BTreeMap::new(),
        }
    }
}

//! The traits [`Cloud`] and [`Machine`], which stages are generic over, and their types.
//!
//! Two providers implement them: [`local`] (QEMU on this machine), a submodule, and `aws` (EC2), the crate `xtask-aws`. The code in
//! this file depends on neither, prints nothing and decides nothing about a pipeline.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Exit, Result};
use crate::ids::Region;
use crate::recipe::{Digest, Origin, Recipe, Source};
use crate::remote::Remote;

mod builder;
mod checksum;
mod find;
mod layer;
mod orphan;
mod record;
pub mod local;

pub use builder::{Builder, BuilderKind};
pub use checksum::sha256_file;
pub use find::{all_images, everywhere, find};
pub use layer::{Generation, Layer, LayerId, NoGeneration, Standing, StoredLayer, layer_of};
pub use orphan::{Kind, Orphan};
pub use record::{BaseRecord, Corrupt, EngineKind, Identity, Image, ImageId, Listed};

/// A running machine with an open connection.
pub trait Machine {
    /// The open connection.
    fn remote(&self) -> &dyn Remote;
    /// Restarts it and waits until it is connected again.
    fn reboot(&mut self, on_progress: &dyn Fn(&str)) -> Result<()>;
    /// Waits until it is connected again after a restart that a step started.
    fn reboot_finished(&mut self, on_progress: &dyn Fn(&str)) -> Result<()>;
    /// The serial console so far, for error messages.
    fn console(&self) -> String;
    /// Why a first machine, or the first boot of this one, was abandoned. Each reason is returned once.
    fn second_try(&mut self) -> Option<String>;
    /// Time from the start of the machine, or from the request for its last restart, until the connection was open; `None` where it was
    /// not measured.
    fn boot_seconds(&self) -> Option<f64> {
        None
    }
    /// Leaves it running when the run ends, and returns the command that logs in.
    fn keep(&mut self) -> Result<String>;
}

/// The input for the record of a captured image.
#[derive(Clone, Debug)]
pub struct Capture {
    /// The image's name in `ami.toml`.
    pub image: String,
    pub version: String,
    pub recipe_hash: Digest,
    /// The engine's name.
    pub engine: EngineKind,
    /// The builder it was built in.
    pub built_in: BuilderKind,
    /// The value of the template variable `provider`, if the template has it.
    pub agent: Option<String>,
    /// Where the template comes from; `None` for a template of the project.
    pub template: Option<Origin>,
    /// The home region.
    pub region: Region,
    pub builder: Identity,
    /// The template's source, which contains the name and tags for providers that set them; `None` for a template that only Packer reads.
    pub source: Option<Source>,
}

/// The parameters of a builder.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    pub builder: BuilderKind,
    /// The template's source, which configures the builder.
    pub source: &'a Source,
    /// The base image.
    pub base: &'a BaseRecord,
    /// The layer to start from, instead of the base.
    pub from: Option<Digest>,
    /// The key of the first layer that the build creates.
    pub next: Option<Digest>,
}

/// The mark of an image whose marks were damaged; its value names the file that they were moved to.
pub const DAMAGED: &str = "damaged";

/// Progress as done and total, both in the same unit; `None` where it is unknown.
pub type Fraction = Option<(u64, u64)>;

/// What an external tool made, to be adopted as an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// An image that is already stored in its region.
    Image { region: Region, id: ImageId },
    /// A disk file on this machine. A relative path is one in the output directory that [`Cloud::for_packer`] sets.
    Disk(PathBuf),
}

/// The result of copying an image to one region.
#[derive(Debug)]
pub struct Copied {
    pub region: Region,
    /// The copy and whether it was made now (true) or existed before, or why there is none.
    pub result: Result<(Image, bool)>,
    /// Duration of the copy.
    pub took: Duration,
}

/// The current state of a parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    pub value: String,
    /// Number of writes so far.
    pub version: u64,
}

/// The error for a parameter that changed after the write was planned.
pub fn changed_in_between(region: &Region, name: &str, current: Option<&Parameter>) -> Error {
    let now = current.map_or("does not exist".to_owned(), |p| format!("is {} (version {})", p.value, p.version));
    Exit::Failed.error(
        format_args!("{name} in {region} was changed by another process meanwhile: it now {now}"),
        "run the command again and review the new diff",
    )
}

/// A provider: builds, stores, copies and starts images.
pub trait Cloud {
    /// The type of the machines it starts.
    type Machine: Machine;

    /// `local` or `aws`.
    fn name(&self) -> &'static str;

    /// The regions in `ami.toml`, home first.
    fn regions(&self) -> &[Region];

    /// The home region, in which images are built.
    fn home(&self) -> Region {
        self.regions().first().cloned().unwrap_or_default()
    }

    /// The subset of [`Cloud::regions`] in which a failed copy is reported but does not fail the command.
    fn best_effort(&self) -> &[Region];

    /// The base image of a source. It is downloaded or built if it does not exist yet, with progress reported to `on_progress`.
    fn base(&self, source: &Source, on_progress: &dyn Fn(&str)) -> Result<BaseRecord>;

    /// The base image's record, or `None` if [`Cloud::base`] would have to download or build it.
    fn existing_base(&self, source: &Source) -> Result<Option<BaseRecord>>;

    /// The builder that this engine uses for a recipe, and why. `None` is a template that only Packer reads. An error if the requested builder
    /// is not possible.
    fn builder(&self, recipe: Option<&Recipe>, engine: EngineKind) -> Result<Builder>;

    /// The builder that the settings request; `None` if the choice is automatic.
    fn requested_builder(&self) -> Option<BuilderKind>;

    /// The layers a build can start from: at most one for each key, each with its complete chain of parents.
    fn layers(&self) -> Result<Vec<Layer>>;

    /// Complete layers that a build can no longer start from. They record the inputs and durations of earlier runs of their steps.
    fn earlier_layers(&self) -> Result<Vec<Layer>> {
        Ok(Vec::new())
    }

    /// All layers that are stored, including those that no build can start from.
    fn stored_layers(&self) -> Result<Vec<StoredLayer>> {
        Ok(Vec::new())
    }

    /// Removes a stored layer. Succeeds if it does not exist. The caller must hold the build lock.
    fn remove_layer(&self, _: &StoredLayer) -> Result<()> {
        Ok(())
    }

    /// Removes unfinished layers of killed builds. The caller must hold the build lock.
    fn remove_unfinished(&self) -> Result<()>;

    /// Checks the preconditions of a build, such as disk space and permissions. `cold` is true for a build that starts from the base.
    /// Returns a notice to print before the build begins. Without a source, the template is one that only Packer reads.
    fn ready(&self, source: Option<&Source>, cold: bool) -> Result<Option<String>>;

    /// CA certificates that builders trust and instances must not.
    fn build_certificates(&self) -> Result<Vec<String>>;

    /// Starts a machine to build on.
    fn start_builder(&self, start: Start<'_>, on_progress: &dyn Fn(&str)) -> Result<Self::Machine>;

    /// Stores the current disk as a layer; the machine continues on an overlay above it. `next` is the key of the following layer.
    fn checkpoint(&self, machine: &mut Self::Machine, layer: &Layer, next: Option<Digest>) -> Result<()>;

    /// Stops the builder and makes its disk an image.
    fn capture(
        &self,
        machine: Self::Machine,
        base: &BaseRecord,
        capture: &Capture,
        on_progress: &dyn Fn(&str),
    ) -> Result<Image>;

    /// The template variables with which Packer starts a builder equivalent to that of [`Cloud::start_builder`]. Without a base, those of
    /// the base are left out.
    fn for_packer(&self, base: Option<&BaseRecord>) -> Result<Vec<(String, String)>>;

    /// Adopts what Packer made as an image. Base and source are unknown for a template that only Packer reads; a provider that requires
    /// them returns an error.
    fn adopt(
        &self,
        made: &Made,
        base: Option<&BaseRecord>,
        capture: &Capture,
        on_progress: &dyn Fn(&str),
    ) -> Result<Image>;

    /// The instance types for the smoke test, one instance each; one empty string where there are no types.
    fn instance_types(&self) -> Vec<String>;

    /// Starts a new instance of an image, of one of those types, and logs in as `user`.
    fn launch(
        &self,
        image: &Image,
        instance_type: &str,
        user: &str,
        on_progress: &dyn Fn(&str),
    ) -> Result<Self::Machine>;

    /// All images of a region, including those with damaged records.
    fn images(&self, region: &Region) -> Result<Vec<Listed>>;

    /// Copies an image to some regions. An existing copy is returned unchanged; a failure in one region does not stop the others.
    /// `on_progress` receives the region, what happens there and the progress; `done` receives each region's result when it is known.
    fn copy(
        &self,
        image: &Image,
        regions: &[Region],
        on_progress: &dyn Fn(&Region, &str, Fraction),
        done: &mut dyn FnMut(Copied) -> Result<()>,
    ) -> Result<()>;

    /// Finishes the image that this run was creating when its process died; `None` if there is no such image.
    fn finish_capture(&self, base: &BaseRecord, capture: &Capture, on_progress: &dyn Fn(&str))
    -> Result<Option<Image>>;

    /// The resources of all runs, of living ones too, that are not usable images.
    fn orphans(&self) -> Result<Vec<Orphan>>;

    /// Removes such a resource. Succeeds if it does not exist.
    fn remove_orphan(&self, orphan: &Orphan) -> Result<()>;

    /// The image's files on this host; empty if it is stored elsewhere.
    fn files(&self, image: &Image) -> Vec<PathBuf>;

    /// What refers to the image outside of channels and parameters: instances, launch templates. A list that could not be read is
    /// included, because it may contain a reference.
    fn users(&self, image: &Image) -> Result<Vec<String>>;

    /// Warnings about the calls so far: what [`Cloud::users`] could not check, and what is retained after its removal.
    fn caveats(&self) -> Vec<String> {
        Vec::new()
    }

    /// Removes an image: a local one with its directory, an AMI with its snapshots.
    fn delete(&self, image: &Image) -> Result<()>;

    /// Removes an image whose record is damaged.
    fn discard(&self, corrupt: &Corrupt) -> Result<()>;

    /// A parameter of a region, whose value is an image's id or a line of text; `None` if it does not exist.
    fn parameter(&self, region: &Region, name: &str) -> Result<Option<Parameter>>;

    /// Writes a parameter if its version is still `expected` (`None`: it does not exist yet), and reads it back. If it has another
    /// version, the error is [`changed_in_between`].
    fn put_parameter(&self, region: &Region, name: &str, value: &str, expected: Option<u64>) -> Result<()>;

    /// An error unless a parameter may be written. A missing one is created with this value; an existing one keeps its value.
    fn writable(&self, _region: &Region, _name: &str, _value: &str) -> Result<()> {
        Ok(())
    }

    /// Names and values of a region's parameters that contain an image's id, also of those that other tools wrote. Only readable ones.
    fn parameters(&self, region: &Region) -> Result<Vec<(String, ImageId)>>;

    /// Removes a parameter. Succeeds if it does not exist.
    fn delete_parameter(&self, region: &Region, name: &str) -> Result<()>;

    /// The marks of an image, such as `quarantined` and `promoted:production`.
    fn marks(&self, image: &Image) -> Result<BTreeMap<String, String>>;

    /// Adds a mark to an image, or replaces its value.
    fn mark(&self, image: &Image, key: &str, value: &str) -> Result<()>;

    /// An error if an instance of the image would not start. Checked without starting one.
    fn launchable(&self, image: &Image) -> Result<()>;

    /// Deprecates an image and disables its protection. It can still be started by its id.
    fn deprecate(&self, image: &Image) -> Result<()>;

    /// An error unless all calls are permitted that change an image when a channel is pointed at it. Called before the channel changes.
    fn promotable(&self, _: &Image) -> Result<()> {
        Ok(())
    }

    /// Protects an image from deregistration. On EC2 it cannot be deregistered for another day after the protection is disabled.
    fn protect(&self, _: &Image) -> Result<()> {
        Ok(())
    }

    /// True if the provider can disable images. A disabled image cannot be started until it is enabled again.
    fn disables(&self) -> bool {
        false
    }

    /// An error if the image is disabled.
    fn usable(&self, _: &Image) -> Result<()> {
        Ok(())
    }

    /// Disables an image. Succeeds if it is disabled already.
    fn disable(&self, _: &Image) -> Result<()> {
        Ok(())
    }

    /// Stores a document of an image: smoke report, manifest, SBOM.
    fn put_document(&self, image: &Image, name: &str, bytes: &[u8]) -> Result<()>;

    /// Reads a document of an image; `None` if it does not exist.
    fn document(&self, image: &Image, name: &str) -> Result<Option<Vec<u8>>>;
}

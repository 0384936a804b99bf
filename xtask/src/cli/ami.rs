//! `ami …`: the arguments of the commands for images.

use std::path::PathBuf;
use std::time::Duration;

use crate::config;
use crate::ids::Region;
use clap::{Args, Subcommand, ValueEnum};

use super::{duration, key_value};

/// `ami …`
#[derive(Debug, Subcommand)]
pub enum Ami {
    /// Print which steps a build would run and why, and where each setting comes from
    Plan(Plan),
    /// Build an image, starting from the last cached layer that is still valid
    Build(BuildCommand),
    /// Run the smoke test on a new instance of an image, before and after a reboot
    Smoke(Smoke),
    /// Copy an image to other regions
    Copy(Copy),
    /// Point a channel at an image that passed its smoke test
    Promote(Promote),
    /// Validate, build, smoke-test and copy an image, and promote it to staging
    Release(Release),
    /// Set the next version by what changed since the last release
    Bump(Bump),
    /// Point a channel back at the previous image in all regions, and quarantine the bad one
    Rollback(Rollback),
    /// Check that the images of a channel stay available, unchanged and launchable in every region
    Watch(Watch),
    /// List the promotions and rollbacks of a channel
    History(History),
    /// List the images of all regions
    List(List),
    /// Show the details of an image, or the calls of a run
    Show(Show),
    /// Export the report of a run with its image's manifest, SBOM and smoke report, or print where the report is
    Report(Report),
    /// Show the state of a build: building, succeeded or failed, and its image
    Status(Status),
    /// List the runs of this state directory
    Runs(Runs),
    /// Resume an interrupted run
    Resume(Resume),
    /// Compare two images: system, tools, packages, size
    Diff(Diff),
    /// Delete an image with its snapshots and records
    Delete(Delete),
    /// Delete expired images and orphaned resources: print the plan, or carry it out with --apply
    Gc(Gc),
}

/// The arguments of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Build {
    /// Name of the image in ami.toml [default: the one with `default = true`, or the only one]
    pub image: Option<String>,
    /// Build this template instead of the one in ami.toml: a path, `builtin://default-ec2`, an `http(s)://` URL with `?checksum=sha256:...`,
    /// or `git::URL//PATH?ref=REF`
    #[arg(long, value_name = "SOURCE")]
    pub template: Option<String>,
    /// Set a template variable (repeatable)
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = key_value)]
    pub vars: Vec<(String, String)>,
    /// Read template variables from a file (repeatable)
    #[arg(long, value_name = "FILE")]
    pub var_file: Vec<PathBuf>,
    /// Agent to install: `all`, `claude-code`, `codex`, `gemini`, `aider`, `grok`
    #[arg(long, value_name = "AGENT")]
    pub provider: Option<String>,
    /// Region to build in [default: the first one of ami.toml]
    #[arg(long, value_name = "REGION")]
    pub region: Option<Region>,
    /// Instance type of the builder on EC2 [default: `build_instance_type` of ami.toml]
    #[arg(long, value_name = "TYPE")]
    pub instance_type: Option<String>,
    /// What runs the template; auto: Packer on AWS where it is installed, and for a template from elsewhere that native does not support, else native
    #[arg(long, value_enum, default_value = "auto")]
    pub engine: Engine,
    /// Where to build on this host; auto: a virtual machine where it is accelerated, else a container
    #[arg(long, value_enum)]
    pub builder: Option<Builder>,
    /// Build even if nothing changed
    #[arg(long)]
    pub force: bool,
    /// Keep the machine running when a step fails, and print how to connect
    #[arg(long)]
    pub keep_on_failure: bool,
}

/// `ami build`
#[derive(Clone, Debug, Args)]
pub struct BuildCommand {
    /// The build.
    #[command(flatten)]
    pub build: Build,
    /// Wait until the build has ended; this is the default
    #[arg(long, conflicts_with = "queue")]
    pub wait: bool,
    /// Queue the build for `cargo xtask serve`, print its id and return
    #[arg(long)]
    pub queue: bool,
}

/// `ami list`
#[derive(Clone, Debug, Default, Args)]
pub struct List {
    /// List only the images in this region
    #[arg(long, value_name = "REGION")]
    pub region: Option<Region>,
    /// List only images with this agent: `claude-code`, `codex`, ...; `all` for images with all of them
    #[arg(long, value_name = "AGENT")]
    pub provider: Option<String>,
    /// Also print the channels that point at each image, and the result of its smoke test
    #[arg(long)]
    pub long: bool,
}

/// `ami plan`
#[derive(Clone, Debug, Args)]
pub struct Plan {
    /// The build.
    #[command(flatten)]
    pub build: Build,
    /// Plan all images of ami.toml; with `--format json` the data is `{"images": [{"image": NAME, "up_to_date": ...}, ...]}`, a workflow's
    /// matrix
    #[arg(long, conflicts_with = "image")]
    pub all: bool,
}

/// What runs the template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// Packer on AWS where it is installed, else native; native locally, for its layers. A template from elsewhere is built by Packer where the
    /// native engine does not support it.
    #[default]
    Auto,
    /// This program, over SSH.
    Native,
    /// Packer; downloaded if it is missing and ami.toml allows it.
    Packer,
}

/// Where a local image is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Builder {
    /// A virtual machine where KVM or HVF works, else a container where that is possible, else an emulated virtual machine.
    Auto,
    /// A virtual machine.
    Vm,
    /// A container; Linux only, as root.
    Container,
}

impl Builder {
    /// The value of ami.toml that it overrides.
    pub fn configured(self) -> config::Builder {
        match self {
            Self::Auto => config::Builder::Auto,
            Self::Vm => config::Builder::Vm,
            Self::Container => config::Builder::Container,
        }
    }
}

/// `ami smoke`
#[derive(Clone, Debug, Args)]
pub struct Smoke {
    /// Id or name of the image [default: the newest]
    pub image: Option<String>,
    /// Skip the reboot and the second pass
    #[arg(long)]
    pub no_reboot: bool,
    /// Skip if the image already passed this spec
    #[arg(long, conflicts_with = "spec")]
    pub unless_passed: bool,
    /// Smoke spec to use instead of the image's
    #[arg(long, value_name = "FILE")]
    pub spec: Option<PathBuf>,
    /// Write the report as `json=FILE`, `junit=FILE` or `tap=FILE` (repeatable)
    #[arg(long, value_name = "FORMAT=FILE", value_parser = key_value)]
    pub output: Vec<(String, String)>,
    /// Keep the instance running when a check fails, and print how to connect
    #[arg(long)]
    pub keep_on_failure: bool,
}

/// `ami copy`
#[derive(Clone, Debug, Args)]
pub struct Copy {
    /// Id or name of the image [default: the newest]
    pub image: Option<String>,
    /// Copy to this region (repeatable) [default: all regions of ami.toml]
    #[arg(long = "region", value_name = "REGION")]
    pub regions: Vec<String>,
    /// Regions that may fail.
    #[command(flatten)]
    pub best_effort: BestEffort,
}

/// `ami promote`
#[derive(Clone, Debug, Args)]
pub struct Promote {
    /// Id or name of the image [default: the newest]
    pub image: Option<String>,
    /// Name of the channel
    #[arg(long, default_value = "staging")]
    pub channel: String,
    /// Promote the image that this channel points at
    #[arg(long, value_name = "CHANNEL", conflicts_with = "image")]
    pub from: Option<String>,
    /// Image of ami.toml that --from refers to, if there are several
    #[arg(long = "image", value_name = "IMAGE", requires = "from")]
    pub of: Option<String>,
    /// Promote before the soak time is over, and record this reason
    #[arg(long = "override", value_name = "REASON")]
    pub overridden: Option<String>,
    /// Regions that may fail.
    #[command(flatten)]
    pub best_effort: BestEffort,
}

/// `ami bump`
#[derive(Clone, Debug, Args)]
pub struct Bump {
    /// Id or name of the image to release [default: the newest]
    pub image: Option<String>,
    /// Write nothing, and exit with 2 if the version of the image is too low for its changes, as `release` does
    #[arg(long, conflicts_with = "level")]
    pub check: bool,
    /// Bump this part whatever changed
    #[arg(long, value_enum)]
    pub level: Option<BumpLevel>,
}

/// The part of a version to raise (docs/src/reference-image.md#versioning).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BumpLevel {
    /// Security patches, minor version bumps, bug fixes.
    Patch,
    /// A new dependency, a significant bump of one.
    Minor,
    /// Another base system, another Node.js major version.
    Major,
}

/// `ami rollback`
#[derive(Clone, Debug, Args)]
pub struct Rollback {
    /// Name of the channel
    #[arg(long)]
    pub channel: String,
    /// Version, name or id of the image to return to [default: the last good one]
    #[arg(long, value_name = "VERSION")]
    pub to: Option<String>,
    /// Why the image is bad
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Version, name or id of an image to quarantine (repeatable) [default: the one that the channel points at]
    #[arg(long, value_name = "VERSION", conflicts_with = "keep")]
    pub bad: Vec<String>,
    /// Quarantine no image
    #[arg(long)]
    pub keep: bool,
    /// Image of ami.toml, if there are several
    #[arg(long = "image", value_name = "IMAGE")]
    pub of: Option<String>,
}

/// `ami watch`
#[derive(Clone, Debug, Args)]
pub struct Watch {
    /// Name of the channel
    #[arg(long)]
    pub channel: String,
    /// Check only this image of ami.toml [default: all that the channel points at]
    #[arg(long = "image", value_name = "IMAGE")]
    pub of: Option<String>,
    /// Keep checking for this time (48h, 30m) [default: check once]
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub within: Option<Duration>,
    /// Interval between two checks
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "15m")]
    pub every: Duration,
}

/// `ami history`
#[derive(Clone, Debug, Args)]
pub struct History {
    /// Name of the channel
    #[arg(long)]
    pub channel: String,
    /// Image of ami.toml, if there are several
    #[arg(long = "image", value_name = "IMAGE")]
    pub of: Option<String>,
}

/// `ami release`
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Release {
    /// The build.
    #[command(flatten)]
    pub build: Build,
    /// Release even if the version is too low for what changed since the last release
    #[arg(long)]
    pub allow_version: bool,
    /// Regions that may fail.
    #[command(flatten)]
    pub best_effort: BestEffort,
}

/// Regions whose failure is reported and does not fail the command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct BestEffort {
    /// Continue if this region fails (repeatable), in addition to `best_effort_regions` in ami.toml
    #[arg(long = "best-effort-region", value_name = "REGION")]
    pub best_effort: Vec<String>,
}

/// `ami show`
#[derive(Clone, Debug, Args)]
pub struct Show {
    /// Id or name of an image, or id of a run
    #[arg(value_name = "IMAGE|RUN")]
    pub what: String,
}

/// `ami report`
#[derive(Clone, Debug, Args)]
pub struct Report {
    /// Id of a run, or id or name of an image [default: the newest run with an image]
    #[arg(value_name = "RUN|IMAGE")]
    pub what: Option<String>,
    /// Write the report to this file as self-contained HTML
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write the report and the image's manifest.json, sbom.cdx.json and smoke.json to this directory
    #[arg(long, value_name = "DIR")]
    pub documents: Option<PathBuf>,
}

/// `ami status`
#[derive(Clone, Debug, Args)]
pub struct Status {
    /// Id of the build's run [default: the newest build]
    pub build: Option<String>,
}

/// `ami runs`
#[derive(Clone, Debug, Args)]
pub struct Runs {
    /// Number of runs to show, newest last
    #[arg(long, default_value = "20", value_name = "N")]
    pub last: usize,
    /// Show only runs that can be resumed
    #[arg(long)]
    pub unfinished: bool,
}

/// `ami resume`
#[derive(Clone, Debug, Args)]
pub struct Resume {
    /// Id of the run, as `ami runs` lists it [default: the newest whose process was killed]
    pub run: Option<String>,
    /// Succeed if no run was killed, for workflows
    #[arg(long, conflicts_with = "run")]
    pub if_any: bool,
}

/// `ami diff`
#[derive(Clone, Debug, Args)]
pub struct Diff {
    /// Id or name of the older image
    pub from: String,
    /// Id or name of the newer image
    pub to: String,
}

/// `ami delete`
#[derive(Clone, Debug, Args)]
pub struct Delete {
    /// Id or name of the image
    pub image: String,
    /// Delete it even if a channel points at it
    #[arg(long)]
    pub force: bool,
}

/// `ami gc`
#[derive(Clone, Debug, Args)]
pub struct Gc {
    /// Carry out the plan instead of printing it
    #[arg(long)]
    pub apply: bool,
    /// Only resources of this run (repeatable)
    #[arg(long = "run", value_name = "RUN")]
    pub runs: Vec<String>,
    /// Only resources of runs of this state directory, for the last step of a workflow
    #[arg(long, conflicts_with = "runs")]
    pub mine: bool,
    /// Also print what is kept
    #[arg(long)]
    pub all: bool,
}

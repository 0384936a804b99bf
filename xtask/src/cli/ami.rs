//! `ami …`: the arguments of what works on images.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{duration, key_value};

/// `ami …`
#[derive(Debug, Subcommand)]
pub enum Ami {
    /// Show what a build would do and why, and which settings won
    Plan(Plan),
    /// Build an image, starting from the deepest layer that still fits
    Build(Build),
    /// Boot a fresh instance of an image, judge it, restart it, judge it again
    Smoke(Smoke),
    /// Copy an image to the other regions
    Copy(Copy),
    /// Point a channel at an image that passed its smoke test
    Promote(Promote),
    /// validate, build, smoke, copy and promote to staging
    Release(Release),
    /// Propose the next version by what really changed since the last release, and write it
    Bump(Bump),
    /// Point a channel back at the image before, in all regions, and put the bad one under quarantine
    Rollback(Rollback),
    /// Look whether what a channel points at stays there, unchanged and launchable, in every region
    Watch(Watch),
    /// Show where a channel has pointed: who, what, when, why
    History(History),
    /// List the images of all regions
    List,
    /// Show everything known about an image, or all that a run did
    Show(Show),
    /// Put the report of a run, and its image's manifest, SBOM and verdict, where you want them; else tell where the page lies
    Report(Report),
    /// List the runs of this state folder: what was asked, how it ended
    Runs(Runs),
    /// Finish a run that was cut off: take up what is there, take away what is not needed, do the rest
    Resume(Resume),
    /// Show what differs between two images: system, tools, packages, size
    Diff(Diff),
    /// Delete an image and all that belongs to it
    Delete(Delete),
    /// Retire old images and take away what dead runs left: the plan with its reasons, or with --apply the deed
    Gc(Gc),
}

/// What a build is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Build {
    /// The image's name in ami.toml; not needed while there is only one
    pub image: Option<String>,
    /// Set a template variable (repeatable)
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = key_value)]
    pub vars: Vec<(String, String)>,
    /// Read template variables from a file (repeatable)
    #[arg(long, value_name = "FILE")]
    pub var_file: Vec<PathBuf>,
    /// The agent to install: `all`, `claude-code`, `codex`, `gemini`, `aider`, `grok`
    #[arg(long, value_name = "AGENT")]
    pub provider: Option<String>,
    /// Who carries the template out; auto: Packer on AWS where it is found, else native
    #[arg(long, value_enum, default_value = "auto")]
    pub engine: Engine,
    /// Build in a virtual machine or a container of this host; auto: a virtual machine where it is accelerated, else a container
    #[arg(long, value_enum)]
    pub builder: Option<Builder>,
    /// Build even if nothing changed
    #[arg(long)]
    pub force: bool,
    /// Leave the machine up when a step fails, and print how to get in
    #[arg(long)]
    pub keep_on_failure: bool,
}

/// `ami plan`
#[derive(Clone, Debug, Args)]
pub struct Plan {
    /// What to build.
    #[command(flatten)]
    pub build: Build,
    /// All images of ami.toml: with `--format json` the data is `{"images": [{"image": NAME, "up_to_date": ...}, ...]}`, a workflow's matrix
    #[arg(long, conflicts_with = "image")]
    pub all: bool,
}

/// Who carries the template out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// Packer on AWS where it is found, else native; native here, for its layers.
    #[default]
    Auto,
    /// This program, over SSH.
    Native,
    /// The real Packer; brought if it is not there and ami.toml allows it.
    Packer,
}

/// What a local image is built in.
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
    /// Its name in ami.toml.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Vm => "vm",
            Self::Container => "container",
        }
    }
}

/// `ami smoke`
#[derive(Clone, Debug, Args)]
pub struct Smoke {
    /// Id or name; the newest image when left out
    pub image: Option<String>,
    /// Do not restart the instance and judge it again
    #[arg(long)]
    pub no_reboot: bool,
    /// Not if the image was judged good by this spec already
    #[arg(long, conflicts_with = "spec")]
    pub unless_passed: bool,
    /// Another smoke spec than the image's
    #[arg(long, value_name = "FILE")]
    pub spec: Option<PathBuf>,
    /// Write the report as `json=FILE`, `junit=FILE` or `tap=FILE` (repeatable)
    #[arg(long, value_name = "FORMAT=FILE", value_parser = key_value)]
    pub output: Vec<(String, String)>,
    /// Leave the instance up when a check fails, and print how to get in
    #[arg(long)]
    pub keep_on_failure: bool,
}

/// `ami copy`
#[derive(Clone, Debug, Args)]
pub struct Copy {
    /// Id or name; the newest image when left out
    pub image: Option<String>,
    /// Copy to this region only (repeatable); all regions of ami.toml when left out
    #[arg(long = "region", value_name = "REGION")]
    pub regions: Vec<String>,
    /// Regions that may fail.
    #[command(flatten)]
    pub best_effort: BestEffort,
}

/// `ami promote`
#[derive(Clone, Debug, Args)]
pub struct Promote {
    /// Id or name; the newest image when left out
    pub image: Option<String>,
    /// The channel
    #[arg(long, default_value = "staging")]
    pub channel: String,
    /// Promote what this channel points at
    #[arg(long, value_name = "CHANNEL", conflicts_with = "image")]
    pub from: Option<String>,
    /// Which image of ami.toml --from means, where there are several
    #[arg(long = "image", value_name = "IMAGE", requires = "from")]
    pub of: Option<String>,
    /// Promote although it was not long enough in the channel before; the reason is written down. An empty one is none
    #[arg(long = "override", value_name = "REASON")]
    pub overridden: Option<String>,
    /// Regions that may lack the image.
    #[command(flatten)]
    pub best_effort: BestEffort,
}

/// `ami bump`
#[derive(Clone, Debug, Args)]
pub struct Bump {
    /// Id or name of the image to be released; the newest when left out
    pub image: Option<String>,
    /// Write nothing: say whether the image's version is enough, exit code 2 if it says too little; what `release` does before it copies
    #[arg(long, conflicts_with = "level")]
    pub check: bool,
    /// Raise this part, whatever changed
    #[arg(long, value_enum)]
    pub level: Option<BumpLevel>,
}

/// The part of a version to raise (guide, section 8).
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
    /// The channel
    #[arg(long)]
    pub channel: String,
    /// Version, name or id of the image to go back to; the last good one when left out
    #[arg(long, value_name = "VERSION")]
    pub to: Option<String>,
    /// What is wrong with the bad image
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Version, name or id of an image to put under quarantine (repeatable); what the channel points at when left out
    #[arg(long, value_name = "VERSION", conflicts_with = "keep")]
    pub bad: Vec<String>,
    /// Put no image under quarantine
    #[arg(long)]
    pub keep: bool,
    /// Which image of ami.toml, where there are several
    #[arg(long = "image", value_name = "IMAGE")]
    pub of: Option<String>,
}

/// `ami watch`
#[derive(Clone, Debug, Args)]
pub struct Watch {
    /// The channel
    #[arg(long)]
    pub channel: String,
    /// Only this image of ami.toml; all that the channel points at when left out
    #[arg(long = "image", value_name = "IMAGE")]
    pub of: Option<String>,
    /// Look again and again for so long (48h, 30m); once when left out
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub within: Option<Duration>,
    /// Time between two looks
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "15m")]
    pub every: Duration,
}

/// `ami history`
#[derive(Clone, Debug, Args)]
pub struct History {
    /// The channel
    #[arg(long)]
    pub channel: String,
    /// Which image of ami.toml, where there are several
    #[arg(long = "image", value_name = "IMAGE")]
    pub of: Option<String>,
}

/// `ami release`
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Release {
    /// What to build.
    #[command(flatten)]
    pub build: Build,
    /// Release although the version says less than what changed since the last release
    #[arg(long)]
    pub allow_version: bool,
    /// Regions that may fail.
    #[command(flatten)]
    pub best_effort: BestEffort,
}

/// Regions whose failure is told, but fails nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct BestEffort {
    /// A region that may be left without the image (repeatable), beside `best_effort_regions` in ami.toml
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
    /// Id of a run, or id or name of an image; the newest run that had an image when left out
    #[arg(value_name = "RUN|IMAGE")]
    pub what: Option<String>,
    /// Write the page to this file: one HTML file, without script or network
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write the page and the image's manifest.json, sbom.cdx.json and smoke.json into this folder
    #[arg(long, value_name = "DIR")]
    pub documents: Option<PathBuf>,
}

/// `ami runs`
#[derive(Clone, Debug, Args)]
pub struct Runs {
    /// Show so many, the newest
    #[arg(long, default_value = "20", value_name = "N")]
    pub last: usize,
    /// Only those that can be resumed
    #[arg(long)]
    pub unfinished: bool,
}

/// `ami resume`
#[derive(Clone, Debug, Args)]
pub struct Resume {
    /// Id of the run, `ami runs` lists them; the newest that was cut off when left out
    pub run: Option<String>,
    /// If none was cut off that is well, too: for workflows
    #[arg(long, conflicts_with = "run")]
    pub if_any: bool,
}

/// `ami diff`
#[derive(Clone, Debug, Args)]
pub struct Diff {
    /// Id or name of the older image
    pub from: String,
    /// Id or name of the newer one
    pub to: String,
}

/// `ami delete`
#[derive(Clone, Debug, Args)]
pub struct Delete {
    /// Id or name
    pub image: String,
    /// Delete it even if a channel points at it
    #[arg(long)]
    pub force: bool,
}

/// `ami gc`
#[derive(Clone, Debug, Args)]
pub struct Gc {
    /// Do it; without, the plan is printed
    #[arg(long)]
    pub apply: bool,
    /// Only what this run left (repeatable)
    #[arg(long = "run", value_name = "RUN")]
    pub runs: Vec<String>,
    /// Only what runs of this state folder left: what a workflow's last step cleans up
    #[arg(long, conflicts_with = "runs")]
    pub mine: bool,
    /// Show what stays, too
    #[arg(long)]
    pub all: bool,
}

//! The sections of `ami.toml`. The documentation of the fields is the reference of the file (`cargo xtask docs`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;

use crate::ids::{ChannelName, Region};
use crate::template_source::TemplateSource;

/// An image.
#[derive(Clone, Debug, JsonSchema)]
pub struct Image {
    /// The image of commands without an image name. At most one image is the default; without one, such commands require that there is only
    /// one image.
    pub default: bool,
    /// Template: a `*.pkr.hcl` file or a directory of them, relative to the project, or another template source. The default is
    /// `template_source` of `[packer]`.
    #[schemars(with = "String")]
    pub template: TemplateSource,
    /// Version, `MAJOR.MINOR.PATCH`.
    pub version: String,
    /// Smoke spec that an instance of the image must pass, relative to the project.
    pub smoke: PathBuf,
    /// Variable with the image's id in the env files of channels. A suffix names the region: `LOCUS_AMI_ID_US_EAST_1`.
    pub env_variable: String,
    /// Source block of the template for `--on local`.
    pub source_local: String,
    /// Source block of the template for `--on aws`. Empty: the image is not built there.
    pub source_aws: Option<String>,
    /// Template variables. They override the template's defaults, and are overridden by `PKR_VAR_*`, var-files and `--var`.
    pub vars: BTreeMap<String, String>,
}

/// Where images are built and copied to.
#[derive(Clone, Debug, JsonSchema)]
pub struct Regions {
    /// Names of local regions. The first is the home region, the others receive copies.
    pub local: Vec<Region>,
    /// AWS regions. The first is the home region, the others receive copies. All must be of one partition.
    pub aws: Vec<Region>,
}

/// A channel.
#[derive(Clone, Debug, JsonSchema)]
pub struct Channel {
    /// Env file that is written on promotion, relative to the project. Empty: none.
    pub env_file: Option<PathBuf>,
    /// Prefix of the Systems Manager parameters that are written on promotion, such as `/locus/ami`. Empty: none.
    pub ssm_prefix: Option<String>,
    /// Append the images' ids to the file that `GITHUB_OUTPUT` names.
    pub github_output: bool,
    /// Channel that an image must have been in before. Empty: none.
    pub after: Option<ChannelName>,
    /// Hours that an image must have been in the channel `after`.
    pub soak_hours: u64,
}

/// How long images are kept.
#[derive(Clone, Copy, Debug, JsonSchema)]
pub struct Retention {
    /// Days that an image is kept after another replaced it.
    pub keep_days: u64,
    /// Newest images of each `[images.NAME]` that are kept whatever their age.
    pub keep_last: u64,
    /// Days between deprecation and disabling, or deletion where images cannot be disabled.
    pub deprecate_days: u64,
    /// Days between disabling on EC2 and deregistration. 0: an image is not disabled before.
    pub disable_days: u64,
    /// Images and other resources that one `ami gc --apply` may remove.
    pub max_removals: u64,
}

/// Builds on this machine.
#[derive(Clone, Debug, JsonSchema)]
pub struct Local {
    /// State directory, relative to the project. `--state` overrides it.
    pub state_dir: PathBuf,
    /// Processors of a virtual machine. A container uses all processors of the host.
    pub cpus: u32,
    /// Memory of a virtual machine in MiB. A container uses the memory of the host.
    pub memory_mib: u64,
    /// Size of the root disk in GiB.
    pub disk_gib: u64,
    /// Free disk space in GiB that a first build requires, for layers, the image and one copy. A later build requires half.
    pub build_gib: u64,
    /// Days after which `ami gc` removes a layer that no build started from.
    pub layer_days: u64,
    /// Total size of all layers in GiB above which `ami gc` removes the least recently used.
    pub layers_gib: u64,
    /// Acceleration of virtual machines. `auto`: KVM or HVF where it works, else `tcg` (emulation).
    pub acceleration: Acceleration,
    /// What an image is built in. `auto`: a virtual machine where KVM or HVF works, else a container (on Linux, as root), else a virtual machine.
    /// `--builder` overrides it.
    pub builder: Builder,
    /// Base image. `auto`: the one that exists in the state directory; else `ubuntu-22.04` if it can be downloaded, else `debian-13`.
    pub base: Base,
    /// Timeout for a boot in seconds. Where a second machine may be tried, the first one gets half of it.
    pub boot_timeout_secs: u64,
    /// URL that Ubuntu's cloud images are downloaded from.
    pub ubuntu_releases: String,
}

/// Builds on EC2.
#[derive(Clone, Debug, JsonSchema)]
pub struct Aws {
    /// Ids of the accounts that may be used. Empty: any.
    pub accounts: Vec<String>,
    /// Named profile of the AWS configuration. Empty: credentials come from the environment.
    pub profile: Option<String>,
    /// Regions whose failure does not fail a copy.
    pub best_effort_regions: Vec<Region>,
    /// Instance types that are tried in order after the template's, if EC2 has no capacity for it.
    pub build_instance_types: Vec<String>,
    /// Instance types of the smoke test: one instance each. Empty: `t3.micro`.
    pub smoke_instance_types: Vec<String>,
    /// How commands reach instances: over SSH, or through Systems Manager Run Command, which requires no key pair and no open port.
    pub via: Via,
    /// Instance profile for `via = "ssm"`, with the policy `AmazonSSMManagedInstanceCore`. Empty: the template's.
    pub ssm_instance_profile: Option<String>,
    /// Role of an instance profile, by the profile's name, where the two names differ. `iam-policy` allows passing the role.
    pub instance_profile_roles: BTreeMap<String, String>,
    /// Sources, as CIDR blocks, that may connect to the instances. Empty: the public address of this machine.
    pub ssh_cidrs: Vec<String>,
    /// Address of a tunnel or bastion to connect to instead of the instance's own. Empty: the instance's own.
    pub ssh_host: Option<String>,
    /// Port that belongs to `ssh_host`. 0: the template's.
    pub ssh_port: Option<u16>,
    /// KMS key of the copies, by region. Other regions use their default key.
    pub kms_key_ids: BTreeMap<Region, String>,
    /// Completion time of time-based copies in minutes, a multiple of 15. 0: standard copies, at no extra cost.
    pub copy_completion_minutes: Option<u64>,
    /// Minutes after which an instance terminates itself.
    pub instance_lifetime_minutes: u64,
    /// Timeout in seconds for an instance to accept commands.
    pub boot_timeout_secs: u64,
}

/// Packer, and settings of the builder on EC2.
#[derive(Clone, Debug, JsonSchema)]
pub struct Packer {
    /// Packer's binary: a path, or a name that is searched for on PATH.
    pub binary_path: String,
    /// Download Packer if `binary_path` is not found.
    pub auto_install: bool,
    /// Version to download.
    pub version: String,
    /// URL that Packer is downloaded from.
    pub releases: String,
    /// Working directory, relative to the project.
    pub work_dir: PathBuf,
    /// Home region on EC2 if `[regions] aws` is empty.
    pub default_region: Region,
    /// Instance type of the builder, for both engines: the template variable `instance_type`.
    pub build_instance_type: String,
    /// Subnet of instances, for both engines: the template variable `subnet_id`. Empty: the default VPC.
    pub build_subnet_id: Option<String>,
    /// Timeout in seconds for a build with Packer, and for the steps of a build with the native engine.
    pub build_timeout_secs: u64,
    /// Template source of images without `template`: `builtin://default-ec2`, a path, an `http(s)://` URL or `git::URL//PATH?ref=REF`.
    #[schemars(with = "String")]
    pub template_source: TemplateSource,
}

/// Declares a value that is one of some words. The first word is the default.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $word:ident = $text:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
        pub enum $name {
            $($(#[$doc])* #[schemars(rename = $text)] $word),+
        }

        impl Words for $name {
            const ALL: &'static [(&'static str, Self)] = &[$(($text, Self::$word)),+];
        }
    };
}

/// A value that is one of some words.
pub(super) trait Words: Copy + 'static {
    /// The words and their values. The first is the default.
    const ALL: &'static [(&'static str, Self)];
}

words! {
    /// Acceleration of virtual machines.
    Acceleration {
        /// The best that works.
        Auto = "auto",
        /// Linux.
        Kvm = "kvm",
        /// macOS.
        Hvf = "hvf",
        /// Emulation.
        Tcg = "tcg",
    }
}

words! {
    /// What an image is built in.
    Builder {
        /// The faster one of this host.
        Auto = "auto",
        /// A virtual machine.
        Vm = "vm",
        /// A container.
        Container = "container",
    }
}

words! {
    /// The local base image.
    Base {
        /// An existing one, Ubuntu 22.04 or Debian 13.
        Auto = "auto",
        /// Ubuntu 22.04.
        Ubuntu2204 = "ubuntu-22.04",
        /// Ubuntu 24.04.
        Ubuntu2404 = "ubuntu-24.04",
        /// Debian 13.
        Debian13 = "debian-13",
    }
}

words! {
    /// How commands reach instances.
    Via {
        /// SSH.
        Ssh = "ssh",
        /// Systems Manager Run Command.
        Ssm = "ssm",
    }
}

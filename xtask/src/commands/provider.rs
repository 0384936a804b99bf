//! The interface between commands and providers: opening a provider, and selecting the source of a template that it builds.
//!
//! Commands are generic over it, so that the binary with the AWS SDK runs the same code as the one without.

use std::sync::Arc;
use std::time::Duration;

use super::Context;
use crate::cli::{Job, On};
use crate::cloud::local::{Local, Settings, Size, base, qemu::Acceleration};
use crate::cloud::{BuilderKind, Cloud};
use crate::config::{self, Config, Image as ImageConfig};
use crate::error::{Exit, Result};
use crate::ids::Region;
use crate::recipe::Source;
use crate::ssm::ManagedNodes;
use crate::state::{Run, State};

/// A provider of images and machines: `local` or `aws`.
pub trait Provider {
    /// Access to its images and machines.
    type Cloud: Cloud;

    /// Its value of `--on`.
    fn on(&self) -> On;

    /// Opens it. A run is required to start machines, and for changes to be recorded in the ledger.
    fn open(&self, context: &Context, config: &Config, state: &State, run: Option<Arc<Run>>) -> Result<Self::Cloud>;

    /// Template variables that are derived from ami.toml and the run. Those that a template does not declare are ignored.
    fn settings(&self, config: &Config, run: Option<&Run>) -> Vec<(&'static str, String)>;

    /// The IAM policy of a role with these jobs that builds these sources; `None` for a provider without IAM.
    fn iam_policy(&self, _: &Config, _: &[Job], _: &[Source]) -> Result<Option<serde_json::Value>> {
        Ok(None)
    }

    /// The source of the image's template that this provider builds, as `type.name`.
    fn source<'a>(&self, name: &str, image: &'a ImageConfig) -> Result<&'a str>;

    /// True if [`Self::managed_nodes`] is supported.
    fn has_managed_nodes(&self) -> bool {
        false
    }

    /// The managed nodes of AWS Systems Manager in some regions. Commands sent to them are recorded under the run; without a run they can
    /// only be listed.
    fn managed_nodes(&self, _: &Config, _: &[Region], _: Option<Arc<Run>>) -> Result<Box<dyn ManagedNodes>> {
        Err(Exit::Usage.error("the local provider has no managed nodes", "omit --on local"))
    }
}

/// `--on local`.
#[derive(Clone, Copy, Debug)]
pub struct OnLocal;

impl Provider for OnLocal {
    type Cloud = Local;

    fn on(&self) -> On {
        On::Local
    }

    fn open(&self, context: &Context, config: &Config, state: &State, run: Option<Arc<Run>>) -> Result<Local> {
        Ok(Local::new(state, local_settings(config), &context.root, run))
    }

    fn settings(&self, _: &Config, _: Option<&Run>) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn source<'a>(&self, _: &str, image: &'a ImageConfig) -> Result<&'a str> {
        Ok(&image.source_local)
    }
}

/// The local provider's settings from ami.toml.
pub fn local_settings(config: &Config) -> Settings {
    let local = &config.local;
    Settings {
        regions: config.regions.local.clone(),
        size: Size {
            cpus: local.cpus,
            memory_mib: local.memory_mib,
            boot_timeout: Duration::from_secs(local.boot_timeout_secs),
        },
        disk_gib: local.disk_gib,
        build_gib: local.build_gib,
        acceleration: match local.acceleration {
            config::Acceleration::Auto => None,
            config::Acceleration::Kvm => Some(Acceleration::Kvm),
            config::Acceleration::Hvf => Some(Acceleration::Hvf),
            config::Acceleration::Tcg => Some(Acceleration::Tcg),
        },
        builder: match local.builder {
            config::Builder::Auto => None,
            config::Builder::Vm => Some(BuilderKind::Vm),
            config::Builder::Container => Some(BuilderKind::Container),
        },
        base: match local.base {
            config::Base::Auto => None,
            config::Base::Ubuntu2204 => Some(base::Name::Ubuntu2204),
            config::Base::Ubuntu2404 => Some(base::Name::Ubuntu2404),
            config::Base::Debian13 => Some(base::Name::Debian13),
        },
        ubuntu_releases: local.ubuntu_releases.clone(),
    }
}

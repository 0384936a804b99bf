//! Providers as commands need them: how one is opened, and which source of a template it builds.
//!
//! Commands are generic over this, so that the binary with the AWS SDK runs the same code as the one without.

use std::sync::Arc;
use std::time::Duration;

use super::Context;
use crate::cli::{Job, On};
use crate::cloud::local::{Local, Settings, Size, base, qemu::Acceleration};
use crate::cloud::{BuilderKind, Cloud};
use crate::config::{Config, Image as ImageConfig};
use crate::error::{Exit, Result};
use crate::recipe::Source;
use crate::ssm::ManagedNodes;
use crate::state::{Run, State};

/// A provider that can be opened.
pub trait Provider {
    /// What it opens.
    type Cloud: Cloud;

    /// What `--on` calls it.
    fn on(&self) -> On;

    /// Opens it. Without a run it can look, copy and delete, but start no machine.
    fn open(&self, context: &Context, config: &Config, state: &State, run: Option<Arc<Run>>) -> Result<Self::Cloud>;

    /// Template variables that follow from ami.toml and the run, for a template that declares them.
    fn settings(&self, config: &Config, run: Option<&Run>) -> Vec<(&'static str, String)>;

    /// The IAM policy of a role with these jobs that builds these sources, if it is the provider that needs one.
    fn iam_policy(&self, _: &Config, _: &[Job], _: &[Source]) -> Result<Option<serde_json::Value>> {
        Ok(None)
    }

    /// The source of an image's template that it builds, `type.name`.
    fn source<'a>(&self, name: &str, image: &'a ImageConfig) -> Result<&'a str>;

    /// True if it knows servers that already run.
    fn has_managed_nodes(&self) -> bool {
        false
    }

    /// Those servers, in some regions. What the run sends them is in its ledger; without a run they can only be looked at.
    fn managed_nodes(&self, _: &Config, _: &[String], _: Option<Arc<Run>>) -> Result<Box<dyn ManagedNodes>> {
        Err(Exit::Usage.error("Systems Manager knows no local machines", "leave out --on local"))
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

/// `[local]` in the provider's own types.
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
        acceleration: match local.acceleration.as_str() {
            "kvm" => Some(Acceleration::Kvm),
            "hvf" => Some(Acceleration::Hvf),
            "tcg" => Some(Acceleration::Tcg),
            _ => None,
        },
        builder: match local.builder.as_str() {
            "vm" => Some(BuilderKind::Vm),
            "container" => Some(BuilderKind::Container),
            _ => None,
        },
        base: base::Name::ALL.into_iter().find(|name| name.name() == local.base),
        ubuntu_releases: local.ubuntu_releases.clone(),
    }
}

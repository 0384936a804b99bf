//! What the server was configured with: `[serve]` of ami.toml, the options, and the other sections that requests refer to.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use xtask::cli::{self, On};
use xtask::config::{Config, Serve};
use xtask::error::{Exit, Result};
use xtask::ids::{ChannelName, Region};
use xtask::template_source::TemplateSource;

/// The server's directory in the state directory.
pub const DIR: &str = "serve";

/// The settings, after all checks.
#[derive(Clone, Debug)]
pub struct Settings {
    pub on: On,
    /// The project's root directory.
    pub root: PathBuf,
    /// The state directory, absolute.
    pub state: PathBuf,
    pub listen: SocketAddr,
    /// Certificate chain and key.
    pub tls: Option<(PathBuf, PathBuf)>,
    pub database_url: Option<String>,
    pub hosts: Vec<String>,
    pub allowed: Allowed,
    pub channels: Vec<ChannelName>,
    /// Builds at the same time, of this server and in one region.
    pub concurrency: (usize, usize),
    pub queue_limit: u64,
    pub requests_per_minute: u32,
    pub lease: Duration,
    pub drain: Duration,
    pub abandon: Duration,
    pub build_days: u64,
    /// The program that runs the builds.
    pub xtask: PathBuf,
}

/// What a request may ask for.
#[derive(Clone, Debug)]
pub struct Allowed {
    /// The regions; the first is the default.
    pub regions: Vec<Region>,
    /// The instance types; empty if the provider has none.
    pub instance_types: Vec<String>,
    /// The templates, each with the image of ami.toml that it builds; the first is the default.
    pub templates: Vec<(TemplateSource, String)>,
    /// The image of ami.toml for the other templates.
    pub image: Option<String>,
    /// Template variables.
    pub variables: BTreeSet<String>,
    pub file_sources: bool,
    pub inline_sources: bool,
}

impl Settings {
    /// Checks the configuration. The options override it.
    pub fn new(config: &Config, on: On, args: &cli::Serve, root: PathBuf) -> Result<Self> {
        let serve = &config.serve;
        let listen = args.listen.unwrap_or(serve.listen);
        let given = args.tls_cert.clone().zip(args.tls_key.clone());
        let tls = given.or_else(|| serve.tls_cert.clone().zip(serve.tls_key.clone()));
        if !listen.ip().is_loopback() && tls.is_none() {
            let hint = "pass --tls-cert and --tls-key, or listen on 127.0.0.1 behind a proxy that terminates TLS";
            let message =
                format!("{listen} is reachable from other machines, and requests contain tokens: it requires TLS");
            return Err(Exit::Usage.error(message, hint));
        }
        let state = root.join(&config.local.state_dir);
        let xtask = match &args.xtask {
            Some(program) => program.clone(),
            None => std::env::current_exe()?.with_file_name("xtask"),
        };
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Ok(Self {
            on,
            state: prepared(&state)?,
            listen,
            tls,
            database_url: serve.database_url.clone(),
            hosts: serve.hosts.clone(),
            allowed: Allowed::new(config, on)?,
            channels: config.channels.keys().cloned().collect(),
            // Local builds share layers, and exclude each other.
            concurrency: if on == On::Local {
                (1, 1)
            } else {
                (number(serve.concurrency), number(serve.region_concurrency))
            },
            queue_limit: serve.queue_limit,
            requests_per_minute: u32::try_from(serve.requests_per_minute).unwrap_or(u32::MAX),
            lease: Duration::from_secs(serve.lease_secs),
            drain: Duration::from_secs(serve.drain_secs),
            abandon: Duration::from_secs(serve.abandon_secs),
            build_days: serve.build_days,
            xtask,
            root,
        })
    }

    /// An error if the program that runs the builds does not exist.
    pub fn require_xtask(&self) -> Result<()> {
        if self.xtask.is_file() {
            return Ok(());
        }
        let message = format!("{} does not exist", self.xtask.display());
        Err(Exit::Precondition.error(message, "run `cargo build --package xtask`"))
    }

    /// The directory of the server in the state directory.
    pub fn dir(&self) -> PathBuf {
        self.state.join(DIR)
    }
}

/// The absolute path of the state directory, with the server's directory in it.
fn prepared(state: &Path) -> Result<PathBuf> {
    xtask::state::State::open(state)?;
    let state = fs_err::canonicalize(state)?;
    fs_err::create_dir_all(state.join(DIR))?;
    Ok(state)
}

impl Allowed {
    fn new(config: &Config, on: On) -> Result<Self> {
        let Serve { regions, instance_types, templates, image, variables, .. } = &config.serve;
        let of_provider = match on {
            On::Local => &config.regions.local,
            On::Aws => &config.regions.aws,
        };
        let mut allowed = of_provider.clone();
        allowed.retain(|region| regions.is_empty() || regions.contains(region));
        if allowed.is_empty() {
            let message = format!("`regions` of [serve] has no region of the provider {}", on.name());
            return Err(Exit::Usage.error(message, "add one of `regions` in [regions], or set regions = []"));
        }
        let mut types: Vec<String> = match on {
            On::Local => Vec::new(),
            On::Aws if !instance_types.is_empty() => instance_types.clone(),
            On::Aws => [&config.packer.build_instance_type]
                .into_iter()
                .chain(&config.aws.build_instance_types)
                .cloned()
                .collect(),
        };
        types.dedup();
        let default = [config.packer.template_source.clone()];
        let sources = if templates.is_empty() { &default[..] } else { templates };
        let fallback = config.image(image.as_deref()).ok().map(|(name, _)| name.to_owned());
        let mut templates = Vec::new();
        for source in sources {
            let own =
                config.images.iter().find(|(_, image)| image.template.is_same(source)).map(|(name, _)| name.clone());
            let image = own.or_else(|| fallback.clone()).ok_or_else(|| {
                let message = format!("the template {source} belongs to no image, and [serve] has no `image`");
                Exit::Usage.error(message, "set `image` in [serve], or `default = true` for an image")
            })?;
            templates.push((source.clone(), image));
        }
        Ok(Self {
            regions: allowed,
            instance_types: types,
            templates,
            image: fallback,
            variables: variables.iter().cloned().collect(),
            file_sources: config.serve.file_sources,
            inline_sources: config.serve.inline_sources,
        })
    }
}

//! The `Provider` of `--on aws`.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use xtask::cli::{self, Job, On};
use xtask::commands::{Context, Provider};
use xtask::config::{self, Config, Image as ImageConfig};
use xtask::error::{Exit, Result};
use xtask::ids::Region;
use xtask::recipe::Source;
use xtask::ssm::ManagedNodes;
use xtask::state::{Run, State};

use crate::clients::{self, Clients};
use crate::cloud::Ec2;
use crate::drive::Driver;
use crate::settings::{Patiences, Settings, Via};
use crate::{policy, ssm};

/// The provider. Driver and clients are created once, at the first `open`.
#[derive(Debug, Default)]
pub struct OnAws {
    opened: OnceLock<(Arc<Driver>, Clients)>,
}

impl OnAws {
    fn opened(&self, config: &Config, home: &Region) -> Result<(Arc<Driver>, Clients)> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened.clone());
        }
        let driver = Arc::new(Driver::new()?);
        let loaded = clients::Settings { home: home.clone(), profile: settings(config).profile };
        let clients = driver.wait(Clients::load(&loaded))?;
        Ok(self.opened.get_or_init(|| (driver, clients)).clone())
    }
}

impl Provider for OnAws {
    type Cloud = Ec2;

    fn on(&self) -> On {
        On::Aws
    }

    fn open(&self, context: &Context, config: &Config, state: &State, run: Option<Arc<Run>>) -> Result<Ec2> {
        let mut settings = settings(config);
        settings.via = context.common.via.map_or(settings.via, |via| match via {
            cli::Via::Ssh => Via::Ssh,
            cli::Via::Ssm => Via::Ssm,
        });
        let Some(home) = settings.regions.first() else {
            return Err(Exit::Usage.error("no AWS region in ami.toml", "add aws = [\"us-east-1\"] to [regions]"));
        };
        let (driver, clients) = self.opened(config, home)?;
        Ok(Ec2::new(driver, &clients, settings, state, run))
    }

    fn settings(&self, config: &Config, run: Option<&Run>) -> Vec<(&'static str, String)> {
        let packer = &config.packer;
        let mut settings = vec![
            ("aws_region", config.regions.aws.first().unwrap_or(&packer.default_region).to_string()),
            ("instance_type", packer.build_instance_type.clone()),
            ("subnet_id", packer.build_subnet_id.clone().unwrap_or_default()),
        ];
        settings.extend(run.map(|run| ("run_id", run.id().to_string())));
        settings
    }

    fn iam_policy(&self, config: &Config, jobs: &[Job], sources: &[Source]) -> Result<Option<serde_json::Value>> {
        Ok(Some(policy::policy(jobs, &policy::Scope::of(config, sources)?)))
    }

    fn has_managed_nodes(&self) -> bool {
        true
    }

    fn managed_nodes(
        &self,
        config: &Config,
        regions: &[Region],
        run: Option<Arc<Run>>,
    ) -> Result<Box<dyn ManagedNodes>> {
        let Some(home) = regions.first() else {
            return Err(
                Exit::Usage.error("no AWS region given", "pass --region, or add regions to [regions] in ami.toml")
            );
        };
        let (driver, clients) = self.opened(config, home)?;
        Ok(Box::new(ssm::Ssm::new(&driver, clients.of_run(run), regions, Patiences::default().command)))
    }

    fn source<'a>(&self, name: &str, image: &'a ImageConfig) -> Result<&'a str> {
        image.source_aws.as_deref().ok_or_else(|| {
            Exit::Usage.error(
                format_args!("image `{name}` has no source for AWS"),
                "add source_aws = \"amazon-ebs.NAME\" to the image in ami.toml",
            )
        })
    }
}

/// `[aws]` and related sections of ami.toml, in this crate's types.
pub fn settings(config: &Config) -> Settings {
    let aws = &config.aws;
    Settings {
        regions: config.regions.aws.clone(),
        best_effort: aws.best_effort_regions.clone(),
        profile: aws.profile.clone(),
        accounts: aws.accounts.clone(),
        more_builder_types: aws.build_instance_types.clone(),
        smoke_types: aws.smoke_instance_types.clone(),
        via: match aws.via {
            config::Via::Ssh => Via::Ssh,
            config::Via::Ssm => Via::Ssm,
        },
        ssm_profile: aws.ssm_instance_profile.clone(),
        subnet: config.packer.build_subnet_id.clone(),
        ssh_cidrs: aws.ssh_cidrs.clone(),
        ssh_host: aws.ssh_host.clone(),
        ssh_port: aws.ssh_port,
        prefixes: config
            .channels
            .values()
            .filter_map(|c| c.ssm_prefix.clone())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
        kms_keys: aws.kms_key_ids.clone(),
        copy_within: aws.copy_completion_minutes.map(|minutes| Duration::from_secs(minutes * 60)),
        lifetime: Duration::from_secs(aws.instance_lifetime_minutes * 60),
        boot_timeout: Duration::from_secs(aws.boot_timeout_secs),
        patience: Patiences::default(),
    }
}

//! The targets of channels, as `ami.toml` and the environment configure them for each image.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Target;
use crate::config::{Channel, Config, Image as ImageConfig};
use crate::error::{Exit, Result};
use crate::ids::ChannelName;

/// The configuration of a project's channels.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    /// `ami.toml` with the overrides of environment and flags.
    pub config: &'a Config,
    /// The project's directory, which relative paths of env files start from.
    pub root: &'a Path,
    /// The environment; `GITHUB_OUTPUT` names the file for a workflow's outputs.
    pub env: &'a BTreeMap<String, String>,
}

/// A channel of `ami.toml` by its name.
pub fn configured<'a>(config: &'a Config, name: &str) -> Result<&'a Channel> {
    config.channels.get(name).ok_or_else(|| {
        let known = config.channels.keys().cloned().collect::<Vec<_>>().join(", ");
        Exit::Usage
            .error(format_args!("ami.toml has no channel `{name}`"), format_args!("use one of its channels: {known}"))
    })
}

impl Targets<'_> {
    /// A channel's target for one image of `ami.toml`; a usage error if there is no such channel or image.
    pub fn one(&self, image: &str, name: &str) -> Result<Target> {
        let channel = configured(self.config, name)?;
        Ok(self.target(self.config.image(Some(image))?, (name, channel)))
    }

    /// The targets of all channels for all images.
    pub fn all(&self) -> Vec<Target> {
        let of = |(name, channel): (&ChannelName, &Channel)| {
            let images = self.config.images.iter();
            images.map(|(image, at)| self.target((image, at), (name, channel))).collect::<Vec<_>>()
        };
        self.config.channels.iter().flat_map(of).collect()
    }

    fn target(&self, (image, configured): (&str, &ImageConfig), (name, channel): (&str, &Channel)) -> Target {
        Target {
            name: name.into(),
            image: image.to_owned(),
            variable: configured.env_variable.clone(),
            env_file: channel.env_file.as_ref().map(|file| (self.root.join(file), file.display().to_string())),
            prefix: channel.ssm_prefix.clone(),
            output: self.env.get("GITHUB_OUTPUT").filter(|_| channel.github_output).map(PathBuf::from),
        }
    }
}

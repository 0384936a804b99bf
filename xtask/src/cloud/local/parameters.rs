//! Parameters of this machine's regions, as Systems Manager keeps them on AWS: a file each, with a version that counts writes.

use std::path::PathBuf;

use fs_err as fs;

use super::super::{Cloud as _, ImageId, Listed, Parameter, changed_in_between};
use super::Local;
use crate::durable;
use crate::error::{Exit, Result};

impl Local {
    fn parameter_file(&self, region: &str, name: &str) -> Result<PathBuf> {
        if !self.settings.regions.iter().any(|r| r == region) {
            return Err(self.unknown_region(region));
        }
        // One folder, whatever the name: a slash becomes what no name may contain.
        let file = format!("{}.json", name.trim_start_matches('/').replace('/', "%2F"));
        Ok(self.state.path("parameters").join(region).join(file))
    }

    pub(super) fn read_parameter(&self, region: &str, name: &str) -> Result<Option<Parameter>> {
        let file = self.parameter_file(region, name)?;
        match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| {
                Exit::Failed.error(
                    format_args!("parameter {name} in {region} is damaged: {e}"),
                    format_args!("look at {}; if it cannot be saved, remove it and promote again", file.display()),
                )
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn list_parameters(&self, region: &str) -> Result<Vec<(String, ImageId)>> {
        let dir = self.state.path("parameters").join(region);
        if !dir.exists() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let file = entry?.file_name();
            // What is staged beside them has no such ending.
            let Some(name) = file.to_str().and_then(|f| f.strip_suffix(".json")) else { continue };
            let name = format!("/{}", name.replace("%2F", "/"));
            if let Some(there) = self.read_parameter(region, &name)?.filter(|p| p.value.starts_with("ami-")) {
                found.push((name, ImageId(there.value)));
            }
        }
        found.sort();
        Ok(found)
    }

    pub(super) fn write_parameter(&self, region: &str, name: &str, value: &str, expected: Option<u64>) -> Result<()> {
        let _lock = self.state.wait_for_lock("parameters", "writing a parameter")?;
        let there = self.read_parameter(region, name)?;
        if there.as_ref().map(|p| p.version) != expected {
            return Err(changed_in_between(region, name, there.as_ref()));
        }
        // As `aws:ec2:image` does: a pointer to an image that is not there is refused.
        let known = |listed: &Listed| matches!(listed, Listed::Image(image) if image.id.0 == value);
        if value.starts_with("ami-") && !self.images(region)?.iter().any(known) {
            return Err(Exit::Failed.error(
                format_args!("{value} is no image in {region}, so {name} cannot hold it"),
                "copy the image there first: `cargo xtask ami copy`",
            ));
        }
        let parameter = Parameter { value: value.to_owned(), version: expected.unwrap_or(0) + 1 };
        self.journal(("PutParameter", region, name, value), || {
            let text = serde_json::to_vec_pretty(&parameter).map_err(std::io::Error::from)?;
            durable::replace(&self.parameter_file(region, name)?, &text)?;
            Ok(((), format!("{name} version {}", parameter.version)))
        })
    }

    pub(super) fn remove_parameter(&self, region: &str, name: &str) -> Result<()> {
        let _lock = self.state.wait_for_lock("parameters", "removing a parameter")?;
        let file = self.parameter_file(region, name)?;
        self.journal(("DeleteParameter", region, name, ""), || match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(((), name.to_owned())),
        })
    }
}

//! Parameters of the local regions, like those of Systems Manager's Parameter Store: one file each, with a version that counts writes.

use std::path::PathBuf;

use fs_err as fs;

use super::super::{Cloud as _, ImageId, Listed, Parameter, changed_in_between};
use super::Local;
use crate::durable;
use crate::error::{Exit, Result};
use crate::ids::Region;

impl Local {
    fn parameter_file(&self, region: &Region, name: &str) -> Result<PathBuf> {
        if !self.settings.regions.contains(region) {
            return Err(self.unknown_region(region));
        }
        // All parameters are in one directory. A slash is encoded as `%2F`, because names cannot contain `%`.
        let file = format!("{}.json", name.trim_start_matches('/').replace('/', "%2F"));
        Ok(self.state.path("parameters").join(region.as_str()).join(file))
    }

    pub(super) fn read_parameter(&self, region: &Region, name: &str) -> Result<Option<Parameter>> {
        let file = self.parameter_file(region, name)?;
        match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| {
                Exit::Failed.error(
                    format_args!("parameter {name} in {region} is damaged: {e}"),
                    format_args!("repair {}, or remove it and promote again", file.display()),
                )
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn list_parameters(&self, region: &Region) -> Result<Vec<(String, ImageId)>> {
        let dir = self.state.path("parameters").join(region.as_str());
        if !dir.exists() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let file = entry?.file_name();
            // Temporary files of `durable::replace` have no such extension.
            let Some(name) = file.to_str().and_then(|f| f.strip_suffix(".json")) else { continue };
            let name = format!("/{}", name.replace("%2F", "/"));
            if let Some(parameter) = self.read_parameter(region, &name)?.filter(|p| p.value.starts_with("ami-")) {
                found.push((name, ImageId(parameter.value)));
            }
        }
        found.sort();
        Ok(found)
    }

    pub(super) fn write_parameter(
        &self,
        region: &Region,
        name: &str,
        value: &str,
        expected: Option<u64>,
    ) -> Result<()> {
        let _lock = self.state.wait_for_lock("parameters", "writing a parameter")?;
        let current = self.read_parameter(region, name)?;
        if current.as_ref().map(|p| p.version) != expected {
            return Err(changed_in_between(region, name, current.as_ref()));
        }
        // Parameter Store likewise rejects a value of type `aws:ec2:image` that is not an existing image.
        let known = |listed: &Listed| matches!(listed, Listed::Image(image) if image.id.0 == value);
        if value.starts_with("ami-") && !self.images(region)?.iter().any(known) {
            return Err(Exit::Failed.error(
                format_args!("{name} cannot be set to {value}: {region} has no such image"),
                "copy the image to the region with `cargo xtask ami copy`",
            ));
        }
        let parameter = Parameter { value: value.to_owned(), version: expected.unwrap_or(0) + 1 };
        self.journal(("PutParameter", Some(region), Some(name), Some(value)), || {
            let text = serde_json::to_vec_pretty(&parameter).map_err(std::io::Error::from)?;
            durable::replace(&self.parameter_file(region, name)?, &text)?;
            Ok(((), format!("{name} version {}", parameter.version)))
        })
    }

    pub(super) fn remove_parameter(&self, region: &Region, name: &str) -> Result<()> {
        let _lock = self.state.wait_for_lock("parameters", "removing a parameter")?;
        let file = self.parameter_file(region, name)?;
        self.journal(("DeleteParameter", Some(region), Some(name), None), || match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(((), name.to_owned())),
        })
    }
}

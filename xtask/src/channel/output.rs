//! A workflow's outputs (GitHub Actions, "Workflow commands", setting an output parameter): lines added to the file it names.

use std::io::Write as _;
use std::path::Path;

use fs_err as fs;

use crate::cloud::Image;
use crate::error::Result;

/// `channel`, and what [`ids`] says.
pub fn lines(channel: &str, images: &[Image]) -> String {
    format!("channel={channel}\n{}", ids(images))
}

/// `ami_id`, `ami_name`, and `ami_id_<region>` for each region.
pub fn ids(images: &[Image]) -> String {
    let mut lines = String::new();
    if let Some(home) = images.first() {
        lines.push_str(&format!("ami_id={}\nami_name={}\n", home.id, home.name));
    }
    for image in images {
        lines.push_str(&format!("ami_id_{}={}\n", image.region.replace('-', "_"), image.id));
    }
    lines
}

/// Adds the lines. Written again they say the same: the last one counts.
pub fn apply(file: &Path, lines: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(file)?;
    Ok(file.write_all(lines.as_bytes())?)
}

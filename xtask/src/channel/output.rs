//! Outputs of a workflow's step: lines that are appended to the file in `GITHUB_OUTPUT` (docs.github.com, "Workflow commands for GitHub
//! Actions", setting an output parameter).

use std::io::Write as _;
use std::path::Path;

use fs_err as fs;

use crate::cloud::Image;
use crate::error::Result;

/// The outputs `channel` and those of [`ids`].
pub fn lines(channel: &str, images: &[Image]) -> String {
    format!("channel={channel}\n{}", ids(images))
}

/// The outputs `ami_id`, `ami_name`, and `ami_id_<region>` for each region.
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

/// Appends the lines. Appending them again changes nothing: the last value of an output counts.
pub fn apply(file: &Path, lines: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(file)?;
    Ok(file.write_all(lines.as_bytes())?)
}

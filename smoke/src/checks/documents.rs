//! The documents that the build writes into the image: the manifest (scripts/provision/80-manifest.sh) and the software bill of materials.

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;

use crate::check::Host;

pub(super) const MANIFEST: &str = "/etc/agent-ami/manifest.json";
pub(super) const SBOM: &str = "/etc/agent-ami/sbom.cdx.json";

#[derive(Deserialize)]
pub(super) struct Manifest {
    pub schema: u32,
    #[serde(default)]
    pub provider: String,
    pub os: ManifestOs,
    /// Versions by program.
    pub tools: BTreeMap<String, String>,
    pub build: Option<serde_json::Value>,
}

#[derive(Deserialize)]
pub(super) struct ManifestOs {
    pub id: String,
    pub version_id: String,
}

/// The parts of a CycloneDX document that are checked.
#[derive(Deserialize)]
pub(super) struct Sbom {
    #[serde(rename = "bomFormat")]
    pub format: String,
    pub components: Vec<Component>,
}

#[derive(Deserialize)]
pub(super) struct Component {
    pub name: String,
    pub version: String,
    pub purl: String,
}

pub(super) fn manifest() -> Result<Manifest, String> {
    read(MANIFEST)
}

pub(super) fn sbom() -> Result<Sbom, String> {
    read(SBOM)
}

/// The agent that the image was built with, or `all`.
pub(super) fn provider(host: &Host) -> Result<String, String> {
    host.once("provider", || Ok(manifest()?.provider))
}

fn read<T: for<'a> Deserialize<'a>>(path: &str) -> Result<T, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    serde_json::from_str(&text).map_err(|e| format!("{path}: {e}"))
}

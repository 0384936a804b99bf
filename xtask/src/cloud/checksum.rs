//! Digests of large files.

use std::path::Path;

use crate::error::{Exit, Result};
use crate::process;
use crate::recipe::Digest;

/// The SHA-256 of a file. Uses the host's `sha256sum` (coreutils), which is several times faster than an unoptimised Rust build.
pub fn sha256_file(path: &Path) -> Result<Digest> {
    let program = if cfg!(target_os = "macos") { "shasum" } else { "sha256sum" };
    let cmd = process::Cmd::new(program);
    let cmd = if cfg!(target_os = "macos") { cmd.args(["-a", "256"]) } else { cmd };
    let text = cmd.arg(path).read()?;
    let digits = text.split_whitespace().next().unwrap_or_default().trim_start_matches('\\');
    digits
        .parse()
        .map_err(|e| Exit::Failed.error(format_args!("{program} printed no digest: {e}"), "check the disk for errors"))
}

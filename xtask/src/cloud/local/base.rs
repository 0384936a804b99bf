//! Base images: Ubuntu's cloud image, downloaded and verified, or a Debian image that is built on this machine.

use std::fmt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::super::{BaseRecord, sha256_file};
use super::qemu::Boot;
use crate::durable;
use crate::error::{Error, Exit, Result};
use crate::event::Stream;
use crate::process::{Cmd, Ended, Tail};
use crate::recipe::Digest;

/// Where Canonical publishes cloud images.
pub const UBUNTU_RELEASES: &str = "https://cloud-images.ubuntu.com/releases";
const DISK: &str = "disk.qcow2";
const RECORD: &str = "base.json";

/// A base image by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// The required base (docs/src/reference-image.md#base).
    Ubuntu2204,
    /// The next LTS release.
    Ubuntu2404,
    /// The fallback where Ubuntu's images cannot be downloaded.
    Debian13,
}

/// A base image that exists on this machine.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) record: BaseRecord,
    pub(super) disk: PathBuf,
    /// How a machine boots from it.
    pub(super) boot: Boot,
}

/// The fields of `base.json` that are read; it has more.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    files: std::collections::BTreeMap<String, RecordFile>,
    #[serde(default)]
    root_label: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RecordFile {
    sha256: Digest,
}

impl Name {
    /// All, in order of preference.
    pub const ALL: [Self; 3] = [Self::Ubuntu2204, Self::Ubuntu2404, Self::Debian13];

    /// Its name in ami.toml.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ubuntu2204 => "ubuntu-22.04",
            Self::Ubuntu2404 => "ubuntu-24.04",
            Self::Debian13 => "debian-13",
        }
    }

    /// Directory and file below [`UBUNTU_RELEASES`].
    fn ubuntu_file(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Ubuntu2204 => Some(("jammy/release", "ubuntu-22.04-server-cloudimg-amd64.img")),
            Self::Ubuntu2404 => Some(("noble/release", "ubuntu-24.04-server-cloudimg-amd64.img")),
            Self::Debian13 => None,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The directory of base images, and how to obtain them.
#[derive(Clone, Debug)]
pub(super) struct Bases {
    /// `<state>/base`.
    pub(super) root: PathBuf,
    /// The project, for the script that makes the Debian base.
    pub(super) project: PathBuf,
    /// [`UBUNTU_RELEASES`] or a mirror of it.
    pub(super) ubuntu_releases: String,
    /// The base that is set in ami.toml; `None` for `auto`.
    pub(super) requested: Option<Name>,
}

impl Bases {
    /// The base that a build uses if it exists already: the requested one, else the first of [`Name::ALL`].
    pub(super) fn at_hand(&self) -> Result<Option<Base>> {
        match self.requested {
            Some(name) => self.read(name),
            None => Name::ALL.iter().find_map(|&name| self.read(name).transpose()).transpose(),
        }
    }

    /// The base to use. Downloads or builds it if it does not exist.
    pub(super) fn provide(&self, on_progress: &dyn Fn(&str)) -> Result<Base> {
        if let Some(base) = self.at_hand()? {
            return Ok(base);
        }
        let name = match self.requested {
            Some(name) => name,
            None if self.ubuntu_reachable() => Name::Ubuntu2204,
            None => {
                on_progress("Ubuntu's cloud images are not reachable; building a Debian 13 base instead");
                Name::Debian13
            }
        };
        match name.ubuntu_file() {
            Some((dir, file)) => self.fetch(name, dir, file, on_progress)?,
            None => self.make_debian(on_progress)?,
        }
        self.read(name)?.ok_or_else(|| damaged(&self.root.join(name.name()), "it was created but is missing"))
    }

    /// A base by name; `None` if it does not exist, an error if it is damaged.
    fn read(&self, name: Name) -> Result<Option<Base>> {
        let dir = self.root.join(name.name());
        if !dir.exists() {
            return Ok(None);
        }
        let text = fs::read(dir.join(RECORD)).map_err(|e| damaged(&dir, &e.to_string()))?;
        let record: Record = serde_json::from_slice(&text).map_err(|e| damaged(&dir, &format!("{RECORD}: {e}")))?;
        let Some(file) = record.files.get(DISK) else {
            return Err(damaged(&dir, "base.json has no entry for the disk"));
        };
        let disk = dir.join(DISK);
        if !disk.exists() {
            return Err(damaged(&dir, "the disk is missing"));
        }
        let (kernel, initrd) = (dir.join("vmlinuz"), dir.join("initrd.img"));
        let boot = match record.root_label {
            // Loading the kernel directly saves the time of firmware and boot loader at every boot of a builder.
            Some(label) if kernel.exists() && initrd.exists() => {
                Boot::Direct { kernel, initrd, append: format!("root=LABEL={label} ro console=ttyS0") }
            }
            _ => Boot::Firmware,
        };
        Ok(Some(Base { record: BaseRecord::local(name.name(), file.sha256), disk, boot }))
    }

    fn ubuntu_reachable(&self) -> bool {
        let url = format!("{}/jammy/release/SHA256SUMS", self.ubuntu_releases);
        let download = Cmd::new("curl").args(["-fsSL", "--max-time", "8", "-o", "/dev/null", &url]).output();
        download.is_ok_and(|finished| finished.code == 0)
    }

    /// Downloads Ubuntu's image, verifies its checksum and installs it. A file with the wrong checksum is moved aside.
    fn fetch(&self, name: Name, dir: &str, file: &str, on_progress: &dyn Fn(&str)) -> Result<()> {
        let from = format!("{}/{dir}", self.ubuntu_releases);
        let sums = Cmd::new("curl")
            .args(["-fsSL", "--max-time", "30", &format!("{from}/SHA256SUMS")])
            .hint("check the network, or set `base = \"debian-13\"` below [local] in ami.toml")
            .read()?;
        let expected = digest_of(&sums, file).ok_or_else(|| {
            Exit::Failed
                .error(format_args!("{from}/SHA256SUMS has no line for {file}"), "check `ubuntu_releases` in ami.toml")
        })?;
        let part = self.root.join(format!("{file}.part"));
        on_progress(&format!("downloading {file}"));
        download(&format!("{from}/{file}"), &part, on_progress)?;
        on_progress("verifying its SHA-256");
        let found = sha256_file(&part)?;
        if found != expected {
            let aside = self.root.join(format!("{file}.bad-{}", found.short()));
            fs::rename(&part, &aside)?;
            return Err(Exit::Failed.error(
                format_args!(
                    "{file} has SHA-256 {found}, but SHA256SUMS has {expected}; the file is kept as {}",
                    aside.display()
                ),
                "run the command again to repeat the download; if the error persists, use another mirror",
            ));
        }
        let staged = self.root.join(format!(".{name}"));
        if staged.exists() {
            fs::remove_dir_all(&staged)?;
        }
        fs::create_dir(&staged)?;
        fs::rename(&part, staged.join(DISK))?;
        let files = [(DISK.to_owned(), RecordFile { sha256: found })].into();
        let record = serde_json::to_string_pretty(&Record { files, root_label: None }).unwrap_or_default();
        fs::write(staged.join(RECORD), record)?;
        durable::sync_files(&staged)?;
        durable::rename(&staged, &self.root.join(name.name()))
    }

    fn make_debian(&self, on_progress: &dyn Fn(&str)) -> Result<()> {
        let script = self.project.join("scripts/local/make-debian-base.sh");
        let mut output = Tail::default();
        let ended = Cmd::new("bash").arg(&script).arg(self.root.join(Name::Debian13.name())).stream(
            None,
            |_: Stream, line| {
                on_progress(line.trim_start_matches("==> "));
                output.push(line);
            },
        )?;
        if ended != Ended::Code(0) {
            return Err(Exit::Failed.error(
                format_args!("building the Debian base failed ({ended:?}):\n{output}"),
                "check the required tools with `cargo xtask doctor`, and that the mirror is reachable",
            ));
        }
        Ok(())
    }
}

/// Downloads a file. Resumes an interrupted download.
fn download(url: &str, to: &Path, on_progress: &dyn Fn(&str)) -> Result<()> {
    let args = [
        "-fL",
        "--retry",
        "3",
        "--retry-delay",
        "2",
        "--connect-timeout",
        "10",
        "--continue-at",
        "-",
        "--progress-bar",
    ];
    let ended =
        Cmd::new("curl").args(args).arg("-o").arg(to).arg(url).stream(None, |_, line| on_progress(line.trim()))?;
    if ended == Ended::Code(0) {
        return Ok(());
    }
    Err(Exit::Failed.error(
        format_args!("downloading {url} failed ({ended:?})"),
        "check the network, then run the command again; it resumes the download",
    ))
}

/// The digest of `file` in a SHA256SUMS text: `<digest> *<file>` or `<digest>  <file>`.
fn digest_of(sums: &str, file: &str) -> Option<Digest> {
    let line =
        sums.lines().find(|l| l.split_whitespace().nth(1).is_some_and(|name| name.trim_start_matches('*') == file))?;
    line.split_whitespace().next()?.parse().ok()
}

fn damaged(dir: &Path, what: &str) -> Error {
    Exit::Failed.error(
        format_args!("the base image {} is damaged: {what}", dir.display()),
        format_args!("remove it with `rm -r {}`; the next build creates it again", dir.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mirror in a directory, which curl reads by file://.
    fn mirror(dir: &Path, image: &[u8], sum_of: &[u8]) -> Bases {
        let release = dir.join("mirror/jammy/release");
        fs::create_dir_all(&release).unwrap();
        let file = Name::Ubuntu2204.ubuntu_file().unwrap().1;
        fs::write(release.join(file), image).unwrap();
        let other = Digest::of(b"other");
        fs::write(release.join("SHA256SUMS"), format!("{other} *other.img\n{} *{file}\n", Digest::of(sum_of))).unwrap();
        let root = dir.join("base");
        fs::create_dir_all(&root).unwrap();
        let ubuntu_releases = format!("file://{}/mirror", dir.display());
        Bases { root, project: dir.to_owned(), ubuntu_releases, requested: None }
    }

    #[test]
    fn ubuntu_is_downloaded_and_verified_once() {
        let dir = tempfile::tempdir().unwrap();
        let bases = mirror(dir.path(), b"disk", b"disk");
        assert!(bases.at_hand().unwrap().is_none());
        let base = bases.provide(&|_| {}).unwrap();
        assert_eq!(base.record, BaseRecord::local("ubuntu-22.04", Digest::of(b"disk")));
        assert_eq!(base.boot, Boot::Firmware);
        assert!(base.record.may_leave_local());
        fs::remove_dir_all(dir.path().join("mirror")).unwrap();
        assert_eq!(bases.provide(&|_| {}).unwrap().record, base.record, "the second call uses the network");
    }

    #[test]
    fn a_file_with_a_wrong_checksum_is_rejected_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let bases = mirror(dir.path(), b"tampered", b"disk");
        let error = bases.provide(&|_| {}).unwrap_err();
        assert_eq!(error.exit(), Exit::Failed);
        assert!(error.to_string().contains("but SHA256SUMS has"), "{error}");
        let aside = format!("{}.bad-{}", Name::Ubuntu2204.ubuntu_file().unwrap().1, Digest::of(b"tampered").short());
        assert_eq!(fs::read(bases.root.join(aside)).unwrap(), b"tampered");
        assert!(bases.at_hand().unwrap().is_none());
    }

    #[test]
    fn the_error_for_a_damaged_base_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let bases = mirror(dir.path(), b"disk", b"disk");
        bases.provide(&|_| {}).unwrap();
        fs::remove_file(bases.root.join("ubuntu-22.04").join(DISK)).unwrap();
        let error = bases.at_hand().unwrap_err();
        assert!(error.to_string().contains("ubuntu-22.04 is damaged"), "{error}");
    }
}

//! Base images: Ubuntu's cloud image, fetched and checked, or a Debian made on this machine.

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
    /// The guide's base (section 3).
    Ubuntu2204,
    /// The next LTS.
    Ubuntu2404,
    /// The fallback where Ubuntu's images cannot be fetched.
    Debian13,
}

/// A base image that is at hand.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) record: BaseRecord,
    pub(super) disk: PathBuf,
    /// How a machine boots from it.
    pub(super) boot: Boot,
}

/// The part of `base.json` that is read back; the rest is for people.
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
    /// All, the most wanted first.
    pub const ALL: [Self; 3] = [Self::Ubuntu2204, Self::Ubuntu2404, Self::Debian13];

    /// Its name in ami.toml.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ubuntu2204 => "ubuntu-22.04",
            Self::Ubuntu2404 => "ubuntu-24.04",
            Self::Debian13 => "debian-13",
        }
    }

    /// Folder and file below [`UBUNTU_RELEASES`].
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

/// Where bases lie and what makes them.
#[derive(Clone, Debug)]
pub(super) struct Bases {
    /// `<state>/base`.
    pub(super) root: PathBuf,
    /// The project, for the script that makes the Debian base.
    pub(super) project: PathBuf,
    /// [`UBUNTU_RELEASES`] or a mirror of it.
    pub(super) ubuntu_releases: String,
    /// The one ami.toml asks for; `None` is `auto`.
    pub(super) wanted: Option<Name>,
}

impl Bases {
    /// The base a build would use if nothing were fetched or made: the wanted one, or the best there is.
    pub(super) fn at_hand(&self) -> Result<Option<Base>> {
        match self.wanted {
            Some(name) => self.read(name),
            None => Name::ALL.iter().find_map(|&name| self.read(name).transpose()).transpose(),
        }
    }

    /// The base to use, fetched or made if need be.
    pub(super) fn provide(&self, told: &dyn Fn(&str)) -> Result<Base> {
        if let Some(base) = self.at_hand()? {
            return Ok(base);
        }
        let name = match self.wanted {
            Some(name) => name,
            None if self.ubuntu_reachable() => Name::Ubuntu2204,
            None => {
                told("Ubuntu's cloud images cannot be reached from here; making a Debian 13 base instead");
                Name::Debian13
            }
        };
        match name.ubuntu_file() {
            Some((folder, file)) => self.fetch(name, folder, file, told)?,
            None => self.make_debian(told)?,
        }
        self.read(name)?.ok_or_else(|| damaged(&self.root.join(name.name()), "it was made but is not there"))
    }

    /// A base by name, if it is complete.
    fn read(&self, name: Name) -> Result<Option<Base>> {
        let dir = self.root.join(name.name());
        if !dir.exists() {
            return Ok(None);
        }
        let text = fs::read(dir.join(RECORD)).map_err(|e| damaged(&dir, &e.to_string()))?;
        let record: Record = serde_json::from_slice(&text).map_err(|e| damaged(&dir, &format!("{RECORD}: {e}")))?;
        let Some(file) = record.files.get(DISK) else { return Err(damaged(&dir, "base.json names no disk")) };
        let disk = dir.join(DISK);
        if !disk.exists() {
            return Err(damaged(&dir, "the disk is not there"));
        }
        let (kernel, initrd) = (dir.join("vmlinuz"), dir.join("initrd.img"));
        let boot = match record.root_label {
            // Loading the kernel ourselves saves the firmware's and the boot loader's time at every boot of a builder.
            Some(label) if kernel.exists() && initrd.exists() => {
                Boot::Direct { kernel, initrd, append: format!("root=LABEL={label} ro console=ttyS0") }
            }
            _ => Boot::Firmware,
        };
        Ok(Some(Base { record: BaseRecord::local(name.name(), file.sha256), disk, boot }))
    }

    fn ubuntu_reachable(&self) -> bool {
        let url = format!("{}/jammy/release/SHA256SUMS", self.ubuntu_releases);
        let asked = Cmd::new("curl").args(["-fsSL", "--max-time", "8", "-o", "/dev/null", &url]).output();
        asked.is_ok_and(|finished| finished.code == 0)
    }

    /// Downloads Ubuntu's image, checks it and gives it its place. A file with the wrong checksum is kept aside.
    fn fetch(&self, name: Name, folder: &str, file: &str, told: &dyn Fn(&str)) -> Result<()> {
        let from = format!("{}/{folder}", self.ubuntu_releases);
        let sums = Cmd::new("curl")
            .args(["-fsSL", "--max-time", "30", &format!("{from}/SHA256SUMS")])
            .hint("check the network, or set `base = \"debian-13\"` below [local] in ami.toml")
            .read()?;
        let wanted = digest_of(&sums, file).ok_or_else(|| {
            Exit::Failed
                .error(format_args!("{from}/SHA256SUMS has no line for {file}"), "check `ubuntu_releases` in ami.toml")
        })?;
        let part = self.root.join(format!("{file}.part"));
        told(&format!("fetching {file}"));
        download(&format!("{from}/{file}"), &part, told)?;
        told("checking its SHA-256");
        let found = sha256_file(&part)?;
        if found != wanted {
            let aside = self.root.join(format!("{file}.bad-{}", found.short()));
            fs::rename(&part, &aside)?;
            return Err(Exit::Failed.error(
                format_args!(
                    "{file} has SHA-256 {found}, but SHA256SUMS says {wanted}; kept aside as {}",
                    aside.display()
                ),
                "run the command again to fetch it anew; if it stays, do not use this mirror",
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

    fn make_debian(&self, told: &dyn Fn(&str)) -> Result<()> {
        let script = self.project.join("scripts/local/make-debian-base.sh");
        let mut said = Tail::default();
        let ended = Cmd::new("bash").arg(&script).arg(self.root.join(Name::Debian13.name())).stream(
            None,
            |_: Stream, line| {
                told(line.trim_start_matches("==> "));
                said.push(line);
            },
        )?;
        if ended != Ended::Code(0) {
            return Err(Exit::Failed.error(
                format_args!("the Debian base could not be made ({ended:?}):\n{said}"),
                "`cargo xtask doctor` tells which tools it needs; the mirror must be reachable",
            ));
        }
        Ok(())
    }
}

/// Fetches with resume, so that an interrupted download goes on where it stopped.
fn download(url: &str, to: &Path, told: &dyn Fn(&str)) -> Result<()> {
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
    let ended = Cmd::new("curl").args(args).arg("-o").arg(to).arg(url).stream(None, |_, line| told(line.trim()))?;
    if ended == Ended::Code(0) {
        return Ok(());
    }
    Err(Exit::Failed.error(
        format_args!("fetching {url} failed ({ended:?})"),
        "check the network and run the command again: the download goes on where it stopped",
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
        format_args!("remove it (`rm -r {}`); the next build brings it again", dir.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mirror in a folder: curl reads file:// as it reads https://.
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
        Bases { root, project: dir.to_owned(), ubuntu_releases, wanted: None }
    }

    #[test]
    fn ubuntu_is_fetched_checked_and_then_at_hand() {
        let dir = tempfile::tempdir().unwrap();
        let bases = mirror(dir.path(), b"disk", b"disk");
        assert!(bases.at_hand().unwrap().is_none());
        let base = bases.provide(&|_| {}).unwrap();
        assert_eq!(base.record, BaseRecord::local("ubuntu-22.04", Digest::of(b"disk")));
        assert_eq!(base.boot, Boot::Firmware);
        assert!(base.record.may_leave_local());
        fs::remove_dir_all(dir.path().join("mirror")).unwrap();
        assert_eq!(bases.provide(&|_| {}).unwrap().record, base.record, "the second time needs no network");
    }

    #[test]
    fn a_wrong_checksum_is_refused_and_the_file_kept_aside() {
        let dir = tempfile::tempdir().unwrap();
        let bases = mirror(dir.path(), b"tampered", b"disk");
        let error = bases.provide(&|_| {}).unwrap_err();
        assert_eq!(error.exit(), Exit::Failed);
        assert!(error.to_string().contains("SHA256SUMS says"), "{error}");
        let aside = format!("{}.bad-{}", Name::Ubuntu2204.ubuntu_file().unwrap().1, Digest::of(b"tampered").short());
        assert_eq!(fs::read(bases.root.join(aside)).unwrap(), b"tampered");
        assert!(bases.at_hand().unwrap().is_none());
    }

    #[test]
    fn a_damaged_base_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let bases = mirror(dir.path(), b"disk", b"disk");
        bases.provide(&|_| {}).unwrap();
        fs::remove_file(bases.root.join("ubuntu-22.04").join(DISK)).unwrap();
        let error = bases.at_hand().unwrap_err();
        assert!(error.to_string().contains("ubuntu-22.04 is damaged"), "{error}");
    }
}

//! Finds Packer, or downloads a pinned release. The checksum is always verified, and the signature where gpg is installed.

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::Packer;
use crate::error::{Error, Exit, Result};
use crate::process::Cmd;

/// HashiCorp's release key (hashicorp.com/trust/security, "PGP public keys").
const FINGERPRINT: &str = "C874011F0AB405110D02105534365D9472D7468F";

/// Where Packer is searched for, and what is downloaded.
#[derive(Clone, Debug)]
pub struct Installer {
    /// `binary_path`: a path, or a name on PATH.
    pub binary: String,
    /// Download Packer if it is missing.
    pub auto: bool,
    /// The version to download.
    pub version: String,
    /// Base URL of the releases.
    pub releases: String,
    /// URL of the public key.
    pub key: String,
    /// The directory to install it in.
    pub work_dir: PathBuf,
}

/// A usable Packer that is installed: the configured one, or one that was downloaded before.
pub fn find(installer: &Installer) -> Result<Option<Packer>> {
    let configured = Cmd::new("sh").args(["-c", "command -v \"$1\"", "sh", &installer.binary]).output()?;
    if configured.code == 0 {
        match Packer::probe(PathBuf::from(configured.stdout.trim())) {
            // An unusable one, for example one that is too old, is ignored if another one may be downloaded.
            Err(_) if installer.auto => {}
            probe => return probe.map(Some),
        }
    }
    let installed = installer.place();
    if installed.exists() { Packer::probe(installed).map(Some) } else { Ok(None) }
}

impl Installer {
    fn place(&self) -> PathBuf {
        self.work_dir.join(format!("packer-{}", self.version)).join("packer")
    }

    /// The installed Packer, or else the pinned release, which is downloaded if `auto` is set.
    pub fn provide(&self, on_progress: &dyn Fn(&str)) -> Result<Packer> {
        if let Some(packer) = find(self)? {
            return Ok(packer);
        }
        if !self.auto {
            return Err(Exit::Precondition.error(
                format_args!("Packer is not installed: no `{}`", self.binary),
                "install it (developer.hashicorp.com/packer/install), set auto_install = true in ami.toml, or use --engine native",
            ));
        }
        on_progress(&format!("downloading Packer {}", self.version));
        self.download().map_err(|error| match error.exit() {
            Exit::Interrupted => error,
            _ => error.context(format!("Packer {} could not be installed", self.version)),
        })?;
        Packer::probe(self.place())
    }

    fn download(&self) -> Result<()> {
        fs::create_dir_all(&self.work_dir)?;
        let staging = tempfile::tempdir_in(&self.work_dir)?;
        let version = &self.version;
        let zip = format!("packer_{version}_{}_{}.zip", system(), architecture()?);
        let sums = format!("packer_{version}_SHA256SUMS");
        for file in [&sums, &format!("{sums}.sig"), &zip] {
            self.fetch(&format!("{}/packer/{version}/{file}", self.releases), &staging.path().join(file))?;
        }
        self.verify_signature(staging.path(), &sums)?;
        let line = fs::read_to_string(staging.path().join(&sums))?;
        let line = line.lines().find(|l| l.split_whitespace().nth(1) == Some(zip.as_str())).map(str::to_owned);
        let expected = line.and_then(|l| l.split_whitespace().next()?.parse::<crate::recipe::Digest>().ok());
        let found = crate::cloud::sha256_file(&staging.path().join(&zip))?;
        if expected != Some(found) {
            return Err(Exit::Failed.error(
                format_args!("{zip} has SHA-256 {found}, which {sums} does not list for it"),
                "do not use it; try again later, or install Packer by hand",
            ));
        }
        let unpacked = staging.path().join("unpacked");
        fs::create_dir(&unpacked)?;
        let unzip = Cmd::new("python3").args(["-m", "zipfile", "-e"]).arg(staging.path().join(&zip)).arg(&unpacked);
        unzip.hint("run `cargo xtask doctor`, which prints how to install python3").read()?;
        set_executable(&unpacked.join("packer"))?;
        let place = self.place();
        let dir = place.parent().unwrap_or(&self.work_dir);
        if dir.exists() {
            fs::remove_dir_all(dir)?;
        }
        Ok(fs::rename(unpacked, dir)?)
    }

    fn fetch(&self, from: &str, to: &Path) -> Result<()> {
        let hint = "check the network, or install Packer by hand and set `binary_path` in ami.toml";
        Cmd::new("curl").args(["-fsSL", "--retry", "3", "-o"]).arg(to).arg(from).hint(hint).read().map(drop)
    }

    /// Verifies the signature of the checksums, where gpg is installed. Without gpg, only TLS and the checksum protect the download.
    fn verify_signature(&self, staging: &Path, sums: &str) -> Result<()> {
        if !Cmd::new("gpg").arg("--version").output().is_ok_and(|f| f.code == 0) {
            return Ok(());
        }
        let home = staging.join("gpg");
        fs::create_dir(&home)?;
        let key = staging.join("key.asc");
        self.fetch(&self.key, &key)?;
        let gpg = || Cmd::new("gpg").args(["--batch", "--quiet", "--homedir"]).arg(&home);
        gpg().arg("--import").arg(&key).read()?;
        let verified = gpg()
            .args(["--status-fd", "1", "--verify"])
            .arg(staging.join(format!("{sums}.sig")))
            .arg(staging.join(sums))
            .output()?;
        // VALIDSIG's last field is the primary key's fingerprint (gnupg, doc/DETAILS).
        let by = verified.stdout.lines().find(|l| l.starts_with("[GNUPG:] VALIDSIG"));
        let by = by.and_then(|l| l.split_whitespace().last()).unwrap_or_default();
        if verified.code == 0 && by == FINGERPRINT {
            return Ok(());
        }
        Err(Exit::Failed.error(
            format_args!("{sums} is not signed by {FINGERPRINT}: {}", verified.stderr.trim()),
            "do not use it; install Packer by hand",
        ))
    }
}

fn system() -> &'static str {
    if cfg!(target_os = "macos") { "darwin" } else { "linux" }
}

fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => Err(Error::from(std::io::Error::other(format!("HashiCorp has no Packer for {other}")))),
    }
}

fn set_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}

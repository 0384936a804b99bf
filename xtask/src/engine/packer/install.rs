//! Finding Packer, or bringing a pinned release into the work folder: checksum always, signature where gpg is there.

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::Packer;
use crate::error::{Error, Exit, Result};
use crate::process::Cmd;

/// HashiCorp's release key (hashicorp.com/trust/security, "PGP public keys").
const FINGERPRINT: &str = "C874011F0AB405110D02105534365D9472D7468F";

/// Where a Packer may come from.
#[derive(Clone, Debug)]
pub struct Installer {
    /// `binary_path`: a path, or a name on PATH.
    pub binary: String,
    /// Bring one if there is none.
    pub auto: bool,
    /// The version to bring.
    pub version: String,
    /// The releases' address.
    pub releases: String,
    /// Where the public key comes from.
    pub key: String,
    /// Where to put it.
    pub work_dir: PathBuf,
}

/// A usable Packer that is there already: the configured one, or one that was brought before.
pub fn find(installer: &Installer) -> Result<Option<Packer>> {
    let configured = Cmd::new("sh").args(["-c", "command -v \"$1\"", "sh", &installer.binary]).output()?;
    if configured.code == 0 {
        match Packer::probe(PathBuf::from(configured.stdout.trim())) {
            // One that is too old is as good as none where another can be brought.
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

    /// The one that is there, or else the pinned release.
    pub fn provide(&self, told: &dyn Fn(&str)) -> Result<Packer> {
        if let Some(packer) = find(self)? {
            return Ok(packer);
        }
        if !self.auto {
            return Err(Exit::Precondition.error(
                format_args!("no Packer: `{}` is not there", self.binary),
                "install it (developer.hashicorp.com/packer/install), set auto_install = true in ami.toml, or use --engine native",
            ));
        }
        told(&format!("bringing Packer {}", self.version));
        self.bring().map_err(|error| match error.exit() {
            Exit::Interrupted => error,
            _ => error.context(format!("Packer {} could not be brought", self.version)),
        })?;
        Packer::probe(self.place())
    }

    fn bring(&self) -> Result<()> {
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
        let wanted = line.and_then(|l| l.split_whitespace().next()?.parse::<crate::recipe::Digest>().ok());
        let found = crate::cloud::sha256_file(&staging.path().join(&zip))?;
        if wanted != Some(found) {
            return Err(Exit::Failed.error(
                format_args!("{zip} has SHA-256 {found}, which {sums} does not list for it"),
                "do not use it; try again later, or install Packer by hand",
            ));
        }
        let unpacked = staging.path().join("unpacked");
        fs::create_dir(&unpacked)?;
        let unzip = Cmd::new("python3").args(["-m", "zipfile", "-e"]).arg(staging.path().join(&zip)).arg(&unpacked);
        unzip.hint("`cargo xtask doctor` tells what brings python3").read()?;
        set_executable(&unpacked.join("packer"))?;
        let place = self.place();
        let folder = place.parent().unwrap_or(&self.work_dir);
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        Ok(fs::rename(unpacked, folder)?)
    }

    fn fetch(&self, from: &str, to: &Path) -> Result<()> {
        let hint = "check the network, or install Packer by hand and set `binary_path` in ami.toml";
        Cmd::new("curl").args(["-fsSL", "--retry", "3", "-o"]).arg(to).arg(from).hint(hint).read().map(drop)
    }

    /// The signature over the checksums, where gpg is there. Without it, TLS and the checksum are what is left.
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

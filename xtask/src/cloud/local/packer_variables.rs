//! The template variables with which Packer's QEMU builder starts a machine like the native engine's: base, seed, key, accelerator.

use fs_err as fs;

use super::super::BaseRecord;
use super::Local;
use super::seed::{self, Purpose};
use crate::error::Result;
use crate::process::Cmd;

impl Local {
    pub(super) fn packer_variables(&self, base: Option<&BaseRecord>) -> Result<Vec<(String, String)>> {
        let base = base.map(|base| self.base_named(base)).transpose()?;
        let dir = self.run()?.path("packer");
        fs::create_dir_all(&dir)?;
        let key = dir.join("id_ed25519");
        Cmd::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", self.run()?.id(), "-f"])
            .arg(&key)
            .read()?;
        let public = fs::read_to_string(dir.join("id_ed25519.pub"))?;
        seed::write(&dir.join("seed"), self.run()?.id(), &public, Purpose::Builder)?;
        let accelerator = self.acceleration()?.acceleration.name();
        let base = base.map(|base| ("qemu_base", base.disk.display().to_string()));
        let facts = [
            ("qemu_seed", dir.join("seed").display().to_string()),
            ("qemu_private_key", key.display().to_string()),
            ("qemu_accelerator", accelerator.to_owned()),
            ("output_directory", dir.join("output").display().to_string()),
        ];
        Ok(base.into_iter().chain(facts).map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

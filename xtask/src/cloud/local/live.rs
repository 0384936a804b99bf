//! The disk that a running builder writes to: the top of a chain of overlays, and the QEMU process that has it open.

use std::path::{Path, PathBuf};

use super::qmp::Qmp;
use crate::error::Result;

/// The block node of the first overlay.
pub(super) const NODE: &str = "root";

/// A disk in use.
#[derive(Debug)]
pub(super) struct LiveDisk {
    qmp: PathBuf,
    disk: PathBuf,
    node: String,
    snapshots: u32,
}

impl LiveDisk {
    /// `disk`, opened as the block node [`NODE`] by the process behind the control socket `qmp`.
    pub(super) fn new(qmp: PathBuf, disk: PathBuf) -> Self {
        Self { qmp, disk, node: NODE.to_owned(), snapshots: 0 }
    }

    /// The overlay that is written to now.
    pub(super) fn path(&self) -> &Path {
        &self.disk
    }

    /// Puts `next`, an overlay that exists, on top: what was written so far never changes again.
    pub(super) fn snapshot(&mut self, next: PathBuf) -> Result<()> {
        let number = self.snapshots + 1;
        let node = format!("{NODE}-{number}");
        Qmp::connect(&self.qmp)?.snapshot(&self.node, &next, &node)?;
        (self.snapshots, self.node, self.disk) = (number, node, next);
        Ok(())
    }

    /// Opens the control socket.
    pub(super) fn control(&self) -> Result<Qmp> {
        Qmp::connect(&self.qmp)
    }
}

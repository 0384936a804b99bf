//! The disk of a running builder: the top of a chain of overlays, which a QEMU process has open.

use std::path::{Path, PathBuf};

use super::qmp::Qmp;
use crate::error::Result;

/// The block node of the first overlay.
pub(super) const NODE: &str = "root";

/// A disk that a QEMU process has open.
#[derive(Debug)]
pub(super) struct LiveDisk {
    qmp: PathBuf,
    disk: PathBuf,
    node: String,
    snapshots: u32,
}

impl LiveDisk {
    /// `disk`, which the process with the QMP socket `qmp` has opened as block node [`NODE`].
    pub(super) fn new(qmp: PathBuf, disk: PathBuf) -> Self {
        Self { qmp, disk, node: NODE.to_owned(), snapshots: 0 }
    }

    /// The overlay that the process currently writes to.
    pub(super) fn path(&self) -> &Path {
        &self.disk
    }

    /// Makes `next`, an existing overlay, the top of the chain. The previous top is then read-only.
    pub(super) fn snapshot(&mut self, next: PathBuf) -> Result<()> {
        let number = self.snapshots + 1;
        let node = format!("{NODE}-{number}");
        Qmp::connect(&self.qmp)?.snapshot(&self.node, &next, &node)?;
        (self.snapshots, self.node, self.disk) = (number, node, next);
        Ok(())
    }

    /// Connects to the QMP socket.
    pub(super) fn control(&self) -> Result<Qmp> {
        Qmp::connect(&self.qmp)
    }
}

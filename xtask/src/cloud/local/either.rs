//! The machine type of the local provider: a virtual machine or a container.

use std::path::{Path, PathBuf};

use super::super::Machine;
use super::container::Container;
use super::machine::VirtualMachine;
use crate::error::Result;
use crate::remote::Remote;

/// A virtual machine or a container.
#[derive(Debug)]
pub enum LocalMachine {
    /// A QEMU process.
    Vm(Box<VirtualMachine>),
    /// A container on this host's kernel.
    Container(Box<Container>),
}

impl LocalMachine {
    /// The overlay that it currently writes to.
    pub(super) fn disk(&self) -> &Path {
        match self {
            Self::Vm(machine) => machine.disk(),
            Self::Container(machine) => machine.disk(),
        }
    }

    /// Flushes the disk and makes `next`, an existing overlay, its top.
    pub(super) fn snapshot(&mut self, next: PathBuf) -> Result<()> {
        match self {
            Self::Vm(machine) => machine.snapshot(next),
            Self::Container(machine) => machine.snapshot(next),
        }
    }

    /// Powers it off. Returns when no process has its disk open.
    pub(super) fn power_off(self, on_progress: &dyn Fn(&str)) -> Result<()> {
        match self {
            Self::Vm(machine) => machine.power_off(on_progress),
            Self::Container(machine) => machine.power_off(on_progress),
        }
    }

    fn machine(&self) -> &dyn Machine {
        match self {
            Self::Vm(machine) => machine.as_ref(),
            Self::Container(machine) => machine.as_ref(),
        }
    }

    fn machine_mut(&mut self) -> &mut dyn Machine {
        match self {
            Self::Vm(machine) => machine.as_mut(),
            Self::Container(machine) => machine.as_mut(),
        }
    }
}

impl Machine for LocalMachine {
    fn remote(&self) -> &dyn Remote {
        self.machine().remote()
    }

    fn reboot(&mut self, on_progress: &dyn Fn(&str)) -> Result<()> {
        self.machine_mut().reboot(on_progress)
    }

    fn reboot_finished(&mut self, on_progress: &dyn Fn(&str)) -> Result<()> {
        self.machine_mut().reboot_finished(on_progress)
    }

    fn boot_seconds(&self) -> Option<f64> {
        self.machine().boot_seconds()
    }

    fn console(&self) -> String {
        self.machine().console()
    }

    fn second_try(&mut self) -> Option<String> {
        self.machine_mut().second_try()
    }

    fn keep(&mut self) -> Result<String> {
        self.machine_mut().keep()
    }
}

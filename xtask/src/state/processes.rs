//! The processes of a run that can outlive it.

use std::path::Path;

use fs_err as fs;
use rustix::process::Pid;

use crate::ids::RunId;
use crate::process::Cmd;

/// The programs of a run that can outlive it. Killing `unshare` ends the container's namespaces.
const PROGRAMS: [&str; 3] = ["qemu-system-", "packer", "unshare"];

/// The living processes of a run: machines, and Packer with the machines that it started. Their command lines contain the run's id, or their
/// working directory is below the run's: the paths of a template that only Packer reads may be relative.
pub(super) fn living_machines(dir: &Path, run: &RunId) -> Vec<Pid> {
    let mut pids = Vec::new();
    for pid in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        pids.extend(pid.file_name().to_str().and_then(|n| n.parse().ok()).and_then(Pid::from_raw));
    }
    let ours = |pid: &Pid| {
        let line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        // Other programs, such as `tail` on a log, may have the run's id on their command line too.
        let program = line.split('\0').next().and_then(|p| p.rsplit('/').next()).unwrap_or_default();
        let within = || {
            let cwd = std::fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero()));
            cwd.is_ok_and(|cwd| cwd.iter().any(|part| part == run.as_str()))
        };
        PROGRAMS.iter().any(|known| program.starts_with(known)) && (line.contains(run.as_str()) || within())
    };
    if !pids.is_empty() {
        return pids.into_iter().filter(ours).collect();
    }
    // Without /proc: the process ids that machines wrote to files, if those processes still have the run's id on their command lines.
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let written = entries.flatten().filter_map(|e| fs::read_to_string(e.path().join("pid")).ok());
    let pids = written.filter_map(|text| text.trim().parse().ok().and_then(Pid::from_raw));
    let named = |pid: &Pid| {
        let cmd = Cmd::new("ps").args(["-o", "command=", "-p"]).arg(pid.as_raw_nonzero().to_string());
        cmd.output().is_ok_and(|finished| finished.stdout.contains(run.as_str()))
    };
    pids.filter(named).collect()
}

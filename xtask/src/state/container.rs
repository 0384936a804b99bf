//! Removes what a killed container can leave: its control group (cgroups(7)), which the kernel does not remove when it is empty, and a
//! loop device, which exists briefly at the start. The kernel releases everything else with the namespaces.

use std::path::Path;

use fs_err as fs;

use crate::ids::RunId;
use crate::process::Cmd;

/// Mounts cgroup2 in a private mount namespace, because the host may not have it mounted, kills the processes in the group and removes it.
/// A killed process is in the group until it is reaped, so the removal is retried for 5 s.
const REMOVE: &str = r#"
set -eu
mount -t cgroup2 cgroup2 /mnt
cd /mnt
[ -d "$1" ] || exit 0
echo 1 >"$1/cgroup.kill" 2>/dev/null || true
n=0
until find "$1" -depth -type d -exec rmdir {} + 2>/dev/null; do n=$((n + 1)); [ $n -lt 100 ]; sleep 0.05; done
"#;

/// Removes the control groups and loop devices of a dead run's containers.
pub(super) fn remove_orphans(dir: &Path, run: &RunId) {
    let machines = fs::read_dir(dir).into_iter().flatten().flatten();
    for machine in machines.filter(|entry| entry.path().join("container.sh").exists()) {
        if let Ok(name) = machine.file_name().into_string() {
            remove_control_group(&control_group(run, &name));
        }
        detach_loops(&machine.path());
    }
}

/// Detaches the loop devices on files in a directory.
fn detach_loops(dir: &Path) {
    for device in std::fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let file = std::fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        if Path::new(file.trim()).starts_with(dir) {
            // Fails if it was detached in the meantime.
            let _ = Cmd::new("losetup").arg("--detach").arg(Path::new("/dev").join(device.file_name())).output();
        }
    }
}

/// The name of a machine's control group.
pub fn control_group(run: &RunId, machine: &str) -> String {
    format!("agent-ami-{run}-{machine}")
}

/// Removes a control group. Errors are ignored: it may not exist, and an empty one that remains has no effect.
pub fn remove_control_group(name: &str) {
    let _ = Cmd::new("unshare").args(["--mount", "sh", "-c", REMOVE, "remove", name]).output();
}

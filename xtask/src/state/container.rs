//! What a container can leave when it is killed: its control group (cgroups(7)), a folder that stays when nothing is in it any more, and
//! for an instant at the start a loop device. Everything else goes with its namespaces.

use std::path::Path;

use fs_err as fs;

use crate::process::Cmd;

/// Mounts cgroup2 out of sight, whether or not the host has it mounted, ends what is left in the group and removes it. A process that
/// was just killed is in it until it is reaped, so it is tried for a while.
const REMOVE: &str = r#"
set -eu
mount -t cgroup2 cgroup2 /mnt
cd /mnt
[ -d "$1" ] || exit 0
echo 1 >"$1/cgroup.kill" 2>/dev/null || true
n=0
until find "$1" -depth -type d -exec rmdir {} + 2>/dev/null; do n=$((n + 1)); [ $n -lt 100 ]; sleep 0.05; done
"#;

/// Removes what the containers of a dead run left.
pub(super) fn remove_orphans(dir: &Path, run: &str) {
    let machines = fs::read_dir(dir).into_iter().flatten().flatten();
    for machine in machines.filter(|entry| entry.path().join("container.sh").exists()) {
        if let Ok(name) = machine.file_name().into_string() {
            remove_control_group(&control_group(run, &name));
        }
        detach_loops(&machine.path());
    }
}

/// Detaches the loop devices on files in a folder.
fn detach_loops(dir: &Path) {
    for device in std::fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let file = std::fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        if Path::new(file.trim()).starts_with(dir) {
            // Gone already is as good as detached.
            let _ = Cmd::new("losetup").arg("--detach").arg(Path::new("/dev").join(device.file_name())).output();
        }
    }
}

/// The name of a machine's control group.
pub fn control_group(run: &str, machine: &str) -> String {
    format!("agent-ami-{run}-{machine}")
}

/// Removes a control group; one that is not there is no failure, and one that stays does no harm.
pub fn remove_control_group(name: &str) {
    let _ = Cmd::new("unshare").args(["--mount", "sh", "-c", REMOVE, "remove", name]).output();
}

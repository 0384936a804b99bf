//! `doctor`.

use super::*;

#[test]
fn doctor_without_qemu_prints_the_command_that_installs_it() {
    let project = Project::new();
    let bin = project.path("bin");
    fs::create_dir(&bin).unwrap();
    // The hint depends only on whether the package manager can be run.
    fs::write(bin.join("apt-get"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(bin.join("apt-get"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("/bin/sh", bin.join("sh")).unwrap();
    let mut command = project.command(&["doctor"]);
    ended(command.env("PATH", &bin)).assert_exit(3, &["qemu", "doctor --install"]);
}

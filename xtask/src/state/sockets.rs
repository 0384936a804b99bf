//! Directories for the sockets of runs.

use std::path::{Path, PathBuf};

use crate::ids::RunId;

/// Maximum length of a socket's path: 108 bytes with the terminating null byte (unix(7)).
const SOCKET_PATH: usize = 107;
/// Maximum length of a socket's name: that of ssh's control socket, to whose name ssh appends 17 characters temporarily (ssh.c).
const SOCKET_NAME: usize = 40;

/// Sockets are in the temporary directory, because the state directory's path may be too long for them. If that of TMPDIR is too long as
/// well, they are in /tmp.
pub(super) fn socket_dir(run: &RunId) -> PathBuf {
    socket_dir_in(&std::env::temp_dir(), run)
}

fn socket_dir_in(temporary: &Path, run: &str) -> PathBuf {
    let name = format!("agent-ami-{}", run.trim_start_matches("run-"));
    let dir = temporary.join(&name);
    if dir.as_os_str().len() + 1 + SOCKET_NAME <= SOCKET_PATH { dir } else { Path::new("/tmp").join(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_in_tmp_if_the_path_of_the_temporary_directory_is_long() {
        let run = "run-20261128-060000-abcdef";
        assert_eq!(socket_dir_in(Path::new("/var/tmp"), run), Path::new("/var/tmp/agent-ami-20261128-060000-abcdef"));
        let deep = Path::new("/private/var/folders/zz").join("x".repeat(60));
        let dir = socket_dir_in(&deep, run);
        assert_eq!(dir, Path::new("/tmp/agent-ami-20261128-060000-abcdef"));
        let socket = dir.join("s".repeat(SOCKET_NAME));
        std::os::unix::net::SocketAddr::from_pathname(&socket).unwrap();
    }
}

//! A PostgreSQL server of Debian's package, on a free port, in a directory of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running server. It is stopped when it is dropped.
pub struct Postgres {
    server: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Postgres {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let programs = programs();
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            // PostgreSQL does not run as root. Debian's package has a user for it.
            run(Command::new("chown").arg("postgres").arg(dir.path()));
        }
        let as_user = |program: &Path| {
            if !is_root {
                return Command::new(program);
            }
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
            command
        };
        run(as_user(&programs.join("initdb")).arg("-D").arg(&data).args([
            "--username=ami",
            "--auth=trust",
            "--no-sync",
        ]));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = as_user(&programs.join("postgres"));
        server.arg("-D").arg(&data).args([
            "-p",
            &port.to_string(),
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "fsync=off",
        ]);
        server.args(["-c", "unix_socket_directories="]).current_dir(dir.path());
        let server = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let started = Self { server, port, _dir: dir };
        super::wait("PostgreSQL", || {
            let ready = Command::new(programs.join("pg_isready"))
                .args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()])
                .status();
            ready.unwrap().success().then_some(())
        });
        started
    }

    /// The URL of its database.
    pub fn url(&self) -> String {
        format!("postgres://ami:secret-of-the-database@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.server.id()).unwrap()).unwrap();
        // SIGQUIT is PostgreSQL's immediate shutdown; its children end with it.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        let _ = self.server.wait();
    }
}

/// The directory of the newest version.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").unwrap_or_else(|e| {
        panic!("PostgreSQL is not installed ({e}); run `cargo xtask doctor --install`");
    });
    let mut versions: Vec<PathBuf> = versions.map(|entry| entry.unwrap().path().join("bin")).collect();
    versions.sort();
    versions.pop().unwrap()
}

fn run(command: &mut Command) {
    let output = command.current_dir("/").output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

//! The [`Remote`] over OpenSSH: a master connection, over which commands are run and files are copied.
//!
//! The key exchange takes seconds on an emulated machine, so all commands share one connection (`ControlMaster`, ssh_config(5)).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Exit, Result};
use crate::event::Stream;
use crate::process::{Background, Cmd, Ended, Finished};
use crate::remote::Remote;
use crate::signals;

/// ssh's own exit code for a connection that could not be made or was lost, ssh(1).
const CONNECTION_FAILED: i32 = 255;
/// Limit in bytes for the output of a short command. The largest regular output is an image's SBOM, of some MiB.
const MAX_OUTPUT: usize = 64 << 20;
/// Timeout for key exchange and authentication, after the server has sent its banner.
const HANDSHAKE: Duration = Duration::from_secs(60);

/// Address and credentials of a machine.
#[derive(Clone, Debug)]
pub struct Target {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Login name.
    pub user: String,
    /// Private key file.
    pub key: PathBuf,
    /// A known_hosts file for this machine only. The first host key is accepted; a different one later is an error.
    pub known_hosts: PathBuf,
    /// Directory for the control socket. Its path must be short: a socket's path has at most 108 bytes, unix(7).
    pub sockets: PathBuf,
}

/// An open connection.
#[derive(Debug)]
pub struct Ssh {
    target: Target,
    _master: Background,
}

impl Target {
    fn options(&self) -> Vec<String> {
        let mut options = vec!["-F".to_owned(), "none".to_owned()];
        let settings = [
            format!("IdentityFile={}", self.key.display()),
            format!("UserKnownHostsFile={}", self.known_hosts.display()),
            "IdentitiesOnly=yes".to_owned(),
            "StrictHostKeyChecking=accept-new".to_owned(),
            "BatchMode=yes".to_owned(),
            // Includes the key exchange (ssh_config(5)), which takes long on an emulated machine on a busy host. `banner` has checked
            // with a shorter timeout that the server answers.
            format!("ConnectTimeout={}", HANDSHAKE.as_secs()),
            "ServerAliveInterval=15".to_owned(),
            "ServerAliveCountMax=20".to_owned(),
            "LogLevel=ERROR".to_owned(),
        ];
        options.extend(settings.into_iter().flat_map(|s| ["-o".to_owned(), s]));
        options
    }

    fn socket(&self) -> PathBuf {
        self.sockets.join(format!("ssh-{}", self.port))
    }

    fn client(&self, program: &str) -> Cmd {
        Cmd::new(program)
            .args(self.options())
            .args(["-o".to_owned(), format!("ControlPath={}", self.socket().display())])
    }

    fn destination(&self) -> String {
        format!("{}@{}", self.user, self.host)
    }

    /// The command that logs in to the machine, for messages.
    pub fn login_line(&self) -> String {
        let known = format!("UserKnownHostsFile={}", self.known_hosts.display());
        Cmd::new("ssh")
            .args(["-p".to_owned(), self.port.to_string(), "-i".to_owned(), self.key.display().to_string()])
            .args(["-o".to_owned(), known, self.destination()])
            .to_string()
    }

    /// Tries until a connection is open, for at most `timeout`.
    ///
    /// `alive` is called between tries; its error (the VM died) ends the wait. `waited` receives the time waited so far.
    pub fn connect(&self, timeout: Duration, alive: impl Fn() -> Result<()>, waited: impl Fn(Duration)) -> Result<Ssh> {
        let started = Instant::now();
        let mut last = "no answer yet".to_owned();
        loop {
            alive()?;
            match self.try_connect() {
                Ok(ssh) => return Ok(ssh),
                Err(error) => last = if error.is_empty() { last } else { error },
            }
            if started.elapsed() >= timeout {
                let message = format!("no SSH on {}:{} after {} s: {last}", self.host, self.port, timeout.as_secs());
                return Err(Exit::Failed.error(
                    message,
                    "see the console log for how far the boot got; increase `boot_timeout_secs` if the machine is slow",
                ));
            }
            waited(started.elapsed());
            signals::pause(Duration::from_millis(500))?;
        }
    }

    /// One try. The error is ssh's message; empty if sshd does not answer.
    fn try_connect(&self) -> std::result::Result<Ssh, String> {
        // QEMU accepts connections to the forwarded port before the guest does, so sshd is ready only when it sends its banner.
        if !banner(&self.host, self.port) {
            return Err(String::new());
        }
        let log = self.sockets.join(format!("ssh-{}.log", self.port));
        let _ = fs_err::remove_file(self.socket());
        let _ = fs_err::remove_file(&log);
        let port = self.port.to_string();
        let master = self
            .client("ssh")
            .args(["-M", "-N", "-o", "ControlPersist=no", "-p", &port, &self.destination()])
            .start(&log)
            .map_err(|e| e.to_string())?;
        let deadline = Instant::now() + HANDSHAKE;
        while master.ended().is_none() && Instant::now() < deadline && !signals::interrupted() {
            if self.socket().exists() {
                return Ok(Ssh { target: self.clone(), _master: master });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let log = fs_err::read_to_string(&log).unwrap_or_default();
        Err(log.trim().lines().last().unwrap_or_default().to_owned())
    }
}

impl Ssh {
    /// The machine it is connected to.
    pub fn target(&self) -> &Target {
        &self.target
    }

    fn command(&self, command: &str) -> Cmd {
        let port = self.target.port.to_string();
        self.target.client("ssh").args(["-p", &port, &self.target.destination(), "--", command])
    }

    fn lost(&self, stderr: &str) -> Error {
        let message =
            format!("the connection to {}:{} was lost: {}", self.target.host, self.target.port, stderr.trim());
        Exit::Failed.error(message, "see the machine's console log for the cause")
    }
}

impl Remote for Ssh {
    fn output(&self, command: &str, stdin: &[u8]) -> Result<Finished> {
        let finished = self.command(command).stdin(stdin).output_within(MAX_OUTPUT)?;
        if finished.code == CONNECTION_FAILED {
            signals::check()?;
            return Err(self.lost(&finished.stderr));
        }
        Ok(finished)
    }

    fn stream(
        &self,
        command: &str,
        timeout: Option<Duration>,
        line: &mut dyn FnMut(Stream, &str),
    ) -> Result<Option<Ended>> {
        match self.command(command).stream(timeout, line)? {
            Ended::Code(CONNECTION_FAILED) => Ok(None),
            ended => Ok(Some(ended)),
        }
    }

    fn upload(&self, local: &Path, remote: &str) -> Result<()> {
        let port = self.target.port.to_string();
        let destination = format!("{}:{remote}", self.target.destination());
        self.target
            .client("scp")
            .args(["-q", "-r", "-p", "-P", &port])
            .arg(local)
            .arg(destination)
            .hint("check that the destination's directory exists and that the login user can write to it")
            .read()
            .map(drop)
    }

    fn login_line(&self) -> String {
        self.target.login_line()
    }

    fn launch_key(&self) -> Option<PathBuf> {
        Some(self.target.key.with_extension("pub"))
    }
}

/// True if the server sends an SSH banner.
fn banner(host: &str, port: u16) -> bool {
    use std::io::Read as _;
    use std::net::{TcpStream, ToSocketAddrs as _};
    let Some(address) = (host, port).to_socket_addrs().ok().and_then(|mut a| a.next()) else { return false };
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(2)) else { return false };
    let mut start = [0; 4];
    stream.set_read_timeout(Some(Duration::from_secs(5))).is_ok()
        && stream.read_exact(&mut start).is_ok()
        && &start == b"SSH-"
}

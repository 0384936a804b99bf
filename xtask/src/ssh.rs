//! One machine reached by OpenSSH: a master connection, and commands and files over it.
//!
//! The key exchange costs seconds on an emulated machine, so it happens once (`ControlMaster`, ssh_config(5)). Which machine it
//! is and who started it is not known here.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Exit, Result};
use crate::event::Stream;
use crate::process::{Background, Cmd, Ended, Finished};
use crate::remote::Remote;
use crate::signals;

/// ssh's own exit code for a connection that could not be made or was lost, ssh(1).
const CONNECTION_FAILED: i32 = 255;
/// No short command has more to say: the largest answer is an image's SBOM, of some MiB.
const MOST: usize = 64 << 20;
/// How long a server that has shown its banner may take to let us in.
const HANDSHAKE: Duration = Duration::from_secs(60);

/// Where a machine is and what opens it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Login.
    pub user: String,
    /// Private key file.
    pub key: PathBuf,
    /// Known hosts file of this machine alone; the first key seen is kept and must stay.
    pub known_hosts: PathBuf,
    /// Folder for the control socket. Short: a socket's path has at most 108 bytes, unix(7).
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
            // Covers the key exchange too (ssh_config(5)), which takes long on an emulated machine on a busy host; whether
            // there is a server at all was asked before, with more haste.
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

    /// The line a person types to get in.
    pub fn login_line(&self) -> String {
        let known = format!("UserKnownHostsFile={}", self.known_hosts.display());
        Cmd::new("ssh")
            .args(["-p".to_owned(), self.port.to_string(), "-i".to_owned(), self.key.display().to_string()])
            .args(["-o".to_owned(), known, self.destination()])
            .to_string()
    }

    /// Waits until the machine lets us in and returns the open connection.
    ///
    /// `alive` is asked between tries; its error (the VM died) ends the wait. `waited` is told how long it has been.
    pub fn connect(
        &self,
        patience: Duration,
        alive: impl Fn() -> Result<()>,
        waited: impl Fn(Duration),
    ) -> Result<Ssh> {
        let started = Instant::now();
        let mut last = "no answer yet".to_owned();
        loop {
            alive()?;
            match self.try_connect() {
                Ok(ssh) => return Ok(ssh),
                Err(said) => last = if said.is_empty() { last } else { said },
            }
            if started.elapsed() >= patience {
                let message = format!("no SSH on {}:{} after {} s: {last}", self.host, self.port, patience.as_secs());
                return Err(Exit::Failed.error(message, "the console log shows how far the machine came; a slow machine may need a longer `boot_timeout_secs`"));
            }
            waited(started.elapsed());
            signals::pause(Duration::from_millis(500))?;
        }
    }

    /// One try: a master that is up, or what ssh said.
    fn try_connect(&self) -> std::result::Result<Ssh, String> {
        // The forwarded port accepts before the guest does, so only the banner says that sshd is there.
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
        let said = fs_err::read_to_string(&log).unwrap_or_default();
        Err(said.trim().lines().last().unwrap_or_default().to_owned())
    }
}

impl Ssh {
    /// Where it leads.
    pub fn target(&self) -> &Target {
        &self.target
    }

    fn command(&self, command: &str) -> Cmd {
        let port = self.target.port.to_string();
        self.target.client("ssh").args(["-p", &port, &self.target.destination(), "--", command])
    }

    fn lost(&self, said: &str) -> Error {
        let message = format!("the connection to {}:{} was lost: {}", self.target.host, self.target.port, said.trim());
        Exit::Failed.error(message, "the machine's console log shows what happened to it")
    }
}

impl Remote for Ssh {
    fn output(&self, command: &str, stdin: &[u8]) -> Result<Finished> {
        let finished = self.command(command).stdin(stdin).output_within(MOST)?;
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
            .hint("the destination's folder must exist and be writable for the login user")
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

/// True if something that speaks SSH answers there.
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

//! A machine that is saved after its boot (QEMU migration to a file), so that copies of it start in seconds: a test starts a hundred of
//! them. Their disk is always the base image, whatever image the instance has: such tests check calls, not contents.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use tempfile::TempDir;
use xtask::cloud::local::qemu::{self, Boot, Vm};
use xtask::process::{Background, Cmd};

use super::support::free_port;

/// The saved machine.
pub(crate) struct SavedMachine {
    dir: PathBuf,
}

/// A running copy of the saved machine.
pub(crate) struct RestoredMachine {
    _process: Background,
    _sockets: TempDir,
}

impl SavedMachine {
    /// Boots the base image in `dir`, waits for cloud-init, and saves the machine.
    pub(crate) fn make(base_disk: &Path, dir: &Path) -> Self {
        let frozen = Self { dir: dir.to_owned() };
        std::fs::create_dir_all(dir.join("seed")).unwrap();
        Cmd::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(frozen.key()).read().unwrap();
        let public = std::fs::read_to_string(frozen.key().with_extension("pub")).unwrap();
        let config = json!({ "users": ["default"], "ssh_authorized_keys": [public.trim()] });
        std::fs::write(dir.join("seed/user-data"), format!("#cloud-config\n{config:#}\n")).unwrap();
        let meta = json!({ "instance-id": "i-frozen", "local-hostname": "frozen" });
        std::fs::write(dir.join("seed/meta-data"), meta.to_string()).unwrap();
        let base = std::fs::canonicalize(base_disk).unwrap();
        overlay(&base, &dir.join("disk.qcow2"));
        let port = free_port();
        let (vm, _process, _sockets) = frozen.start(dir, port, &[]);
        frozen.on(port, "cloud-init status --wait >/dev/null; sync; sleep 5; true", Duration::from_secs(600));
        let mut qmp = Session::open(&vm.qmp);
        qmp.execute("stop", json!({}));
        qmp.execute("migrate", json!({ "uri": format!("exec:cat >{}", frozen.state().display()) }));
        let deadline = Instant::now() + Duration::from_secs(300);
        while qmp.execute("query-migrate", json!({}))["status"] != "completed" {
            assert!(Instant::now() < deadline, "the machine was not saved in time");
            std::thread::sleep(Duration::from_millis(300));
        }
        frozen
    }

    /// Starts a copy with its own login key, host keys and machine-id, whose sshd is reachable on this port.
    pub(crate) fn thaw(&self, dir: &Path, public: &str, port: u16) -> RestoredMachine {
        std::fs::create_dir_all(dir).unwrap();
        overlay(&self.dir.join("disk.qcow2"), &dir.join("disk.qcow2"));
        // The given port is forwarded only after the identity has changed.
        let setup_port = free_port();
        let (vm, process, sockets) =
            self.start(dir, setup_port, &["-incoming", &format!("exec:cat {}", self.state().display())]);
        let mut qmp = Session::open(&vm.qmp);
        while qmp.execute("query-status", json!({}))["status"] == "inmigrate" {
            std::thread::sleep(Duration::from_millis(50));
        }
        // The machine was saved in the stopped state.
        qmp.execute("cont", json!({}));
        // Created on the host: two copies of one state generate the same random numbers for some time.
        let identity = dir.join("ssh_host_ed25519_key");
        Cmd::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&identity).read().unwrap();
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let (private, shown) = (read(&identity), read(&identity.with_extension("pub")));
        let machine_id = xtask::recipe::Digest::of(private.as_bytes()).to_string()[..32].to_owned();
        let another = format!(
            "echo '{public}' >>~/.ssh/authorized_keys; sudo sh -c 'rm -f /etc/ssh/ssh_host_*; cd /etc/ssh; umask 077; \
             echo \"{private}\" >ssh_host_ed25519_key; echo \"{shown}\" >ssh_host_ed25519_key.pub; \
             chmod 644 ssh_host_ed25519_key.pub; echo {machine_id} >/etc/machine-id; chmod 444 /etc/machine-id; systemctl restart ssh'"
        );
        self.on(setup_port, &another, Duration::from_secs(120));
        let line = format!("hostfwd_add tcp:127.0.0.1:{port}-:22");
        let output = qmp.execute("human-monitor-command", json!({ "command-line": line }));
        assert_eq!(output, "", "{output}");
        RestoredMachine { _process: process, _sockets: sockets }
    }

    fn key(&self) -> PathBuf {
        self.dir.join("id_ed25519")
    }

    fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    fn start(&self, dir: &Path, port: u16, more: &[&str]) -> (Vm, Background, TempDir) {
        let sockets = tempfile::Builder::new().prefix("frozen-").tempdir().unwrap();
        let vm = Vm {
            name: format!("frozen/{port}"),
            acceleration: qemu::probe(None, None).unwrap().acceleration,
            cpus: 1,
            memory_mib: 768,
            disk: dir.join("disk.qcow2"),
            node: "root".to_owned(),
            seed: self.dir.join("seed"),
            ssh_port: port,
            console: dir.join("console.log"),
            qmp: sockets.path().join("qmp"),
            pid_file: dir.join("pid"),
            boot: Boot::Firmware,
        };
        let process = vm.command().args(more.iter().copied()).start(&dir.join("qemu.log")).unwrap();
        (vm, process, sockets)
    }

    /// Runs a command on the machine as soon as its sshd responds.
    fn on(&self, port: u16, command: &str, patience: Duration) {
        let deadline = Instant::now() + patience;
        loop {
            let options =
                ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"];
            let ssh = Cmd::new("ssh").args(options).args(["-o", "ConnectTimeout=20", "-p", &port.to_string(), "-i"]);
            let done = ssh.arg(self.key()).args(["ubuntu@127.0.0.1", command]).output().unwrap();
            if done.code == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "the machine does not respond: {}", done.stderr);
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

fn overlay(below: &Path, disk: &Path) {
    let create = Cmd::new("qemu-img").args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]);
    create.arg(below).arg(disk).read().unwrap();
}

/// A connection to QEMU's QMP socket.
struct Session {
    socket: UnixStream,
    lines: std::io::Lines<BufReader<UnixStream>>,
}

impl Session {
    fn open(path: &Path) -> Self {
        let deadline = Instant::now() + Duration::from_secs(30);
        let socket = loop {
            match UnixStream::connect(path) {
                Ok(socket) => break socket,
                Err(error) => assert!(Instant::now() < deadline, "QEMU does not open its socket: {error}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let mut session = Self { lines: BufReader::new(socket.try_clone().unwrap()).lines(), socket };
        session.lines.next();
        session.execute("qmp_capabilities", json!({}));
        session
    }

    #[expect(clippy::needless_pass_by_value, reason = "a literal at every call")]
    fn execute(&mut self, command: &str, arguments: Value) -> Value {
        writeln!(self.socket, "{}", json!({ "execute": command, "arguments": arguments })).unwrap();
        loop {
            let answer: Value = serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap();
            assert!(answer.get("error").is_none(), "{command}: {answer}");
            if answer.get("return").is_some() {
                return answer["return"].clone();
            }
        }
    }
}

//! The state folder: where base images, layers, images and runs lie on this machine, and who may touch what.
//!
//! Knows names and locks, not what is in the files. A run that died (SIGKILL, power) is known by its lock being free; opening
//! the state ends its leftovers, so that nothing stops the next run.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fs_err as fs;
use rustix::process::{Pid, Signal};

use crate::error::{Exit, Result};
use crate::ledger::{Intent, Ledger, RunOutcome, RunRecord};
use crate::process::Cmd;
use crate::signals::{self, DoomedPath};

mod container;

pub use container::{control_group, remove_control_group};

/// Marks a run's folder that a person wants to keep.
const KEPT: &str = "kept";

/// The lock that keeps a run from being taken up again while what it left is taken away.
pub const LEFTOVERS: &str = "leftovers";

/// The folder and its rooms.
#[derive(Clone, Debug)]
pub struct State {
    root: PathBuf,
    ledger: Arc<Ledger>,
}

/// What a run was asked to do.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The command as typed.
    pub command: &'a str,
    /// Its words after `cargo xtask`.
    pub words: &'a [String],
    /// `local` or `aws`.
    pub on: &'a str,
}

/// One execution of a pipeline: an id that everything it makes bears, a folder, and a lock that says it lives.
#[derive(Debug)]
pub struct Run {
    id: String,
    dir: PathBuf,
    sockets: PathBuf,
    ledger: Arc<Ledger>,
    resumed: u32,
    keep: AtomicBool,
    _lock: Lock,
    _doomed: [DoomedPath; 2],
}

/// A held lock (flock(2)); released when dropped, or by the kernel when the process dies.
#[derive(Debug)]
pub struct Lock {
    _file: std::fs::File,
}

impl State {
    /// Refuses to begin work for which the disk of the state folder has no room.
    pub fn require_space(&self, bytes: u64, what: &str) -> Result<()> {
        let disk = rustix::fs::statvfs(&self.root).map_err(std::io::Error::from)?;
        let free = disk.f_bavail * disk.f_frsize;
        if free >= bytes {
            return Ok(());
        }
        let gib = |bytes: u64| format!("{}.{} GiB", bytes >> 30, ((bytes % (1 << 30)) * 10) >> 30);
        let message =
            format!("{what} needs {} on the disk of {}, which has {}", gib(bytes), self.root.display(), gib(free));
        let hint = "free some space (`cargo xtask ami gc --apply`, `cargo xtask ami delete`), or use another folder with --state";
        Err(Exit::Precondition.error(message, hint))
    }

    /// Whether nothing has been built here yet, not even a base image.
    pub fn is_new(&self) -> Result<bool> {
        Ok(fs::read_dir(self.path("base"))?.next().is_none())
    }

    /// Opens the folder, making it if need be, and ends what dead runs left.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        private_folder(&root)?;
        for room in ["base", "layers", "runs", "regions", "locks", "bin"] {
            fs::create_dir_all(root.join(room))?;
        }
        let root = fs::canonicalize(root)?;
        let ledger = Arc::new(Ledger::open(&root.join("ledger.db"))?);
        let state = Self { root, ledger };
        state.sweep()?;
        Ok(state)
    }

    /// A path in the folder.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// Takes the lock `name`, or says who holds it. `what` is for the one who comes second.
    pub fn lock(&self, name: &str, what: &str) -> Result<Lock> {
        match self.try_lock(name, what)? {
            Ok(lock) => Ok(lock),
            Err(holder) => Err(Exit::Precondition.error(
                format_args!("{name} is busy: {holder}"),
                "wait for it, or stop it with Ctrl-C where it runs; another state folder (`--state DIR`) is independent",
            )),
        }
    }

    /// The same for who can do without: `Ok(Err(holder))` when another process has it.
    pub fn try_lock(&self, name: &str, what: &str) -> Result<std::result::Result<Lock, String>> {
        Lock::take(&self.path("locks").join(format!("{name}.lock")), what)
    }

    /// Takes the lock `name` as soon as it is free: for what takes milliseconds.
    pub fn wait_for_lock(&self, name: &str, what: &str) -> Result<Lock> {
        let path = self.path("locks").join(format!("{name}.lock"));
        loop {
            match Lock::take(&path, what)? {
                Ok(lock) => return Ok(lock),
                Err(_) => signals::pause(Duration::from_millis(10))?,
            }
        }
    }

    /// The journal of all runs of this folder.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// True while the process of a run lives.
    pub fn is_alive(&self, run: &str) -> Result<bool> {
        let lock = self.path("runs").join(run).join("lock");
        Ok(lock.exists() && Lock::take(&lock, "looking")?.is_err())
    }

    /// Begins a run.
    pub fn begin_run(&self, asked: Asked<'_>) -> Result<Run> {
        let mut noise = [0; 3];
        fs::File::open("/dev/urandom")?.read_exact(&mut noise)?;
        let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
        let id = format!("run-{now}-{:02x}{:02x}{:02x}", noise[0], noise[1], noise[2]);
        let run = self.take_run(id, asked.command, 0)?;
        self.ledger.begin_run(&run.id, asked.command, asked.words, asked.on)?;
        Ok(run)
    }

    /// Takes up a run that was cut off, under its own id. Hold [`LEFTOVERS`] meanwhile.
    pub fn resume_run(&self, record: &RunRecord) -> Result<Run> {
        if self.is_alive(&record.id)? {
            let hint = "wait for it, or stop it with Ctrl-C where it runs";
            return Err(Exit::Precondition.error(format_args!("{} is still under way", record.id), hint));
        }
        let run = self.take_run(record.id.clone(), &record.command, record.resumed + 1)?;
        self.ledger.reopen_run(&run.id)?;
        Ok(run)
    }

    fn take_run(&self, id: String, command: &str, resumed: u32) -> Result<Run> {
        let dir = self.path("runs").join(&id);
        let sockets = socket_folder(&id);
        // Doomed before they exist: a signal between the two must not find them forgotten.
        let doomed = [signals::doom_path(&dir), signals::doom_path(&sockets)];
        // A folder without a lock is a dead run's to everyone else.
        let _sweeping = self.sweeping()?;
        fs::create_dir(&dir)?;
        std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700).create(&sockets)?;
        let ledger = Arc::clone(&self.ledger);
        let lock = Lock::take(&dir.join("lock"), command)?.map_err(|holder| {
            Exit::Failed.error(format_args!("run {id} exists already: {holder}"), "run the same command again")
        })?;
        Ok(Run { id, dir, sockets, ledger, resumed, keep: AtomicBool::new(false), _lock: lock, _doomed: doomed })
    }

    /// Ends what dead runs left: their VMs first, then their files.
    fn sweep(&self) -> Result<()> {
        let _sweeping = self.sweeping()?;
        for id in self.run_folders()? {
            match self.sweep_run(&id) {
                // Its owner may have been about to remove it.
                Err(_) if !self.path("runs").join(&id).exists() => {}
                swept => swept?,
            }
        }
        Ok(())
    }

    fn sweep_run(&self, id: &str) -> Result<()> {
        let dir = self.path("runs").join(id);
        // Kept on purpose: it goes when the machine in it has been shut down.
        let kept = || dir.join(KEPT).exists() && !living_machines(&dir, id).is_empty();
        if Lock::take(&dir.join("lock"), "sweeping")?.is_err() || kept() {
            return Ok(());
        }
        self.remove_run(id)
    }

    /// One at a time: two that remove the same folder would fall over each other.
    fn sweeping(&self) -> Result<Lock> {
        let file = fs::File::create(self.path("locks").join("sweeping.lock"))?.into_file();
        file.lock()?;
        Ok(Lock { _file: file })
    }

    fn run_folders(&self) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(self.path("runs"))? {
            ids.extend(entry?.file_name().to_str().map(str::to_owned));
        }
        Ok(ids)
    }

    fn remove_run(&self, id: &str) -> Result<()> {
        let dir = self.path("runs").join(id);
        for pid in living_machines(&dir, id) {
            // It may end by itself between the look and the kill.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        container::remove_orphans(&dir, id);
        fs::remove_dir_all(&dir)?;
        let sockets = socket_folder(id);
        if sockets.exists() {
            fs::remove_dir_all(sockets)?;
        }
        Ok(())
    }

    /// Runs that ended and whose machine a person kept.
    pub fn kept_runs(&self) -> Result<Vec<String>> {
        let mut ids = self.run_folders()?;
        ids.retain(|id| self.path("runs").join(id).join(KEPT).exists());
        Ok(ids)
    }

    /// Ends the machine that was kept, and removes what the run left.
    pub fn end_kept_run(&self, id: &str) -> Result<()> {
        if self.kept_runs()?.iter().any(|kept| kept == id) { self.remove_run(id) } else { Ok(()) }
    }
}

impl Run {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How often it was taken up again: what it makes now is not what it made then.
    pub fn resumed(&self) -> u32 {
        self.resumed
    }

    /// A path in its folder.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.dir.join(relative)
    }

    /// Does `work`, which makes or changes something, between an intent and its outcome in the ledger. `work` returns what it made,
    /// by id. What cannot be written down is not done.
    pub fn journal<T>(&self, intent: &Intent, work: impl FnOnce() -> Result<(T, Vec<String>)>) -> Result<T> {
        self.ledger.journal(&self.id, intent, work)
    }

    /// The ledger, for a caller that cannot hand its work over.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Writes down how the run ended.
    pub fn end(&self, outcome: RunOutcome, summary: &str) -> Result<()> {
        self.ledger.end_run(&self.id, outcome, summary)
    }

    /// Folder for sockets, with a short path.
    pub fn sockets(&self) -> &Path {
        &self.sockets
    }

    /// Leaves folder and machines behind when the run ends, because a person wants to look.
    pub fn keep(&self) -> Result<()> {
        fs::write(self.dir.join(KEPT), "")?;
        self.keep.store(true, Ordering::SeqCst);
        Ok(())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.keep.load(Ordering::SeqCst) {
            // What cannot be removed now is removed by the next sweep.
            let _ = fs::remove_dir_all(&self.dir);
            let _ = fs::remove_dir_all(&self.sockets);
        }
    }
}

impl Lock {
    /// `Ok(Err(holder))` when another process has it.
    fn take(path: &Path, what: &str) -> Result<std::result::Result<Self, String>> {
        let mut options = fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(options.options_mut(), 0o600);
        let mut file = options.create(true).read(true).append(true).open(path)?.into_file();
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder)?;
                return Ok(Err(holder.trim().to_owned()));
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(error.into()),
        }
        file.set_len(0)?;
        writeln!(file, "process {}, {what}, since {}", std::process::id(), jiff::Timestamp::now().strftime("%F %TZ"))?;
        Ok(Ok(Self { _file: file }))
    }
}

/// Makes the folder, and keeps all others out of it: what runs print and what images hold is nobody else's affair.
fn private_folder(root: &Path) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
    if let Some(above) = root.parent() {
        fs::create_dir_all(above)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(root) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    let about = fs::metadata(root)?;
    // One that belongs to somebody else is his to open and to close.
    if about.mode() & 0o077 != 0 && about.uid() == rustix::process::geteuid().as_raw() {
        fs::set_permissions(root, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// A socket's path may have 108 bytes, the last of them zero (unix(7)).
const SOCKET_PATH: usize = 107;
/// The longest name of a socket in the folder: ssh's control socket, under which ssh makes another with 17 more characters (ssh.c).
const SOCKET_NAME: usize = 40;

/// Sockets lie in the temporary folder because their path must be short, and a checkout can lie deep; so can TMPDIR, then it is /tmp.
fn socket_folder(run: &str) -> PathBuf {
    socket_folder_in(&std::env::temp_dir(), run)
}

fn socket_folder_in(temporary: &Path, run: &str) -> PathBuf {
    let name = format!("agent-ami-{}", run.trim_start_matches("run-"));
    let folder = temporary.join(&name);
    if folder.as_os_str().len() + 1 + SOCKET_NAME <= SOCKET_PATH { folder } else { Path::new("/tmp").join(name) }
}

/// What a run starts and what may outlive it. Ending `unshare` ends the container's namespaces.
const PROGRAMS: [&str; 3] = ["qemu-system-", "packer", "unshare"];

/// The processes of a run that still live: machines, and Packer with the machines that it started. Their command lines name the run.
fn living_machines(dir: &Path, run: &str) -> Vec<Pid> {
    let mut pids = Vec::new();
    for pid in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        pids.extend(pid.file_name().to_str().and_then(|n| n.parse().ok()).and_then(Pid::from_raw));
    }
    let ours = |pid: &Pid| {
        let line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        // Somebody who looks at the run names it too.
        let program = line.split('\0').next().and_then(|p| p.rsplit('/').next()).unwrap_or_default();
        line.contains(run) && PROGRAMS.iter().any(|known| program.starts_with(known))
    };
    if !pids.is_empty() {
        return pids.into_iter().filter(ours).collect();
    }
    // Without /proc there is what machines wrote down, after a look whether the ids are still theirs.
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let written = entries.flatten().filter_map(|e| fs::read_to_string(e.path().join("pid")).ok());
    let pids = written.filter_map(|text| text.trim().parse().ok().and_then(Pid::from_raw));
    let named = |pid: &Pid| {
        let cmd = Cmd::new("ps").args(["-o", "command=", "-p"]).arg(pid.as_raw_nonzero().to_string());
        cmd.output().is_ok_and(|said| said.stdout.contains(run))
    };
    pids.filter(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Something that looks like a machine of a run: its program's name, and the run's on its command line.
    fn machine(dir: &Path, run: &str) -> crate::process::Background {
        let program = dir.join("qemu-system-test");
        if !program.exists() {
            // Not a copy: one that was just written cannot be executed while another test's child has it open for writing.
            std::os::unix::fs::symlink("/bin/sh", &program).unwrap();
        }
        let machine = Cmd::new(program).args(["-c", "sleep 60; :", run]).start(&dir.join("log")).unwrap();
        // Its parent goes on as soon as the child has left the parent's memory, and only then the child gets a command line.
        let line = format!("/proc/{}/cmdline", machine.pid());
        let named = || std::fs::read_to_string(&line).map_or(true, |line| line.contains(run));
        assert!((0..500).any(|_| named() || {
            std::thread::sleep(Duration::from_millis(10));
            false
        }));
        machine
    }

    fn asked(command: &str) -> Asked<'_> {
        Asked { command, words: &[], on: "local" }
    }

    #[test]
    fn a_second_holder_is_told_who_was_first() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path().join("state")).unwrap();
        let _held = state.lock("build", "cargo xtask ami build").unwrap();
        let error = state.lock("build", "another").unwrap_err();
        assert_eq!(error.exit(), Exit::Precondition);
        let me = format!("process {}, cargo xtask ami build", std::process::id());
        assert!(error.to_string().contains(&me), "{error}");
    }

    #[test]
    fn work_without_room_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        assert!(state.is_new().unwrap());
        fs::create_dir(dir.path().join("base/debian-13")).unwrap();
        assert!(!state.is_new().unwrap());
        state.require_space(1, "a build").unwrap();
        let error = state.require_space(u64::MAX, "a build").unwrap_err();
        assert_eq!(error.exit(), Exit::Precondition);
        assert!(error.to_string().contains("a build needs 17179869183.9 GiB on the disk of"), "{error}");
    }

    #[test]
    fn a_run_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let run = state.begin_run(asked("test")).unwrap();
        let (folder, sockets) = (run.path(""), run.sockets().to_owned());
        assert!(folder.exists() && sockets.exists());
        drop(run);
        assert!(!folder.exists() && !sockets.exists());
    }

    #[test]
    fn runs_that_begin_and_end_at_the_same_time_leave_each_other_alone() {
        let dir = tempfile::tempdir().unwrap();
        let work = || {
            for _ in 0..10 {
                let state = State::open(dir.path()).unwrap();
                let run = state.begin_run(asked("one of many")).unwrap();
                assert!(State::open(dir.path()).unwrap().is_alive(run.id()).unwrap() && run.path("lock").exists());
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(work))));
        assert_eq!(fs::read_dir(dir.path().join("runs")).unwrap().count(), 0);
    }

    /// Opens the state until a run's folder is gone: a process that was killed is seen until the kernel gets to it, and one that another
    /// test forks just now has the run's lock open until it executes its program.
    fn swept(state: &Path, folder: &Path) -> bool {
        (0..100).any(|_| {
            State::open(state).unwrap();
            let gone = !folder.exists();
            std::thread::sleep(Duration::from_millis(if gone { 0 } else { 50 }));
            gone
        })
    }

    #[test]
    fn a_kept_run_stays_as_long_as_its_machine_lives() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let run = state.begin_run(asked("kept")).unwrap();
        let (id, folder) = (run.id().to_owned(), run.path(""));
        let machine = machine(dir.path(), &id);
        fs::create_dir_all(run.path("builder")).unwrap();
        fs::write(run.path("builder/pid"), machine.pid().to_string()).unwrap();
        run.keep().unwrap();
        drop(run);
        State::open(dir.path()).unwrap();
        assert!(folder.exists() && machine.ended().is_none());
        drop(machine);
        assert!(swept(dir.path(), &folder));
    }

    #[test]
    fn a_dead_runs_machine_is_ended_and_a_living_runs_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let alive = state.begin_run(asked("alive")).unwrap();
        let dead = state.path("runs/run-dead");
        fs::create_dir_all(dead.join("builder")).unwrap();
        let (victim, survivor) = (machine(dir.path(), "run-dead"), machine(dir.path(), alive.id()));
        let onlooker = Cmd::new("sh").args(["-c", "sleep 60; :", "run-dead"]).start(&dir.path().join("log")).unwrap();
        fs::write(dead.join("builder/pid"), victim.pid().to_string()).unwrap();
        fs::create_dir_all(alive.path("builder")).unwrap();
        fs::write(alive.path("builder/pid"), survivor.pid().to_string()).unwrap();

        assert!(swept(dir.path(), &dead));
        assert!(victim.wait(Duration::from_secs(5)), "the dead run's machine still runs");
        assert!(survivor.ended().is_none() && onlooker.ended().is_none());
        assert!(alive.path("").exists());
    }

    #[test]
    fn a_long_temporary_folder_gives_sockets_a_short_one() {
        let run = "run-20261128-060000-abcdef";
        assert_eq!(
            socket_folder_in(Path::new("/var/tmp"), run),
            Path::new("/var/tmp/agent-ami-20261128-060000-abcdef")
        );
        let deep = Path::new("/private/var/folders/zz").join("x".repeat(60));
        let folder = socket_folder_in(&deep, run);
        assert_eq!(folder, Path::new("/tmp/agent-ami-20261128-060000-abcdef"));
        let socket = folder.join("s".repeat(SOCKET_NAME));
        std::os::unix::net::SocketAddr::from_pathname(&socket).unwrap();
    }
}

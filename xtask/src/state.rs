//! The state directory: base images, layers, images and runs on this machine, and the locks on them.
//!
//! This module manages names and locks, not the content of files. The kernel releases the lock of a dead process (flock(2)), so a run
//! whose lock is free has died. Opening the state ends the machines of such runs and removes their directories.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fs_err as fs;
use rustix::process::Signal;

use crate::error::{Exit, Result};
use crate::ids::RunId;
use crate::ledger::{Intent, Ledger, RunOutcome, RunRecord};
use crate::signals::{self, PathGuard};

use processes::living_machines;
use sockets::socket_dir;

mod container;
mod lock;
mod processes;
mod sockets;

pub use container::{control_group, remove_control_group};
pub use lock::Lock;

/// A file in the directory of a run that was kept with `--keep-on-failure`.
const KEPT: &str = "kept";

/// The lock that prevents a run from being resumed while its orphaned resources are removed.
pub const ORPHANS: &str = "orphans";

/// An open state directory with its ledger.
#[derive(Clone, Debug)]
pub struct State {
    root: PathBuf,
    ledger: Arc<Ledger>,
}

/// The command that a run carries out.
#[derive(Clone, Copy, Debug)]
pub struct RunRequest<'a> {
    /// The command line, for messages.
    pub command: &'a str,
    /// Its arguments after `cargo xtask`.
    pub words: &'a [String],
    /// `local` or `aws`.
    pub on: &'a str,
}

/// One execution of a command: an id, which everything it creates is tagged with, a directory, and a lock that is held while it runs.
#[derive(Debug)]
pub struct Run {
    id: RunId,
    dir: PathBuf,
    sockets: PathBuf,
    ledger: Arc<Ledger>,
    resumed: u32,
    keep: AtomicBool,
    _lock: Lock,
    _guards: [PathGuard; 2],
}

impl State {
    /// An error if the disk of the state directory has less than `bytes` of free space. `what` names the work in the message.
    pub fn require_space(&self, bytes: u64, what: &str) -> Result<()> {
        let disk = rustix::fs::statvfs(&self.root).map_err(std::io::Error::from)?;
        let free = disk.f_bavail * disk.f_frsize;
        if free >= bytes {
            return Ok(());
        }
        let gib = |bytes: u64| format!("{}.{} GiB", bytes >> 30, ((bytes % (1 << 30)) * 10) >> 30);
        let message =
            format!("{what} needs {} on the disk of {}, which has {}", gib(bytes), self.root.display(), gib(free));
        let hint = "free some space (`cargo xtask ami gc --apply`, `cargo xtask ami delete`), or use another directory with --state";
        Err(Exit::Precondition.error(message, hint))
    }

    /// True if there is no base image yet, and therefore no layer and no image.
    pub fn is_new(&self) -> Result<bool> {
        Ok(fs::read_dir(self.path("base"))?.next().is_none())
    }

    /// Opens the directory, or creates it, and removes the remains of dead runs.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        private_dir(&root)?;
        for dir in ["base", "layers", "runs", "regions", "locks", "bin"] {
            fs::create_dir_all(root.join(dir))?;
        }
        let root = fs::canonicalize(root)?;
        let ledger = Arc::new(Ledger::open(&root.join("ledger.db"))?);
        let state = Self { root, ledger };
        state.sweep()?;
        Ok(state)
    }

    /// A path in the directory.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// Takes the lock `name`. An error that names the holder if another process has it. `what` describes this holder for other processes.
    pub fn lock(&self, name: &str, what: &str) -> Result<Lock> {
        match self.try_lock(name, what)? {
            Ok(lock) => Ok(lock),
            Err(holder) => Err(Exit::Precondition.error(
                format_args!("{name} is busy: {holder}"),
                "wait for that process, stop it with Ctrl-C, or use another state directory with `--state DIR`",
            )),
        }
    }

    /// Like [`State::lock`], but `Ok(Err(holder))` if another process has the lock.
    pub fn try_lock(&self, name: &str, what: &str) -> Result<std::result::Result<Lock, String>> {
        Lock::take(&self.path("locks").join(format!("{name}.lock")), what)
    }

    /// Waits for the lock `name` and takes it. For locks that are held for milliseconds.
    pub fn wait_for_lock(&self, name: &str, what: &str) -> Result<Lock> {
        let path = self.path("locks").join(format!("{name}.lock"));
        loop {
            match Lock::take(&path, what)? {
                Ok(lock) => return Ok(lock),
                Err(_) => signals::pause(Duration::from_millis(10))?,
            }
        }
    }

    /// The ledger of all runs in this directory.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// True while the process of a run is alive, that is, holds the run's lock.
    pub fn is_alive(&self, run: &RunId) -> Result<bool> {
        let lock = self.path("runs").join(run.as_str()).join("lock");
        Ok(lock.exists() && Lock::take(&lock, "checking a run")?.is_err())
    }

    /// Begins a run: creates its directory, takes its lock and writes it to the ledger.
    pub fn begin_run(&self, asked: RunRequest<'_>) -> Result<Run> {
        self.begin_run_as(new_run_id()?, asked)
    }

    /// Begins a run with an id that was made before, by [`new_run_id`].
    pub fn begin_run_as(&self, id: RunId, asked: RunRequest<'_>) -> Result<Run> {
        if self.ledger.run(&id)?.is_some() {
            let hint = format!("resume it with `cargo xtask ami resume {id}`");
            return Err(Exit::Usage.error(format_args!("{id} exists already"), hint));
        }
        let run = self.take_run(id, asked.command, 0)?;
        self.ledger.begin_run(&run.id, asked.command, asked.words, asked.on)?;
        Ok(run)
    }

    /// Resumes an unfinished run under its id. The caller must hold the lock [`ORPHANS`].
    pub fn resume_run(&self, record: &RunRecord) -> Result<Run> {
        if self.is_alive(&record.id)? {
            let hint = "wait for its process, or stop it with Ctrl-C";
            return Err(Exit::Precondition.error(format_args!("{} is still running", record.id), hint));
        }
        let run = self.take_run(record.id.clone(), &record.command, record.resumed + 1)?;
        self.ledger.reopen_run(&run.id)?;
        Ok(run)
    }

    fn take_run(&self, id: RunId, command: &str, resumed: u32) -> Result<Run> {
        let dir = self.path("runs").join(id.as_str());
        let sockets = socket_dir(&id);
        // Registered before they exist, so that a second signal also removes them right after their creation.
        let guards = [signals::remove_on_second_signal(&dir), signals::remove_on_second_signal(&sockets)];
        // Other processes must not sweep the directory before its lock is taken.
        let _sweeping = self.sweeping()?;
        fs::create_dir(&dir)?;
        std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700).create(&sockets)?;
        let ledger = Arc::clone(&self.ledger);
        let lock = Lock::take(&dir.join("lock"), command)?.map_err(|holder| {
            Exit::Failed.error(format_args!("run {id} exists already: {holder}"), "run the same command again")
        })?;
        Ok(Run { id, dir, sockets, ledger, resumed, keep: AtomicBool::new(false), _lock: lock, _guards: guards })
    }

    /// Ends the machines of dead runs and removes their directories.
    fn sweep(&self) -> Result<()> {
        let _sweeping = self.sweeping()?;
        for id in self.run_dirs()? {
            match self.sweep_run(&id) {
                // The run may have removed its directory in the meantime.
                Err(_) if !self.path("runs").join(id.as_str()).exists() => {}
                swept => swept?,
            }
        }
        Ok(())
    }

    fn sweep_run(&self, id: &RunId) -> Result<()> {
        let dir = self.path("runs").join(id.as_str());
        // A kept run is removed when its machine has been shut down.
        let kept = || dir.join(KEPT).exists() && !living_machines(&dir, id).is_empty();
        if Lock::take(&dir.join("lock"), "sweeping")?.is_err() || kept() {
            return Ok(());
        }
        self.remove_run(id)
    }

    /// Serializes sweeps: two processes that remove the same directory would fail.
    fn sweeping(&self) -> Result<Lock> {
        let file = fs::File::create(self.path("locks").join("sweeping.lock"))?.into_file();
        file.lock()?;
        Ok(Lock { _file: file })
    }

    fn run_dirs(&self) -> Result<Vec<RunId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(self.path("runs"))? {
            ids.extend(entry?.file_name().to_str().map(RunId::from));
        }
        Ok(ids)
    }

    fn remove_run(&self, id: &RunId) -> Result<()> {
        let dir = self.path("runs").join(id.as_str());
        for pid in living_machines(&dir, id) {
            // Fails if it has ended in the meantime.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        container::remove_orphans(&dir, id);
        fs::remove_dir_all(&dir)?;
        let sockets = socket_dir(id);
        if sockets.exists() {
            fs::remove_dir_all(sockets)?;
        }
        Ok(())
    }

    /// The ids of runs whose machine was kept with `--keep-on-failure`.
    pub fn kept_runs(&self) -> Result<Vec<RunId>> {
        let mut ids = self.run_dirs()?;
        ids.retain(|id| self.path("runs").join(id.as_str()).join(KEPT).exists());
        Ok(ids)
    }

    /// Ends the machine of a kept run and removes the run's directory. Does nothing if the run was not kept.
    pub fn end_kept_run(&self, id: &str) -> Result<()> {
        self.kept_runs()?.iter().filter(|kept| **kept == id).try_for_each(|kept| self.remove_run(kept))
    }
}

impl Run {
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// How often it was resumed. Part of the client token for starting an instance, so that a resumed run starts a new one.
    pub fn resumed(&self) -> u32 {
        self.resumed
    }

    /// A path in its directory.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.dir.join(relative)
    }

    /// Calls `work`, which creates or changes something, between writing its intent and its outcome to the ledger. `work` returns the ids of
    /// what it created. If the intent cannot be written, `work` is not called.
    pub fn journal<T>(&self, intent: &Intent, work: impl FnOnce() -> Result<(T, Vec<String>)>) -> Result<T> {
        self.ledger.journal(&self.id, intent, work)
    }

    /// The ledger, for callers whose work does not fit a closure for [`Run::journal`].
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Writes the end of the run to the ledger.
    pub fn end(&self, outcome: RunOutcome, summary: &str) -> Result<()> {
        self.ledger.end_run(&self.id, outcome, summary)
    }

    /// Directory for sockets, with a short path.
    pub fn sockets(&self) -> &Path {
        &self.sockets
    }

    /// Makes the end of the run leave its directory and machines, for inspection.
    pub fn keep(&self) -> Result<()> {
        fs::write(self.dir.join(KEPT), "")?;
        self.keep.store(true, Ordering::SeqCst);
        Ok(())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.keep.load(Ordering::SeqCst) {
            // The next sweep removes what cannot be removed now.
            let _ = fs::remove_dir_all(&self.dir);
            let _ = fs::remove_dir_all(&self.sockets);
        }
    }
}

/// An id for a new run.
pub fn new_run_id() -> Result<RunId> {
    let mut random = [0; 3];
    fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
    Ok(RunId::from(format!("run-{now}-{:02x}{:02x}{:02x}", random[0], random[1], random[2])))
}

/// Creates the directory with mode 0700, because logs and images are private. An existing one of this user gets the same mode.
fn private_dir(root: &Path) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
    if let Some(above) = root.parent() {
        fs::create_dir_all(above)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(root) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    let about = fs::metadata(root)?;
    // The mode of another user's directory is not changed.
    if about.mode() & 0o077 != 0 && about.uid() == rustix::process::geteuid().as_raw() {
        fs::set_permissions(root, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Cmd;

    /// A process that looks like a machine of a run: by its program's name and the run's id on its command line.
    fn machine(dir: &Path, run: &str) -> crate::process::Background {
        let program = dir.join("qemu-system-test");
        if !program.exists() {
            // A link, because a copy cannot be executed while a child that another test forked has it open for writing.
            std::os::unix::fs::symlink("/bin/sh", &program).unwrap();
        }
        let machine = Cmd::new(program).args(["-c", "sleep 60; :", run]).start(&dir.join("log")).unwrap();
        // The parent continues before the kernel has set the child's new command line, so wait for it.
        let line = format!("/proc/{}/cmdline", machine.pid());
        let named = || std::fs::read_to_string(&line).map_or(true, |line| line.contains(run));
        assert!((0..500).any(|_| named() || {
            std::thread::sleep(Duration::from_millis(10));
            false
        }));
        machine
    }

    fn asked(command: &str) -> RunRequest<'_> {
        RunRequest { command, words: &[], on: "local" }
    }

    #[test]
    fn the_error_for_a_busy_lock_names_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path().join("state")).unwrap();
        let _held = state.lock("build", "cargo xtask ami build").unwrap();
        let error = state.lock("build", "another").unwrap_err();
        assert_eq!(error.exit(), Exit::Precondition);
        let me = format!("process {}, cargo xtask ami build", std::process::id());
        assert!(error.to_string().contains(&me), "{error}");
    }

    #[test]
    fn work_without_enough_disk_space_is_refused() {
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
    fn the_end_of_a_run_removes_its_directories() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let run = state.begin_run(asked("test")).unwrap();
        let (run_dir, sockets) = (run.path(""), run.sockets().to_owned());
        assert!(run_dir.exists() && sockets.exists());
        drop(run);
        assert!(!run_dir.exists() && !sockets.exists());
    }

    #[test]
    fn concurrent_runs_do_not_remove_each_other() {
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

    /// Opens the state until a run's directory is removed. That may take several tries: a killed process exists until the kernel has ended
    /// it, and a child that another test forks has the run's lock open until it calls execve(2).
    fn swept(state: &Path, run_dir: &Path) -> bool {
        (0..100).any(|_| {
            State::open(state).unwrap();
            let removed = !run_dir.exists();
            std::thread::sleep(Duration::from_millis(if removed { 0 } else { 50 }));
            removed
        })
    }

    #[test]
    fn a_kept_run_is_removed_when_its_machine_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let run = state.begin_run(asked("kept")).unwrap();
        let (id, run_dir) = (run.id().to_owned(), run.path(""));
        let machine = machine(dir.path(), &id);
        fs::create_dir_all(run.path("builder")).unwrap();
        fs::write(run.path("builder/pid"), machine.pid().to_string()).unwrap();
        run.keep().unwrap();
        drop(run);
        State::open(dir.path()).unwrap();
        assert!(run_dir.exists() && machine.ended().is_none());
        drop(machine);
        assert!(swept(dir.path(), &run_dir));
    }

    #[test]
    fn only_the_machines_of_dead_runs_are_killed() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let alive = state.begin_run(asked("alive")).unwrap();
        let dead = state.path("runs/run-dead");
        fs::create_dir_all(dead.join("builder")).unwrap();
        let (orphan, active) = (machine(dir.path(), "run-dead"), machine(dir.path(), alive.id()));
        let unrelated = Cmd::new("sh").args(["-c", "sleep 60; :", "run-dead"]).start(&dir.path().join("log")).unwrap();
        fs::write(dead.join("builder/pid"), orphan.pid().to_string()).unwrap();
        fs::create_dir_all(alive.path("builder")).unwrap();
        fs::write(alive.path("builder/pid"), active.pid().to_string()).unwrap();

        assert!(swept(dir.path(), &dead));
        assert!(orphan.wait(Duration::from_secs(5)), "the dead run's machine still runs");
        assert!(active.ended().is_none() && unrelated.ended().is_none());
        assert!(alive.path("").exists());
    }
}

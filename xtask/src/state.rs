//! The state folder: where base images, layers, images and runs lie on this machine, and who may touch what.
//!
//! Knows names and locks, not what is in the files. A run that died (SIGKILL, power) is known by its lock being free; opening
//! the state ends its leftovers, so that nothing stops the next run.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use fs_err as fs;
use rustix::process::{Pid, Signal};

use crate::error::{Exit, Result};
use crate::signals::{self, DoomedPath};

/// Marks a run's folder that a person wants to keep.
const KEPT: &str = "kept";

/// The folder and its rooms.
#[derive(Clone, Debug)]
pub struct State {
    root: PathBuf,
}

/// One execution of a pipeline: an id that everything it makes bears, a folder, and a lock that says it lives.
#[derive(Debug)]
pub struct Run {
    id: String,
    dir: PathBuf,
    sockets: PathBuf,
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
        let hint = "free some space, delete images (`cargo xtask ami delete`), or use another folder with --state";
        Err(Exit::Precondition.error(message, hint))
    }

    /// Whether nothing has been built here yet, not even a base image.
    pub fn is_new(&self) -> Result<bool> {
        Ok(fs::read_dir(self.path("base"))?.next().is_none())
    }

    /// Opens the folder, making it if need be, and ends what dead runs left.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        for room in ["base", "layers", "runs", "regions", "locks", "bin"] {
            fs::create_dir_all(root.join(room))?;
        }
        let state = Self { root: fs::canonicalize(root)? };
        state.sweep()?;
        Ok(state)
    }

    /// A path in the folder.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// Takes the lock `name`, or says who holds it. `what` is for the one who comes second.
    pub fn lock(&self, name: &str, what: &str) -> Result<Lock> {
        let path = self.path("locks").join(format!("{name}.lock"));
        match Lock::take(&path, what)? {
            Ok(lock) => Ok(lock),
            Err(holder) => Err(Exit::Precondition.error(
                format_args!("{name} is busy: {holder}"),
                "wait for it, or stop it with Ctrl-C where it runs; another state folder (`--state DIR`) is independent",
            )),
        }
    }

    /// Begins a run.
    pub fn begin_run(&self, command: &str) -> Result<Run> {
        let mut noise = [0; 3];
        fs::File::open("/dev/urandom")?.read_exact(&mut noise)?;
        let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
        let id = format!("run-{now}-{:02x}{:02x}{:02x}", noise[0], noise[1], noise[2]);
        let dir = self.path("runs").join(&id);
        let sockets = socket_folder(&id);
        // Doomed before they exist: a signal between the two must not find them forgotten.
        let doomed = [signals::doom_path(&dir), signals::doom_path(&sockets)];
        fs::create_dir(&dir)?;
        fs::create_dir_all(&sockets)?;
        let lock = Lock::take(&dir.join("lock"), command)?.map_err(|holder| {
            Exit::Failed.error(format_args!("run {id} exists already: {holder}"), "run the same command again")
        })?;
        Ok(Run { id, dir, sockets, keep: AtomicBool::new(false), _lock: lock, _doomed: doomed })
    }

    /// Ends what dead runs left: their VMs first, then their files.
    fn sweep(&self) -> Result<()> {
        for entry in fs::read_dir(self.path("runs"))? {
            let dir = entry?.path();
            let Some(id) = dir.file_name().and_then(|n| n.to_str()).map(str::to_owned) else { continue };
            if Lock::take(&dir.join("lock"), "sweeping")?.is_err() {
                continue;
            }
            let machines = living_machines(&dir, &id);
            // Kept on purpose: it goes when the machine in it has been shut down.
            if dir.join(KEPT).exists() && !machines.is_empty() {
                continue;
            }
            for pid in machines {
                // It may end by itself between the look and the kill.
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
            fs::remove_dir_all(&dir)?;
            let sockets = socket_folder(&id);
            if sockets.exists() {
                fs::remove_dir_all(sockets)?;
            }
        }
        Ok(())
    }
}

impl Run {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A path in its folder.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.dir.join(relative)
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
        let mut file = fs::OpenOptions::new().create(true).read(true).append(true).open(path)?.into_file();
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

/// Sockets lie in the temporary folder because their path may have 108 bytes only, and a checkout can lie deep.
fn socket_folder(run: &str) -> PathBuf {
    std::env::temp_dir().join(format!("agent-ami-{}", run.trim_start_matches("run-")))
}

/// The processes a run's machines wrote down, after a look whether the ids are still theirs.
fn living_machines(dir: &Path, run: &str) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let written = entries.flatten().filter_map(|e| fs::read_to_string(e.path().join("pid")).ok());
    let pids = written.filter_map(|text| text.trim().parse().ok().and_then(Pid::from_raw));
    // Process ids are used again: only one whose command line names the run is ours.
    pids.filter(|pid| {
        std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(run))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let run = state.begin_run("test").unwrap();
        let (folder, sockets) = (run.path(""), run.sockets().to_owned());
        assert!(folder.exists() && sockets.exists());
        drop(run);
        assert!(!folder.exists() && !sockets.exists());
    }

    #[test]
    fn a_kept_run_stays_as_long_as_its_machine_lives() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let run = state.begin_run("kept").unwrap();
        let (id, folder) = (run.id().to_owned(), run.path(""));
        let machine =
            crate::process::Cmd::new("sh").args(["-c", "sleep 60; :", &id]).start(&dir.path().join("log")).unwrap();
        fs::create_dir_all(run.path("builder")).unwrap();
        fs::write(run.path("builder/pid"), machine.pid().to_string()).unwrap();
        run.keep().unwrap();
        drop(run);
        State::open(dir.path()).unwrap();
        assert!(folder.exists() && machine.ended().is_none());
        drop(machine);
        State::open(dir.path()).unwrap();
        assert!(!folder.exists());
    }

    #[test]
    fn a_dead_runs_machine_is_ended_and_a_living_runs_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let alive = state.begin_run("alive").unwrap();
        let dead = state.path("runs/run-dead");
        fs::create_dir_all(dead.join("builder")).unwrap();
        let log = dir.path().join("log");
        let start = |run: &str| {
            // The name of the run stands on the command line, as it does on a VM's.
            crate::process::Cmd::new("sh").args(["-c", "sleep 60; :", run]).start(&log).unwrap()
        };
        let (victim, survivor) = (start("run-dead"), start(alive.id()));
        fs::write(dead.join("builder/pid"), victim.pid().to_string()).unwrap();
        fs::create_dir_all(alive.path("builder")).unwrap();
        fs::write(alive.path("builder/pid"), survivor.pid().to_string()).unwrap();

        State::open(dir.path()).unwrap();

        assert!(victim.wait(std::time::Duration::from_secs(5)), "the dead run's machine still runs");
        assert!(survivor.ended().is_none());
        assert!(!dead.exists() && alive.path("").exists());
    }
}

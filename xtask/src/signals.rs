//! SIGINT and SIGTERM: the first asks everybody to stop and clean up, the second ends everything at once.
//!
//! Long waits poll [`interrupted`] (through [`check`] and [`pause`]); nothing here knows what is being cleaned up, only which
//! process groups must not outlive us and which paths must not stay.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::error::{Exit, Result};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static WAKE: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
static DOOMED: Mutex<Doomed> = Mutex::new(Doomed { groups: BTreeSet::new(), paths: BTreeSet::new() });

/// What a second signal ends and removes.
struct Doomed {
    groups: BTreeSet<i32>,
    paths: BTreeSet<PathBuf>,
}

/// Starts to listen. Call once, before anything is spawned.
pub fn listen() -> Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in &mut signals {
            if INTERRUPTED.swap(true, Ordering::SeqCst) {
                end_at_once();
            }
            let _guard = locked(&WAKE.0);
            WAKE.1.notify_all();
        }
    })?;
    Ok(())
}

/// True from the first signal on.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// An [`Exit::Interrupted`] error from the first signal on.
pub fn check() -> Result<()> {
    if interrupted() {
        return Err(Exit::Interrupted.error("interrupted", "what was finished is kept; run the same command to go on"));
    }
    Ok(())
}

/// Waits, but not past a signal.
pub fn pause(duration: Duration) -> Result<()> {
    let deadline = Instant::now() + duration;
    let mut guard = locked(&WAKE.0);
    while !interrupted() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        guard = WAKE.1.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    drop(guard);
    check()
}

/// A process group that a second signal kills. The guard takes it off the list again.
pub fn doom_group(leader: u32) -> DoomedGroup {
    let leader = i32::try_from(leader).unwrap_or(i32::MAX);
    locked(&DOOMED).groups.insert(leader);
    DoomedGroup(leader)
}

/// A file or folder that a second signal removes. The guard takes it off the list again.
pub fn doom_path(path: impl Into<PathBuf>) -> DoomedPath {
    let path = path.into();
    locked(&DOOMED).paths.insert(path.clone());
    DoomedPath(path)
}

/// See [`doom_group`].
#[derive(Debug)]
#[must_use]
pub struct DoomedGroup(i32);

/// See [`doom_path`].
#[derive(Debug)]
#[must_use]
pub struct DoomedPath(PathBuf);

impl Drop for DoomedGroup {
    fn drop(&mut self) {
        locked(&DOOMED).groups.remove(&self.0);
    }
}

impl Drop for DoomedPath {
    fn drop(&mut self) {
        locked(&DOOMED).paths.remove(&self.0);
    }
}

#[expect(
    clippy::disallowed_methods,
    clippy::exit,
    reason = "the second signal wants us gone now; there is no command left to return to"
)]
fn end_at_once() -> ! {
    let doomed = locked(&DOOMED);
    for pid in doomed.groups.iter().filter_map(|&raw| Pid::from_raw(raw)) {
        // It may be gone already; there is nobody left to tell.
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
    for path in &doomed.paths {
        let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
    std::process::exit(i32::from(Exit::Interrupted as u8))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

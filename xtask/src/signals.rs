//! SIGINT and SIGTERM: the first one requests a stop with cleanup, the second one ends the process at once.
//!
//! Long waits poll [`interrupted`] (through [`check`] and [`pause`]) and return, and the callers clean up. A second signal kills the
//! registered process groups and removes the registered paths.

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
static REGISTERED: Mutex<Registered> = Mutex::new(Registered { groups: BTreeSet::new(), paths: BTreeSet::new() });

/// What a second signal kills and removes.
struct Registered {
    groups: BTreeSet<i32>,
    paths: BTreeSet<PathBuf>,
}

/// Installs the signal handlers. Call it once, before the first process is spawned.
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

/// Requests a stop, as the first signal does, when standard input closes. The kernel closes the pipe of a supervisor that was killed.
pub fn stop_at_eof() -> Result<()> {
    std::thread::Builder::new().name("supervisor".to_owned()).spawn(|| {
        // An error has the same meaning as the end: there is no supervisor.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        INTERRUPTED.store(true, Ordering::SeqCst);
        let _guard = locked(&WAKE.0);
        WAKE.1.notify_all();
    })?;
    Ok(())
}

/// True after the first signal.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// An [`Exit::Interrupted`] error after the first signal.
pub fn check() -> Result<()> {
    if interrupted() {
        return Err(
            Exit::Interrupted.error("interrupted", "run the same command again to continue from what was finished")
        );
    }
    Ok(())
}

/// Sleeps for `duration`. A signal ends the sleep, with the error of [`check`].
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

/// Registers a process group that a second signal kills. Dropping the guard removes the registration.
pub fn kill_on_second_signal(leader: u32) -> GroupGuard {
    let leader = i32::try_from(leader).unwrap_or(i32::MAX);
    locked(&REGISTERED).groups.insert(leader);
    GroupGuard(leader)
}

/// Registers a file or directory that a second signal removes. Dropping the guard removes the registration.
pub fn remove_on_second_signal(path: impl Into<PathBuf>) -> PathGuard {
    let path = path.into();
    locked(&REGISTERED).paths.insert(path.clone());
    PathGuard(path)
}

/// The registration by [`kill_on_second_signal`].
#[derive(Debug)]
#[must_use]
pub struct GroupGuard(i32);

/// The registration by [`remove_on_second_signal`].
#[derive(Debug)]
#[must_use]
pub struct PathGuard(PathBuf);

impl Drop for GroupGuard {
    fn drop(&mut self) {
        locked(&REGISTERED).groups.remove(&self.0);
    }
}

impl Drop for PathGuard {
    fn drop(&mut self) {
        locked(&REGISTERED).paths.remove(&self.0);
    }
}

#[expect(
    clippy::disallowed_methods,
    clippy::exit,
    reason = "the second signal ends the process from the signal thread, without returning through the command"
)]
fn end_at_once() -> ! {
    let registered = locked(&REGISTERED);
    for pid in registered.groups.iter().filter_map(|&raw| Pid::from_raw(raw)) {
        // Fails if the group has ended already.
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
    for path in &registered.paths {
        let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
    std::process::exit(i32::from(Exit::Interrupted as u8))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

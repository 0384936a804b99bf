//! Stops the process at a call, so that a test can kill it there. Does nothing unless the environment variable is set.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Signal, getpid, kill_process};

/// `before:3` stops the process when its third intent is written and the call is not yet made; `after:3` when the call is made and its
/// outcome is not yet written. The process stops by SIGSTOP, so that the test can inspect it and send another signal.
const VARIABLE: &str = "LEDGER_PAUSE_AT";

/// The position at which to stop, and counters of the calls.
#[derive(Debug, Default)]
pub(super) struct Pause {
    at: Option<(bool, u64)>,
    intents: AtomicU64,
    outcomes: AtomicU64,
}

impl Pause {
    pub(super) fn from_environment() -> Self {
        let value = std::env::var(VARIABLE).unwrap_or_default();
        let at = value.split_once(':').and_then(|(when, n)| Some((when == "after", n.parse().ok()?)));
        Self { at, ..Self::default() }
    }

    /// Call it after an intent was written.
    pub(super) fn before(&self) {
        self.count(false, &self.intents);
    }

    /// Call it before an outcome is written.
    pub(super) fn after(&self) {
        self.count(true, &self.outcomes);
    }

    fn count(&self, after: bool, counter: &AtomicU64) {
        let n = counter.fetch_add(1, Ordering::SeqCst) + 1;
        if self.at == Some((after, n)) {
            // A signal to the own process cannot fail.
            let _ = kill_process(getpid(), Signal::STOP);
        }
    }
}

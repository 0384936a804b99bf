//! Stopping at a call, so that a test can kill the process exactly there. Without the variable it costs a comparison.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Signal, getpid, kill_process};

/// `before:3` stops the process when its third intent is written down and the call is not made yet, `after:3` when the call was made
/// and its outcome is not written down. SIGSTOP, so that whoever set it can look and send what it likes.
const VARIABLE: &str = "LEDGER_PAUSE_AT";

/// Where to stop, if anywhere.
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

    /// An intent was written down.
    pub(super) fn before(&self) {
        self.count(false, &self.intents);
    }

    /// A call was made.
    pub(super) fn after(&self) {
        self.count(true, &self.outcomes);
    }

    fn count(&self, after: bool, counter: &AtomicU64) {
        let n = counter.fetch_add(1, Ordering::SeqCst) + 1;
        if self.at == Some((after, n)) {
            // It cannot fail on oneself.
            let _ = kill_process(getpid(), Signal::STOP);
        }
    }
}

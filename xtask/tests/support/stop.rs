//! Waiting for a process that stops itself where `LEDGER_PAUSE_AT` says.

use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

/// Waits until it has stopped; false if it ended without.
pub(crate) fn comes_to_a_stop(child: &mut Child, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    loop {
        // proc_pid_stat(5): the state stands after the name's closing bracket.
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        if stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')) {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(Instant::now() < deadline, "it neither stops nor ends");
        std::thread::sleep(Duration::from_millis(5));
    }
}

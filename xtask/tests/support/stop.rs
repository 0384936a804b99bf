//! Waits for a process that stops itself (SIGSTOP) because of `LEDGER_PAUSE_AT`.

use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

/// Waits until the process has stopped; false if it exited instead.
pub(crate) fn stops(child: &mut Child, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    loop {
        // The state follows the closing parenthesis of the name (proc_pid_stat(5)).
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        if stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')) {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(Instant::now() < deadline, "the process neither stopped nor exited");
        std::thread::sleep(Duration::from_millis(5));
    }
}

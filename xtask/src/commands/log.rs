//! The log of a run: what its steps print, in a file of the state directory. The size for each step is limited.

use std::collections::VecDeque;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use fs_err as fs;

use crate::event::{Event, Events, Observer};

/// Directory of the logs in the state directory.
pub(super) const DIR: &str = "logs";
/// Number of logs that are kept.
const KEPT: usize = 50;
/// Bytes of a step that are written at once. Of the rest, the last lines are written when the step ends.
const STEP_LIMIT: usize = 4 << 20;
/// Number of these last lines.
const LAST_LINES: usize = 500;
/// Characters that are kept of each of these last lines.
const LAST_LINE_LIMIT: usize = 4000;

/// Writes the log, and forwards every event.
pub(super) struct StepLog {
    dir: Option<PathBuf>,
    state: Mutex<State>,
    next: Events,
}

#[derive(Default)]
struct State {
    file: Option<std::fs::File>,
    written: usize,
    left_out: usize,
    last: VecDeque<String>,
}

impl StepLog {
    /// Forwards events to `next`. Without a directory nothing is written.
    pub(super) fn new(dir: Option<PathBuf>, next: Events) -> Self {
        Self { dir, state: Mutex::default(), next }
    }
}

/// The path of a run's log, if its steps printed anything.
pub(super) fn of(dir: &Path, run: &str) -> Option<PathBuf> {
    Some(dir.join(format!("{run}.log"))).filter(|file| fs::metadata(file).is_ok_and(|about| about.len() > 0))
}

impl Observer for StepLog {
    fn event(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &event {
            Event::RunStarted { run, .. } => state.file = self.dir.as_deref().and_then(|dir| open(dir, run)),
            Event::StepStarted { index, total, name, .. } => state.begin(&format!("== [{index}/{total}] {name}")),
            Event::StepOutput { line, .. } => state.line(line),
            Event::StepFinished { name, seconds, .. } => state.end(&format!("== {name} ended after {seconds:.1} s")),
            Event::Result { .. } => state.end(""),
            _ => {}
        }
        drop(state);
        self.next.event(event);
    }
}

impl State {
    fn begin(&mut self, title: &str) {
        self.end("");
        self.write(title);
    }

    fn line(&mut self, line: &str) {
        if self.file.is_none() {
            return;
        }
        if self.written < STEP_LIMIT {
            self.written += line.len() + 1;
            self.write(line);
            return;
        }
        self.left_out += 1;
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.chars().take(LAST_LINE_LIMIT).collect());
    }

    /// Writes the last lines of a step that exceeded the limit, and resets the counters for the next step.
    fn end(&mut self, title: &str) {
        let missing = self.left_out.saturating_sub(self.last.len());
        if missing > 0 {
            self.write(&format!("== {missing} lines omitted"));
        }
        for line in std::mem::take(&mut self.last) {
            self.write(&line);
        }
        if !title.is_empty() {
            self.write(title);
        }
        (self.written, self.left_out) = (0, 0);
    }

    /// An error, such as a full disk, ends the log and not the build.
    fn write(&mut self, line: &str) {
        if self.file.as_mut().is_some_and(|file| writeln!(file, "{line}").is_err()) {
            self.file = None;
        }
    }
}

/// Opens the log of a run and deletes the oldest logs. A resumed run appends to its log.
fn open(dir: &Path, run: &str) -> Option<std::fs::File> {
    fs::create_dir_all(dir).ok()?;
    let mut all: Vec<PathBuf> = fs::read_dir(dir).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    // The id of a run begins with its start time, so sorting puts the oldest first.
    all.sort();
    for old in all.iter().take(all.len().saturating_sub(KEPT - 1)) {
        let _ = fs::remove_file(old);
    }
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(dir.join(format!("{run}.log"))).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::{Outcome, Stream};

    struct Ignore;

    impl Observer for Ignore {
        fn event(&self, _: Event) {}
    }

    #[test]
    fn of_too_much_output_the_beginning_and_the_end_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let log = StepLog::new(Some(dir.path().to_owned()), Arc::new(Ignore));
        log.event(Event::RunStarted { run: "run-1".into(), command: "x".into() });
        log.event(Event::StepStarted { index: 1, total: 2, name: "flood".into(), expected_seconds: None });
        for n in 0..200_000 {
            let line = format!("line {n:6} of many, as long as others are");
            log.event(Event::StepOutput { name: "flood".into(), stream: Stream::Stdout, line });
        }
        let outcome = Outcome::Failed;
        log.event(Event::StepFinished {
            index: 1,
            total: 2,
            name: "flood".into(),
            outcome,
            seconds: 6.0,
            exit_code: None,
        });
        let text = fs::read_to_string(of(dir.path(), "run-1").unwrap()).unwrap();
        assert!(text.len() < STEP_LIMIT + LAST_LINES * 100, "{} bytes", text.len());
        for part in [
            "== [1/2] flood\nline      0",
            "lines omitted\nline 199500",
            "line 199999 of many",
            "flood ended after 6.0 s",
        ] {
            assert!(text.contains(part), "{part}");
        }
    }

    #[test]
    fn the_oldest_logs_are_deleted() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..70 {
            drop(open(dir.path(), &format!("run-{n:03}")).unwrap());
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), KEPT);
        let there = |run: &str| dir.path().join(format!("{run}.log")).exists();
        assert!(there("run-069") && there("run-020") && !there("run-019"));
        assert_eq!(of(dir.path(), "run-069"), None, "nothing was printed");
    }
}

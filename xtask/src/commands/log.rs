//! What the steps of a run print, in a file of the state folder: all of it for a person to read after a failure, but no more than fits.

use std::collections::VecDeque;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use fs_err as fs;

use crate::event::{Event, Events, Observer};

/// Where the logs lie in the state folder.
pub(super) const FOLDER: &str = "logs";
/// So many are kept.
const KEPT: usize = 50;
/// So many bytes of a step are written as they come; of the rest the last ones, when it ends.
const MOST: usize = 4 << 20;
/// So many lines are the last ones.
const LAST: usize = 500;
/// And so much of each.
const LAST_LINE: usize = 4000;

/// Writes the log and passes every event on.
pub(super) struct StepLog {
    folder: Option<PathBuf>,
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
    /// In front of another observer. Without a folder nothing is written.
    pub(super) fn new(folder: Option<PathBuf>, next: Events) -> Self {
        Self { folder, state: Mutex::default(), next }
    }
}

/// The log of a run, if its steps printed anything.
pub(super) fn of(folder: &Path, run: &str) -> Option<PathBuf> {
    Some(folder.join(format!("{run}.log"))).filter(|file| fs::metadata(file).is_ok_and(|about| about.len() > 0))
}

impl Observer for StepLog {
    fn event(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &event {
            Event::RunStarted { run, .. } => state.file = self.folder.as_deref().and_then(|folder| open(folder, run)),
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
        if self.written < MOST {
            self.written += line.len() + 1;
            self.write(line);
            return;
        }
        self.left_out += 1;
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(line.chars().take(LAST_LINE).collect());
    }

    /// Writes the last lines of a step that printed too much, and is ready for the next.
    fn end(&mut self, title: &str) {
        let missing = self.left_out.saturating_sub(self.last.len());
        if missing > 0 {
            self.write(&format!("== {missing} lines are left out here"));
        }
        for line in std::mem::take(&mut self.last) {
            self.write(&line);
        }
        if !title.is_empty() {
            self.write(title);
        }
        (self.written, self.left_out) = (0, 0);
    }

    /// A full disk stops the log, not the build.
    fn write(&mut self, line: &str) {
        if self.file.as_mut().is_some_and(|file| writeln!(file, "{line}").is_err()) {
            self.file = None;
        }
    }
}

/// Opens the log of a run, which may have one from before it was interrupted, and removes the oldest of others.
fn open(folder: &Path, run: &str) -> Option<std::fs::File> {
    fs::create_dir_all(folder).ok()?;
    let mut all: Vec<PathBuf> = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    // A run's id begins with its time.
    all.sort();
    for old in all.iter().take(all.len().saturating_sub(KEPT - 1)) {
        let _ = fs::remove_file(old);
    }
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(folder.join(format!("{run}.log"))).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::{Outcome, Stream};

    struct Nobody;

    impl Observer for Nobody {
        fn event(&self, _: Event) {}
    }

    #[test]
    fn a_flood_leaves_its_beginning_and_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let log = StepLog::new(Some(dir.path().to_owned()), Arc::new(Nobody));
        log.event(Event::RunStarted { run: "run-1".into(), command: "x".into() });
        log.event(Event::StepStarted { index: 1, total: 2, name: "flood".into(), expected_seconds: None });
        for n in 0..200_000 {
            let line = format!("line {n:6} of many, as long as others are");
            log.event(Event::StepOutput { name: "flood".into(), stream: Stream::Stdout, line });
        }
        let outcome = Outcome::Failed;
        log.event(Event::StepFinished { index: 1, total: 2, name: "flood".into(), outcome, seconds: 6.0 });
        let text = fs::read_to_string(of(dir.path(), "run-1").unwrap()).unwrap();
        assert!(text.len() < MOST + LAST * 100, "{} bytes", text.len());
        for part in [
            "== [1/2] flood\nline      0",
            "lines are left out here\nline 199500",
            "line 199999 of many",
            "flood ended after 6.0 s",
        ] {
            assert!(text.contains(part), "{part}");
        }
    }

    #[test]
    fn old_logs_go() {
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

//! Prints events as lines of text. On a terminal there is a progress line below them.

use std::borrow::Cow;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{annotations, clock, title};
use crate::event::{Event, Observer, Outcome, Phase};

/// Time between two progress lines without a terminal.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How much is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Warnings, diffs and the result.
    Quiet,
    /// Phases, steps and progress.
    Normal,
    /// Every line of every step.
    Verbose,
}

/// Prints events as text on standard error, and documents on standard output.
#[derive(Debug)]
pub struct Human {
    verbosity: Verbosity,
    terminal: bool,
    on_runner: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bar: ProgressBar,
    doing: String,
    since: Instant,
    heartbeat: Instant,
}

impl Human {
    /// A reporter that shows a progress line if standard error is a terminal.
    pub fn new(verbosity: Verbosity) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal && verbosity > Verbosity::Quiet {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        let now = Instant::now();
        let state = State { bar, doing: String::new(), since: now, heartbeat: now };
        Self { verbosity, terminal, on_runner: false, state: Mutex::new(state) }
    }

    /// Makes workflow commands in texts inert, for jobs of GitHub Actions: the runner would execute those that a guest prints.
    #[must_use]
    pub fn on_runner(self) -> Self {
        Self { on_runner: true, ..self }
    }

    fn shown<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.on_runner { annotations::inert(text) } else { Cow::Borrowed(text) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, state: &State, text: &str) {
        state.bar.suspend(|| {
            // A closed pipe must not stop a build.
            let _ = writeln!(std::io::stderr().lock(), "{}", self.shown(text));
        });
    }

    fn begin(&self, state: &mut State, doing: String) {
        state.doing = doing;
        state.since = Instant::now();
        state.heartbeat = state.since;
        state.bar.set_message(state.doing.clone());
        if self.terminal {
            state.bar.enable_steady_tick(Duration::from_millis(120));
        }
    }

    fn end(&self, state: &mut State) {
        state.doing.clear();
        state.bar.disable_steady_tick();
        state.bar.set_message(String::new());
    }

    /// Redraws the progress line; without a terminal, prints one from time to time.
    fn progress(&self, state: &mut State, detail: &str) {
        let text = format!("{} [{}] {detail}", state.doing, clock(state.since.elapsed().as_secs_f64()));
        if self.terminal {
            state.bar.set_message(text);
        } else if self.verbosity > Verbosity::Quiet && state.heartbeat.elapsed() >= HEARTBEAT {
            state.heartbeat = Instant::now();
            self.line(state, &format!("    … {text}"));
        }
    }

    fn phase_finished(&self, state: &mut State, phase: Phase, outcome: Outcome, seconds: f64, summary: &str) {
        self.end(state);
        if self.verbosity == Verbosity::Quiet {
            return;
        }
        let mark = if outcome == Outcome::Failed { "✗" } else { "✓" };
        let summary = if outcome == Outcome::Failed { "failed" } else { summary };
        self.line(state, &format!("{mark} {:12} {:>8}  {summary}", title(phase), clock(seconds)));
    }

    fn step_finished(&self, state: &mut State, place: (usize, usize), name: &str, outcome: Outcome, seconds: f64) {
        self.end(state);
        if self.verbosity == Verbosity::Quiet {
            return;
        }
        let (mark, took) = match outcome {
            Outcome::Done => ("✓", clock(seconds)),
            Outcome::UpToDate => ("=", "cached".to_owned()),
            Outcome::Failed => ("✗", clock(seconds)),
        };
        self.line(state, &format!("  {mark} [{}/{}] {name:28} {took:>8}", place.0, place.1));
    }
}

impl Observer for Human {
    fn event(&self, event: Event) {
        let mut guard = self.state();
        let state = &mut *guard;
        let not_quiet = self.verbosity > Verbosity::Quiet;
        match event {
            Event::RunStarted { run, .. } if self.verbosity == Verbosity::Verbose => {
                self.line(state, &format!("run {run}"));
            }
            Event::PhaseStarted { phase, subject } => {
                if not_quiet && !self.terminal {
                    self.line(state, format!("→ {} {subject}", title(phase)).trim_end());
                }
                self.begin(state, format!("{} {subject}", title(phase)).trim_end().to_owned());
            }
            Event::PhaseFinished { phase, outcome, seconds, summary } => {
                self.phase_finished(state, phase, outcome, seconds, &summary);
            }
            Event::StepStarted { index, total, name, expected_seconds } => {
                let expected = expected_seconds.map_or(String::new(), |s| format!(", {} last time", clock(s)));
                self.begin(state, format!("[{index}/{total}] {name}{expected}"));
            }
            Event::StepOutput { line, .. } => {
                if self.verbosity == Verbosity::Verbose {
                    self.line(state, &format!("    │ {line}"));
                } else {
                    self.progress(state, &line);
                }
            }
            Event::StepFinished { index, total, name, outcome, seconds, .. } => {
                self.step_finished(state, (index, total), &name, outcome, seconds);
            }
            Event::Progress { message, fraction, .. } => {
                let share =
                    fraction.filter(|f| f.1 > 0).map_or(String::new(), |(done, all)| format!(" {}%", done * 100 / all));
                self.progress(state, &format!("{message}{share}"));
            }
            Event::Note { message } if not_quiet => self.line(state, &format!("  {}", message.replace('\n', "\n  "))),
            Event::Warning { message, hint } => self.line(state, &format!("warning: {message}\n  help: {hint}")),
            Event::Finding { severity, check, file, line, column, message, hint } => {
                let place = file.map_or(String::new(), |f| {
                    let number = |n: Option<usize>| n.map_or(String::new(), |n| format!(":{n}"));
                    format!("{}{}{}: ", f.display(), number(line), number(column))
                });
                self.line(state, &format!("{severity}[{check}]: {place}{message}\n  help: {hint}"));
            }
            Event::Check { name, outcome, seconds, message, .. } => {
                let passed = outcome == "pass";
                if !passed || self.verbosity == Verbosity::Verbose {
                    let mark = if passed { "✓" } else { "✗" };
                    self.line(state, &format!("  {mark} {name:28} {seconds:>6.1} s  {message}"));
                }
            }
            Event::Diff { file, diff } => self.line(state, &format!("{}\n{diff}", file.display())),
            Event::Document(document) => state.bar.suspend(|| {
                let _ = write!(std::io::stdout().lock(), "{}", self.shown(&document.text));
            }),
            Event::Result { ok, summary, error, .. } => {
                state.bar.finish_and_clear();
                match error {
                    Some(error) => self.line(state, &error),
                    None if ok && !summary.is_empty() => self.line(state, &summary),
                    None => {}
                }
            }
            Event::RunStarted { .. } | Event::Note { .. } => {}
        }
    }
}

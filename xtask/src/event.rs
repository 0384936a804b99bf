//! Events: what engines and stages report, and `report` prints.
//!
//! Events are the output of `--format json`: fields may be added, and none changes its meaning without a new [`SCHEMA`]. Their documentation is
//! the reference of the format (`cargo xtask docs`).

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::RunId;

pub mod clean;

/// Version of the JSON Lines format.
pub const SCHEMA: u32 = 1;

/// A stage of the pipeline, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Look for host tools and install missing ones.
    Doctor,
    /// Validate configuration, templates, pins and scripts.
    Validate,
    /// Download a template that is not part of the project.
    Template,
    /// Download or make the base image.
    Base,
    /// Boot a machine.
    Boot,
    /// Run the steps of the recipe.
    Build,
    /// Make an image of the disk.
    Capture,
    /// Compile the smoke binary.
    SmokeBinary,
    /// Run the smoke test on an instance.
    Smoke,
    /// Copy the image to other regions.
    Copy,
    /// Point a channel at the image.
    Promote,
    /// Remove what a dead run left.
    Cleanup,
    /// Look for newer versions of the pins.
    Freshness,
    /// Run a part of the test suite.
    Test,
}

/// How a phase or a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It did its work.
    Done,
    /// The result existed already.
    UpToDate,
    /// It failed.
    Failed,
}

/// The output stream of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One event.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A run started.
    RunStarted {
        /// Id of the run. Everything that the run makes has it as a tag.
        run: RunId,
        /// The command line. Values of sensitive variables are hidden.
        command: String,
    },
    /// A phase started.
    PhaseStarted {
        /// The phase.
        phase: Phase,
        /// What it works on: an image, a region, a channel.
        subject: String,
    },
    /// A phase ended.
    PhaseFinished {
        /// The phase.
        phase: Phase,
        /// How it ended.
        outcome: Outcome,
        /// Wall time in seconds.
        seconds: f64,
        /// One line of text.
        summary: String,
    },
    /// A step of the recipe started.
    StepStarted {
        /// Position of the step, starting at 1.
        index: usize,
        /// Number of steps of the recipe.
        total: usize,
        /// Name of the step.
        name: String,
        /// Seconds that the step took when it ran last, if known.
        expected_seconds: Option<f64>,
    },
    /// A line of output of a step.
    StepOutput {
        /// Name of the step.
        name: String,
        /// The stream that it was printed to.
        stream: Stream,
        /// The line, without its line break.
        line: String,
    },
    /// A step ended.
    StepFinished {
        /// Position of the step, starting at 1.
        index: usize,
        /// Number of steps of the recipe.
        total: usize,
        /// Name of the step.
        name: String,
        /// How it ended; `up-to-date`: its layer existed.
        outcome: Outcome,
        /// Wall time in seconds.
        seconds: f64,
        /// Exit code of the command that failed; null if the step did not fail, or not because of a command.
        exit_code: Option<i32>,
    },
    /// Progress within a phase.
    Progress {
        /// The phase.
        phase: Phase,
        /// What the phase does or waits for.
        message: String,
        /// Done and total, in the same unit, if known.
        fraction: Option<(u64, u64)>,
    },
    /// Information.
    Note {
        /// The text.
        message: String,
    },
    /// A problem that does not end the command.
    Warning {
        /// The text.
        message: String,
        /// How to fix it.
        hint: String,
    },
    /// A finding of `validate`.
    Finding {
        /// `error` or `warning`.
        severity: String,
        /// Name of the check.
        check: String,
        /// File relative to the project, if the finding is about one.
        file: Option<PathBuf>,
        /// Line, starting at 1.
        line: Option<usize>,
        /// Column, starting at 1.
        column: Option<usize>,
        /// The problem.
        message: String,
        /// How to fix it.
        hint: String,
    },
    /// The result of a smoke check.
    Check {
        /// Pass of the smoke test: `first boot`, `after reboot`.
        pass: String,
        /// Name of the check.
        name: String,
        /// `pass`, `fail`, `skipped`, `quarantined`.
        outcome: String,
        /// Wall time in seconds.
        seconds: f64,
        /// What the check found.
        message: String,
    },
    /// A file or parameter that will change, before it is written.
    Diff {
        /// The file or parameter.
        file: PathBuf,
        /// The change as a unified diff.
        diff: String,
    },
    /// The output of a command such as `plan`, `list` or `show`.
    Document(Document),
    /// The last event of a command.
    Result {
        /// True if the exit code is 0.
        ok: bool,
        /// The exit code.
        exit: u8,
        /// One line of text.
        summary: String,
        /// The error with its hint, if there was one.
        error: Option<String>,
        /// Result of the command: ids, paths, numbers.
        data: serde_json::Value,
    },
}

/// Output of a command.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Document {
    /// Kind of output: `plan`, `images`, `image`, `tools`.
    pub kind: String,
    /// The data.
    pub data: serde_json::Value,
    /// The data as text with line breaks.
    #[serde(skip)]
    pub text: String,
}

/// Receives events, from several threads.
pub trait Observer: Send + Sync {
    /// Processes one event. Must not block for long, and must not fail.
    fn event(&self, event: Event);
}

/// A shared observer.
pub type Events = Arc<dyn Observer>;

/// Runs `work` as a phase: reports its start and its end. `work` returns its value, the outcome and the summary.
pub fn phase<T, E>(
    events: &dyn Observer,
    phase: Phase,
    subject: impl Into<String>,
    work: impl FnOnce() -> Result<(T, Outcome, String), E>,
) -> Result<T, E> {
    let started = std::time::Instant::now();
    events.event(Event::PhaseStarted { phase, subject: subject.into() });
    let result = work();
    let seconds = started.elapsed().as_secs_f64();
    match result {
        Ok((value, outcome, summary)) => {
            events.event(Event::PhaseFinished { phase, outcome, seconds, summary });
            Ok(value)
        }
        Err(error) => {
            events.event(Event::PhaseFinished { phase, outcome: Outcome::Failed, seconds, summary: String::new() });
            Err(error)
        }
    }
}

/// Reports why a first machine or boot was abandoned, if one was.
pub fn second_try(events: &dyn Observer, why: Option<&str>) {
    if let Some(why) = why {
        let message = format!("abandoned a first boot: {}", why.trim());
        let hint = "an emulated machine hangs sometimes; report it if it happens every time".to_owned();
        events.event(Event::Warning { message, hint });
    }
}

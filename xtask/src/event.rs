//! What happens, as data: the vocabulary between those who do (engine, stages) and those who tell (`report`).
//!
//! Events are part of the `--format json` interface: a field may be added, none changes its meaning without a new
//! [`SCHEMA`]. No text layout, colour or terminal enters here.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub mod clean;

/// Version of the JSON Lines interface.
pub const SCHEMA: u32 = 1;

/// A stage of the pipeline or a part of one that a person waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Host tools are looked for and installed.
    Doctor,
    /// All that can be judged without building.
    Validate,
    /// The base image is fetched or made.
    Base,
    /// A machine is booted.
    Boot,
    /// The recipe's steps run.
    Build,
    /// The disk becomes an image.
    Capture,
    /// The smoke binary is compiled.
    SmokeBinary,
    /// A fresh instance is judged.
    Smoke,
    /// The image goes to other regions.
    Copy,
    /// The channel points at the image.
    Promote,
    /// What a dead run left is taken away.
    Cleanup,
    /// Newer versions of what is pinned are looked for.
    Freshness,
    /// A part of the test suite.
    Test,
}

/// How a phase or step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was carried out.
    Done,
    /// It was not needed: the result was there already.
    UpToDate,
    /// It failed.
    Failed,
}

/// Which of a process's outputs a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Something that happened. Durations are seconds.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A run begins.
    RunStarted {
        /// The run's id; every resource made bears it.
        run: String,
        /// The command as typed.
        command: String,
    },
    /// A phase begins.
    PhaseStarted {
        /// Which.
        phase: Phase,
        /// What it works on.
        subject: String,
    },
    /// A phase ended.
    PhaseFinished {
        /// Which.
        phase: Phase,
        /// How.
        outcome: Outcome,
        /// Wall time.
        seconds: f64,
        /// One line for a person.
        summary: String,
    },
    /// A step of the recipe begins.
    StepStarted {
        /// Position, from 1.
        index: usize,
        /// How many steps the recipe has.
        total: usize,
        /// The step's name.
        name: String,
        /// How long it took the last time it ran, if that is known.
        expected_seconds: Option<f64>,
    },
    /// A line of a running step's output.
    StepOutput {
        /// The step's name.
        name: String,
        /// Where from.
        stream: Stream,
        /// The line without its end.
        line: String,
    },
    /// A step ended.
    StepFinished {
        /// Position, from 1.
        index: usize,
        /// How many steps the recipe has.
        total: usize,
        /// The step's name.
        name: String,
        /// `up-to-date` means that a layer was there.
        outcome: Outcome,
        /// Wall time.
        seconds: f64,
    },
    /// Work inside a phase moved on: what is waited for, and how far it is.
    Progress {
        /// Which phase.
        phase: Phase,
        /// What is going on, for a person.
        message: String,
        /// Done and total, in the same unit, when known.
        fraction: Option<(u64, u64)>,
    },
    /// Something a person should know; nothing is wrong.
    Note {
        /// The text.
        message: String,
    },
    /// Something a person should change, though the command goes on.
    Warning {
        /// The text.
        message: String,
        /// What to do.
        hint: String,
    },
    /// One finding of `validate`.
    Finding {
        /// `error` or `warning`.
        severity: String,
        /// Which check found it.
        check: String,
        /// The file, relative to the project, if it is about one.
        file: Option<PathBuf>,
        /// Line from 1.
        line: Option<usize>,
        /// Column from 1.
        column: Option<usize>,
        /// What is wrong.
        message: String,
        /// What fixes it.
        hint: String,
    },
    /// One smoke check's verdict.
    Check {
        /// `first boot`, `after reboot`.
        pass: String,
        /// The check's name.
        name: String,
        /// `pass`, `fail`, `quarantined`.
        outcome: String,
        /// Wall time.
        seconds: f64,
        /// What was found.
        message: String,
    },
    /// A file will change: the diff, before it is written.
    Diff {
        /// The file.
        file: PathBuf,
        /// Unified diff.
        diff: String,
    },
    /// A table or document that the command was asked for (plan, list, show).
    Document(Document),
    /// The last event of a command that succeeded or failed.
    Result {
        /// True if the exit code is 0.
        ok: bool,
        /// The exit code.
        exit: u8,
        /// One line for a person.
        summary: String,
        /// The error, rendered, if there was one.
        error: Option<String>,
        /// What came out: ids, paths, numbers.
        data: serde_json::Value,
    },
}

/// Data a command prints: JSON for machines, and the same for people.
#[derive(Clone, Debug, Serialize)]
pub struct Document {
    /// What it is: `plan`, `images`, `image`, `tools`.
    pub kind: String,
    /// The data.
    pub data: serde_json::Value,
    /// The same for a person, already laid out in lines.
    #[serde(skip)]
    pub text: String,
}

/// Someone who is told. Called from several threads.
pub trait Observer: Send + Sync {
    /// Takes one event. Must not block for long and must not fail.
    fn event(&self, event: Event);
}

/// A shared observer.
pub type Events = Arc<dyn Observer>;

/// Runs `work` as a phase: tells when it starts and how it ends.
///
/// `work` returns its value, the outcome and the line for a person.
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

/// Tells that a first machine or boot was given up, and why, if one was.
pub fn second_try(events: &dyn Observer, why: Option<&str>) {
    if let Some(why) = why {
        let message = format!("a first boot was given up: {}", why.trim());
        let hint = "an emulated machine hangs now and then; one that does so every time is worth a report".to_owned();
        events.event(Event::Warning { message, hint });
    }
}

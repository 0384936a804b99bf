//! The run report: a command's events with their times, and the images that it worked on. `report` renders it.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::cloud::Image;
use crate::contents::Difference;
use crate::event::{Event, Events, Observer, Outcome, Phase};
use crate::ids::RunId;
use crate::stage::smoke::Record;
use crate::stage::version::Level;

/// The report of one command. Times are in seconds since its start.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RunReport {
    /// The command line; of a resumed run, that of the first command.
    pub command: String,
    /// The run's id, if the command has a run.
    pub run: Option<RunId>,
    /// Start of the command, RFC 3339.
    pub began: String,
    /// Duration of the command.
    pub seconds: f64,
    /// The phases, in the order of their start.
    pub phases: Vec<Episode>,
    /// The results of all checks.
    pub checks: Vec<CheckResult>,
    /// The warnings: message and hint.
    pub warnings: Vec<(String, String)>,
    /// The findings of `validate`, each one line.
    pub findings: Vec<String>,
    /// Changed files, with their diffs.
    pub diffs: Vec<(PathBuf, String)>,
    /// The command's output: kind and text.
    pub documents: Vec<(String, String)>,
    /// Exit code and summary; `None` until the command has ended.
    pub end: Option<End>,
    /// The images that the command worked on.
    pub about: About,
}

/// A phase and its steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// The kind of phase.
    pub phase: Phase,
    /// What the phase works on; may be empty.
    pub subject: String,
    /// Start of the phase.
    pub at: f64,
    /// Duration of the phase.
    pub seconds: f64,
    /// The phase's outcome; `None` if it has not ended.
    pub outcome: Option<Outcome>,
    /// The outcome in one line.
    pub summary: String,
    /// The recipe's steps, in a phase that runs them.
    pub steps: Vec<Step>,
}

/// A step of the recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The step's name.
    pub name: String,
    /// Start of the step.
    pub at: f64,
    /// Duration of the step.
    pub seconds: f64,
    /// The step's outcome; `up-to-date` means that a cached layer was used.
    pub outcome: Outcome,
}

/// The result of a smoke check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    /// The pass: `first boot`, `after reboot`.
    pub pass: String,
    /// The check's name.
    pub name: String,
    /// `pass`, `fail`, `quarantined` or `skipped`.
    pub outcome: String,
    /// Duration of the check.
    pub seconds: f64,
    /// What the check found.
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The exit code.
    pub exit: u8,
    /// The result in one line, or the error.
    pub summary: String,
}

/// The images that a command worked on, and their state. Empty until the command has determined them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct About {
    /// The image and its copies, the home region's first.
    pub images: Vec<Image>,
    /// The image's smoke record.
    pub smoke: Option<Record>,
    /// The changes since the last release.
    pub since: Option<Since>,
    /// The channel that was pointed at the image.
    pub channel: Option<String>,
    /// Outputs of a workflow's step, apart from those that follow from the images: name and value, each one line.
    pub outputs: Vec<(String, String)>,
}

/// The changes since a release.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Since {
    /// The name of the released image.
    pub name: String,
    /// The version of the released image.
    pub version: String,
    /// The differences between the two images.
    pub difference: Difference,
    /// Each change with the part of the version that it requires to be raised, the highest first.
    pub reasons: Vec<(Level, String)>,
}

impl About {
    /// Sets the image, unless there is one, and its smoke record.
    pub fn add_smoke(&mut self, image: &Image, record: &Record) {
        if self.images.is_empty() {
            self.images.push(image.clone());
        }
        self.smoke = Some(record.clone());
    }

    /// Sets the channel and the images that it was pointed at, the home region's first.
    pub fn show(&mut self, channel: &str, images: &[Image]) {
        self.channel = Some(channel.to_owned());
        self.images = images.to_vec();
    }
}

impl RunReport {
    /// Adds an event, `at` seconds after the start of the command.
    pub fn take(&mut self, at: f64, event: &Event) {
        self.seconds = at;
        match event {
            Event::RunStarted { run, command } => {
                self.run = Some(run.clone());
                self.command.clone_from(command);
            }
            Event::PhaseStarted { phase, subject } => self.phases.push(Episode {
                phase: *phase,
                subject: subject.clone(),
                at,
                seconds: 0.0,
                outcome: None,
                summary: String::new(),
                steps: Vec::new(),
            }),
            Event::PhaseFinished { phase, outcome, seconds, summary } => {
                self.finished(at, *phase, *outcome, *seconds, summary);
            }
            Event::StepFinished { name, outcome, seconds, .. } => {
                let step =
                    Step { name: name.clone(), at: (at - seconds).max(0.0), seconds: *seconds, outcome: *outcome };
                if let Some(open) = self.phases.iter_mut().rfind(|p| p.outcome.is_none()) {
                    open.steps.push(step);
                }
            }
            Event::Check { pass, name, outcome, seconds, message } => self.checks.push(CheckResult {
                pass: pass.clone(),
                name: name.clone(),
                outcome: outcome.clone(),
                seconds: *seconds,
                message: message.clone(),
            }),
            Event::Warning { message, hint } => self.warnings.push((message.clone(), hint.clone())),
            Event::Finding { severity, check, file, line, message, .. } => {
                let place = file.as_ref().map_or(String::new(), |f| format!("{}: ", f.display()));
                let place = line.map_or(place.clone(), |n| format!("{}:{n}: ", place.trim_end_matches(": ")));
                self.findings.push(format!("{severity}[{check}]: {place}{message}"));
            }
            Event::Diff { file, diff } => self.diffs.push((file.clone(), diff.clone())),
            Event::Document(document) => self.documents.push((document.kind.clone(), document.text.clone())),
            Event::Result { exit, summary, error, .. } => {
                self.end = Some(End { exit: *exit, summary: error.clone().unwrap_or_else(|| summary.clone()) });
            }
            Event::StepStarted { .. } | Event::StepOutput { .. } | Event::Progress { .. } | Event::Note { .. } => {}
        }
    }

    /// Ends the newest open phase of this kind. A phase that was up to date may have no start event; it is added.
    fn finished(&mut self, at: f64, phase: Phase, outcome: Outcome, seconds: f64, summary: &str) {
        if let Some(open) = self.phases.iter_mut().rfind(|p| p.phase == phase && p.outcome.is_none()) {
            open.seconds = seconds;
            open.outcome = Some(outcome);
            summary.clone_into(&mut open.summary);
            return;
        }
        self.phases.push(Episode {
            phase,
            subject: String::new(),
            at: (at - seconds).max(0.0),
            seconds,
            outcome: Some(outcome),
            summary: summary.to_owned(),
            steps: Vec::new(),
        });
    }

    /// Appends the report of a later command, so that build, smoke and promote form the report of one release.
    pub fn then(&mut self, next: Self) {
        let at = self.seconds;
        self.command = format!("{}\n$ {}", self.command, next.command);
        self.seconds += next.seconds;
        self.phases.extend(next.phases.into_iter().map(|phase| Episode {
            at: phase.at + at,
            steps: phase.steps.into_iter().map(|step| Step { at: step.at + at, ..step }).collect(),
            ..phase
        }));
        // The results of a later smoke test replace the earlier ones.
        if !next.checks.is_empty() {
            self.checks = next.checks;
        }
        self.warnings.extend(next.warnings);
        self.findings.extend(next.findings);
        self.diffs.extend(next.diffs);
        self.documents.extend(next.documents);
        self.end = next.end;
        if !next.about.images.is_empty() {
            self.about.images = next.about.images;
        }
        self.about.smoke = next.about.smoke.or(self.about.smoke.take());
        self.about.since = next.about.since.or(self.about.since.take());
        self.about.channel = next.about.channel.or(self.about.channel.take());
    }

    /// True if a phase had an effect: one that was not up to date, apart from `doctor` and `validate`, which only read.
    pub fn did(&self) -> bool {
        let reading = [Phase::Doctor, Phase::Validate];
        self.phases.iter().any(|phase| phase.outcome != Some(Outcome::UpToDate) && !reading.contains(&phase.phase))
    }

    /// True if the command ended with exit code 0.
    pub fn well(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.exit == 0)
    }

    /// The report's title: the image's name, or the command line.
    pub fn title(&self) -> &str {
        self.about.images.first().map_or(self.command.as_str(), |image| image.name.as_str())
    }

    /// The names of the checks in order, each with its results by pass.
    pub fn by_check(&self) -> Vec<(&str, Vec<&CheckResult>)> {
        let mut rows: Vec<(&str, Vec<&CheckResult>)> = Vec::new();
        for check in &self.checks {
            match rows.iter_mut().find(|(name, _)| *name == check.name) {
                Some((_, outcomes)) => outcomes.push(check),
                None => rows.push((&check.name, vec![check])),
            }
        }
        rows
    }
}

/// An observer that adds each event to a run report, and passes it to the next observer.
pub struct Recorder {
    began: Instant,
    run_report: Mutex<RunReport>,
    next: Events,
}

impl Recorder {
    /// Starts the report of a command.
    pub fn new(command: &str, next: Events) -> Self {
        let run_report = RunReport {
            command: command.to_owned(),
            began: jiff::Timestamp::now().to_string(),
            ..RunReport::default()
        };
        Self { began: Instant::now(), run_report: Mutex::new(run_report), next }
    }

    /// A copy of the report so far.
    pub fn run_report(&self) -> RunReport {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, RunReport> {
        self.run_report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Recorder {
    fn event(&self, event: Event) {
        self.locked().take(self.began.elapsed().as_secs_f64(), &event);
        self.next.event(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(events: &[(f64, Event)]) -> RunReport {
        let mut run_report = RunReport::default();
        for (at, event) in events {
            run_report.take(*at, event);
        }
        run_report
    }

    fn started(phase: Phase, subject: &str) -> Event {
        Event::PhaseStarted { phase, subject: subject.to_owned() }
    }

    fn ended(phase: Phase, outcome: Outcome, seconds: f64) -> Event {
        Event::PhaseFinished { phase, outcome, seconds, summary: "so".to_owned() }
    }

    fn step(name: &str, outcome: Outcome, seconds: f64) -> Event {
        Event::StepFinished { index: 1, total: 2, name: name.to_owned(), outcome, seconds, exit_code: None }
    }

    #[test]
    fn a_step_is_added_to_the_open_phase_with_its_start_time() {
        let run_report = report(&[
            (1.0, started(Phase::Build, "locus")),
            (1.0, step("cached", Outcome::UpToDate, 0.0)),
            (5.0, step("10-base", Outcome::Done, 3.5)),
            (6.0, ended(Phase::Build, Outcome::Done, 5.0)),
            (6.0, ended(Phase::Smoke, Outcome::UpToDate, 0.0)),
        ]);
        let build = &run_report.phases[0];
        assert_eq!((build.at, build.seconds, build.outcome), (1.0, 5.0, Some(Outcome::Done)));
        let steps: Vec<_> = build.steps.iter().map(|s| (s.name.as_str(), s.at, s.outcome)).collect();
        assert_eq!(steps, [("cached", 1.0, Outcome::UpToDate), ("10-base", 1.5, Outcome::Done)]);
        assert_eq!(run_report.phases[1].phase, Phase::Smoke, "a phase without a start event is added");
        assert_eq!(run_report.seconds, 6.0);
    }

    #[test]
    fn concurrent_phases_end_independently() {
        let run_report = report(&[
            (0.0, started(Phase::Copy, "eu")),
            (0.0, started(Phase::Cleanup, "us")),
            (2.0, ended(Phase::Copy, Outcome::Failed, 2.0)),
            (9.0, ended(Phase::Cleanup, Outcome::Done, 9.0)),
        ]);
        let ends: Vec<_> = run_report.phases.iter().map(|p| (p.subject.as_str(), p.outcome, p.seconds)).collect();
        assert_eq!(ends, [("eu", Some(Outcome::Failed), 2.0), ("us", Some(Outcome::Done), 9.0)]);
    }

    #[test]
    fn reports_are_appended_and_reading_is_not_an_effect() {
        let mut build =
            report(&[(0.0, started(Phase::Build, "locus")), (9.0, ended(Phase::Build, Outcome::Done, 9.0))]);
        build.command = "build".to_owned();
        let mut promote =
            report(&[(0.0, started(Phase::Promote, "staging")), (1.0, ended(Phase::Promote, Outcome::Done, 1.0))]);
        promote.command = "promote".to_owned();
        promote.about.channel = Some("staging".to_owned());
        assert!(build.did() && promote.did());
        let read_only = report(&[
            (0.0, started(Phase::Validate, "all")),
            (1.0, ended(Phase::Validate, Outcome::Done, 1.0)),
            (1.0, ended(Phase::Smoke, Outcome::UpToDate, 0.0)),
        ]);
        assert!(!read_only.did());
        build.then(promote);
        assert_eq!((build.command.as_str(), build.seconds, build.phases[1].at), ("build\n$ promote", 10.0, 9.0));
        assert_eq!(build.about.channel.as_deref(), Some("staging"));
    }

    #[test]
    fn an_interrupted_command_has_no_end_and_is_not_successful() {
        let mut run_report = report(&[(0.0, started(Phase::Build, "locus"))]);
        assert!(!run_report.well() && run_report.phases[0].outcome.is_none());
        run_report.take(
            1.0,
            &Event::Result { ok: false, exit: 130, summary: "no".into(), error: None, data: serde_json::Value::Null },
        );
        assert!(!run_report.well());
        run_report.take(
            1.0,
            &Event::Result { ok: true, exit: 0, summary: "yes".into(), error: None, data: serde_json::Value::Null },
        );
        assert!(run_report.well());
    }
}

//! A command told as a whole: its events in order and with their times, and what it was about. Data that `report` makes pages of.
//!
//! Knows nothing of layout, files or terminals.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::cloud::Image;
use crate::contents::Difference;
use crate::event::{Event, Events, Observer, Outcome, Phase};
use crate::stage::smoke::Record;
use crate::stage::version::Level;

/// A command from its beginning to its end. Times are seconds since the beginning.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RunReport {
    /// The command as typed; that of the run if it was taken up again.
    pub command: String,
    /// The run's id, if there is one.
    pub run: Option<String>,
    /// When it began, RFC 3339.
    pub began: String,
    /// How long it took.
    pub seconds: f64,
    /// What a person waited for, in order.
    pub phases: Vec<Episode>,
    /// Every check's verdict.
    pub checks: Vec<CheckResult>,
    /// What somebody should change: text and help.
    pub warnings: Vec<(String, String)>,
    /// What `validate` found, each a line.
    pub findings: Vec<String>,
    /// Files that were changed, with their diffs.
    pub diffs: Vec<(PathBuf, String)>,
    /// What was asked for and shown: kind and text.
    pub documents: Vec<(String, String)>,
    /// How it ended; nothing while it runs.
    pub end: Option<End>,
    /// What it was about.
    pub about: About,
}

/// A phase and its steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// Which.
    pub phase: Phase,
    /// What it works on.
    pub subject: String,
    /// When it began.
    pub at: f64,
    /// How long it took.
    pub seconds: f64,
    /// How it ended; nothing if it never did.
    pub outcome: Option<Outcome>,
    /// One line for a person.
    pub summary: String,
    /// The recipe's steps, where the phase has some.
    pub steps: Vec<Step>,
}

/// A step of the recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// When it began.
    pub at: f64,
    /// How long it took.
    pub seconds: f64,
    /// `up-to-date` means that a layer was there.
    pub outcome: Outcome,
}

/// A check's verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    /// `first boot`, `after reboot`.
    pub pass: String,
    /// The check's name.
    pub name: String,
    /// `pass`, `fail`, `quarantined`.
    pub outcome: String,
    /// How long it took.
    pub seconds: f64,
    /// What was found.
    pub message: String,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The exit code.
    pub exit: u8,
    /// One line for a person, or the error.
    pub summary: String,
}

/// What a command was about, as far as it came.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct About {
    /// The image and its copies, home first.
    pub images: Vec<Image>,
    /// How it was judged.
    pub smoke: Option<Record>,
    /// What changed since the last release.
    pub since: Option<Since>,
    /// The channel that points at it now.
    pub channel: Option<String>,
    /// A workflow's outputs beside those that follow from the images: name and value, each one line.
    pub outputs: Vec<(String, String)>,
}

/// What changed since a release.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Since {
    /// The name of the image that was released then.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What differs.
    pub difference: Difference,
    /// What that asks of the version, the weightiest first.
    pub reasons: Vec<(Level, String)>,
}

impl About {
    /// This is how the image was judged.
    pub fn add_smoke(&mut self, image: &Image, record: &Record) {
        if self.images.is_empty() {
            self.images.push(image.clone());
        }
        self.smoke = Some(record.clone());
    }

    /// The channel points at these images, home first.
    pub fn show(&mut self, channel: &str, images: &[Image]) {
        self.channel = Some(channel.to_owned());
        self.images = images.to_vec();
    }
}

impl RunReport {
    /// Takes an event that came `at` seconds after the beginning.
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

    /// Ends the newest open phase of this kind. One that was not needed may never have begun.
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

    /// Goes on with what a later command did: build, smoke and promote as one release.
    pub fn then(&mut self, next: Self) {
        let at = self.seconds;
        self.command = format!("{}\n$ {}", self.command, next.command);
        self.seconds += next.seconds;
        self.phases.extend(next.phases.into_iter().map(|phase| Episode {
            at: phase.at + at,
            steps: phase.steps.into_iter().map(|step| Step { at: step.at + at, ..step }).collect(),
            ..phase
        }));
        // Judged again is judged anew.
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

    /// True if something was done, not only looked at and found to be there.
    pub fn did(&self) -> bool {
        let looks = [Phase::Doctor, Phase::Validate];
        self.phases.iter().any(|phase| phase.outcome != Some(Outcome::UpToDate) && !looks.contains(&phase.phase))
    }

    /// True if it came to a good end.
    pub fn well(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.exit == 0)
    }

    /// The name that the story is told under: the image's, or the command.
    pub fn title(&self) -> &str {
        self.about.images.first().map_or(self.command.as_str(), |image| image.name.as_str())
    }

    /// The checks' names in order, each with its verdicts by pass.
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

/// Remembers what it hears, and passes it on.
pub struct Recorder {
    began: Instant,
    run_report: Mutex<RunReport>,
    next: Events,
}

impl Recorder {
    /// Begins to listen to a command.
    pub fn new(command: &str, next: Events) -> Self {
        let run_report = RunReport {
            command: command.to_owned(),
            began: jiff::Timestamp::now().to_string(),
            ..RunReport::default()
        };
        Self { began: Instant::now(), run_report: Mutex::new(run_report), next }
    }

    /// What was heard so far.
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

    fn told(events: &[(f64, Event)]) -> RunReport {
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
        Event::StepFinished { index: 1, total: 2, name: name.to_owned(), outcome, seconds }
    }

    #[test]
    fn a_step_belongs_to_the_phase_that_is_open_and_began_before_it_ended() {
        let run_report = told(&[
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
        assert_eq!(run_report.phases[1].phase, Phase::Smoke, "what was not needed is told as well");
        assert_eq!(run_report.seconds, 6.0);
    }

    #[test]
    fn phases_that_run_beside_each_other_end_on_their_own() {
        let run_report = told(&[
            (0.0, started(Phase::Copy, "eu")),
            (0.0, started(Phase::Cleanup, "us")),
            (2.0, ended(Phase::Copy, Outcome::Failed, 2.0)),
            (9.0, ended(Phase::Cleanup, Outcome::Done, 9.0)),
        ]);
        let ends: Vec<_> = run_report.phases.iter().map(|p| (p.subject.as_str(), p.outcome, p.seconds)).collect();
        assert_eq!(ends, [("eu", Some(Outcome::Failed), 2.0), ("us", Some(Outcome::Done), 9.0)]);
    }

    #[test]
    fn stories_of_one_image_follow_each_other_and_looking_is_no_deed() {
        let mut build = told(&[(0.0, started(Phase::Build, "locus")), (9.0, ended(Phase::Build, Outcome::Done, 9.0))]);
        build.command = "build".to_owned();
        let mut promote =
            told(&[(0.0, started(Phase::Promote, "staging")), (1.0, ended(Phase::Promote, Outcome::Done, 1.0))]);
        promote.command = "promote".to_owned();
        promote.about.channel = Some("staging".to_owned());
        assert!(build.did() && promote.did());
        let looked = told(&[
            (0.0, started(Phase::Validate, "all")),
            (1.0, ended(Phase::Validate, Outcome::Done, 1.0)),
            (1.0, ended(Phase::Smoke, Outcome::UpToDate, 0.0)),
        ]);
        assert!(!looked.did());
        build.then(promote);
        assert_eq!((build.command.as_str(), build.seconds, build.phases[1].at), ("build\n$ promote", 10.0, 9.0));
        assert_eq!(build.about.channel.as_deref(), Some("staging"));
    }

    #[test]
    fn a_command_that_was_cut_off_has_no_end_and_is_not_well() {
        let mut run_report = told(&[(0.0, started(Phase::Build, "locus"))]);
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

//! The phases and steps of a build, from the events of its run.

use serde_json::Value;

use super::log::{number, string, title};

/// The state of a phase or a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Running,
    Done,
    /// The result existed already.
    Cached,
    Failed,
    /// It did not end, and its build or run did.
    Interrupted,
}

impl State {
    /// Its name on the page.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Cached => "cached",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    fn of(outcome: &str) -> Self {
        match outcome {
            "done" => Self::Done,
            "up-to-date" => Self::Cached,
            _ => Self::Failed,
        }
    }
}

/// A step of the recipe.
#[derive(Clone, Debug)]
pub struct Step {
    /// Position, starting at 1.
    pub index: u64,
    pub total: u64,
    pub name: String,
    pub state: State,
    /// Wall time; `None` until it ends.
    pub seconds: Option<f64>,
}

/// A phase with its steps.
#[derive(Clone, Debug)]
pub struct Phase {
    /// `build locus-agent`
    pub name: String,
    pub state: State,
    /// Wall time; `None` until it ends.
    pub seconds: Option<f64>,
    pub summary: String,
    pub steps: Vec<Step>,
    kind: String,
}

/// The phases in the order in which they started.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    pub phases: Vec<Phase>,
}

impl Progress {
    /// Adds an event. Events of other kinds change nothing.
    pub fn add(&mut self, event: &Value) {
        match string(event, "event") {
            // A resumed build is a second run; the first one was interrupted.
            "run-started" | "result" => self.interrupt(),
            "phase-started" => self.phase_started(event),
            "phase-finished" => self.phase_finished(event),
            "step-started" => self.step(event, State::Running, None),
            "step-finished" => {
                self.step(event, State::of(string(event, "outcome")), event.get("seconds").and_then(Value::as_f64));
            }
            _ => {}
        }
    }

    /// Marks what has not ended. Call it if the build has ended.
    pub fn interrupt(&mut self) {
        for phase in &mut self.phases {
            let steps = phase.steps.iter_mut().map(|step| &mut step.state);
            for state in steps.chain([&mut phase.state]).filter(|state| **state == State::Running) {
                *state = State::Interrupted;
            }
        }
    }

    fn phase_started(&mut self, event: &Value) {
        let kind = string(event, "phase").to_owned();
        let name = format!("{} {}", title(&kind), string(event, "subject")).trim_end().to_owned();
        let (seconds, summary, steps) = (None, String::new(), Vec::new());
        self.phases.push(Phase { name, state: State::Running, seconds, summary, steps, kind });
    }

    fn phase_finished(&mut self, event: &Value) {
        let kind = string(event, "phase");
        let running = |phase: &&mut Phase| phase.kind == kind && phase.state == State::Running;
        let Some(phase) = self.phases.iter_mut().rev().find(running) else { return };
        phase.state = State::of(string(event, "outcome"));
        phase.seconds = event.get("seconds").and_then(Value::as_f64);
        string(event, "summary").clone_into(&mut phase.summary);
        if phase.state == State::Failed {
            for step in phase.steps.iter_mut().filter(|step| step.state == State::Running) {
                step.state = State::Interrupted;
            }
        }
    }

    /// Adds a step to the build phase that runs, or to the newest phase, or changes its state.
    fn step(&mut self, event: &Value, state: State, seconds: Option<f64>) {
        let is_build = |phase: &Phase| phase.kind == "build" && phase.state == State::Running;
        let at = self.phases.iter().rposition(is_build).or(self.phases.len().checked_sub(1));
        let Some(phase) = at.and_then(|at| self.phases.get_mut(at)) else { return };
        let name = string(event, "name");
        let (index, total) = (number(event, "index"), number(event, "total"));
        let running = phase.steps.iter_mut().rev().find(|step| step.index == index && step.name == name);
        match running.filter(|step| step.state == State::Running) {
            Some(step) => (step.state, step.seconds) = (state, seconds),
            None => phase.steps.push(Step { index, total, name: name.to_owned(), state, seconds }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_belong_to_the_build_and_end_with_it() {
        let mut progress = Progress::default();
        for event in [
            json!({"event": "run-started", "run": "run-1", "command": "x"}),
            json!({"event": "phase-started", "phase": "boot", "subject": "builder"}),
            json!({"event": "phase-finished", "phase": "boot", "outcome": "done", "seconds": 9.0, "summary": "up"}),
            json!({"event": "phase-started", "phase": "build", "subject": "locus-agent"}),
            json!({"event": "step-finished", "index": 1, "total": 3, "name": "a", "outcome": "up-to-date", "seconds": 0.0}),
            json!({"event": "step-started", "index": 2, "total": 3, "name": "b", "expected_seconds": null}),
            json!({"event": "step-finished", "index": 2, "total": 3, "name": "b", "outcome": "done", "seconds": 2.5}),
            json!({"event": "step-started", "index": 3, "total": 3, "name": "c", "expected_seconds": null}),
        ] {
            progress.add(&event);
        }
        let states = |p: &Progress| p.phases[1].steps.iter().map(|s| s.state.name()).collect::<Vec<_>>().join(" ");
        assert_eq!(states(&progress), "cached done running");
        assert_eq!(progress.phases[0].name, "boot builder");
        progress.add(&json!({"event": "result", "ok": false, "exit": 4}));
        assert_eq!(states(&progress), "cached done interrupted");
        assert_eq!(progress.phases[1].state, State::Interrupted);
    }

    #[test]
    fn events_without_their_fields_change_nothing_else() {
        let mut progress = Progress::default();
        for event in ["phase-finished", "step-started", "step-finished", "result", "?"] {
            progress.add(&json!({ "event": event }));
        }
        progress.add(&json!(null));
        assert!(progress.phases.is_empty());
    }
}

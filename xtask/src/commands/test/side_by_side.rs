//! Runs parts of the suite at the same time, as the schedule allows, and forwards their events one part after the other.

use std::collections::VecDeque;
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use super::Part;
use super::schedule::{Needs, State, compiling, next};
use crate::error::{Error, Result};
use crate::event::{Event, Observer, Outcome, Phase, Stream};
use crate::process::{Cmd, Ended, TAIL};
use crate::signals;

/// The result of a part.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) passed: bool,
    pub(super) seconds: f64,
    /// The last lines that it printed.
    pub(super) end: String,
    /// The command that was run.
    pub(super) cmd: Cmd,
}

enum Report {
    Line(Stream, String),
    Ended(Result<Ended>),
}

/// Runs all parts and returns their results in the same order. A signal ends the running ones and is returned as an error.
pub(super) fn run(parts: &[Part], events: &dyn Observer) -> Result<Vec<Ran>> {
    let mut suite = Suite::new(parts, events);
    std::thread::scope(|scope| {
        let (send, receive) = channel();
        loop {
            while !signals::interrupted() {
                let Some(n) = next(&suite.states) else { break };
                let (cmd, send) = (suite.begin(n), send.clone());
                scope.spawn(move || follow(n, &cmd, &send));
            }
            if !suite.runs() {
                break;
            }
            // `send` keeps the channel open, so this waits for a running part.
            let Ok((n, report)) = receive.recv() else { break };
            suite.take(n, report);
        }
    });
    signals::check()?;
    Ok(suite.ran.into_iter().flatten().collect())
}

/// Runs a command and sends its output and its end.
fn follow(n: usize, cmd: &Cmd, send: &Sender<(usize, Report)>) {
    // The receiver lives until all parts have ended, so sending does not fail.
    let ended = cmd.stream(None, |stream, line| {
        let _ = send.send((n, Report::Line(stream, line.to_owned())));
    });
    let _ = send.send((n, Report::Ended(ended)));
}

struct Suite<'a> {
    parts: &'a [Part],
    states: Vec<(Needs, State)>,
    began: Vec<Option<(Instant, Cmd)>>,
    /// The last lines that each part printed.
    ends: Vec<VecDeque<String>>,
    ran: Vec<Option<Ran>>,
    queue: Queue<'a>,
}

impl<'a> Suite<'a> {
    fn new(parts: &'a [Part], events: &'a dyn Observer) -> Self {
        Self {
            parts,
            states: parts.iter().map(|part| (part.needs, State::Waiting)).collect(),
            began: parts.iter().map(|_| None).collect(),
            ends: parts.iter().map(|_| VecDeque::new()).collect(),
            ran: parts.iter().map(|_| None).collect(),
            queue: Queue { events, order: VecDeque::new(), held: parts.iter().map(|_| Vec::new()).collect() },
        }
    }

    fn runs(&self) -> bool {
        self.states.iter().any(|(_, state)| matches!(state, State::Begun | State::Compiled))
    }

    /// Marks a part as started and returns the command to run: `otherwise` if the part that it runs after has failed.
    fn begin(&mut self, n: usize) -> Cmd {
        let part = &self.parts[n];
        let failed = |(other, ran): (&Part, &Option<Ran>)| {
            Some(other.needs.id) == part.needs.after && ran.as_ref().is_some_and(|ran| !ran.passed)
        };
        let after_failure = self.parts[..n].iter().zip(&self.ran).any(failed);
        let cmd = part.otherwise.as_ref().filter(|_| after_failure).unwrap_or(&part.cmd).clone();
        self.states[n].1 = State::Begun;
        self.began[n] = Some((Instant::now(), cmd.clone()));
        self.queue.begin(n);
        self.queue.event(n, Event::PhaseStarted { phase: Phase::Test, subject: part.name.to_owned() });
        cmd
    }

    fn take(&mut self, n: usize, report: Report) {
        match report {
            Report::Line(stream, line) => {
                if self.states[n].1 == State::Begun && !compiling(&line) {
                    self.states[n].1 = State::Compiled;
                }
                if self.ends[n].len() == TAIL {
                    self.ends[n].pop_front();
                }
                self.ends[n].push_back(line.clone());
                self.queue.event(n, Event::StepOutput { name: self.parts[n].name.to_owned(), stream, line });
            }
            Report::Ended(ended) => self.end(n, ended),
        }
    }

    fn end(&mut self, n: usize, ended: Result<Ended>) {
        let Some((began, cmd)) = self.began[n].take() else { return };
        let seconds = began.elapsed().as_secs_f64();
        let passed = matches!(ended, Ok(Ended::Code(0)));
        self.ends[n].extend(ended.err().map(|error: Error| crate::error::plain(&error)));
        let end = self.ends[n].drain(..).collect::<Vec<_>>().join("\n").trim_end().to_owned();
        let outcome = if passed { Outcome::Done } else { Outcome::Failed };
        let summary = format!("{}: `{cmd}`", self.parts[n].name);
        self.queue.event(n, Event::PhaseFinished { phase: Phase::Test, outcome, seconds, summary });
        self.states[n].1 = State::Ended;
        self.ran[n] = Some(Ran { passed, seconds, end, cmd });
        let states = &self.states;
        self.queue.end(|n| states[n].1 == State::Ended);
    }
}

/// Forwards the events of the running part that started first. Those of the others are held until it has ended.
struct Queue<'a> {
    events: &'a dyn Observer,
    order: VecDeque<usize>,
    held: Vec<Vec<Event>>,
}

impl Queue<'_> {
    fn begin(&mut self, n: usize) {
        self.order.push_back(n);
    }

    fn event(&mut self, n: usize, event: Event) {
        match self.order.front() {
            Some(first) if *first != n => self.held[n].push(event),
            _ => self.events.event(event),
        }
    }

    /// Removes ended parts from the front of the order, and forwards the held events of the next one.
    fn end(&mut self, ended: impl Fn(usize) -> bool) {
        while self.order.front().is_some_and(|n| ended(*n)) {
            self.order.pop_front();
            if let Some(next) = self.order.front() {
                self.held[*next].drain(..).for_each(|event| self.events.event(event));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::When;
    use super::super::schedule::Takes;
    use super::*;

    /// Records each event as a line.
    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl Observer for Lines {
        fn event(&self, event: Event) {
            self.0.lock().unwrap().push(match event {
                Event::PhaseStarted { subject, .. } => format!("{subject} begins"),
                Event::StepOutput { name, line, .. } => format!("{name}: {line}"),
                Event::PhaseFinished { summary, outcome, .. } => {
                    format!("{} ends: {outcome:?}", summary.split(':').next().unwrap())
                }
                other => panic!("{other:?}"),
            });
        }
    }

    fn part(id: &'static str, script: &str) -> Part {
        Part::new(id, id, When::Always, Cmd::new("sh").args(["-c", script]))
    }

    fn run_all(parts: &[Part]) -> (Vec<Ran>, Vec<String>) {
        let lines = Lines::default();
        let ran = run(parts, &lines).unwrap();
        (ran, lines.0.into_inner().unwrap())
    }

    #[test]
    fn parts_run_at_the_same_time_and_their_events_come_one_part_after_the_other() {
        let dir = tempfile::tempdir().unwrap();
        // Each waits for a file that the other creates, so they end only if they run at the same time.
        let meet = |mine: &str, other: &str| {
            let dir = dir.path().display();
            format!("echo one; touch {dir}/{mine}; until [ -e {dir}/{other} ]; do sleep 0.05; done; echo two")
        };
        let (ran, lines) = run_all(&[part("a", &meet("a", "b")), part("b", &meet("b", "a"))]);
        assert!(ran.iter().all(|ran| ran.passed), "{ran:?}");
        let expected =
            |id: &str| [format!("{id} begins"), format!("{id}: one"), format!("{id}: two"), format!("{id} ends: Done")];
        assert_eq!(lines, [expected("a"), expected("b")].concat());
    }

    #[test]
    fn after_a_failed_part_the_other_command_is_run() {
        let lint = || part("lint", "echo a lint; exit 101").takes(&[Takes::Compiler]);
        let unit = || part("unit", "exit 1").takes(&[Takes::Lock]).after("lint").otherwise(Cmd::new("true"));
        let (ran, _) = run_all(&[lint(), unit()]);
        assert_eq!(ran.iter().map(|ran| ran.passed).collect::<Vec<_>>(), [false, true]);
        assert_eq!((ran[0].end.as_str(), ran[1].cmd.to_string().as_str()), ("a lint", "true"));
        let (alone, _) = run_all(&[unit()]);
        assert!(!alone[0].passed && alone[0].cmd.to_string().contains("exit 1"), "{alone:?}");
    }

    #[test]
    fn a_missing_program_fails_only_its_part() {
        let missing = Part::new("a", "a", When::Always, Cmd::new("no-such-program-7"));
        let (ran, _) = run_all(&[missing, part("b", "true")]);
        assert!(!ran[0].passed && ran[0].end.contains("no-such-program-7") && ran[1].passed, "{ran:?}");
    }
}

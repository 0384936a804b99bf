//! Runs parts of the suite, several at a time as the schedule allows, and passes their events on one part after the other.

use std::collections::VecDeque;
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use super::Part;
use super::schedule::{Needs, State, compiling, next};
use crate::error::{Error, Result};
use crate::event::{Event, Observer, Outcome, Phase, Stream};
use crate::process::{Cmd, Ended, TAIL};
use crate::signals;

/// How a part ended.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) passed: bool,
    pub(super) seconds: f64,
    /// The last lines that it wrote.
    pub(super) end: String,
    /// What was run.
    pub(super) cmd: Cmd,
}

/// What a running part reports.
enum Report {
    Line(Stream, String),
    Ended(Result<Ended>),
}

/// Runs all parts; what came of each, in their order. A signal ends those that run, and is the error.
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
            // We hold a sender ourselves, so this waits for a part that runs.
            let Ok((n, report)) = receive.recv() else { break };
            suite.take(n, report);
        }
    });
    signals::check()?;
    Ok(suite.ran.into_iter().flatten().collect())
}

/// Runs a command and passes on what it says.
fn follow(n: usize, cmd: &Cmd, send: &Sender<(usize, Report)>) {
    // Somebody listens until all have ended.
    let ended = cmd.stream(None, |stream, line| {
        let _ = send.send((n, Report::Line(stream, line.to_owned())));
    });
    let _ = send.send((n, Report::Ended(ended)));
}

/// The state of all parts.
struct Suite<'a> {
    parts: &'a [Part],
    states: Vec<(Needs, State)>,
    began: Vec<Option<(Instant, Cmd)>>,
    said: Vec<VecDeque<String>>,
    ran: Vec<Option<Ran>>,
    queue: Queue<'a>,
}

impl<'a> Suite<'a> {
    fn new(parts: &'a [Part], events: &'a dyn Observer) -> Self {
        Self {
            parts,
            states: parts.iter().map(|part| (part.needs, State::Waiting)).collect(),
            began: parts.iter().map(|_| None).collect(),
            said: parts.iter().map(|_| VecDeque::new()).collect(),
            ran: parts.iter().map(|_| None).collect(),
            queue: Queue { events, order: VecDeque::new(), held: parts.iter().map(|_| Vec::new()).collect() },
        }
    }

    fn runs(&self) -> bool {
        self.states.iter().any(|(_, state)| matches!(state, State::Begun | State::Compiled))
    }

    /// Begins a part; its command, or the other one where what it follows has failed.
    fn begin(&mut self, n: usize) -> Cmd {
        let part = &self.parts[n];
        let failed = |(other, ran): (&Part, &Option<Ran>)| {
            Some(other.needs.id) == part.needs.after && ran.as_ref().is_some_and(|ran| !ran.passed)
        };
        let fell = self.parts[..n].iter().zip(&self.ran).any(failed);
        let cmd = part.otherwise.as_ref().filter(|_| fell).unwrap_or(&part.cmd).clone();
        self.states[n].1 = State::Begun;
        self.began[n] = Some((Instant::now(), cmd.clone()));
        self.queue.begin(n);
        self.queue.say(n, Event::PhaseStarted { phase: Phase::Test, subject: part.name.to_owned() });
        cmd
    }

    fn take(&mut self, n: usize, report: Report) {
        match report {
            Report::Line(stream, line) => {
                if self.states[n].1 == State::Begun && !compiling(&line) {
                    self.states[n].1 = State::Compiled;
                }
                if self.said[n].len() == TAIL {
                    self.said[n].pop_front();
                }
                self.said[n].push_back(line.clone());
                self.queue.say(n, Event::StepOutput { name: self.parts[n].name.to_owned(), stream, line });
            }
            Report::Ended(ended) => self.end(n, ended),
        }
    }

    fn end(&mut self, n: usize, ended: Result<Ended>) {
        let Some((began, cmd)) = self.began[n].take() else { return };
        let seconds = began.elapsed().as_secs_f64();
        let passed = matches!(ended, Ok(Ended::Code(0)));
        self.said[n].extend(ended.err().map(|error: Error| crate::error::plain(&error)));
        let end = self.said[n].drain(..).collect::<Vec<_>>().join("\n").trim_end().to_owned();
        let outcome = if passed { Outcome::Done } else { Outcome::Failed };
        let summary = format!("{}: `{cmd}`", self.parts[n].name);
        self.queue.say(n, Event::PhaseFinished { phase: Phase::Test, outcome, seconds, summary });
        self.states[n].1 = State::Ended;
        self.ran[n] = Some(Ran { passed, seconds, end, cmd });
        let states = &self.states;
        self.queue.end(|n| states[n].1 == State::Ended);
    }
}

/// Who is heard: the part that began first among those that run. What the others say is held until it is their turn.
struct Queue<'a> {
    events: &'a dyn Observer,
    order: VecDeque<usize>,
    held: Vec<Vec<Event>>,
}

impl Queue<'_> {
    fn begin(&mut self, n: usize) {
        self.order.push_back(n);
    }

    fn say(&mut self, n: usize, event: Event) {
        match self.order.front() {
            Some(first) if *first != n => self.held[n].push(event),
            _ => self.events.event(event),
        }
    }

    /// A part has ended: as long as the first one has, the next one is heard.
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

    /// Notes what is heard, a line an event.
    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Observer for Heard {
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

    fn heard(parts: &[Part]) -> (Vec<Ran>, Vec<String>) {
        let heard = Heard::default();
        let ran = run(parts, &heard).unwrap();
        (ran, heard.0.into_inner().unwrap())
    }

    #[test]
    fn parts_run_at_the_same_time_and_are_heard_one_after_the_other() {
        let dir = tempfile::tempdir().unwrap();
        // Each waits for a file of the other's: one after the other they would not end.
        let meet = |mine: &str, other: &str| {
            let dir = dir.path().display();
            format!("echo one; touch {dir}/{mine}; until [ -e {dir}/{other} ]; do sleep 0.05; done; echo two")
        };
        let (ran, heard) = heard(&[part("a", &meet("a", "b")), part("b", &meet("b", "a"))]);
        assert!(ran.iter().all(|ran| ran.passed), "{ran:?}");
        let wanted =
            |id: &str| [format!("{id} begins"), format!("{id}: one"), format!("{id}: two"), format!("{id} ends: Done")];
        assert_eq!(heard, [wanted("a"), wanted("b")].concat());
    }

    #[test]
    fn what_follows_a_failed_part_is_run_in_the_other_way() {
        let lint = || part("lint", "echo a lint; exit 101").takes(&[Takes::Compiler]);
        let unit = || part("unit", "exit 1").takes(&[Takes::Lock]).after("lint").otherwise(Cmd::new("true"));
        let (ran, _) = heard(&[lint(), unit()]);
        assert_eq!(ran.iter().map(|ran| ran.passed).collect::<Vec<_>>(), [false, true]);
        assert_eq!((ran[0].end.as_str(), ran[1].cmd.to_string().as_str()), ("a lint", "true"));
        let (alone, _) = heard(&[unit()]);
        assert!(!alone[0].passed && alone[0].cmd.to_string().contains("exit 1"), "{alone:?}");
    }

    #[test]
    fn a_program_that_is_not_there_fails_its_part_and_no_other() {
        let missing = Part::new("a", "a", When::Always, Cmd::new("no-such-program-7"));
        let (ran, _) = heard(&[missing, part("b", "true")]);
        assert!(!ran[0].passed && ran[0].end.contains("no-such-program-7") && ran[1].passed, "{ran:?}");
    }
}

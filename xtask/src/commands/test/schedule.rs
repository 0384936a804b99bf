//! Decides which parts of the suite run at the same time. Each part lists the resources it requires, and starts when all of them are free.
//! Pure.

/// A resource that a part uses exclusively while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// cargo's lock on `target/` until the part ends, because it only compiles.
    Compiler,
    /// The same lock, but only until cargo has compiled and runs a program.
    Lock,
    /// The file `target/debug/xtask`, which cargo writes and tests run.
    Program,
    /// Memory for virtual machines, and the state directory.
    Machines,
}
use Takes::{Compiler, Lock, Machines};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not started.
    Waiting,
    /// Started; cargo may still be compiling.
    Begun,
    /// cargo has compiled and runs a program.
    Compiled,
    Ended,
}

/// The constraints of a part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    pub(super) id: &'static str,
    /// The resources it requires.
    pub(super) takes: &'static [Takes],
    /// It starts when all earlier parts in the list with this id have ended.
    pub(super) after: Option<&'static str>,
}

/// The first part in the list that can start now; `None` if none can.
pub(super) fn next(parts: &[(Needs, State)]) -> Option<usize> {
    (0..parts.len()).find(|&n| may_begin(n, parts))
}

fn may_begin(n: usize, parts: &[(Needs, State)]) -> bool {
    let (part, state) = parts[n];
    let earlier = &parts[..n];
    let follows = earlier.iter().any(|(other, state)| Some(other.id) == part.after && *state != State::Ended);
    let taken = parts.iter().any(|(other, state)| held(*other, *state).any(|h| part.takes.iter().any(|t| same(*t, h))));
    // A part that only compiles takes minutes. It does not start before an earlier part that requires the lock for a short time, unless
    // that part has to wait for machines anyway.
    let machines = parts.iter().any(|(other, state)| held(*other, *state).any(|h| h == Machines));
    let soon = |(other, state): &(Needs, State)| {
        *state == State::Waiting && other.takes.contains(&Lock) && !(machines && other.takes.contains(&Machines))
    };
    let in_the_way = part.takes.contains(&Compiler) && earlier.iter().any(soon);
    state == State::Waiting && !follows && !taken && !in_the_way
}

/// The resources that a part holds in a state.
fn held(part: Needs, state: State) -> impl Iterator<Item = Takes> {
    let runs = matches!(state, State::Begun | State::Compiled);
    part.takes.iter().copied().filter(move |t| runs && !(*t == Lock && state == State::Compiled))
}

fn same(one: Takes, other: Takes) -> bool {
    let lock = |t| matches!(t, Compiler | Lock);
    one == other || (lock(one) && lock(other))
}

/// True for a line that cargo prints before it runs a program.
pub(super) fn compiling(line: &str) -> bool {
    const VERBS: [&str; 9] =
        ["Compiling", "Checking", "Blocking", "Updating", "Locking", "Adding", "Downloading", "Downloaded", "Building"];
    line.trim().is_empty() || VERBS.contains(&line.split_whitespace().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use Takes::Program;

    const FORMAT: Needs = Needs { id: "format", takes: &[], after: None };
    const LINT: Needs = Needs { id: "lint", takes: &[Compiler, Program], after: None };
    const VALIDATE: Needs = Needs { id: "validate", takes: &[Lock, Program], after: None };
    const UNIT: Needs = Needs { id: "unit", takes: &[Lock, Program], after: Some("lint") };
    const AGENTS: Needs = Needs { id: "agents", takes: &[], after: None };
    const PIPELINE: Needs = Needs { id: "pipeline", takes: &[Lock, Program, Machines], after: None };
    const REBUILD: Needs = Needs { id: "rebuild", takes: &[Lock, Program, Machines], after: Some("lint") };
    const AWS_LINT: Needs = Needs { id: "aws-lint", takes: &[Compiler], after: None };
    const AWS: Needs = Needs { id: "aws", takes: &[Lock], after: Some("aws-lint") };

    /// Simulates a suite. In each round all parts that can start do, those that require the lock for a short time release it, and the part
    /// that has run longest ends. Returns the parts that ran in each round.
    fn rounds(parts: &[Needs]) -> Vec<String> {
        let mut all: Vec<(Needs, State)> = parts.iter().map(|p| (*p, State::Waiting)).collect();
        let (mut running, mut rounds) = (Vec::new(), Vec::new());
        loop {
            while let Some(n) = next(&all) {
                all[n].1 = if all[n].0.takes.contains(&Compiler) { State::Begun } else { State::Compiled };
                running.push(n);
            }
            if running.is_empty() {
                break;
            }
            rounds.push(running.iter().map(|n| all[*n].0.id).collect::<Vec<_>>().join(" "));
            all[running.remove(0)].1 = State::Ended;
        }
        assert!(all.iter().all(|(_, state)| *state == State::Ended), "{all:?}");
        rounds
    }

    #[test]
    fn without_machines_the_provider_is_compiled_while_the_tests_run() {
        let order = rounds(&[FORMAT, LINT, VALIDATE, UNIT, AGENTS, AWS_LINT, AWS]);
        assert_eq!(
            order,
            ["format lint agents", "lint agents", "agents validate", "validate", "unit aws-lint", "aws-lint", "aws"]
        );
    }

    #[test]
    fn with_machines_the_provider_is_compiled_while_the_first_of_them_runs() {
        let order = rounds(&[LINT, VALIDATE, UNIT, PIPELINE, REBUILD, AWS_LINT, AWS]);
        assert_eq!(order, ["lint", "validate", "unit", "pipeline aws-lint", "aws-lint", "rebuild aws", "aws"]);
    }

    #[test]
    fn every_selection_of_parts_ends_and_no_two_parts_hold_the_same_resource() {
        let all = [FORMAT, LINT, VALIDATE, UNIT, AGENTS, PIPELINE, REBUILD, AWS_LINT, AWS];
        for chosen in 0..1_usize << all.len() {
            let parts: Vec<Needs> = (0..all.len()).filter(|n| chosen & (1 << n) != 0).map(|n| all[n]).collect();
            let rounds = rounds(&parts);
            for round in &rounds {
                let running: Vec<&Needs> = parts.iter().filter(|p| round.split(' ').any(|id| id == p.id)).collect();
                for what in [Compiler, Program, Machines] {
                    let takers = running.iter().filter(|p| p.takes.contains(&what)).count();
                    assert!(takers <= 1, "{what:?}: {round}");
                }
            }
            for (one, two) in [("lint", "unit"), ("aws-lint", "aws"), ("lint", "rebuild")] {
                let together = |round: &String| [one, two].iter().all(|id| round.split(' ').any(|r| r == *id));
                assert!(!rounds.iter().any(together), "{one} and {two}: {rounds:?}");
            }
        }
    }

    #[test]
    fn a_line_that_cargo_does_not_print_while_it_compiles_ends_the_compilation() {
        for line in ["   Compiling xtask v0.1.0", "    Blocking waiting for file lock on build directory", ""] {
            assert!(compiling(line), "{line}");
        }
        for line in ["    Finished `test` profile", "     Running unittests src/lib.rs", "→ validate", "error: no"] {
            assert!(!compiling(line), "{line}");
        }
    }
}

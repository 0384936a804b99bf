//! Runs checks in parallel, each with its own timeout. A check without a result at its timeout fails and does not delay the others.

use std::collections::VecDeque;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use smoke::report::{self, Outcome};
use smoke::spec::Override;

use crate::check::{Check, CheckResult, Failure, Host};
use crate::instance::Instance;

/// A check ends its programs at its deadline itself. After this time more, the runner stops waiting for it.
const GRACE: Duration = Duration::from_secs(5);

struct Running {
    name: String,
    started: Instant,
    deadline: Instant,
    timeout: Duration,
}

/// Runs the checks, at most `jobs` at a time, and returns their results in the same order. `on_finished` gets the number of finished
/// checks, the number of all checks and the name.
pub(crate) fn run(
    checks: Vec<Check>,
    instance: &Arc<Instance>,
    jobs: usize,
    today: &str,
    on_finished: &dyn Fn(usize, usize, &str),
) -> Vec<report::Check> {
    let overrides = &instance.spec.overrides;
    let names: Vec<String> = checks.iter().map(|c| c.name.clone()).collect();
    let mut waiting: VecDeque<(usize, Check)> = checks.into_iter().enumerate().collect();
    let mut running: Vec<(usize, Running)> = Vec::new();
    let mut done: Vec<Option<(CheckResult, f64)>> = names.iter().map(|_| None).collect();
    let (sender, receiver) = mpsc::channel();
    loop {
        while running.len() < jobs {
            let Some((index, check)) = waiting.pop_front() else { break };
            let timeout = override_of(overrides, &check.name).and_then(|o| o.timeout_secs);
            let timeout = timeout.map_or(check.timeout, Duration::from_secs);
            let started = Instant::now();
            let deadline = started + timeout;
            running.push((index, Running { name: check.name.clone(), started, deadline, timeout }));
            let host = Host { instance: Arc::clone(instance), deadline };
            let sender = sender.clone();
            thread::spawn(move || sender.send((index, (check.run)(&host))));
        }
        let Some(next) = running.iter().map(|(_, r)| r.deadline + GRACE).min() else { break };
        match receiver.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok((index, result)) => {
                // A result that comes after the timeout is ignored.
                if let Some(at) = running.iter().position(|(i, _)| *i == index) {
                    let (_, check) = running.swap_remove(at);
                    done[index] = Some((result, check.started.elapsed().as_secs_f64()));
                    on_finished(done.iter().flatten().count(), names.len(), &check.name);
                }
            }
            Err(_) => {
                let now = Instant::now();
                let late = |r: &Running| now >= r.deadline + GRACE;
                for (index, check) in running.extract_if(.., |(_, r)| late(r)) {
                    let message = format!("{} has no result after {} s", check.name, check.timeout.as_secs());
                    done[index] = Some((Err(message.into()), check.started.elapsed().as_secs_f64()));
                }
            }
        }
    }
    let done: Vec<(CheckResult, f64)> =
        done.into_iter().map(|d| d.unwrap_or_else(|| (Err("the check did not run".into()), 0.0))).collect();
    report(&names, &done, overrides, today)
}

/// Determines the outcomes. A failure is skipped if the check that it names as its cause failed as well, and quarantined if an override
/// of the spec applies on this day.
fn report(names: &[String], done: &[(CheckResult, f64)], overrides: &[Override], today: &str) -> Vec<report::Check> {
    let failed = |name: &str| names.iter().zip(done).any(|(n, (result, _))| n == name && result.is_err());
    let outcome = |name: &str, result: &CheckResult| match result {
        Ok(message) => (Outcome::Pass, message.clone()),
        Err(Failure { message, cause: Some(cause) }) if cause != name && failed(cause) => {
            (Outcome::Skipped, format!("because {cause} failed: {message}"))
        }
        Err(Failure { message, .. }) => match override_of(overrides, name).and_then(|o| o.expires.as_deref()) {
            Some(until) if today <= until => (Outcome::Quarantined, format!("until {until}: {message}")),
            Some(until) => (Outcome::Fail, format!("{message} (the quarantine ended on {until})")),
            None => (Outcome::Fail, message.clone()),
        },
    };
    let reported = |(name, (result, seconds)): (&String, &(CheckResult, f64))| {
        let (outcome, message) = outcome(name, result);
        report::Check { name: name.clone(), outcome, seconds: *seconds, message }
    };
    names.iter().zip(done).map(reported).collect()
}

fn override_of<'a>(overrides: &'a [Override], name: &str) -> Option<&'a Override> {
    overrides.iter().find(|o| o.check == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(overrides: &str, today: &str) -> Vec<Outcome> {
        let text = format!(
            "schema = 1\n[[tool]]\nname = \"git\"\n[instance]\nuser = \"u\"\narch = \"x\"\nos = []\n{overrides}"
        );
        let spec = smoke::spec::parse(&text).unwrap();
        let names = ["a", "b", "c"].map(str::to_owned);
        let caused_by = |cause: &str| Failure::from("wrong").caused_by(cause);
        let done = [(Err("wrong".into()), 1.0), (Err(caused_by("a")), 1.0), (Err(caused_by("nothing")), 1.0)];
        report(&names, &done, &spec.overrides, today).into_iter().map(|c| c.outcome).collect()
    }

    #[test]
    fn failure_is_skipped_only_if_its_cause_failed() {
        assert_eq!(outcomes("", "2026-11-21"), [Outcome::Fail, Outcome::Skipped, Outcome::Fail]);
    }

    #[test]
    fn quarantine_ends_after_its_date() {
        let quarantine = "[[override]]\ncheck = \"a\"\nexpires = \"2026-11-21\"\nreason = \"r\"\n";
        assert_eq!(outcomes(quarantine, "2026-11-21")[0], Outcome::Quarantined);
        assert_eq!(outcomes(quarantine, "2026-11-22")[0], Outcome::Fail);
    }
}

//! Runs checks in parallel, each with its own time-out. A check that does not answer in time has failed; it cannot hold the
//! others up.

use std::collections::VecDeque;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use smoke::report::{Check as Judged, Outcome};
use smoke::spec::Override;

use crate::checks::{Check, Failure, Host, Verdict};
use crate::instance::Instance;

/// A check ends its programs at its deadline by itself; this is how much later it is given up.
const GRACE: Duration = Duration::from_secs(5);

struct Running {
    name: String,
    started: Instant,
    deadline: Instant,
    timeout: Duration,
}

/// Runs the checks, `jobs` at a time, and returns what became of them in their order.
pub(crate) fn run(
    checks: Vec<Check>,
    instance: &Arc<Instance>,
    jobs: usize,
    today: &str,
    told: &dyn Fn(usize, usize, &str),
) -> Vec<Judged> {
    let overrides = &instance.spec.overrides;
    let names: Vec<String> = checks.iter().map(|c| c.name.clone()).collect();
    let mut waiting: VecDeque<(usize, Check)> = checks.into_iter().enumerate().collect();
    let mut running: Vec<(usize, Running)> = Vec::new();
    let mut done: Vec<Option<(Verdict, f64)>> = names.iter().map(|_| None).collect();
    let (tell, heard) = mpsc::channel();
    loop {
        while running.len() < jobs {
            let Some((index, check)) = waiting.pop_front() else { break };
            let timeout = exception(overrides, &check.name).and_then(|o| o.timeout_secs);
            let timeout = timeout.map_or(check.timeout, Duration::from_secs);
            let started = Instant::now();
            let deadline = started + timeout;
            running.push((index, Running { name: check.name.clone(), started, deadline, timeout }));
            let host = Host { instance: Arc::clone(instance), deadline };
            let tell = tell.clone();
            thread::spawn(move || tell.send((index, (check.run)(&host))));
        }
        let Some(next) = running.iter().map(|(_, r)| r.deadline + GRACE).min() else { break };
        match heard.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok((index, verdict)) => {
                // What was given up already stays so.
                if let Some(at) = running.iter().position(|(i, _)| *i == index) {
                    let (_, check) = running.swap_remove(at);
                    done[index] = Some((verdict, check.started.elapsed().as_secs_f64()));
                    told(done.iter().flatten().count(), names.len(), &check.name);
                }
            }
            Err(_) => {
                let now = Instant::now();
                let late = |r: &Running| now >= r.deadline + GRACE;
                for (index, check) in running.extract_if(.., |(_, r)| late(r)) {
                    let message = format!("{} gave no answer within {} s", check.name, check.timeout.as_secs());
                    done[index] = Some((Err(message.into()), check.started.elapsed().as_secs_f64()));
                }
            }
        }
    }
    let done: Vec<(Verdict, f64)> =
        done.into_iter().map(|d| d.unwrap_or_else(|| (Err("it was never run".into()), 0.0))).collect();
    judge(&names, &done, overrides, today)
}

/// Turns verdicts into outcomes: a failure that follows from another check's failure is skipped, one that the spec excuses is
/// quarantined.
fn judge(names: &[String], done: &[(Verdict, f64)], overrides: &[Override], today: &str) -> Vec<Judged> {
    let failed = |name: &str| names.iter().zip(done).any(|(n, (verdict, _))| n == name && verdict.is_err());
    let outcome = |name: &str, verdict: &Verdict| match verdict {
        Ok(message) => (Outcome::Pass, message.clone()),
        Err(Failure { message, follows: Some(cause) }) if cause != name && failed(cause) => {
            (Outcome::Skipped, format!("follows from {cause}: {message}"))
        }
        Err(Failure { message, .. }) => match exception(overrides, name).and_then(|o| o.expires.as_deref()) {
            Some(until) if today <= until => (Outcome::Quarantined, format!("until {until}: {message}")),
            Some(until) => (Outcome::Fail, format!("{message} (the quarantine ended on {until})")),
            None => (Outcome::Fail, message.clone()),
        },
    };
    let judged = |(name, (verdict, seconds)): (&String, &(Verdict, f64))| {
        let (outcome, message) = outcome(name, verdict);
        Judged { name: name.clone(), outcome, seconds: *seconds, message }
    };
    names.iter().zip(done).map(judged).collect()
}

fn exception<'a>(overrides: &'a [Override], name: &str) -> Option<&'a Override> {
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
        let follows = |cause: &str| Failure::from("wrong").follows(cause);
        let done = [(Err("wrong".into()), 1.0), (Err(follows("a")), 1.0), (Err(follows("nothing")), 1.0)];
        judge(&names, &done, &spec.overrides, today).into_iter().map(|j| j.outcome).collect()
    }

    #[test]
    fn only_a_failed_cause_excuses_its_consequence() {
        assert_eq!(outcomes("", "2026-11-21"), [Outcome::Fail, Outcome::Skipped, Outcome::Fail]);
    }

    #[test]
    fn a_quarantine_ends_on_its_date() {
        let quarantine = "[[override]]\ncheck = \"a\"\nexpires = \"2026-11-21\"\nreason = \"r\"\n";
        assert_eq!(outcomes(quarantine, "2026-11-21")[0], Outcome::Quarantined);
        assert_eq!(outcomes(quarantine, "2026-11-22")[0], Outcome::Fail);
    }
}

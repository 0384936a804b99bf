//! The checks: each asks the running system, not a file that configures it. One module an area; none knows another.

mod accounts;
mod boot;
mod clock;
mod dispatch;
mod environment;
mod fail2ban;
mod folders;
mod isolate;
mod jobs;
mod pm2;
mod privileged;
mod residue;
mod secrets;
pub(crate) mod sockets;
mod ssm_agent;
mod sshd;
mod system;
mod tools;
mod ufw;
mod updates;
mod works;

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smoke::spec::Spec;

use crate::instance::Instance;

/// What was found, in one line; or what is wrong.
pub(crate) type Verdict = Result<String, Failure>;

/// Why a check failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub message: String,
    /// The check whose failure would explain this one.
    pub follows: Option<String>,
}

impl Failure {
    /// Names the check whose failure would explain this one. If that one passes, this one has failed by itself.
    pub(crate) fn follows(self, check: &str) -> Self {
        Self { follows: Some(check.to_owned()), ..self }
    }
}

impl<T: fmt::Display> From<T> for Failure {
    fn from(message: T) -> Self {
        Self { message: message.to_string(), follows: None }
    }
}

/// A check, ready to run.
pub(crate) struct Check {
    pub name: String,
    pub timeout: Duration,
    pub run: Run,
}

/// A check that takes nothing but the instance.
type Plain = fn(&Host) -> Verdict;
type Run = Box<dyn FnOnce(&Host) -> Verdict + Send>;

impl Check {
    /// A check with the usual time-out: long, because machines without virtualisation are ten times slower than others, and Aider alone takes a
    /// minute to say its version there.
    fn new(name: impl Into<String>, run: impl FnOnce(&Host) -> Verdict + Send + 'static) -> Self {
        Self { name: name.into(), timeout: Duration::from_secs(480), run: Box::new(run) }
    }
}

/// The instance, and until when this check may take.
pub(crate) struct Host {
    pub instance: Arc<Instance>,
    pub deadline: Instant,
}

impl Deref for Host {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.instance
    }
}

impl Host {
    /// Runs a program as root and returns what it said; an error if it fails.
    pub(crate) fn ask(&self, line: &[&str]) -> Result<String, String> {
        let output = self.root(line, self.deadline)?;
        if output.ok() { Ok(output.stdout) } else { Err(format!("`{}` {}", line.join(" "), output.gist())) }
    }

    /// Like [`Host::ask`], but asks only once a run.
    pub(crate) fn ask_once(&self, line: &[&str]) -> Result<String, String> {
        self.once(&line.join(" "), || self.ask(line))
    }

    /// Runs a program as the login user and returns what it said; an error if it fails.
    fn ask_as_user(&self, line: &[&str], dir: Option<&std::path::Path>) -> Result<String, String> {
        let output = self.user(line, dir, self.deadline)?;
        if output.ok() { Ok(output.stdout) } else { Err(format!("`{}` {}", line.join(" "), output.gist())) }
    }

    /// Waits until systemd has started what starts at boot. Returns its state: `running`, `degraded`...
    fn booted(&self) -> Result<String, String> {
        self.once("booted", || {
            if !self.spec.instance.systemd {
                return Ok("not judged".to_owned());
            }
            // Its exit code says whether all is well, which is for another check to judge.
            let output = self.root(&["systemctl", "is-system-running", "--wait"], self.deadline)?;
            Ok(output.stdout.trim().to_owned())
        })
    }
}

/// All checks the spec asks for, in its order.
pub(crate) fn all(spec: &Spec) -> Vec<Check> {
    let mut checks = tools::all(spec);
    checks.extend(works::all(spec.works));
    checks.extend(pm2::all(spec.pm2.as_ref()));
    checks.extend(ufw::all(spec.ufw.as_ref()));
    checks.extend(fail2ban::all(spec.fail2ban.as_ref()));
    checks.extend(sshd::all(spec.sshd.as_ref()));
    checks.extend(updates::all(spec.unattended_upgrades.as_ref()));
    checks.extend(dispatch::all(spec.dispatch.as_ref()));
    checks.extend(isolate::all(spec.dispatch.as_ref()));
    checks.extend(ssm_agent::all(spec.ssm_agent));
    checks.extend(accounts::all(spec.accounts.as_ref()));
    checks.extend(privileged::all(spec.privileged.as_ref()));
    checks.extend(jobs::all(spec.jobs.as_ref()));
    checks.extend(folders::all(spec.accounts.is_some()));
    checks.extend(sockets::all(spec.network.as_ref()));
    checks.extend(clock::all(spec.network.as_ref()));
    checks.extend(system::all(spec));
    checks.extend(boot::all(spec.boot));
    checks.extend(residue::all(spec.residue));
    checks.extend(secrets::all(spec.residue.check));
    checks.extend(environment::all(spec.residue.check));
    checks
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A check without a break has never been seen to fail; a break without a check tests nothing.
    #[test]
    fn every_check_has_a_break() {
        let spec = smoke::spec::parse(include_str!("../specs/locus-agent.toml")).unwrap();
        let checks: BTreeSet<String> = all(&spec).into_iter().map(|c| c.name).collect();
        let files = [include_str!("../tests/breaks.toml"), include_str!("../tests/breaks-hygiene.toml")];
        let tables = files.map(|text| text.parse::<toml::Table>().unwrap());
        let breaks: Vec<&toml::Value> = tables.iter().flat_map(|table| table["break"].as_array().unwrap()).collect();
        let names: BTreeSet<String> = breaks.iter().map(|b| b["check"].as_str().unwrap().to_owned()).collect();
        assert_eq!(names, checks);
        assert_eq!(breaks.len(), checks.len(), "two breaks for one check");
    }
}

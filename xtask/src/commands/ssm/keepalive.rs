//! `ssm keepalive`: configures systemd on running servers to restart the Systems Manager agent whenever it exits, as images do.

use super::each::{self, Job};
use crate::cli;
use crate::commands::{Context, Finish, Provider};
use crate::error::Result;
use crate::ssm::{Answer, Policy, policy};

/// The script in the project. Images are provisioned with the same one.
const SCRIPT: &str = "scripts/agent/ssm-keepalive.sh";

pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::SsmKeepalive) -> Result<Finish> {
    let job = Job {
        name: "keepalive",
        origin: SCRIPT.to_owned(),
        script: fs_err::read_to_string(context.root.join(SCRIPT))?,
        question: "Change the agent's unit on",
        done: "systemd restarts the agent".to_owned(),
        outcome: &outcome,
    };
    each::run(context, provider, &args.nodes, args.timeout, &job)
}

/// The outcome on a node in one line: the restart policy as systemd reports it, because exit code 0 does not prove that the policy is in
/// effect.
fn outcome(answer: &Answer) -> Result<String, String> {
    match policy(&answer.stdout) {
        Policy::Known { unit, restart, after, for_ever: true } if restart == "always" && after == "10s" => {
            let changed = if answer.stdout.contains("changed=yes") { "changed" } else { "unchanged" };
            Ok(format!("{unit} is always restarted, after {after} ({changed})"))
        }
        policy => Err(format!("the script ran, but the restart policy is {}", policy.brief())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_that_systemd_reports_is_the_outcome() {
        let answer = Answer::success;
        let good = "changed=no\nunit=a.service load=loaded active=active restart=always after=10s start-limit=0 not-after=194\n";
        assert_eq!(outcome(&answer(good)).unwrap(), "a.service is always restarted, after 10s (unchanged)");
        let overridden = good.replace("restart=always", "restart=no");
        assert_eq!(
            outcome(&answer(&overridden)).unwrap_err(),
            "the script ran, but the restart policy is no after 10s"
        );
    }
}

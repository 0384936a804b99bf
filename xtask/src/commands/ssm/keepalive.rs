//! `ssm keepalive`: on servers that already run, systemd brings the agent back whatever ends it. The script is the one that images have.

use super::each::{self, Job};
use crate::cli;
use crate::commands::{Context, Finish, Provider};
use crate::error::Result;
use crate::ssm::{Answer, Policy, policy};

/// The script, in the project: it is also what `validate` looks at and what images are provisioned with.
const SCRIPT: &str = "scripts/agent/ssm-keepalive.sh";

/// Runs the command.
pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::SsmKeepalive) -> Result<Finish> {
    let job = Job {
        name: "keepalive",
        origin: SCRIPT.to_owned(),
        script: fs_err::read_to_string(context.root.join(SCRIPT))?,
        question: "Change the agent's unit on",
        done: "the agent comes back".to_owned(),
        outcome: &outcome,
    };
    each::run(context, provider, &args.nodes, args.timeout, &job)
}

/// What came of it on a node, in a line: systemd's word counts, not the exit code alone.
fn outcome(answer: &Answer) -> Result<String, String> {
    match policy(&answer.stdout) {
        Policy::Told { unit, restart, after, for_ever: true } if restart == "always" && after == "10s" => {
            let changed = if answer.stdout.contains("changed=yes") { "now" } else { "as it was" };
            Ok(format!("{unit} comes back always, after {after}, {changed}"))
        }
        policy => Err(format!("it ran, but the policy is {}", policy.brief())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemds_word_counts() {
        let answer = Answer::success;
        let good = "changed=no\nunit=a.service load=loaded active=active restart=always after=10s start-limit=0 not-after=194\n";
        assert_eq!(outcome(&answer(good)).unwrap(), "a.service comes back always, after 10s, as it was");
        let overruled = good.replace("restart=always", "restart=no");
        assert_eq!(outcome(&answer(&overruled)).unwrap_err(), "it ran, but the policy is no after 10s");
    }
}

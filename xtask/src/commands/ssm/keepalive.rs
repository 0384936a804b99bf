//! `ssm keepalive`: on servers that already run, systemd brings the agent back whatever ends it. The script is the one that images have.

use serde_json::json;

use super::{regions, wanted};
use crate::cli;
use crate::commands::{Context, Finish, Provider};
use crate::error::{Exit, Result};
use crate::event::{Event, Phase, Stream};
use crate::fleet::{Answer, Node, Policy, in_bash, policy};

/// The script, in the project: it is also what `validate` looks at and what images are provisioned with.
const SCRIPT: &str = "scripts/agent/ssm-keepalive.sh";

/// Runs the command.
pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::SsmKeepalive) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let script = fs_err::read_to_string(context.root.join(SCRIPT))?;
    let regions = regions(&args.regions, &config.regions.aws);
    let run = (!context.common.dry_run).then(|| context.begin_run(&state)).transpose()?;
    let fleet = provider.fleet(&config, &regions, run)?;
    let nodes = wanted(fleet.as_ref(), &args.targets, &regions)?;
    let (ready, away): (Vec<Node>, Vec<Node>) = nodes.into_iter().partition(Node::is_online);
    let ids: Vec<&str> = ready.iter().map(|n| n.id.as_str()).collect();
    if context.common.dry_run {
        let text = format!("on {}: {SCRIPT}, as root\n\n{script}", ids.join(", "));
        context.document("plan", json!({ "nodes": ids, "script": script }), text);
        return Ok(Finish::default());
    }
    if !ready.is_empty() {
        context.confirm(&format!("Change the agent's unit on {}?", ids.join(", ")))?;
    }
    let told = |answer: &Answer| {
        let output = answer.stdout.lines().map(|l| (Stream::Stdout, l));
        for (stream, line) in output.chain(answer.stderr.lines().map(|l| (Stream::Stderr, l))) {
            context.events.event(Event::StepOutput { name: answer.id.clone(), stream, line: line.to_owned() });
        }
        let message = format!("{}: {}", answer.id, outcome(answer).unwrap_or_else(|wrong| wrong));
        context.events.event(Event::Note { message });
    };
    let begun = format!("waiting for {} nodes", ready.len());
    context.events.event(Event::Progress { phase: Phase::Build, message: begun, fraction: None });
    let answers = fleet.run(&ready, &in_bash(&script), args.timeout, &told)?;
    let mut wrong: Vec<String> =
        away.iter().map(|n| format!("{} is {}: nothing can be sent to it", n.id, n.ping)).collect();
    wrong.extend(answers.iter().filter_map(|a| outcome(a).err().map(|why| format!("{}: {why}", a.id))));
    let data = json!({ "answers": answers, "away": away });
    context.document("keepalive", data.clone(), String::new());
    if wrong.is_empty() {
        return Ok(Finish::new(format!("the agent comes back on all {} nodes", answers.len()), data));
    }
    let good = answers.iter().filter(|a| outcome(a).is_ok()).count();
    let message = format!("{good} of {} nodes are as they should be\n{}", answers.len() + away.len(), wrong.join("\n"));
    Err(Exit::Failed.error(message, "run the same command again: where it was done it changes nothing"))
}

/// What came of it on a node, in a line: systemd's word counts, not the exit code alone.
fn outcome(answer: &Answer) -> Result<String, String> {
    if !answer.is_good() {
        let said = answer.stderr.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("it said nothing");
        let code = answer.code.map(|code| format!(", exit code {code}")).unwrap_or_default();
        return Err(format!("{}{code}: {}", answer.status, said.trim()));
    }
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
        let answer = |status: &str, code, stdout: &str| Answer {
            id: "i-1".to_owned(),
            region: "r".to_owned(),
            status: status.to_owned(),
            code,
            stdout: stdout.to_owned(),
            stderr: "why\n".to_owned(),
        };
        let good = "changed=no\nunit=a.service load=loaded active=active restart=always after=10s start-limit=0 not-after=194\n";
        assert_eq!(
            outcome(&answer("Success", Some(0), good)).unwrap(),
            "a.service comes back always, after 10s, as it was"
        );
        assert_eq!(outcome(&answer("Failed", Some(1), good)).unwrap_err(), "Failed, exit code 1: why");
        assert_eq!(outcome(&answer("TimedOut", None, "")).unwrap_err(), "TimedOut: why");
        let overruled = good.replace("restart=always", "restart=no");
        assert_eq!(
            outcome(&answer("Success", Some(0), &overruled)).unwrap_err(),
            "it ran, but the policy is no after 10s"
        );
    }
}

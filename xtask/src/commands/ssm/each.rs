//! One script on many nodes: who is meant, what is sent, and what came of it on each.

use std::time::Duration;

use serde_json::json;

use super::{regions, wanted};
use crate::cli;
use crate::commands::{Context, Finish, Provider};
use crate::error::{Exit, Result};
use crate::event::{Event, Phase, Stream};
use crate::ssm::{Answer, Node, in_bash};

/// What is done on each node.
pub(super) struct Job<'a> {
    /// The command's name.
    pub name: &'a str,
    /// Where the script comes from, as `--dry-run` says it.
    pub origin: String,
    /// The bash script that root runs.
    pub script: String,
    /// What the user agrees to, before the nodes' names.
    pub question: &'a str,
    /// What holds on all nodes afterwards.
    pub done: String,
    /// What came of it on a node, in a line.
    pub outcome: &'a dyn Fn(&Answer) -> Result<String, String>,
}

/// Runs the script on the targets and reports each; an error if it did not do its work on one.
pub(super) fn run<P: Provider>(
    context: &Context,
    provider: &P,
    asked: &cli::Nodes,
    timeout: Duration,
    job: &Job<'_>,
) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let regions = regions(&asked.regions, &config.regions.aws);
    let run = (!context.common.dry_run).then(|| context.begin_run(&state)).transpose()?;
    let managed_nodes = provider.managed_nodes(&config, &regions, run)?;
    let nodes = wanted(managed_nodes.as_ref(), &asked.targets, &regions)?;
    let (ready, away): (Vec<Node>, Vec<Node>) = nodes.into_iter().partition(Node::is_online);
    let ids: Vec<&str> = ready.iter().map(|n| n.id.as_str()).collect();
    if context.common.dry_run {
        let text = format!("on {}: {}, as root\n\n{}", ids.join(", "), job.origin, job.script);
        context.document("plan", json!({ "nodes": ids, "script": job.script }), text);
        return Ok(Finish::default());
    }
    if !ready.is_empty() {
        context.confirm(&format!("{} {}?", job.question, ids.join(", ")))?;
    }
    let report = |answer: &Answer| {
        let output = answer.stdout.lines().map(|l| (Stream::Stdout, l));
        for (stream, line) in output.chain(answer.stderr.lines().map(|l| (Stream::Stderr, l))) {
            context.events.event(Event::StepOutput { name: answer.id.clone(), stream, line: line.to_owned() });
        }
        let message = format!("{}: {}", answer.id, outcome(job, answer).unwrap_or_else(|wrong| wrong));
        context.events.event(Event::Note { message });
    };
    let begun = format!("waiting for {} nodes", ready.len());
    context.events.event(Event::Progress { phase: Phase::Build, message: begun, fraction: None });
    let answers = managed_nodes.run(&ready, &in_bash(&job.script), timeout, &report)?;
    let mut wrong: Vec<String> =
        away.iter().map(|n| format!("{} is {}: nothing can be sent to it", n.id, n.ping)).collect();
    wrong.extend(answers.iter().filter_map(|a| outcome(job, a).err().map(|why| format!("{}: {why}", a.id))));
    let data = json!({ "answers": answers, "away": away });
    context.document(job.name, data.clone(), String::new());
    if wrong.is_empty() {
        return Ok(Finish::new(format!("{} on all {} nodes", job.done, answers.len()), data));
    }
    let good = answers.iter().filter(|a| outcome(job, a).is_ok()).count();
    let message = format!("{good} of {} nodes are as they should be\n{}", answers.len() + away.len(), wrong.join("\n"));
    Err(Exit::Failed.error(message, "run the same command again: where it was done it changes nothing"))
}

/// The job's own word on an answer, unless the script itself failed.
fn outcome(job: &Job<'_>, answer: &Answer) -> Result<String, String> {
    if answer.is_good() {
        return (job.outcome)(answer);
    }
    let said = answer.stderr.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("it said nothing");
    let code = answer.code.map(|code| format!(", exit code {code}")).unwrap_or_default();
    Err(format!("{}{code}: {}", answer.status, said.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_that_failed_did_nothing_whatever_it_said() {
        let answer = |status: &str, code| Answer {
            id: "i-1".to_owned(),
            region: "r".to_owned(),
            status: status.to_owned(),
            code,
            stdout: "good\n".to_owned(),
            stderr: "why\n".to_owned(),
        };
        let job = Job {
            name: "n",
            origin: String::new(),
            script: String::new(),
            question: "",
            done: String::new(),
            outcome: &|_| Ok("done".to_owned()),
        };
        assert_eq!(outcome(&job, &answer("Success", Some(0))).unwrap(), "done");
        assert_eq!(outcome(&job, &answer("Failed", Some(1))).unwrap_err(), "Failed, exit code 1: why");
        assert_eq!(outcome(&job, &answer("TimedOut", None)).unwrap_err(), "TimedOut: why");
    }
}

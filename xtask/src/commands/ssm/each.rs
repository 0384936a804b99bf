//! Runs one script on several nodes, and reports the outcome on each.

use std::time::Duration;

use serde_json::json;

use super::{regions, select};
use crate::cli;
use crate::commands::{Context, Finish, Provider};
use crate::error::{Exit, Result};
use crate::event::{Event, Phase, Stream};
use crate::ssm::{Answer, Node, in_bash};

/// A script, and how its outcome is reported.
pub(super) struct Job<'a> {
    /// The kind of the document with the answers.
    pub name: &'a str,
    /// Where the script comes from, as `--dry-run` prints it.
    pub origin: String,
    /// The bash script that root runs.
    pub script: String,
    /// The question to confirm; the ids of the nodes are appended.
    pub question: &'a str,
    /// The summary if all nodes succeed; their number is appended.
    pub done: String,
    /// The outcome on a node in one line; `Err` if the node is not as required.
    pub outcome: &'a dyn Fn(&Answer) -> Result<String, String>,
}

/// Runs the script on the selected nodes and reports each. Fails if a node fails or is not online.
pub(super) fn run<P: Provider>(
    context: &Context,
    provider: &P,
    selection: &cli::Nodes,
    timeout: Duration,
    job: &Job<'_>,
) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let regions = regions(&selection.regions, &config.regions.aws);
    let run = (!context.common.dry_run).then(|| context.begin_run(&state)).transpose()?;
    let managed_nodes = provider.managed_nodes(&config, &regions, run)?;
    let nodes = select(managed_nodes.as_ref(), &selection.targets, &regions)?;
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
        let message = format!("{}: {}", answer.id, outcome(job, answer).unwrap_or_else(|problem| problem));
        context.events.event(Event::Note { message });
    };
    let message = format!("waiting for {} nodes", ready.len());
    context.events.event(Event::Progress { phase: Phase::Build, message, fraction: None });
    let answers = managed_nodes.run(&ready, &in_bash(&job.script), timeout, &report)?;
    let mut problems: Vec<String> =
        away.iter().map(|n| format!("{} is {}: no command can be sent to it", n.id, n.ping)).collect();
    problems.extend(answers.iter().filter_map(|a| outcome(job, a).err().map(|why| format!("{}: {why}", a.id))));
    let data = json!({ "answers": answers, "away": away });
    context.document(job.name, data.clone(), String::new());
    if problems.is_empty() {
        return Ok(Finish::new(format!("{} on all {} nodes", job.done, answers.len()), data));
    }
    let good = answers.iter().filter(|a| outcome(job, a).is_ok()).count();
    let message = format!("{good} of {} nodes succeeded\n{}", answers.len() + away.len(), problems.join("\n"));
    Err(Exit::Failed.error(message, "fix the failed nodes and run the command again; it changes nothing on the others"))
}

/// The job's outcome of an answer, or the error of a script that failed.
fn outcome(job: &Job<'_>, answer: &Answer) -> Result<String, String> {
    if answer.is_good() {
        return (job.outcome)(answer);
    }
    let last = answer.stderr.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("no output on standard error");
    let code = answer.code.map(|code| format!(", exit code {code}")).unwrap_or_default();
    Err(format!("{}{code}: {}", answer.status, last.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_script_is_an_error_whatever_it_printed() {
        let answer = |status: &str, code| Answer {
            id: "i-1".to_owned(),
            region: "r".into(),
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

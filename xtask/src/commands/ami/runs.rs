//! `ami runs`: lists the runs of this state directory with their commands and outcomes.

use crate::cli;
use crate::commands::{Context, Finish};
use crate::error::Result;

pub(crate) fn run(context: &Context, args: &cli::Runs) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let mut rows = Vec::new();
    for run in state.ledger().runs()? {
        let alive = state.is_alive(&run.id)?;
        if !args.unfinished || run.is_unfinished(alive) {
            rows.push((run, alive));
        }
    }
    rows.drain(..rows.len().saturating_sub(args.last));
    let mut text = String::new();
    for (run, alive) in &rows {
        let began = run.began.strftime("%FT%T");
        text.push_str(&format!("{}  {began}Z  {:11}  {:5}  {}\n", run.id, run.standing(*alive), run.on, run.command));
    }
    let data: Vec<_> =
        rows.iter().map(|(run, alive)| serde_json::json!({ "run": run, "standing": run.standing(*alive) })).collect();
    let data = serde_json::json!({ "runs": data });
    context.document("runs", data.clone(), text);
    let unfinished = rows.iter().any(|(run, alive)| run.ended.is_none() && !alive);
    let summary = if unfinished { "`cargo xtask ami resume RUN` resumes an interrupted run" } else { "" };
    Ok(Finish::new(summary, data))
}

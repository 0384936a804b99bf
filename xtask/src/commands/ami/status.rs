//! `ami status`: the state of a build by the ledger, and the image that it made.

use serde::Serialize;

use super::build::{AGENT, IMAGE, REGION};
use crate::cli;
use crate::commands::{Context, Finish, Provider};
use crate::error::{Exit, Result};
use crate::ledger::{RunOutcome, RunRecord};
use crate::state::State;

/// The state of a build, in the words of the images API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Building,
    Succeeded,
    Failed,
}

impl Status {
    fn of(run: &RunRecord, is_alive: bool) -> Self {
        match run.outcome {
            Some(RunOutcome::Done) => Self::Succeeded,
            None if is_alive => Self::Building,
            Some(RunOutcome::Failed | RunOutcome::Interrupted | RunOutcome::Cleaned) | None => Self::Failed,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

/// The run of this id, or the newest build.
fn chosen(state: &State, on: &str, requested: Option<&str>) -> Result<RunRecord> {
    let is_verb = |words: &[String]| words[0] == "ami" && ["build", "release"].contains(&words[1].as_str());
    let is_build = |run: &RunRecord| run.words.windows(2).any(is_verb);
    match requested {
        Some(id) => state.ledger().run(id)?.filter(is_build).ok_or_else(|| {
            let hint =
                "list the runs with `cargo xtask ami runs`; a build has the command `ami build` or `ami release`";
            Exit::Usage.error(format_args!("no build `{id}` in this state directory"), hint)
        }),
        None => state.ledger().runs()?.into_iter().rev().find(|run| run.on == on && is_build(run)).ok_or_else(|| {
            Exit::Usage.error("no build in this state directory", "start one with `cargo xtask ami build`")
        }),
    }
}

pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Status) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let run = chosen(&state, provider.on().name(), args.build.as_deref())?;
    if run.on != provider.on().name() {
        let message = format!("{} is a build on {}", run.id, run.on);
        return Err(Exit::Usage.error(message, format_args!("pass --on {}", run.on)));
    }
    let status = Status::of(&run, state.is_alive(&run.id)?);
    let noted = |key: &str| state.ledger().noted(&run.id, key);
    let (agent, region, image) = (noted(AGENT)?, noted(REGION)?, noted(IMAGE)?);
    let error = (status == Status::Failed).then(|| match run.outcome {
        None => "the process was killed; `cargo xtask ami resume` resumes the build".to_owned(),
        Some(_) => run.summary.clone(),
    });
    let unknown = || "-".to_owned();
    let rows = [
        ("build", run.id.to_string()),
        ("provider", agent.clone().unwrap_or_else(unknown)),
        ("region", region.clone().unwrap_or_else(unknown)),
        ("status", status.name().to_owned()),
        ("started", run.began.to_string()),
        ("completed", run.ended.map_or_else(unknown, |at| at.to_string())),
        ("image", image.clone().unwrap_or_else(unknown)),
        ("error", error.clone().unwrap_or_else(unknown)),
    ];
    let text: String = rows.iter().map(|(name, value)| format!("{name:10} {value}\n")).collect();
    let data = serde_json::json!({
        "build_id": run.id, "status": status, "provider": agent, "region": region, "image_id": image,
        "started_at": run.began, "completed_at": run.ended, "error": error,
    });
    context.document("status", data.clone(), text);
    Ok(Finish::new("", data))
}

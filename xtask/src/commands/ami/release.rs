//! `ami release`: doctor, validate, build, smoke, copy, promote to staging.

use std::sync::Arc;

use fs_err as fs;

use super::{build, promote, smoke};
use crate::cli;
use crate::cloud::Cloud as _;
use crate::commands::{Context, Finish, Provider, doctor, validate};
use crate::error::Result;
use crate::event::{Event, Outcome, Phase};
use crate::recipe::Digest;
use crate::stage::smoke::{self as stage, DOCUMENT, Record};

/// The channel a release ends in.
const CHANNEL: &str = "staging";

/// Runs the command.
pub fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Release) -> Result<Finish> {
    if context.common.dry_run {
        return super::plan::one(context, provider, &context.config()?, &args.build);
    }
    doctor::ensure(context)?;
    validate::ensure(context)?;
    let config = context.config()?;
    let state = context.state(&config)?;
    if let Some(record) = super::resume::offered(context, &state, provider.on(), args)? {
        let (again, inner) = super::resume::taken_up(context, provider, &config, &state, &record)?;
        return crate::commands::run(again, &inner, provider);
    }
    let run = context.begin_run(&state)?;
    let (image, up_to_date) = build::build(context, provider, &config, &state, &run, &args.build)?;
    let cloud = provider.open(context, &config, &state, Some(Arc::clone(&run)))?;
    let known = cloud.document(&image, DOCUMENT)?.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
    let spec = Digest::of(&fs::read(smoke::spec_path(context, &config, &image)?)?);
    let passes = stage::passes(&cloud.instance_types(), !args.no_reboot);
    let record = match known.filter(|r| up_to_date && r.covers(&image, spec, &passes)) {
        Some(record) => {
            let summary = format!("{} passed at {}", image.id, record.at);
            context.events.event(Event::PhaseFinished {
                phase: Phase::Smoke,
                outcome: Outcome::UpToDate,
                seconds: 0.0,
                summary,
            });
            record
        }
        None => {
            let args = cli::Smoke {
                image: None,
                no_reboot: args.no_reboot,
                spec: None,
                output: Vec::new(),
                keep_on_failure: args.build.keep_on_failure,
            };
            smoke::judge(context, provider, &config, &state, &run, &image, &args)?
        }
    };
    smoke::verdict(&image, &record)?;
    super::bump::gate(context, &cloud, &state, &image, args.allow_version)?;
    let images = {
        let _lock = state.lock("copy", &context.line)?;
        let best_effort = super::copy::best_effort(&cloud, &args.best_effort)?;
        crate::stage::copy::run(&cloud, &image, cloud.regions(), &best_effort, context.events.as_ref())?
    };
    // Asking for a release is asking for staging.
    let staging = cli::Promote {
        image: None,
        channel: CHANNEL.to_owned(),
        from: None,
        overridden: None,
        best_effort: args.best_effort.clone(),
    };
    promote::promote(context, provider, &config, &state, &run, &image, &staging, true)?;
    let regions: Vec<String> = images.iter().map(|i| format!("{} ({})", i.id, i.region)).collect();
    Ok(Finish::new(
        format!("released {} to {CHANNEL}: {}", image.name, regions.join(", ")),
        serde_json::json!({ "run": run.id(), "image": image, "images": images, "channel": CHANNEL, "smoke": record }),
    ))
}

//! `ami release`: checks the host tools, validates, builds, smoke-tests and copies an image, and promotes it to staging.

use super::request::Request;
use super::{build, promote, smoke};
use crate::channel::claim;
use crate::cli;
use crate::cloud::Cloud as _;
use crate::commands::{Context, Finish, Provider, Session, doctor, smoke_binary, validate};
use crate::error::Result;

/// The channel that a release promotes to.
const CHANNEL: &str = "staging";

pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Release) -> Result<Finish> {
    if context.common.dry_run {
        return super::plan::one(context, provider, &context.config_for(&args.build)?, &args.build);
    }
    doctor::ensure(context)?;
    validate::ensure(context)?;
    let config = context.config_for(&args.build)?;
    let state = context.state(&config)?;
    if let Some(record) = super::resume::offered(context, &state, provider.on(), args)? {
        let (again, inner) = super::resume::prepare(context, provider, &config, &state, &record)?;
        return crate::commands::run(again, &inner, provider);
    }
    let run = context.begin_run(&state)?;
    let session = Session { context, provider, config: &config, state: &state, run: &run };
    let request = Request::resolve(context, provider, &config, &args.build)?;
    let staging = context.targets(&config).one(&request.image, CHANNEL)?;
    claim::ready(&session.cloud()?, &staging)?;
    // Compiled during the build, which waits for the network most of the time.
    let compiling = smoke_binary::begin(context, &state);
    let (image, up_to_date) = build::build(session, &request)?;
    smoke_binary::wait(compiling.as_ref())?;
    let cloud = session.cloud()?;
    let known = if up_to_date { smoke::passed_before(context, &cloud, &config, &image, false)? } else { None };
    let record = match known {
        Some(record) => record,
        None => {
            let keep_on_failure = request.keep_on_failure;
            let request = smoke::Request { reboot: true, keep_on_failure, spec: None, outputs: Vec::new() };
            smoke::test(session, &image, &request)?
        }
    };
    smoke::require_passed(&image, &record)?;
    super::bump::gate(context, &cloud, &state, &image, args.allow_version)?;
    let images = {
        let _lock = state.lock("copy", &context.line)?;
        let best_effort = super::copy::best_effort(&cloud, &args.best_effort)?;
        crate::stage::copy::run(&cloud, &image, cloud.regions(), &best_effort, context.events.as_ref())?
    };
    context.about(|about| about.images.clone_from(&images));
    // The command itself implies the promotion to staging, so it is not confirmed again.
    let best_effort = super::copy::best_effort(&cloud, &args.best_effort)?;
    let request = promote::Request { channel: CHANNEL, best_effort, overridden: None, confirmed: true };
    promote::promote(session, &image, &request)?;
    let regions: Vec<String> = images.iter().map(|i| format!("{} ({})", i.id, i.region)).collect();
    Ok(Finish::new(
        format!("released {} to {CHANNEL}: {}", image.name, regions.join(", ")),
        serde_json::json!({ "run": run.id(), "image": image, "images": images, "channel": CHANNEL, "smoke": record }),
    ))
}

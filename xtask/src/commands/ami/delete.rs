//! `ami delete`: deletes an image with its disk or snapshots and its documents. Fails while something uses the image.

use crate::cli;
use crate::cloud::{self, Cloud as _, ImageId};
use crate::commands::{Context, Finish, Provider};
use crate::error::{Exit, Result};
use crate::event::Event;
use crate::stage::delete as stage;

pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Delete) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let cloud = provider.open(context, &config, &state, None)?;
    let targets = context.targets(&config).all();
    let begun = || -> Result<P::Cloud> {
        let run = context.begin_run(&state)?;
        provider.open(context, &config, &state, Some(run))
    };
    let (_, damaged) = cloud::all_images(&cloud)?;
    if let Some(damaged) = damaged.iter().find(|c| c.id.0 == args.image) {
        let what = format!("the damaged image {} ({})", damaged.id, damaged.place);
        let users = stage::references(&cloud, &targets, &damaged.region, &damaged.id)?;
        return remove(context, &damaged.id, &what, args, &users, || begun()?.discard(damaged));
    }
    let image = match cloud::find(&cloud, &args.image) {
        Ok(image) => image,
        // A resumed run may have deleted the image before it was interrupted.
        Err(_) if context.run.get().is_some_and(|run| run.resumed() > 0) => {
            let data = serde_json::json!({ "deleted": args.image });
            return Ok(Finish::new(format!("{} is already deleted", args.image), data));
        }
        Err(error) => return Err(error),
    };
    let what = format!("{} {} in {}", image.id, image.name, image.region);
    let users = stage::users(&cloud, &targets, &image)?;
    remove(context, &image.id, &what, args, &users, || {
        let cloud = begun()?;
        stage::delete(&cloud, &targets, &image)?;
        for message in cloud.caveats() {
            context.events.event(Event::Note { message });
        }
        Ok(())
    })
}

fn remove(
    context: &Context,
    id: &ImageId,
    what: &str,
    args: &cli::Delete,
    users: &[String],
    act: impl FnOnce() -> Result<()>,
) -> Result<Finish> {
    if !users.is_empty() && !args.force {
        return Err(Exit::Precondition.error(
            format_args!("{id} is in use by {}", users.join(", ")),
            "promote another image or delete its users first, or pass --force",
        ));
    }
    if context.common.dry_run {
        context.document("plan", serde_json::json!({ "delete": id }), format!("delete {what}\n"));
        return Ok(Finish::default());
    }
    context.confirm(&format!("Delete {what}?"))?;
    act()?;
    Ok(Finish::new(format!("deleted {what}"), serde_json::json!({ "deleted": id })))
}

//! `ami history`: lists the promotions and rollbacks of a channel, with time, image, user, run and reason.

use crate::cli;
use crate::commands::{Context, Finish, Provider};
use crate::error::Result;

pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::History) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let (of, _) = config.image(args.of.as_deref())?;
    let target = context.targets(&config).one(of, &args.channel)?;
    let mut all = state.ledger().promotions(provider.on().name())?;
    all.retain(|p| p.moves(&args.channel, of));
    let mut text = String::new();
    for p in &all {
        let at = p.at.strftime("%FT%T");
        let interrupted = match &p.superseded {
            Some(by) => format!("  (interrupted, superseded by {by})"),
            None if p.ended.is_none() => "  (interrupted)".to_owned(),
            None => String::new(),
        };
        let why = p.why.as_ref().map(|why| format!("  \"{why}\"")).unwrap_or_default();
        text.push_str(&format!("{at}Z  {:8}  {:44}  {}  {}{why}{interrupted}\n", p.kind.name(), p.image, p.who, p.run));
    }
    let cloud = provider.open(context, &config, &state, None)?;
    let now = crate::channel::points_at(&cloud, &target)?;
    for (region, id) in &now {
        text.push_str(&format!("now in {region}: {id}\n"));
    }
    let data = serde_json::json!({ "channel": args.channel, "image": of, "history": all, "now": now });
    context.document("history", data.clone(), text);
    let summary = if all.is_empty() { "no promotion is recorded in this state directory" } else { "" };
    Ok(Finish::new(summary, data))
}

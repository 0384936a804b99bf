//! `ami history`: where a channel has pointed: who, what, when, why.

use super::channel;
use crate::cli;
use crate::commands::{Context, Finish, Provider};
use crate::error::Result;

/// Runs the command.
pub fn run<P: Provider>(context: &Context, provider: &P, args: &cli::History) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let configured = channel::configured(&config, &args.channel)?;
    let mut all = state.ledger().promotions(provider.on().name())?;
    all.retain(|p| p.channel == args.channel);
    let mut text = String::new();
    for p in &all {
        let at = p.at.split('.').next().unwrap_or_default();
        let cut_off = if p.ended.is_none() { "  (cut off)" } else { "" };
        let why = if p.why.is_empty() { String::new() } else { format!("  \"{}\"", p.why) };
        text.push_str(&format!("{at}Z  {:8}  {:44}  {}  {}{why}{cut_off}\n", p.kind.name(), p.image, p.who, p.run));
    }
    let cloud = provider.open(context, &config, &state, None)?;
    let now = crate::channel::points_at(&cloud, &channel::target(context, &args.channel, configured))?;
    for (region, id) in &now {
        text.push_str(&format!("now in {region}: {id}\n"));
    }
    let data = serde_json::json!({ "channel": args.channel, "history": all, "now": now });
    context.document("history", data.clone(), text);
    let summary = if all.is_empty() { "nothing was promoted to it from this state folder" } else { "" };
    Ok(Finish::new(summary, data))
}

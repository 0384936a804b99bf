//! `pins check`: reports which pins have a newer version, which are unknown, and which reviews are due. Changes nothing.

use super::{bases, due, look_up, table, tools};
use crate::cli;
use crate::commands::{Context, Finish, Provider};
use crate::error::Result;
use crate::pins::MinAge;

pub(in crate::commands) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::PinsCheck) -> Result<Finish> {
    let pins = look_up(context, &tools(context)?, MinAge::new(args.min_age))?;
    let due = due(context)?;
    let bases = bases(context, provider)?;
    let mut text = table(&pins, &due);
    text.extend(bases.iter().map(|base| format!("{base}\n")));
    let newer = pins.iter().filter(|pin| pin.newest.is_some()).count();
    let messages: Vec<&str> = due.iter().map(|finding| finding.message.as_str()).collect();
    let data = serde_json::json!({ "pins": pins, "due": messages, "bases": bases });
    context.document("pins", data.clone(), text);
    let hint = if newer > 0 { "; `cargo xtask pins update` updates them" } else { "" };
    Ok(Finish::new(format!("{newer} newer, {} due{hint}", due.len() + bases.len()), data))
}

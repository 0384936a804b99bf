//! `serve token create`: makes a token and prints it, the only time that it is readable.

use jiff::Timestamp;
use xtask::cli::TokenCreate;
use xtask::commands::Finish;
use xtask::error::{Exit, Result};
use xtask::event::Observer;

use crate::commands::document;
use crate::tokens::Tokens;

pub(super) fn run(tokens: &Tokens, args: &TokenCreate, events: &dyn Observer) -> Result<Finish> {
    let expires = args.expires.map(|time| Timestamp::now().checked_add(time)).transpose();
    let expires = expires.map_err(|e| Exit::Usage.error(format_args!("--expires: {e}"), "use a shorter time"))?;
    let secret = tokens.create(&args.name, &args.scopes, expires)?;
    document(events, "token", serde_json::json!({ "name": args.name, "token": secret }), format!("{secret}\n"));
    Ok(Finish { summary: format!("created the token {}", args.name), data: serde_json::Value::Null })
}

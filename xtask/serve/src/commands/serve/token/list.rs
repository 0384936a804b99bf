//! `serve token list`: lists the tokens without their secrets.

use xtask::commands::Finish;
use xtask::error::Result;
use xtask::event::Observer;

use crate::commands::document;
use crate::tokens::Tokens;

pub(super) fn run(tokens: &Tokens, events: &dyn Observer) -> Result<Finish> {
    let all = tokens.all()?;
    let mut text = String::new();
    for token in &all {
        let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.0.name()).collect();
        let expires = token.expires.map_or("never".to_owned(), |at| at.strftime("%FT%TZ").to_string());
        let created = token.created.strftime("%FT%TZ");
        text.push_str(&format!("{:24} {:28} created {created}  expires {expires}\n", token.name, scopes.join(",")));
    }
    let listed = all.iter().map(|token| {
        serde_json::json!({ "name": token.name, "scopes": token.scopes, "created": token.created, "expires": token.expires })
    });
    document(events, "tokens", serde_json::json!({ "tokens": listed.collect::<Vec<_>>() }), text);
    Ok(Finish::default())
}

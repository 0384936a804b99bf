//! `serve token …`: creates, lists and revokes tokens.

use std::path::Path;

use xtask::cli::Token;
use xtask::commands::Finish;
use xtask::error::Result;
use xtask::event::{Event, Observer};

use crate::tokens::Tokens;

mod create;
mod list;
mod revoke;

pub(crate) fn run(command: &Token, dir: &Path, events: &dyn Observer) -> Result<Finish> {
    fs_err::create_dir_all(dir)?;
    let (tokens, first) = Tokens::open(dir)?;
    if let Some(file) = first {
        let message = format!("the token `admin`, with all scopes, is in {}", file.display());
        events.event(Event::Note { message });
    }
    match command {
        Token::Create(args) => create::run(&tokens, args, events),
        Token::List => list::run(&tokens, events),
        Token::Revoke(args) => revoke::run(&tokens, args),
    }
}

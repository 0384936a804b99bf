//! `serve token revoke`: removes a token. A running server reads the file again at its next request.

use xtask::cli::TokenRevoke;
use xtask::commands::Finish;
use xtask::error::Result;

use crate::tokens::Tokens;

pub(super) fn run(tokens: &Tokens, args: &TokenRevoke) -> Result<Finish> {
    tokens.revoke(&args.name)?;
    Ok(Finish { summary: format!("revoked the token {}", args.name), data: serde_json::Value::Null })
}

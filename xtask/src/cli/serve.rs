//! `serve …`: the arguments of the images API.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::duration;

/// `serve`
#[derive(Clone, Debug, Default, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Serve {
    /// Address and port to listen on; overrides `listen` of [serve] in ami.toml
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Certificate chain of the server, PEM; overrides `tls_cert`
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate, PEM; overrides `tls_key`
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Program that runs the builds [default: `xtask` beside this program]
    #[arg(long, value_name = "PROGRAM", hide = true)]
    pub xtask: Option<PathBuf>,
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<ServeCommand>,
}

/// `serve …`
#[derive(Clone, Debug, Subcommand)]
pub enum ServeCommand {
    /// Create, list and revoke the tokens of the images API
    #[command(subcommand)]
    Token(Token),
}

/// `serve token …`
#[derive(Clone, Debug, Subcommand)]
pub enum Token {
    /// Create a token and print it; only its hash is stored
    Create(TokenCreate),
    /// List the tokens: name, scopes, when they were created and when they expire
    List,
    /// Revoke a token; a running server refuses it from the next request on
    Revoke(TokenRevoke),
}

/// `serve token create`
#[derive(Clone, Debug, Args)]
pub struct TokenCreate {
    /// Name of the token, which the audit log records as the requester
    pub name: String,
    /// What the token permits (repeatable)
    #[arg(long = "scope", value_name = "SCOPE", value_enum, required = true, value_delimiter = ',')]
    pub scopes: Vec<Scope>,
    /// Refuse the token after this time [default: never]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub expires: Option<Duration>,
}

/// `serve token revoke`
#[derive(Clone, Debug, Args)]
pub struct TokenRevoke {
    /// Name of the token
    pub name: String,
}

/// What a token permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Scope {
    /// List and show builds, images and channels
    Read,
    /// Start and cancel builds
    Build,
    /// Promote images and roll channels back
    Promote,
    /// Delete images
    Delete,
}

impl Scope {
    /// Its name in tokens, documents and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Build => "build",
            Self::Promote => "promote",
            Self::Delete => "delete",
        }
    }
}

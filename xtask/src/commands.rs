//! One verb a file. The only place where the layers meet; prints nothing itself.

use serde_json::Value;

use crate::cli::{Ami, Cli, Command};
use crate::error::Result;

pub mod ami;
mod context;
mod doctor;
mod smoke_binary;
mod test;
mod validate;

pub use context::{Context, project_root};

/// What a command that succeeded says at the end.
#[derive(Clone, Debug, Default)]
pub struct Finish {
    /// One line for a person.
    pub summary: String,
    /// Ids, paths, numbers.
    pub data: Value,
}

impl Finish {
    /// A summary and its data.
    pub fn new(summary: impl Into<String>, data: Value) -> Self {
        Self { summary: summary.into(), data }
    }
}

/// Runs the command that was asked for.
pub fn run(cli: Cli, context: &Context) -> Result<Finish> {
    match cli.command {
        Command::Validate => validate::run(context),
        Command::Doctor(args) => doctor::run(context, &args),
        Command::Test(args) => test::run(context, &args),
        Command::Ami(ami) => match ami {
            Ami::Plan(args) => ami::plan::run(context, &args),
            Ami::Build(args) => ami::build::run(context, &args),
            Ami::Smoke(args) => ami::smoke::run(context, &args),
            Ami::Copy(args) => ami::copy::run(context, &args),
            Ami::Promote(args) => ami::promote::run(context, &args),
            Ami::Release(args) => ami::release::run(context, &args),
            Ami::List => ami::list::run(context),
            Ami::Show(args) => ami::show::run(context, &args),
            Ami::Delete(args) => ami::delete::run(context, &args),
        },
    }
}

//! The commands, one per file. Only this module combines the others; it prints nothing itself.

use serde_json::Value;

use crate::cli::{Ami, Cli, Command, Pins, Ssm};
use crate::error::Result;

pub mod ami;
mod conclude;
mod context;
mod docs;
mod doctor;
mod exec;
mod locate;
mod log;
mod iam_policy;
mod pins;
mod provider;
mod rebuild;
mod secrets;
mod session;
mod smoke_binary;
mod ssm;
mod start;
mod test;
mod validate;

pub use context::{Context, project_root};
pub use provider::{OnLocal, Provider, local_settings};
pub use session::Session;
pub use start::start;

/// The result of a command that succeeded.
#[derive(Clone, Debug, Default)]
pub struct Finish {
    /// One line of text; nothing is printed if it is empty.
    pub summary: String,
    /// Ids, paths and numbers, for `--format json`.
    pub data: Value,
}

impl Finish {
    pub(crate) fn new(summary: impl Into<String>, data: Value) -> Self {
        Self { summary: summary.into(), data }
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.split('-').map(str::len).eq([8, 4, 4, 4, 12])
        && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

pub(crate) fn run<P: Provider>(cli: Cli, context: &Context, provider: &P) -> Result<Finish> {
    // The ledger has the runs of all providers, and the record of a run names its provider.
    let any_provider = matches!(cli.command, Command::Ami(Ami::Runs(_) | Ami::Resume(_)));
    // The `pins` commands read base images from the provider.
    let uses_provider = matches!(cli.command, Command::Ami(_) | Command::Pins(_));
    if uses_provider && !any_provider && context.common.on != provider.on() {
        return exec::aws(context);
    }
    if matches!(cli.command, Command::Ssm(_)) && !provider.has_managed_nodes() {
        return exec::aws(context);
    }
    match &cli.command {
        Command::Ami(Ami::Build(args)) if args.queue => return exec::serve(context),
        // The id of a queued build is a UUID, that of a run is not.
        Command::Ami(Ami::Status(args)) if args.build.as_deref().is_some_and(is_uuid) => return exec::serve(context),
        _ => {}
    }
    if matches!(cli.command, Command::Ami(_)) {
        rebuild::if_damaged(context, provider)?;
    }
    match cli.command {
        Command::IamPolicy(args) => iam_policy::run(context, provider, &args),
        Command::Ssm(Ssm::Status(args)) => ssm::status::run(context, provider, &args),
        Command::Ssm(Ssm::Install(args)) => ssm::install::run(context, provider, &args),
        Command::Ssm(Ssm::Keepalive(args)) => ssm::keepalive::run(context, provider, &args),
        Command::Pins(Pins::Check(args)) => pins::check::run(context, provider, &args),
        Command::Pins(Pins::Update(args)) => pins::update::run(context, provider, &args),
        Command::Validate(args) => validate::run(context, &args),
        Command::Serve(_) => exec::serve(context),
        Command::Docs(args) => docs::run(context, &args),
        Command::Doctor(args) => doctor::run(context, &args),
        Command::Test(args) => test::run(context, &args),
        Command::Ami(ami) => match ami {
            Ami::Plan(args) => ami::plan::run(context, provider, &args),
            Ami::Build(args) => ami::build::run(context, provider, &args.build),
            Ami::Smoke(args) => ami::smoke::run(context, provider, &args),
            Ami::Copy(args) => ami::copy::run(context, provider, &args),
            Ami::Promote(args) => ami::promote::run(context, provider, &args),
            Ami::Release(args) => ami::release::run(context, provider, &args),
            Ami::Bump(args) => ami::bump::run(context, provider, &args),
            Ami::Rollback(args) => ami::rollback::run(context, provider, &args),
            Ami::Watch(args) => ami::watch::run(context, provider, &args),
            Ami::History(args) => ami::history::run(context, provider, &args),
            Ami::List(args) => ami::list::run(context, provider, &args),
            Ami::Show(args) => ami::show::run(context, provider, &args),
            Ami::Report(args) => ami::report::run(context, provider, &args),
            Ami::Status(args) => ami::status::run(context, provider, &args),
            Ami::Runs(args) => ami::runs::run(context, &args),
            Ami::Resume(args) => ami::resume::run(context, provider, &args),
            Ami::Diff(args) => ami::diff::run(context, provider, &args),
            Ami::Gc(args) => ami::gc::run(context, provider, &args),
            Ami::Delete(args) => ami::delete::run(context, provider, &args),
        },
    }
}

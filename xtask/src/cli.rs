//! The command line as clap types. The commands are in `commands/`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::ids::RunId;
use crate::ssm::Target;

mod ami;
mod iam;
mod serve;

pub use ami::*;
pub use iam::*;
pub use serve::*;

/// Build, test and distribute machine images with coding agents pre-installed.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    disable_help_subcommand = true,
    after_help = "Start with `cargo xtask ami release`: it builds an image on this machine, runs its smoke test, copies it to a second \
                  local region and points the staging channel at it. No AWS account is needed.\n\n\
                  Exit codes: 0 success, 1 a check failed, 2 usage or configuration error, 3 missing precondition, \
                  4 the cloud or a tool failed, 130 interrupted and cleaned up."
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub common: Common,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Output format: text, or JSON Lines whose last line is the result
    #[arg(long, global = true, value_enum, default_value = "human", help_heading = "Common options")]
    pub format: Format,
    /// Print every line of every step
    #[arg(short, long, global = true, help_heading = "Common options")]
    pub verbose: bool,
    /// Print only warnings and the result
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Common options")]
    pub quiet: bool,
    /// Answer yes to every question
    #[arg(short, long, global = true, help_heading = "Common options")]
    pub yes: bool,
    /// Print what would be done, and do nothing
    #[arg(long, global = true, help_heading = "Common options")]
    pub dry_run: bool,
    /// Where to build and keep images
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "local",
        env = "AGENT_AMI_ON",
        hide_env_values = true,
        help_heading = "Common options"
    )]
    pub on: On,
    /// How to connect to instances on AWS; overrides `via` in ami.toml
    #[arg(long, global = true, value_enum, help_heading = "Common options")]
    pub via: Option<Via>,
    /// State directory; overrides `local.state_dir` in ami.toml
    #[arg(long, global = true, value_name = "DIR", help_heading = "Common options")]
    pub state: Option<PathBuf>,
    /// Run for `serve` under this run id: end when standard input closes, and wait for the build lock
    #[arg(long, global = true, value_name = "RUN", hide = true, value_parser = run_id)]
    pub supervised: Option<RunId>,
}

/// The output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text on standard error; requested documents on standard output.
    Human,
    /// JSON Lines on standard output.
    Json,
}

/// Where images are built and kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum On {
    /// QEMU on this machine.
    Local,
    /// Amazon EC2.
    Aws,
}

impl On {
    /// The value of `--on`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Aws => "aws",
        }
    }
}

/// How to connect to instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Via {
    /// SSH, with a temporary key pair and a security group that allows one address.
    Ssh,
    /// AWS Systems Manager Run Command: no key pair, no open port.
    Ssm,
}

/// Options of `validate`.
#[derive(Debug, Args)]
pub struct Validate {
    /// Fail if this linter of workflows is not installed; repeatable
    #[arg(long, value_name = "LINTER", value_enum)]
    pub require: Vec<Linter>,
}

/// A linter that `validate` runs if it is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Linter {
    /// github.com/rhysd/actionlint
    Actionlint,
    /// docs.zizmor.sh
    Zizmor,
}

impl Linter {
    /// The program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Actionlint => "actionlint",
            Self::Zizmor => "zizmor",
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Validate configuration, templates, pins, smoke specs, scripts and lock files without building
    Validate(Validate),
    /// Check that the host tools are installed, and print how to install those that are missing
    Doctor(Doctor),
    /// Run the test suite, as CI does
    Test(Test),
    /// Build, test, distribute and delete images
    #[command(subcommand)]
    Ami(Ami),
    /// Manage running servers through AWS Systems Manager
    #[command(subcommand)]
    Ssm(Ssm),
    /// Check and update pinned versions
    #[command(subcommand)]
    Pins(Pins),
    /// Serve the images API: queue, run and follow builds over HTTP
    Serve(Serve),
    /// Generate the reference documentation: command line, man pages, shell completions
    Docs(Docs),
    /// Print the least-privilege IAM policy of the pipeline, or with --trust the trust policy of its role
    IamPolicy(IamPolicy),
}

/// `ssm …`
#[derive(Debug, Subcommand)]
pub enum Ssm {
    /// List managed nodes: ping status, agent version and restart policy; exit with 1 if one is not Online
    Status(SsmStatus),
    /// Configure systemd to restart the agent whenever it exits
    Keepalive(SsmKeepalive),
    /// Install or update the dispatch scripts; existing dispatch*.sh files are backed up
    Install(SsmInstall),
}

/// `pins …`
#[derive(Debug, Subcommand)]
pub enum Pins {
    /// Report newer versions, overdue reviews and end-of-life dates of everything that is pinned
    Check(PinsCheck),
    /// Update pins, lock files and smoke specs together, and print the diff and the version bump that it requires
    Update(PinsUpdate),
}

/// `pins check`
#[derive(Clone, Debug, Args)]
pub struct PinsCheck {
    /// Ignore releases younger than this
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "7d")]
    pub min_age: Duration,
}

/// `pins update`
#[derive(Clone, Debug, Args)]
pub struct PinsUpdate {
    /// Which releases to consider.
    #[command(flatten)]
    pub check: PinsCheck,
    /// Open or update a pull request with the changes, or an issue where no version fixes what is due; requires git and gh
    #[arg(long)]
    pub propose: bool,
}

/// `ssm status`
#[derive(Clone, Debug, Args)]
pub struct SsmStatus {
    /// Select nodes by `i-…`, `mi-…` or `tag:KEY=VALUE` (repeatable) [default: all]
    #[arg(long = "target", value_name = "NODE")]
    pub targets: Vec<Target>,
    /// Search this region (repeatable) [default: all regions of ami.toml]
    #[arg(long = "region", value_name = "REGION")]
    pub regions: Vec<String>,
    /// Do not query the restart policy; no command is sent to the nodes
    #[arg(long)]
    pub no_policy: bool,
}

/// The nodes that a script is run on.
#[derive(Clone, Debug, Args)]
pub struct Nodes {
    /// Select nodes by `i-…`, `mi-…` (hybrid activation) or `tag:KEY=VALUE` (repeatable)
    #[arg(long = "target", value_name = "NODE", required = true)]
    pub targets: Vec<Target>,
    /// Search this region (repeatable) [default: all regions of ami.toml]
    #[arg(long = "region", value_name = "REGION")]
    pub regions: Vec<String>,
}

/// `ssm keepalive`
#[derive(Clone, Debug, Args)]
pub struct SsmKeepalive {
    /// The nodes.
    #[command(flatten)]
    pub nodes: Nodes,
    /// Timeout for each node
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2m")]
    pub timeout: Duration,
}

/// `ssm install`
#[derive(Clone, Debug, Args)]
pub struct SsmInstall {
    /// The nodes.
    #[command(flatten)]
    pub nodes: Nodes,
    /// Install the scripts for this user, as whom root's dispatch scripts run agents [default: the one of the last install, else ubuntu]
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Timeout for each node
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2m")]
    pub timeout: Duration,
}

/// `doctor`
#[derive(Debug, Args)]
pub struct Doctor {
    /// Install what is missing (apt, dnf or brew)
    #[arg(long)]
    pub install: bool,
    /// Allow every user of this machine to use KVM by a udev rule, for CI runners
    #[arg(long)]
    pub kvm: bool,
}

/// `docs`
#[derive(Debug, Args)]
pub struct Docs {
    /// Write nothing, and exit with 1 if a generated file is out of date
    #[arg(long)]
    pub check: bool,
}

/// `test`
#[derive(Debug, Args)]
pub struct Test {
    /// Skip tests that need a virtual machine
    #[arg(long)]
    pub no_vm: bool,
    /// Also run tests that take more than an hour: Packer, and releases against an EC2 endpoint
    #[arg(long, conflicts_with = "no_vm")]
    pub full: bool,
    /// Run only these parts: `--part format,lint`; `--dry-run` lists them
    #[arg(long = "part", value_name = "PART", value_delimiter = ',', conflicts_with_all = ["no_vm", "full"])]
    pub parts: Vec<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = |e: jiff::Error| format!("{e}; write it as 7d, 48h or 30m");
    let parsed: jiff::Span = text.parse().map_err(wrong)?;
    let parsed = parsed.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(wrong)?;
    Duration::try_from(parsed).map_err(|_| "a time cannot be negative".to_owned())
}

fn run_id(text: &str) -> Result<RunId, String> {
    let parts: Vec<&str> = text.split('-').collect();
    let is_number = |part: &str, digits| part.len() == digits && part.bytes().all(|b| b.is_ascii_digit());
    let is_hex = |part: &str| part.len() == 6 && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match parts[..] {
        ["run", day, time, random] if is_number(day, 8) && is_number(time, 6) && is_hex(random) => Ok(text.into()),
        _ => Err("a run id has the form run-YYYYMMDD-HHMMSS-xxxxxx".to_owned()),
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn clap_accepts_the_definition() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_run_id_cannot_name_a_path() {
        assert!(run_id("run-20261128-084010-e8eec9").is_ok());
        for wrong in
            ["", "run", "run-20261128-084010-e8eec", "run-20261128-084010-../../", "run-2026112a-084010-e8eec9"]
        {
            assert!(run_id(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn variables_may_contain_equals_signs_and_need_a_name() {
        assert_eq!(key_value("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
        assert!(key_value("=x").is_err() && key_value("x").is_err());
    }
}

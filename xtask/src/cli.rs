//! The command line: clap types only. What a command does stands in `commands/`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::fleet::Target;

mod ami;
mod iam;

pub use ami::*;
pub use iam::*;

/// Build, test and ship machine images with coding agents pre-installed.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    disable_help_subcommand = true,
    after_help = "Start with `cargo xtask ami release`: it builds an image in a local VM, boots it, judges it, copies it to a second \
                  local region and points the staging channel at it. No account is needed.\n\n\
                  Exit codes: 0 done, 1 the image was judged bad, 2 usage or configuration, 3 a precondition is missing, \
                  4 the cloud or a tool failed, 130 interrupted and cleaned up."
)]
pub struct Cli {
    /// What applies to every command.
    #[command(flatten)]
    pub common: Common,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// How to report: lines for people, or JSON Lines whose last one is the result
    #[arg(long, global = true, value_enum, default_value = "human", help_heading = "Common options")]
    pub format: Format,
    /// Say more: every line that a step prints
    #[arg(short, long, global = true, help_heading = "Common options")]
    pub verbose: bool,
    /// Say less: warnings and the result
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Common options")]
    pub quiet: bool,
    /// Answer yes to every question
    #[arg(short, long, global = true, help_heading = "Common options")]
    pub yes: bool,
    /// Print what would be done and stop
    #[arg(long, global = true, help_heading = "Common options")]
    pub dry_run: bool,
    /// Where images live
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "local",
        env = "AGENT_AMI_ON",
        help_heading = "Common options"
    )]
    pub on: On,
    /// How instances on AWS are entered, instead of `via` in ami.toml
    #[arg(long, global = true, value_enum, help_heading = "Common options")]
    pub via: Option<Via>,
    /// State folder instead of the one in ami.toml
    #[arg(long, global = true, value_name = "DIR", help_heading = "Common options")]
    pub state: Option<PathBuf>,
}

/// How to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines for people, on standard error; asked-for documents on standard output.
    Human,
    /// JSON Lines on standard output.
    Json,
}

/// Where images live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum On {
    /// QEMU on this machine.
    Local,
    /// Amazon EC2.
    Aws,
}

impl On {
    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Aws => "aws",
        }
    }
}

/// How instances are entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Via {
    /// SSH, with a temporary key pair and a security group that lets in one address.
    Ssh,
    /// AWS Systems Manager Run Command: no key pair, no open port.
    Ssm,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Judge all that can be judged without building: ami.toml, template, pins, smoke spec, scripts, lock files
    Validate,
    /// Look for the host tools; tell which are missing and what brings them
    Doctor(Doctor),
    /// Run the whole test suite, as CI does
    Test(Test),
    /// Work on images
    #[command(subcommand)]
    Ami(Ami),
    /// Servers that already run, by AWS Systems Manager: are they reachable, and do they stay so
    #[command(subcommand)]
    Ssm(Ssm),
    /// What is pinned: is there something newer, and what follows from taking it
    #[command(subcommand)]
    Pins(Pins),
    /// Print the least-privilege IAM policy that the pipeline needs on AWS, as JSON; with --trust, who may assume the role that has it
    IamPolicy(IamPolicy),
}

/// `ssm …`
#[derive(Debug, Subcommand)]
pub enum Ssm {
    /// All managed nodes: reachable, the agent's version, and whether systemd brings it back; exit code 1 if one is not Online
    Status(SsmStatus),
    /// Have systemd bring the agent back whatever ends it, on servers that already run
    Keepalive(SsmKeepalive),
    /// Install the dispatch scripts, or a newer version of them, on servers that already run; their own dispatch*.sh are kept beside
    Install(SsmInstall),
}

/// `pins …`
#[derive(Debug, Subcommand)]
pub enum Pins {
    /// Look for newer versions of everything that is pinned, for reviews that are due and ends of life
    Check(PinsCheck),
    /// Take them: pins, lock files and smoke spec change together; shows the diff, and which version bump it means
    Update(PinsUpdate),
}

/// `pins check`
#[derive(Clone, Debug, Args)]
pub struct PinsCheck {
    /// Leave releases alone until they have been out for so long
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "7d")]
    pub min_age: Duration,
}

/// `pins update`
#[derive(Clone, Debug, Args)]
pub struct PinsUpdate {
    /// What is looked for.
    #[command(flatten)]
    pub check: PinsCheck,
    /// Open a pull request with the changes, or bring the open one up to date; where no version mends what is due, an issue. Wants git and gh
    #[arg(long)]
    pub propose: bool,
}

/// `ssm status`
#[derive(Clone, Debug, Args)]
pub struct SsmStatus {
    /// Only these: `i-…`, `mi-…` or `tag:KEY=VALUE` (repeatable); all when left out
    #[arg(long = "target", value_name = "NODE")]
    pub targets: Vec<Target>,
    /// Look in this region (repeatable); in all of ami.toml's when left out
    #[arg(long = "region", value_name = "REGION")]
    pub regions: Vec<String>,
    /// Do not ask the nodes what systemd does when the agent ends: no command is sent
    #[arg(long)]
    pub no_policy: bool,
}

/// `ssm keepalive`
#[derive(Clone, Debug, Args)]
pub struct SsmKeepalive {
    /// Where: `i-…`, `mi-…` (hybrid activation) or `tag:KEY=VALUE` (repeatable)
    #[arg(long = "target", value_name = "NODE", required = true)]
    pub targets: Vec<Target>,
    /// Look in this region (repeatable); in all of ami.toml's when left out
    #[arg(long = "region", value_name = "REGION")]
    pub regions: Vec<String>,
    /// Wait so long for each node
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2m")]
    pub timeout: Duration,
}

/// `ssm install`
#[derive(Clone, Debug, Args)]
pub struct SsmInstall {
    /// Where: `i-…`, `mi-…` (hybrid activation) or `tag:KEY=VALUE` (repeatable)
    #[arg(long = "target", value_name = "NODE", required = true)]
    pub targets: Vec<Target>,
    /// Look in this region (repeatable); in all of ami.toml's when left out
    #[arg(long = "region", value_name = "REGION")]
    pub regions: Vec<String>,
    /// Link the scripts into this user's claude-executor folder
    #[arg(long, value_name = "USER", default_value = "ubuntu")]
    pub user: String,
    /// Wait so long for each node
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2m")]
    pub timeout: Duration,
}

/// `doctor`
#[derive(Debug, Args)]
pub struct Doctor {
    /// Install what is missing (apt, dnf or brew)
    #[arg(long)]
    pub install: bool,
    /// Let every user of this machine use KVM, by a udev rule: for CI runners, where it is there and forbidden
    #[arg(long)]
    pub kvm: bool,
}

/// `test`
#[derive(Debug, Args)]
pub struct Test {
    /// Leave out what needs a virtual machine
    #[arg(long)]
    pub no_vm: bool,
    /// Also what takes more than an hour: the real Packer, and whole releases against an EC2 endpoint
    #[arg(long, conflicts_with = "no_vm")]
    pub full: bool,
    /// Only these parts, whatever suite they are in: `--part format,lint`; `--dry-run` lists them
    #[arg(long = "part", value_name = "PART", value_delimiter = ',', conflicts_with_all = ["no_vm", "full"])]
    pub parts: Vec<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = |e: jiff::Error| format!("{e}; write it as 7d, 48h or 30m");
    let parsed: jiff::Span = text.parse().map_err(wrong)?;
    let parsed = parsed.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(wrong)?;
    Duration::try_from(parsed).map_err(|_| "a time cannot be negative".to_owned())
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
    fn clap_finds_no_contradiction() {
        Cli::command().debug_assert();
    }

    #[test]
    fn variables_may_contain_equals_signs_and_need_a_name() {
        assert_eq!(key_value("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
        assert!(key_value("=x").is_err() && key_value("x").is_err());
    }
}

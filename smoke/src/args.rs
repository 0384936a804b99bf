//! Command line of the smoke binary.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

/// Output of `--help`.
pub(crate) const HELP: &str = "\
Checks the instance that it runs on against a smoke spec.

Usage: smoke run --spec FILE [OPTIONS]

Options:
  --spec FILE           Smoke spec (TOML)
  --fixtures DIR        Files that `cargo xtask ami smoke` uploads: launch key, identity of the builder, a git bundle
  --format FORMAT       Format of the report on standard output: terminal, json, junit or tap [default: terminal]
  --output FORMAT=FILE  Write the report to a file as well; repeatable
  --now SECONDS         Time to compare the clock with, in seconds since 1970
  --only CHECK          Run only this check; repeatable
  --jobs N              Maximum number of checks that run at the same time [default: all]
  --progress            Print each finished check to standard error
  --list                Print the names of the checks and exit
  -h, --help            Print this help
  -V, --version         Print the version

Exit codes:
  0  no check failed
  1  a check failed
  2  the checks did not run: invalid usage, invalid spec, not root

Example:
  sudo ./smoke run --spec locus-agent.toml --only ufw-active --only tool-git
";

#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Version,
    List(Args),
    Run(Args),
    /// Not in the help: connects to an address. The binary starts itself with it in another network namespace.
    Probe(SocketAddr, Duration),
}

#[derive(Debug)]
pub(crate) struct Args {
    pub spec: PathBuf,
    pub fixtures: Option<PathBuf>,
    pub now: Option<u64>,
    pub format: String,
    pub outputs: Vec<(String, PathBuf)>,
    pub only: Vec<String>,
    pub jobs: usize,
    pub progress: bool,
}

const FORMATS: [&str; 4] = ["terminal", "json", "junit", "tap"];

/// Parses the arguments of the process.
pub(crate) fn parse() -> Result<Command, String> {
    read(lexopt::Parser::from_env()).map_err(|e| format!("{e}; run `smoke --help` for usage"))
}

fn read(mut parser: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let (mut spec, mut list) = (None, false);
    let mut args = Args {
        spec: PathBuf::new(),
        fixtures: None,
        now: None,
        format: "terminal".to_owned(),
        outputs: vec![],
        only: vec![],
        jobs: usize::MAX,
        progress: false,
    };
    let mut verb = None;
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Command::Help),
            Short('V') | Long("version") => return Ok(Command::Version),
            Long("spec") => spec = Some(PathBuf::from(parser.value()?)),
            Long("fixtures") => args.fixtures = Some(parser.value()?.into()),
            Long("now") => args.now = Some(parser.value()?.parse()?),
            Long("format") => args.format = format(parser.value()?.string()?)?,
            Long("output") => {
                let text = parser.value()?.string()?;
                let (name, file) = text.split_once('=').ok_or("--output requires FORMAT=FILE")?;
                args.outputs.push((format(name.to_owned())?, file.into()));
            }
            Long("only") => args.only.push(parser.value()?.string()?),
            Long("jobs") => {
                args.jobs = parser.value()?.parse()?;
                if args.jobs == 0 {
                    return Err("--jobs must be at least 1".into());
                }
            }
            Long("progress") => args.progress = true,
            Long("list") => list = true,
            Value(value) if verb.is_none() && value == "run" => verb = Some(()),
            Value(value) if verb.is_none() && value == "probe" => {
                let address = parser.value()?.parse()?;
                return Ok(Command::Probe(address, Duration::from_secs(parser.value()?.parse()?)));
            }
            other => return Err(other.unexpected()),
        }
    }
    if verb.is_none() {
        return Err("no subcommand given; expected `run`".into());
    }
    args.spec = spec.ok_or("--spec FILE is required")?;
    Ok(if list { Command::List(args) } else { Command::Run(args) })
}

fn format(name: String) -> Result<String, lexopt::Error> {
    if FORMATS.contains(&name.as_str()) {
        return Ok(name);
    }
    Err(format!("unknown report format `{name}`; expected terminal, json, junit or tap").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        read(lexopt::Parser::from_iter(line.split(' '))).map_err(|e| e.to_string())
    }

    #[test]
    fn options_of_a_run() {
        let Ok(Command::Run(args)) =
            parsed("smoke run --spec s.toml --format json --output junit=a.xml --only x --only y --jobs 2")
        else {
            panic!("expected a run");
        };
        assert_eq!((args.format.as_str(), args.only.len(), args.jobs), ("json", 2, 2));
        assert_eq!(args.outputs, [("junit".to_owned(), PathBuf::from("a.xml"))]);
        assert!(matches!(parsed("smoke run --spec s.toml --list"), Ok(Command::List(_))));
    }

    #[test]
    fn error_messages() {
        for (line, part) in [
            ("smoke --spec s", "no subcommand given"),
            ("smoke run", "--spec FILE is required"),
            ("smoke run --spec s --format xml", "unknown report format `xml`"),
            ("smoke run --spec s --output x", "FORMAT=FILE"),
            ("smoke run --spec s --jobs 0", "at least 1"),
            ("smoke run --spec s --nonsense", "nonsense"),
        ] {
            let message = parsed(line).unwrap_err();
            assert!(message.contains(part), "{line}: {message}");
        }
    }
}

//! The judge's command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

/// What `--help` says.
pub(crate) const HELP: &str = "\
Holds the instance it runs on against a smoke spec.

Usage: smoke run --spec FILE [OPTIONS]

Options:
  --spec FILE           the smoke spec (TOML)
  --fixtures DIR        what `cargo xtask ami smoke` uploads along: launch key, builder's identity, a git bundle
  --format FORMAT       what to print: terminal (default), json, junit, tap
  --output FORMAT=FILE  write the report to a file, too; may be given several times
  --now SECONDS         the time where the judgement is asked for, in seconds since 1970
  --only CHECK          run this check only; may be given several times
  --jobs N              run at most N checks at once (default: all)
  --progress            say on standard error which check has ended
  --list                print the names of the checks and stop
  -h, --help            this text
  -V, --version         the version

Exit codes:
  0  the instance is as the spec wants it
  1  it is not
  2  the judge could not do its work: bad usage, bad spec, not root

Example:
  sudo ./smoke run --spec locus-agent.toml --only ufw-active --only tool-git
";

/// What is asked.
#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Version,
    List(Args),
    Run(Args),
    /// Hidden: connects to an address; how this binary looks at the instance from another network namespace.
    Probe(SocketAddr, Duration),
}

/// Options of a run.
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

/// Reads the process's arguments.
pub(crate) fn parse() -> Result<Command, String> {
    read(lexopt::Parser::from_env()).map_err(|e| format!("{e}; `smoke --help` tells the usage"))
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
                let (name, file) = text.split_once('=').ok_or("--output wants FORMAT=FILE")?;
                args.outputs.push((format(name.to_owned())?, file.into()));
            }
            Long("only") => args.only.push(parser.value()?.string()?),
            Long("jobs") => {
                args.jobs = parser.value()?.parse()?;
                if args.jobs == 0 {
                    return Err("--jobs wants at least 1".into());
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
        return Err("what to do is missing; `run` is what there is".into());
    }
    args.spec = spec.ok_or("--spec FILE is missing")?;
    Ok(if list { Command::List(args) } else { Command::Run(args) })
}

fn format(name: String) -> Result<String, lexopt::Error> {
    if FORMATS.contains(&name.as_str()) {
        return Ok(name);
    }
    Err(format!("no report format `{name}`: terminal, json, junit or tap").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        read(lexopt::Parser::from_iter(line.split(' '))).map_err(|e| e.to_string())
    }

    #[test]
    fn a_run_is_read() {
        let Ok(Command::Run(args)) =
            parsed("smoke run --spec s.toml --format json --output junit=a.xml --only x --only y --jobs 2")
        else {
            panic!("not a run");
        };
        assert_eq!((args.format.as_str(), args.only.len(), args.jobs), ("json", 2, 2));
        assert_eq!(args.outputs, [("junit".to_owned(), PathBuf::from("a.xml"))]);
        assert!(matches!(parsed("smoke run --spec s.toml --list"), Ok(Command::List(_))));
    }

    #[test]
    fn mistakes_are_told() {
        for (line, part) in [
            ("smoke --spec s", "what to do is missing"),
            ("smoke run", "--spec FILE is missing"),
            ("smoke run --spec s --format xml", "no report format `xml`"),
            ("smoke run --spec s --output x", "FORMAT=FILE"),
            ("smoke run --spec s --jobs 0", "at least 1"),
            ("smoke run --spec s --nonsense", "nonsense"),
        ] {
            let message = parsed(line).unwrap_err();
            assert!(message.contains(part), "{line}: {message}");
        }
    }
}

//! `smoke`: runs on a booted instance as root and holds it against a smoke spec. Exit code 0: as the spec wants it;
//! 1: it is not; 2: the judge could not do its work (bad usage, bad spec).

mod args;
mod checks;
mod dns;
mod exec;
mod files;
mod instance;
mod measure;
mod network;
mod runner;

use std::fs;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use smoke::report::Report;
use smoke::spec;

use args::{Args, Command};
use checks::Check;
use instance::Instance;

fn main() -> ExitCode {
    let result = args::parse().and_then(|command| match command {
        Command::Help => say(args::HELP).map(|()| 0),
        Command::Version => say(concat!("smoke ", env!("CARGO_PKG_VERSION"), "\n")).map(|()| 0),
        Command::Probe(address, wait) => Ok(network::probe(address, wait)),
        Command::List(args) => list(&args).map(|()| 0),
        Command::Run(args) => judge(&args),
    });
    match result {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            let _ = writeln!(std::io::stderr(), "error: {message}");
            ExitCode::from(2)
        }
    }
}

/// Prints the names of the checks that would run.
fn list(args: &Args) -> Result<(), String> {
    let (_, checks) = load(args)?;
    let lines: String = checks.iter().map(|c| format!("{}\n", c.name)).collect();
    say(&lines)
}

/// Judges the instance this runs on.
fn judge(args: &Args) -> Result<u8, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("the judge looks at things only root may see; run it with sudo".to_owned());
    }
    let (spec, checks) = load(args)?;
    let instance = Arc::new(Instance::new(spec, args.fixtures.clone(), args.now)?);
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let started = Instant::now();
    let told = |done: usize, all: usize, name: &str| {
        if args.progress {
            // Whoever listened may have gone; the report is what counts.
            let _ = writeln!(std::io::stderr(), "{done}/{all} {name}");
        }
    };
    let results = runner::run(checks, &instance, args.jobs, &today, &told);
    let wall_seconds = started.elapsed().as_secs_f64();
    // Whether a boot that cannot be measured is a failure is for its check; the report then has none.
    let boot = instance.boot(started + measure::PATIENCE).ok();
    instance.tidy();
    let report = Report {
        schema: 1,
        boot_id: read_trimmed("/proc/sys/kernel/random/boot_id"),
        host_keys: instance.host_keys(),
        os: instance.os(),
        slowest_seconds: results.iter().map(|c| c.seconds).fold(0.0, f64::max),
        checks: results,
        wall_seconds,
        boot,
    };
    let render = |format: &str| report.render(format).ok_or_else(|| format!("no report format `{format}`"));
    for (format, file) in &args.outputs {
        fs::write(file, render(format)?).map_err(|e| format!("{}: {e}", file.display()))?;
    }
    say(&render(&args.format)?)?;
    Ok(u8::from(!report.passed()))
}

/// Reads the spec and makes its checks; a spec that names checks which do not exist is bad.
fn load(args: &Args) -> Result<(spec::Spec, Vec<Check>), String> {
    let file = args.spec.display();
    let text = fs::read_to_string(&args.spec).map_err(|e| format!("{file}: {e}"))?;
    let spec = spec::parse(&text).map_err(|e| match e.line {
        Some(line) => format!("{file}:{line}: {}", e.message),
        None => format!("{file}: {}", e.message),
    })?;
    let mut checks = checks::all(&spec);
    let known = |name: &str| checks.iter().any(|c| c.name == name);
    let named = spec.overrides.iter().map(|o| &o.check).chain(&args.only);
    if let Some(unknown) = named.into_iter().find(|name| !known(name)) {
        return Err(format!("{file}: there is no check `{unknown}`; `smoke run --spec {file} --list` lists them"));
    }
    if !args.only.is_empty() {
        checks.retain(|c| args.only.contains(&c.name));
    }
    if checks.is_empty() {
        return Err(format!("{file}: the spec has no checks"));
    }
    Ok((spec, checks))
}

fn say(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    let text = if text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") };
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| format!("cannot write the report: {e}"))
}

fn read_trimmed(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

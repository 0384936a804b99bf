//! The smoke binary: runs as root on a booted instance and checks it against a smoke spec.

mod args;
mod dns;
mod exec;
mod proc_net;
mod packages;
mod measure;
mod network;
mod instance;
mod check;
mod checks;
mod runner;

use std::fs;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use smoke::report::Report;
use smoke::spec;

use args::{Args, Command};
use check::Check;
use instance::Instance;

fn main() -> ExitCode {
    let result = args::parse().and_then(|command| match command {
        Command::Help => print(args::HELP).map(|()| 0),
        Command::Version => print(concat!("smoke ", env!("CARGO_PKG_VERSION"), "\n")).map(|()| 0),
        Command::Probe(address, timeout) => Ok(network::probe(address, timeout)),
        Command::List(args) => list(&args).map(|()| 0),
        Command::Run(args) => run(&args),
    });
    match result {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            let _ = writeln!(std::io::stderr(), "error: {message}");
            ExitCode::from(2)
        }
    }
}

fn list(args: &Args) -> Result<(), String> {
    let (_, checks) = load(args)?;
    let lines: String = checks.iter().map(|c| format!("{}\n", c.name)).collect();
    print(&lines)
}

/// Runs the checks, writes the reports and returns the exit code.
fn run(args: &Args) -> Result<u8, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("not root: the checks read files of root; run it with sudo".to_owned());
    }
    let (spec, checks) = load(args)?;
    let instance = Arc::new(Instance::new(spec, args.fixtures.clone(), args.now)?);
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let started = Instant::now();
    let on_finished = |done: usize, all: usize, name: &str| {
        if args.progress {
            // The reader of standard error may have closed it. That does not affect the report.
            let _ = writeln!(std::io::stderr(), "{done}/{all} {name}");
        }
    };
    let results = runner::run(checks, &instance, args.jobs, &today, &on_finished);
    let wall_seconds = started.elapsed().as_secs_f64();
    // Not an error here: without a measurement the check `boot-time` fails and the report has no times.
    let boot = instance.boot(started + measure::TIMEOUT).ok();
    instance::clean_up();
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
    let render = |format: &str| report.render(format).ok_or_else(|| format!("unknown report format `{format}`"));
    for (format, file) in &args.outputs {
        fs::write(file, render(format)?).map_err(|e| format!("{}: {e}", file.display()))?;
    }
    print(&render(&args.format)?)?;
    Ok(u8::from(!report.passed()))
}

/// Reads the spec and selects its checks. Fails if `[[override]]` or `--only` names a check that the spec does not have.
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
        return Err(format!("{file}: no check `{unknown}`; list the checks with `smoke run --spec {file} --list`"));
    }
    if !args.only.is_empty() {
        checks.retain(|c| args.only.contains(&c.name));
    }
    if checks.is_empty() {
        return Err(format!("{file}: the spec has no checks"));
    }
    Ok((spec, checks))
}

fn print(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    let text = if text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") };
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| format!("cannot write the report: {e}"))
}

fn read_trimmed(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

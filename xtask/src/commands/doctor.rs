//! `doctor`: which host tools are here, which are missing, what brings them; `--install` brings them.

use fs_err as fs;

use super::{Context, Finish, OnLocal, Provider as _};
use crate::cli;
use crate::cloud::Builder;
use crate::cloud::local::qemu::Acceleration;
use crate::doctor::{self, Found, Need};
use crate::error::{Error, Exit, Result};
use crate::event::{Event, Outcome, Phase, phase};
use crate::process::{Cmd, Ended, Tail};
use crate::toolchain;

/// What this program and its judge take when they are compiled.
const COMPILED_GIB: u64 = 3;

/// Brings what is missing if we may, and is an error if something needed stays missing, or room for machines.
pub(super) fn ensure(context: &Context) -> Result<()> {
    tools(context)?;
    space(context)
}

/// As [`ensure`], for what starts no machine.
pub(super) fn tools(context: &Context) -> Result<()> {
    phase(context.events.as_ref(), Phase::Doctor, "host tools", || {
        let mut found = look(context);
        let mut installed = 0;
        // Twice: whether containers are of use is known only when QEMU is there.
        for _ in 0..2 {
            let missing: Vec<&Found> = found.iter().filter(|f| f.version.is_none()).collect();
            if missing.is_empty() {
                break;
            }
            if !(context.common.yes || rustix::process::geteuid().is_root()) {
                let needed: Vec<&Found> = missing.iter().copied().filter(|f| is_needed(f)).collect();
                if !needed.is_empty() {
                    return Err(incomplete(&needed));
                }
                let summary = format!("{} tools found, {} missing", found.len() - missing.len(), missing.len());
                return Ok(((), Outcome::Done, summary));
            }
            install(context, &missing)?;
            installed += missing.len();
            found = look(context);
        }
        let still: Vec<&Found> = found.iter().filter(|f| f.version.is_none() && is_needed(f)).collect();
        if !still.is_empty() {
            return Err(incomplete(&still));
        }
        let summary = match installed {
            0 => format!("{} tools found", found.len()),
            installed => format!("{} tools found, {installed} of them installed now", found.len()),
        };
        Ok::<_, Error>(((), Outcome::Done, summary))
    })
}

/// True for a tool without which the command fails. A check without its tool is skipped and says so; without the tools of containers
/// virtual machines build.
fn is_needed(found: &Found) -> bool {
    !matches!(found.need, Need::Checks | Need::Containers)
}

fn look(context: &Context) -> Vec<Found> {
    let toolchain = toolchain::facts().is_ok_and(|f| f.target_installed || (f.debian && f.musl_gcc));
    doctor::look(toolchain, containers_are_useful(context))
}

/// True where a container would build faster than a virtual machine, or was asked for.
fn containers_are_useful(context: &Context) -> bool {
    if !cfg!(target_os = "linux") || !rustix::process::geteuid().is_root() {
        return false;
    }
    let Ok(config) = context.config() else { return false };
    let emulated = || {
        let state = context.state(&config)?;
        Ok::<_, Error>(OnLocal.open(context, &config, &state, None)?.acceleration()?.acceleration == Acceleration::Tcg)
    };
    match config.local.builder.as_str() {
        "vm" => false,
        "container" => true,
        // Without QEMU nobody can say yet.
        _ => emulated().unwrap_or(false),
    }
}

/// What this host builds in, and why; `None` while QEMU is missing.
fn builder(context: &Context) -> Option<Builder> {
    let config = context.config().ok()?;
    let state = context.state(&config).ok()?;
    OnLocal.open(context, &config, &state, None).ok()?.builder_here(None).ok()
}

fn install(context: &Context, missing: &[&Found]) -> Result<()> {
    let Some(manager) = doctor::manager() else { return Err(incomplete(missing)) };
    for cmd in doctor::install(missing, manager, rustix::process::geteuid().is_root()) {
        context.events.event(Event::Note { message: cmd.to_string() });
        let mut said = Tail::default();
        let ended = cmd.stream(None, |_, line| {
            said.push(line);
            context.events.event(Event::Progress { phase: Phase::Doctor, message: line.to_owned(), fraction: None });
        })?;
        if ended != Ended::Code(0) {
            return Err(Exit::Precondition.error(format_args!("`{cmd}` failed ({ended:?}):\n{said}"), "run it by hand"));
        }
    }
    Ok(())
}

fn incomplete(missing: &[&Found]) -> Error {
    let names: Vec<&str> = missing.iter().map(|f| f.program.as_str()).collect();
    let root = rustix::process::geteuid().is_root();
    let hint = match doctor::manager() {
        Some(manager) => {
            let lines: Vec<String> = doctor::install(missing, manager, root).iter().map(ToString::to_string).collect();
            format!("`cargo xtask doctor --install` runs: {}", lines.join(" && "))
        }
        None => "neither apt-get, dnf nor brew is here: install them in the way of this system".to_owned(),
    };
    Exit::Precondition.error(format_args!("missing on this host: {}", names.join(", ")), hint)
}

/// A first build begins with a base image, which takes minutes; without room for the rest it had better not begin. Later builds
/// know better what they need, and say so themselves.
fn space(context: &Context) -> Result<()> {
    // A mistake in `ami.toml` is told by whoever reads it next; the tools are here all the same.
    let Ok(config) = context.config() else { return Ok(()) };
    let state = context.state(&config)?;
    if state.is_new()? {
        state.require_space((config.local.build_gib + COMPILED_GIB) << 30, "a first build")?;
    }
    Ok(())
}

/// The device, and where udev(7) looks for rules of this machine.
const KVM: &str = "/dev/kvm";
const RULE: &str = "/etc/udev/rules.d/99-agent-ami-kvm.rules";

/// Lets every user open /dev/kvm, now and after a restart (docs.github.com, "Hardware acceleration for Android emulators").
fn let_in(context: &Context) -> Result<Finish> {
    let opens = || fs::OpenOptions::new().read(true).write(true).open(KVM);
    let denied = match opens() {
        Ok(_) => return Ok(Finish::new(format!("{KVM} can be used already"), serde_json::json!({ "kvm": "usable" }))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let hint = "enable virtualisation, or load kvm_intel or kvm_amd; without it machines are emulated";
            return Err(Exit::Precondition.error(format_args!("this machine has no {KVM}"), hint));
        }
        Err(error) => error,
    };
    context.confirm(&format!("{KVM}: {denied}. Let every user of this machine use it, by {RULE}?"))?;
    let rule = tempfile::NamedTempFile::new()?;
    fs::write(rule.path(), "KERNEL==\"kvm\", MODE=\"0666\", OPTIONS+=\"static_node=kvm\"\n")?;
    let file = rule.path().display().to_string();
    let steps: [&[&str]; 3] = [
        &["install", "-m", "644", &file, RULE],
        &["udevadm", "control", "--reload-rules"],
        &["udevadm", "trigger", "--name-match=kvm", "--settle"],
    ];
    for step in steps {
        let sudo: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["sudo", "-n"] };
        let words = [sudo, step].concat();
        Cmd::new(words[0]).args(words[1..].iter().copied()).hint("it needs root: run it by hand").read()?;
    }
    opens().map_err(|error| {
        Exit::Failed.error(format_args!("{KVM} still cannot be used: {error}"), format_args!("look at {RULE}"))
    })?;
    Ok(Finish::new(format!("every user can use {KVM} now"), serde_json::json!({ "kvm": "made usable" })))
}

/// Runs the command.
pub(super) fn run(context: &Context, args: &cli::Doctor) -> Result<Finish> {
    if args.kvm {
        return let_in(context);
    }
    let mut found = look(context);
    let missing: Vec<&Found> = found.iter().filter(|f| f.version.is_none()).collect();
    if args.install && !missing.is_empty() {
        install(context, &missing)?;
        found = look(context);
        let missing: Vec<&Found> = found.iter().filter(|f| f.version.is_none()).collect();
        if !missing.is_empty() {
            install(context, &missing)?;
            found = look(context);
        }
    }
    let width = found.iter().map(|f| f.program.len()).max().unwrap_or(0);
    let text = found.iter().map(|f| {
        let mark = if f.version.is_some() { "✓" } else { "✗" };
        format!("{mark} {:width$}  {}\n", f.program, f.version.as_deref().unwrap_or("missing"))
    });
    let mut text: String = text.collect();
    for (program, version, what) in doctor::extras() {
        let line = version.unwrap_or_else(|| format!("not here; {what}"));
        text.push_str(&format!("{} {program:width$}  {line}\n", if line.starts_with("not here") { "-" } else { "✓" }));
    }
    let builder = builder(context);
    if let Some(Builder { kind, why }) = &builder {
        text.push_str(&format!("builder: {}: {why}\n", kind.name()));
    }
    context.document("tools", serde_json::json!(found), text);
    space(context)?;
    let missing: Vec<&Found> = found.iter().filter(|f| f.version.is_none()).collect();
    if !missing.is_empty() {
        return Err(incomplete(&missing));
    }
    Ok(Finish::new("every tool is here", serde_json::json!({ "tools": found, "builder": builder })))
}

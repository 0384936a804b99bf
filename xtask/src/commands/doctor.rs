//! `doctor`: checks which host tools are installed, and prints how to install those that are missing; `--install` installs them.

use fs_err as fs;

use super::{Context, Finish, OnLocal, Provider as _};
use crate::cli;
use crate::cloud::Builder;
use crate::cloud::local::qemu::Acceleration;
use crate::config::Builder as Configured;
use crate::doctor::{self, Found, Need};
use crate::error::{Error, Exit, Result};
use crate::event::{Event, Outcome, Phase, phase};
use crate::process::{Cmd, Ended, Tail};
use crate::toolchain;

/// Disk space in GiB for compiling xtask and the smoke binary.
const COMPILED_GIB: u64 = 3;

/// Installs missing tools, as root or with `--yes`. Fails if a required tool is still missing, or if there is too little disk space for a
/// first build.
pub(super) fn ensure(context: &Context) -> Result<()> {
    tools(context)?;
    space(context)
}

/// Like [`ensure`] without the disk space, for commands that start no machine.
pub(super) fn tools(context: &Context) -> Result<()> {
    phase(context.events.as_ref(), Phase::Doctor, "host tools", || {
        let mut found = look(context);
        let mut installed = 0;
        // Twice: whether the tools for containers are useful is known only after QEMU is installed.
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

/// True for a tool without which a command fails. A check of `validate` without its tool is skipped with a warning, and without the tools
/// for containers images are built in virtual machines.
fn is_needed(found: &Found) -> bool {
    !matches!(found.need, Need::Checks | Need::Containers)
}

fn look(context: &Context) -> Vec<Found> {
    let toolchain = toolchain::facts().is_ok_and(|f| f.target_installed || (f.debian && f.musl_gcc));
    doctor::look(toolchain, containers_are_useful(context))
}

/// True if images are built faster in a container than in a virtual machine, or if ami.toml requires a container.
fn containers_are_useful(context: &Context) -> bool {
    if !cfg!(target_os = "linux") || !rustix::process::geteuid().is_root() {
        return false;
    }
    let Ok(config) = context.config() else { return false };
    let emulated = || {
        let state = context.state(&config)?;
        Ok::<_, Error>(OnLocal.open(context, &config, &state, None)?.acceleration()?.acceleration == Acceleration::Tcg)
    };
    match config.local.builder {
        Configured::Vm => false,
        Configured::Container => true,
        // Without QEMU it is not known yet.
        Configured::Auto => emulated().unwrap_or(false),
    }
}

/// Where images are built on this host, and why; `None` while QEMU is missing.
fn builder(context: &Context) -> Option<Builder> {
    let config = context.config().ok()?;
    let state = context.state(&config).ok()?;
    OnLocal.open(context, &config, &state, None).ok()?.builder_here(None).ok()
}

fn install(context: &Context, missing: &[&Found]) -> Result<()> {
    let Some(manager) = doctor::manager() else { return Err(incomplete(missing)) };
    for cmd in doctor::install(missing, manager, rustix::process::geteuid().is_root()) {
        context.events.event(Event::Note { message: cmd.to_string() });
        let mut output = Tail::default();
        let ended = cmd.stream(None, |_, line| {
            output.push(line);
            context.events.event(Event::Progress { phase: Phase::Doctor, message: line.to_owned(), fraction: None });
        })?;
        if ended != Ended::Code(0) {
            let message = format!("`{cmd}` failed ({ended:?}):\n{output}");
            return Err(Exit::Precondition.error(message, "run the command by hand"));
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
            format!("run `cargo xtask doctor --install`, which runs: {}", lines.join(" && "))
        }
        None => "install them with the package manager of this system; apt-get, dnf and brew were not found".to_owned(),
    };
    Exit::Precondition.error(format_args!("missing on this host: {}", names.join(", ")), hint)
}

/// Fails if there is too little disk space for a first build, which would otherwise fail only after minutes. Later builds check the space
/// that they require themselves.
fn space(context: &Context) -> Result<()> {
    // An error in `ami.toml` is reported by the command that reads it next.
    let Ok(config) = context.config() else { return Ok(()) };
    let state = context.state(&config)?;
    if state.is_new()? {
        state.require_space((config.local.build_gib + COMPILED_GIB) << 30, "a first build")?;
    }
    Ok(())
}

const KVM: &str = "/dev/kvm";
/// The udev(7) rule that allows all users to open the device.
const RULE: &str = "/etc/udev/rules.d/99-agent-ami-kvm.rules";

/// Allows every user to open /dev/kvm, now and after a restart (docs.github.com, "Hardware acceleration for Android emulators").
fn allow_kvm(context: &Context) -> Result<Finish> {
    let opens = || fs::OpenOptions::new().read(true).write(true).open(KVM);
    let denied = match opens() {
        Ok(_) => return Ok(Finish::new(format!("{KVM} is already usable"), serde_json::json!({ "kvm": "usable" }))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let hint = "enable virtualisation, or load kvm_intel or kvm_amd; without KVM, machines are emulated";
            return Err(Exit::Precondition.error(format_args!("no {KVM} on this machine"), hint));
        }
        Err(error) => error,
    };
    context.confirm(&format!("{KVM}: {denied}. Allow every user of this machine to use it, by {RULE}?"))?;
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
        Cmd::new(words[0]).args(words[1..].iter().copied()).hint("run it by hand as root").read()?;
    }
    opens().map_err(|error| {
        Exit::Failed.error(format_args!("{KVM} is still not usable: {error}"), format_args!("check {RULE}"))
    })?;
    Ok(Finish::new(format!("every user can use {KVM} now"), serde_json::json!({ "kvm": "made usable" })))
}

pub(super) fn run(context: &Context, args: &cli::Doctor) -> Result<Finish> {
    if args.kvm {
        return allow_kvm(context);
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
        let mark = if version.is_some() { "✓" } else { "-" };
        let line = version.unwrap_or_else(|| format!("not installed; {what}"));
        text.push_str(&format!("{mark} {program:width$}  {line}\n"));
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
    Ok(Finish::new("all tools are installed", serde_json::json!({ "tools": found, "builder": builder })))
}

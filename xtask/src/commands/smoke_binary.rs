//! The smoke binary: compiled for musl when its sources have changed, and cached in the state directory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;

use super::Context;
use crate::error::{Error, Exit, Result};
use crate::event::{Event, Outcome, Phase, phase};
use crate::process::{Background, Ended, Tail};
use crate::recipe::Digest;
use crate::signals;
use crate::state::State;
use crate::toolchain;

/// Size limit in bytes, because the binary is uploaded to every instance.
const MAX_BYTES: u64 = 2 << 20;

/// Starts to compile the binary in the background, if it is not cached. After [`wait`], [`provide`] uses the result. Dropping the handle
/// kills the compiler. Errors are not reported here: `provide` compiles again and reports them.
pub(super) fn begin(context: &Context, state: &State) -> Option<Background> {
    let hash = sources(&context.root).ok()?;
    if state.path("bin").join(format!("smoke-{}", hash.short())).exists() {
        return None;
    }
    let plan = toolchain::plan(&toolchain::facts().ok()?, &context.root, &state.path("bin").join("target")).ok()?;
    let (last, before) = plan.commands.split_last()?;
    for cmd in before {
        cmd.read().ok()?;
    }
    last.start(&state.path("bin").join("compile.log")).ok()
}

/// Waits for the compiler that [`begin`] started.
pub(super) fn wait(compiling: Option<&Background>) -> Result<()> {
    while compiling.is_some_and(|process| process.ended().is_none()) {
        signals::pause(Duration::from_millis(100))?;
    }
    Ok(())
}

/// Returns the path of the binary, which is compiled first if its sources have changed.
pub(super) fn provide(context: &Context, state: &State) -> Result<PathBuf> {
    let hash = sources(&context.root)?;
    let binary = state.path("bin").join(format!("smoke-{}", hash.short()));
    if binary.exists() {
        return Ok(binary);
    }
    let _lock = state.lock("smoke-binary", &context.line)?;
    let events = context.events.as_ref();
    phase(events, Phase::SmokeBinary, "for x86_64-unknown-linux-musl", || {
        let target = state.path("bin").join("target");
        let plan = toolchain::plan(&toolchain::facts()?, &context.root, &target)?;
        events.event(Event::Note { message: format!("smoke is compiled {}", plan.why) });
        for cmd in &plan.commands {
            let mut output = Tail::default();
            let ended = cmd.stream(None, |_, line| {
                output.push(line);
                let message = line.trim().to_owned();
                events.event(Event::Progress { phase: Phase::SmokeBinary, message, fraction: None });
            })?;
            if ended != Ended::Code(0) {
                return Err(Exit::Failed.error(
                    format_args!("`{cmd}` failed ({ended:?}):\n{output}"),
                    "run `cargo xtask doctor`, which checks the toolchain for the smoke binary",
                ));
            }
        }
        let bytes = fs::metadata(&plan.binary)?.len();
        if bytes > MAX_BYTES {
            let message = format!("the smoke binary has {bytes} bytes, more than {MAX_BYTES}");
            return Err(Exit::Failed.error(message, "check the dependencies of the smoke crate"));
        }
        let staged = binary.with_extension("new");
        fs::copy(&plan.binary, &staged)?;
        fs::rename(staged, &binary)?;
        Ok::<_, Error>(((), Outcome::Done, format!("{} kB", bytes / 1000)))
    })?;
    Ok(binary)
}

/// A digest of the sources and manifests that the binary is compiled from.
fn sources(root: &Path) -> Result<Digest> {
    let mut files = vec![root.join("Cargo.toml"), root.join("Cargo.lock"), root.join("smoke/Cargo.toml")];
    collect(&root.join("smoke/src"), &mut files)?;
    files.sort();
    let mut parts: Vec<(String, Vec<u8>)> = Vec::new();
    for file in files {
        parts.push((file.strip_prefix(root).unwrap_or(&file).display().to_string(), fs::read(&file)?));
    }
    Ok(Digest::of_parts(parts.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))))
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

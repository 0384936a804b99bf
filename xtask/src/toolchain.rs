//! Plans the compilation of the smoke binary for x86_64-unknown-linux-musl. Everything but [`facts`] is pure.

use std::path::{Path, PathBuf};

use crate::error::{Exit, Result};
use crate::process::Cmd;

/// The target triple of the smoke binary, which is statically linked so that it runs on any image.
pub const TARGET: &str = "x86_64-unknown-linux-musl";
/// The programs of Debian's packages `cargo-web` and `rustc-web`; those of rustup have other paths.
const DEBIAN: [&str; 2] = ["/usr/bin/cargo", "/usr/bin/rustc"];
/// The standard library's sources in Debian's package `rust-web-src`.
const DEBIAN_SOURCES: &str = "/usr/lib/rustlib/src/rust/library/Cargo.toml";

/// The installed toolchains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The default toolchain has the standard library for the target.
    pub target_installed: bool,
    /// Debian's cargo, rustc and library sources are installed.
    pub debian: bool,
    /// musl-gcc is installed.
    pub musl_gcc: bool,
}

/// How to compile the smoke binary.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The toolchain and the reason, for messages: `with …`.
    pub why: String,
    /// The commands in order.
    pub commands: Vec<Cmd>,
    /// The path of the resulting binary.
    pub binary: PathBuf,
}

/// Adds rustfmt and clippy to rustup's toolchain if they are missing. rustup installs a toolchain that `RUSTUP_TOOLCHAIN` names without them where its
/// profile is `minimal`, as on GitHub's runners.
pub fn ensure_components() -> Result<()> {
    for (program, component) in [("rustfmt", "rustfmt"), ("clippy-driver", "clippy")] {
        if !Cmd::new(program).arg("--version").output().is_ok_and(|finished| finished.code == 0) {
            let add = Cmd::new("rustup").args(["component", "add", component]);
            add.hint(format!("install {component} for the Rust that `rustc --version` names")).read()?;
        }
    }
    Ok(())
}

/// Detects the installed toolchains.
pub fn facts() -> Result<Facts> {
    let sysroot = Cmd::new("rustc").args(["--print", "sysroot"]).read()?;
    let library = Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).join("lib");
    Ok(Facts {
        target_installed: library.is_dir(),
        debian: DEBIAN.iter().chain([&DEBIAN_SOURCES]).all(|p| Path::new(p).exists()),
        musl_gcc: Cmd::new("musl-gcc").arg("--version").output().is_ok_and(|f| f.code == 0),
    })
}

/// Plans the build of the workspace `root` with the target directory `target`. An error if no toolchain supports the target.
pub fn plan(facts: &Facts, root: &Path, target: &Path) -> Result<Plan> {
    let binary = target.join(TARGET).join("smoke/smoke");
    let args = ["build", "--package", "smoke", "--bin", "smoke", "--profile", "smoke", "--locked", "--target", TARGET];
    if facts.target_installed {
        let cargo = Cmd::new("cargo").args(args).arg("--target-dir").arg(target).dir(root);
        let why = format!("with the default toolchain, which has {TARGET}");
        return Ok(Plan { why, commands: vec![cargo], binary });
    }
    if !facts.debian || !facts.musl_gcc {
        return Err(Exit::Precondition.error(
            format_args!("no toolchain on this host can compile the smoke binary for {TARGET}"),
            format_args!("run `rustup target add {TARGET}`, or on Debian `cargo xtask doctor --install` (rustc-web, cargo-web, rust-web-src, musl-tools)"),
        ));
    }
    let libraries = target.join("musl-lib");
    let cargo = Cmd::new(DEBIAN[0])
        .args(args)
        .args(["-Z", "build-std=std,panic_abort"])
        .arg("--target-dir")
        .arg(target)
        .dir(root)
        // A stable compiler accepts -Z with this variable. The library's sources are those of the same compiler.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", DEBIAN[1])
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO")
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER", "musl-gcc")
        .env(
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS",
            format!(
                "-C link-self-contained=no -C relocation-model=static -C target-feature=+crt-static -L native={}",
                libraries.display()
            ),
        );
    // std links libunwind. GCC's unwinder replaces it, but requires glibc's `_dl_find_object`. A stub that returns "not found" makes it use
    // `dl_iterate_phdr`, which musl has.
    let unwinder = "set -eu; mkdir -p \"$1\"; cd \"$1\"; \
        printf 'int _dl_find_object(void *pc, void *found) { (void)pc; (void)found; return -1; }\\n' > find_object.c; \
        musl-gcc -Os -c find_object.c -o find_object.o; \
        cp \"$(gcc -print-file-name=libgcc_eh.a)\" libunwind.a; ar r libunwind.a find_object.o 2>/dev/null";
    let unwinder = Cmd::new("sh").args(["-c", unwinder, "unwinder"]).arg(libraries);
    let why = format!("with Debian's toolchain, including the standard library: the default toolchain lacks {TARGET}");
    Ok(Plan { why, commands: vec![unwinder, cargo], binary })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_for(target_installed: bool, debian: bool, musl_gcc: bool) -> Result<Plan> {
        plan(&Facts { target_installed, debian, musl_gcc }, Path::new("/p"), Path::new("/t"))
    }

    #[test]
    fn a_toolchain_with_the_target_is_preferred() {
        let plan = plan_for(true, true, true).unwrap();
        assert_eq!(plan.commands.len(), 1);
        assert!(plan.commands[0].to_string().starts_with("cargo build --package smoke"));
        assert_eq!(plan.binary, Path::new("/t/x86_64-unknown-linux-musl/smoke/smoke"));
    }

    #[test]
    fn debians_toolchain_builds_the_standard_library() {
        let line = plan_for(false, true, true).unwrap().commands[1].to_string();
        assert!(line.contains("RUSTC_BOOTSTRAP=1") && line.contains("build-std=std,panic_abort"), "{line}");
    }

    #[test]
    fn without_a_toolchain_the_hint_has_both_ways_to_install_one() {
        for facts in [(false, false, true), (false, true, false)] {
            let error = plan_for(facts.0, facts.1, facts.2).unwrap_err();
            let help = error.report().help().unwrap().to_string();
            assert_eq!(error.exit(), Exit::Precondition);
            assert!(help.contains("rustup target add") && help.contains("musl-tools"), "{help}");
        }
    }
}

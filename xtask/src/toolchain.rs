//! How the smoke binary is compiled for x86_64-unknown-linux-musl on this host: pure, but for the look around.

use std::path::{Path, PathBuf};

use crate::error::{Exit, Result};
use crate::process::Cmd;

/// The target.
pub const TARGET: &str = "x86_64-unknown-linux-musl";
/// Where Debian's `rustc-web` and `cargo-web` put their programs; rustup's stand elsewhere.
const DEBIAN: [&str; 2] = ["/usr/bin/cargo", "/usr/bin/rustc"];
/// Where Debian's `rust-web-src` puts the standard library's sources.
const DEBIAN_SOURCES: &str = "/usr/lib/rustlib/src/rust/library/Cargo.toml";

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// rustup (or a distribution) has the standard library for the target.
    pub target_installed: bool,
    /// Debian's cargo, rustc and library sources are there.
    pub debian: bool,
    /// musl-gcc is there.
    pub musl_gcc: bool,
}

/// How to compile.
#[derive(Clone, Debug)]
pub struct Plan {
    /// For a person: `with …, because …`.
    pub why: String,
    /// The commands in order.
    pub commands: Vec<Cmd>,
    /// Where the binary will be.
    pub binary: PathBuf,
}

/// Looks around.
pub fn facts() -> Result<Facts> {
    let sysroot = Cmd::new("rustc").args(["--print", "sysroot"]).read()?;
    let library = Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).join("lib");
    Ok(Facts {
        target_installed: library.is_dir(),
        debian: DEBIAN.iter().chain([&DEBIAN_SOURCES]).all(|p| Path::new(p).exists()),
        musl_gcc: Cmd::new("musl-gcc").arg("--version").output().is_ok_and(|f| f.code == 0),
    })
}

/// Plans the build in `root` with a target folder of its own.
pub fn plan(facts: &Facts, root: &Path, target: &Path) -> Result<Plan> {
    let binary = target.join(TARGET).join("smoke/smoke");
    let args = ["build", "--package", "smoke", "--bin", "smoke", "--profile", "smoke", "--locked", "--target", TARGET];
    if facts.target_installed {
        let cargo = Cmd::new("cargo").args(args).arg("--target-dir").arg(target).dir(root);
        let why = format!("with this toolchain: it has {TARGET}");
        return Ok(Plan { why, commands: vec![cargo], binary });
    }
    if !facts.debian || !facts.musl_gcc {
        return Err(Exit::Precondition.error(
            format_args!("no toolchain here can compile the smoke binary for {TARGET}"),
            format_args!("`rustup target add {TARGET}`; where rustup cannot fetch, on Debian: `cargo xtask doctor --install` (rustc-web, cargo-web, rust-web-src, musl-tools)"),
        ));
    }
    let libraries = target.join("musl-lib");
    let cargo = Cmd::new(DEBIAN[0])
        .args(args)
        .args(["-Z", "build-std=std,panic_abort"])
        .arg("--target-dir")
        .arg(target)
        .dir(root)
        // A stable compiler takes -Z with this; the library it compiles is its own.
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
    // std asks for libunwind. GCC's unwinder does the work, but was built for glibc and asks that for `_dl_find_object`; the
    // answer "not found" makes it walk `dl_iterate_phdr`, which musl has.
    let unwinder = "set -eu; mkdir -p \"$1\"; cd \"$1\"; \
        printf 'int _dl_find_object(void *pc, void *found) { (void)pc; (void)found; return -1; }\\n' > find_object.c; \
        musl-gcc -Os -c find_object.c -o find_object.o; \
        cp \"$(gcc -print-file-name=libgcc_eh.a)\" libunwind.a; ar r libunwind.a find_object.o 2>/dev/null";
    let unwinder = Cmd::new("sh").args(["-c", unwinder, "unwinder"]).arg(libraries);
    let why = format!("with Debian's toolchain and a standard library of its own: rustup has no {TARGET} here");
    Ok(Plan { why, commands: vec![unwinder, cargo], binary })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_for(target_installed: bool, debian: bool, musl_gcc: bool) -> Result<Plan> {
        plan(&Facts { target_installed, debian, musl_gcc }, Path::new("/p"), Path::new("/t"))
    }

    #[test]
    fn the_toolchain_that_has_the_target_is_used() {
        let plan = plan_for(true, true, true).unwrap();
        assert_eq!(plan.commands.len(), 1);
        assert!(plan.commands[0].to_string().starts_with("cargo build --package smoke"));
        assert_eq!(plan.binary, Path::new("/t/x86_64-unknown-linux-musl/smoke/smoke"));
    }

    #[test]
    fn debians_toolchain_builds_a_library_of_its_own() {
        let line = plan_for(false, true, true).unwrap().commands[1].to_string();
        assert!(line.contains("RUSTC_BOOTSTRAP=1") && line.contains("build-std=std,panic_abort"), "{line}");
    }

    #[test]
    fn without_either_both_remedies_are_told() {
        for facts in [(false, false, true), (false, true, false)] {
            let error = plan_for(facts.0, facts.1, facts.2).unwrap_err();
            let help = error.report().help().unwrap().to_string();
            assert_eq!(error.exit(), Exit::Precondition);
            assert!(help.contains("rustup target add") && help.contains("musl-tools"), "{help}");
        }
    }
}

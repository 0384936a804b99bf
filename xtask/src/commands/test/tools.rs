//! Parts of the suite whose tool `doctor` does not install: linters of dependencies, spelling and workflows, the book, fuzzing.

use super::{Context, LOCKED, Part, Takes, When, cargo};
use crate::process::Cmd;

/// A program, how it is installed, and what it is run for.
struct Tool {
    /// The part's name for `--part`.
    id: &'static str,
    name: &'static str,
    /// Prints its version. Fails if it is not installed.
    probe: &'static [&'static str],
    install: &'static [&'static str],
    check: &'static [&'static str],
    takes: &'static [Takes],
    /// Install it where it is missing, whether or not the part was named.
    always: bool,
}

const TOOLS: [Tool; 6] = [
    Tool {
        id: "deny",
        name: "licences and sources of dependencies",
        probe: &["cargo", "deny", "--version"],
        install: &["cargo", "install", "--locked", "cargo-deny@0.20.2"],
        check: &["cargo", "deny", "check", "bans", "licenses", "sources"],
        takes: &[Takes::Lock],
        always: false,
    },
    Tool {
        id: "machete",
        name: "unused dependencies",
        probe: &["cargo", "machete", "--version"],
        install: &["cargo", "install", "--locked", "cargo-machete@0.9.2"],
        check: &["cargo", "machete"],
        takes: &[],
        always: false,
    },
    Tool {
        id: "typos",
        name: "spelling",
        probe: &["typos", "--version"],
        install: &["cargo", "install", "--locked", "typos-cli@1.52.0"],
        check: &["typos"],
        takes: &[],
        always: false,
    },
    Tool {
        id: "actionlint",
        name: "workflows, by actionlint",
        probe: &["actionlint", "-version"],
        install: &["go", "install", "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"],
        check: &["cargo", "xtask", "validate", "--require", "actionlint"],
        takes: &[Takes::Lock, Takes::Program],
        always: false,
    },
    Tool {
        id: "zizmor",
        name: "workflows, by zizmor",
        probe: &["zizmor", "--version"],
        install: &["pipx", "install", "zizmor==1.32.0"],
        check: &["cargo", "xtask", "validate", "--require", "zizmor"],
        takes: &[Takes::Lock, Takes::Program],
        always: false,
    },
    Tool {
        id: "book",
        name: "the documentation, by mdBook",
        probe: &["mdbook", "--version"],
        install: &["cargo", "install", "--locked", "--no-default-features", "mdbook@0.5.4"],
        check: &["mdbook", "build", "docs"],
        takes: &[],
        always: true,
    },
];

/// The parts of all tools. One whose tool is not installed runs only if it was named, since some take minutes to compile.
pub(super) fn parts(context: &Context) -> Vec<Part> {
    let mut parts: Vec<Part> = TOOLS.iter().flat_map(|tool| tool.parts(context)).collect();
    let fuzz = ["run", "--manifest-path", "fuzz/Cargo.toml", "--bin", "template", "--", "-max_total_time=60"];
    parts.push(Part::new("fuzz", "the template reader on arbitrary text", When::Named, cargo(context).args(fuzz)));
    parts
}

impl Tool {
    fn parts(&self, context: &Context) -> Vec<Part> {
        let here = command(context, self.probe).output().is_ok_and(|finished| finished.code == 0);
        let when = if here || self.always { When::Always } else { When::Named };
        let check = Part::new(self.id, self.name, when, command(context, self.check)).takes(self.takes).after(self.id);
        if here {
            return vec![check];
        }
        // These programs are compiled outside of `target/`, so no lock on it is required.
        vec![Part::new(self.id, "installation of the tool", when, command(context, self.install)), check]
    }
}

/// A command in the project. Programs that cargo and Go install are found where cargo's are.
fn command(context: &Context, words: &[&str]) -> Cmd {
    let (program, args) = words.split_first().unwrap_or((&"true", &[]));
    let home = context.env.get("CARGO_HOME").cloned();
    let home = home.or_else(|| context.env.get("HOME").map(|home| format!("{home}/.cargo"))).unwrap_or_default();
    let path = context.env.get("PATH").cloned().unwrap_or_default();
    let cmd = Cmd::new(*program).args(args.iter().copied()).without_our_crate().dir(&context.root);
    cmd.env("PATH", format!("{home}/bin:{path}"))
        .env("GOBIN", format!("{home}/bin"))
        .env("PIPX_BIN_DIR", format!("{home}/bin"))
}

/// The oldest supported Rust compiles all crates: `rust-version` in Cargo.toml.
pub(super) fn msrv(context: &Context) -> Part {
    let version = format!("+{}", env!("CARGO_PKG_RUST_VERSION"));
    let check = cargo(context).args([version.as_str(), "check", "--workspace", "--all-targets"]).args(LOCKED);
    Part::new("msrv", "the oldest supported Rust", When::Named, check).takes(&[Takes::Compiler])
}

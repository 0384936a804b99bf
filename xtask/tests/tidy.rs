//! Rules for the source that no compiler checks: a module imports only modules declared before it, one module starts processes, one prints,
//! every file begins with its purpose and is small. ARCHITECTURE.md explains them. `cargo xtask validate` checks the rules for scripts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use regex_lite::Regex;

#[path = "support/files.rs"]
mod files;
use files::root;

/// Files below a directory with this ending, with their text.
fn files(dir: &str, ending: &str) -> Vec<(PathBuf, String)> {
    let text = |p: PathBuf| (p.strip_prefix(root()).unwrap().to_owned(), std::fs::read_to_string(&p).unwrap());
    let found: Vec<_> = files::files(dir, ending).into_iter().map(text).collect();
    assert!(!found.is_empty(), "no file {ending} in {dir}");
    found
}

/// The code without its tests.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

/// The top-level module a file belongs to: the first part of its path below `src`.
fn module(path: &Path) -> String {
    let mut parts = path.iter().skip_while(|p| *p != "src").skip(1);
    parts.next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned()
}

fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

/// The directories with Rust sources that are not tests.
const SOURCES: [&str; 5] = ["xtask/src", "xtask/aws/src", "xtask/serve/src", "xtask/template/src", "smoke/src"];

/// The modules of a crate in the order in which its root declares them.
fn order(root_file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(root_file)).unwrap();
    let module = Regex::new(r"(?m)^(?:pub )?mod ([a-z_]+);").unwrap();
    module.captures_iter(&text).map(|c| c.get(1).unwrap().as_str().to_owned()).collect()
}

#[test]
fn a_module_imports_only_those_declared_before_it() {
    let import = Regex::new(r"crate::([a-z_]+)|crate::\{([^}]+)\}").unwrap();
    let mut violations = Vec::new();
    for (dir, root_file, least) in [
        ("xtask/src", "xtask/src/lib.rs", 15),
        ("xtask/aws/src", "xtask/aws/src/lib.rs", 15),
        ("xtask/serve/src", "xtask/serve/src/lib.rs", 15),
        ("smoke/src", "smoke/src/main.rs", 5),
    ] {
        let order = order(root_file);
        assert!(order.len() > least, "{root_file}: {order:?}");
        for (path, text) in files(dir, ".rs") {
            let here = module(&path);
            let Some(place) = order.iter().position(|r| *r == here) else { continue };
            for found in import.captures_iter(code(&text)) {
                let names = found.get(1).or(found.get(2)).unwrap().as_str();
                for name in names.split(',').map(|n| n.trim().split("::").next().unwrap_or_default()) {
                    if order.iter().position(|r| *r == name).is_some_and(|other| other > place) {
                        violations
                            .push(format!("{}: {here} imports {name}, which is declared after it", path.display()));
                    }
                }
            }
        }
    }
    assert_none(&violations);
}

#[test]
fn one_module_starts_processes_and_one_prints() {
    let spawns = Regex::new(r"duct::|xshell::|process::Command|\bCommand::new").unwrap();
    let prints = Regex::new(r"\be?print(ln)?!|\bdbg!|io::stdout|io::stderr").unwrap();
    let mut violations = Vec::new();
    for (path, text) in SOURCES.iter().flat_map(|dir| files(dir, ".rs")) {
        let name = path.to_string_lossy().into_owned();
        let may_spawn = ["xtask/src/process.rs", "smoke/src/exec.rs"].contains(&name.as_str());
        let may_print =
            module(&path) == "report" || ["smoke/src/main.rs", "xtask/serve/src/log.rs"].contains(&name.as_str());
        for (number, line) in code(&text).lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//")) {
            if !may_spawn && spawns.is_match(line) && !name.ends_with("process.rs") {
                violations.push(format!("{name}:{}: only process.rs starts processes: {}", number + 1, line.trim()));
            }
            if !may_print && prints.is_match(line) {
                violations.push(format!(
                    "{name}:{}: only report/ prints, and log.rs of the images API: {}",
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    assert_none(&violations);
}

#[test]
fn every_file_begins_with_its_purpose_and_is_small() {
    let mut violations = Vec::new();
    for (path, text) in files("xtask", ".rs").into_iter().chain(files("smoke", ".rs")) {
        let lines = code(&text).lines().count();
        if !text.starts_with("//!") {
            violations.push(format!("{}: the first line is not a module comment (//!)", path.display()));
        }
        if lines > 500 {
            violations.push(format!("{}: {lines} lines without tests; split it", path.display()));
        }
    }
    assert_none(&violations);
}

/// Absolute paths of a developer's or CI machine.
#[test]
fn no_file_contains_a_path_of_a_single_machine() {
    let mut violations = Vec::new();
    for dir in ["xtask/src", "smoke", "scripts", "packer"] {
        for (path, text) in files(dir, "") {
            for word in ["/home/runner", "/work/", "/Users/"] {
                if text.contains(word) {
                    violations.push(format!("{}: {word}", path.display()));
                }
            }
        }
    }
    assert_none(&violations);
}

//! Statements in README.md, ARCHITECTURE.md, CHANGELOG.md and the book that the source determines: verbs, paths, links, messages, versions, lengths.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;

use clap::CommandFactory as _;
use regex_lite::Regex;
use xtask::cli::Cli;

#[path = "support/files.rs"]
mod files;
use files::{files, root};

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// All commands: `ami`, `ami build`, ...
fn verbs() -> BTreeSet<String> {
    fn collect(command: &clap::Command, name: &str, verbs: &mut BTreeSet<String>) {
        for below in command.get_subcommands().filter(|c| c.get_name() != "help") {
            let name = format!("{name} {}", below.get_name()).trim().to_owned();
            verbs.insert(name.clone());
            collect(below, &name, verbs);
        }
    }
    let mut verbs = BTreeSet::new();
    collect(&Cli::command(), "", &mut verbs);
    verbs
}

#[test]
fn every_verb_has_its_row_and_every_path_of_the_row_exists() {
    let text = read("ARCHITECTURE.md");
    let table = text.split("## Where to find a verb").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut rows = BTreeSet::new();
    let path = Regex::new("`([^`]+)`").unwrap();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 4, "{row}");
        let verb = cells[0].trim_matches('`').to_owned();
        for cell in &cells[1..] {
            let paths: Vec<&str> = path.captures_iter(cell).map(|c| c.get(1).unwrap().as_str()).collect();
            assert!(!paths.is_empty(), "{verb}: {row}");
            for path in paths {
                assert!(root().join(path).exists(), "{verb}: {path} does not exist");
            }
        }
        // The command file is found by the verb's name.
        let krate = if verb.starts_with("serve") { "xtask/serve" } else { "xtask" };
        let file = format!("{krate}/src/commands/{}.rs", verb.replace(' ', "/").replace('-', "_"));
        assert!(verb == "cargo xtask" || cells[1].contains(&file), "{verb}: its command file is not {file}");
        rows.insert(verb);
    }
    rows.remove("cargo xtask");
    assert_eq!(rows, verbs());
}

#[test]
fn every_test_of_a_verb_is_in_the_table() {
    let text = read("ARCHITECTURE.md");
    for path in files("xtask/tests/verbs", ".rs") {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        assert!(name.ends_with("main.rs") || text.contains(&name), "{name} is in no row of ARCHITECTURE.md");
    }
}

#[test]
fn relative_links_of_all_pages_point_at_files() {
    let link = Regex::new(r"\]\(([^)#:]+)(?:#[^)]*)?\)").unwrap();
    let mut pages = files("docs/src", ".md");
    pages.extend(
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "STYLE.md"]
            .map(|p| root().join(p)),
    );
    let (mut broken, mut seen) = (Vec::new(), 0);
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for found in link.captures_iter(&text) {
            seen += 1;
            let target = page.parent().unwrap().join(found.get(1).unwrap().as_str());
            if !target.exists() {
                broken.push(format!("{}: {}", page.display(), target.display()));
            }
        }
    }
    assert!(seen > 50, "{seen} links: this test reads the wrong files");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn code_links_to_sections_that_the_book_has() {
    let link = Regex::new(r"(docs/src/[a-z/-]+\.md)#([a-z0-9-]+)").unwrap();
    let mut seen = 0;
    for (dir, ending) in
        [("xtask", ".rs"), ("smoke", ".rs"), ("smoke/specs", ".toml"), ("scripts", ".sh"), ("packer", ".hcl")]
    {
        for file in files(dir, ending) {
            for found in link.captures_iter(&fs::read_to_string(&file).unwrap()) {
                let (page, anchor) = (found.get(1).unwrap().as_str(), found.get(2).unwrap().as_str());
                let anchors: Vec<String> = read(page)
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .map(|line| {
                        line.trim_start_matches('#')
                            .trim()
                            .to_lowercase()
                            .replace(' ', "-")
                            .replace(['.', ',', '`'], "")
                    })
                    .collect();
                assert!(anchors.iter().any(|a| a == anchor), "{}: {page}#{anchor}", file.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 10, "{seen}");
}

/// Headings of docs/src/troubleshooting.md that are messages of other programs, or no messages.
const EXTERNAL: &[&str] = &[
    // serde, for a key that a smoke spec or an `amazon-ebs` source cannot have.
    "unknown field",
    // Packer.
    "Timeout waiting for SSH",
    // bash.
    "cannot execute binary file: Exec format error",
    // EC2, for RunInstances.
    "The architecture 'arm64' of the specified instance type does not match",
    // npm.
    "EACCES: permission denied",
    // EC2.
    "InvalidAMIID.NotFound",
    // No program: a symptom without a message.
    "The instance boots, but the agent does not start",
    // bash.
    "claude: command not found",
    // ssh, curl and others, for a port that does not answer.
    "Connection timed out",
    // Programs that write to a full disk: the text of ENOSPC.
    "No space left on device",
    // ssh.
    "Host key verification failed",
    // Systems Manager, as the ping status of a node.
    "ConnectionLost",
    // Claude Code.
    "--dangerously-skip-permissions cannot be used with root",
    // Programs that open a file of another user: the text of EACCES.
    "Permission denied",
];

/// The sources that contain messages, without comments and tests. Strings that continue in the next line of Rust are joined.
fn sources_of_messages() -> String {
    let continued = Regex::new(r"\\\n\s*").unwrap();
    let mut sources = String::new();
    for dir in ["xtask/src", "xtask/aws/src", "xtask/serve/src", "xtask/template/src", "smoke/src", "scripts"] {
        for (ending, comment) in [(".rs", "//"), (".sh", "#")] {
            for file in files(dir, ending) {
                let path = file.strip_prefix(root()).unwrap();
                if path.ends_with("tests.rs") || path.iter().any(|part| part == "tests") {
                    continue;
                }
                let text = fs::read_to_string(&file).unwrap();
                let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
                let lines = text.lines().filter(|line| !line.trim_start().starts_with(comment));
                sources.push_str(&continued.replace_all(&lines.collect::<Vec<_>>().join("\n"), ""));
                sources.push('\n');
            }
        }
    }
    sources
}

#[test]
fn every_heading_of_troubleshooting_is_a_message() {
    let text = read("docs/src/troubleshooting.md");
    let headings: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert!(headings.len() > 50, "{headings:?}");
    let sources = sources_of_messages();
    let is_message = |heading: &str| heading.split('…').all(|part| sources.contains(part.trim()));
    let unknown: Vec<&&str> = headings.iter().filter(|h| !EXTERNAL.contains(h) && !is_message(h)).collect();
    assert!(
        unknown.is_empty(),
        "in no source, so write the current message, or add the heading to EXTERNAL: {unknown:#?}"
    );
    let unused: Vec<&&str> = EXTERNAL.iter().filter(|external| !headings.contains(external)).collect();
    assert!(unused.is_empty(), "no headings of the page any more: {unused:#?}");
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 120, "{lines} lines: move details to the book");
}

#[test]
fn the_newest_version_of_the_changelog_is_the_tools() {
    let text = read("CHANGELOG.md");
    let version = Regex::new(r"(?m)^## \[([0-9.]+)\] - [0-9]{4}-[0-9]{2}-[0-9]{2}$").unwrap();
    let newest = version.captures(&text).unwrap().get(1).unwrap().as_str();
    assert_eq!(
        newest,
        env!("CARGO_PKG_VERSION"),
        "a release sets `version` in Cargo.toml and dates the section of CHANGELOG.md"
    );
    assert!(text.contains("## [Unreleased]"));
}

//! Words that STYLE.md replaces are in no help page, message, comment or document.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use regex_lite::Regex;

#[path = "support/files.rs"]
mod files;
use files::root;

/// The patterns of the block ```` ```words ```` in STYLE.md, and where each is allowed: `PATTERN  # PATH...`.
fn patterns() -> Vec<(Regex, Vec<String>)> {
    let style = std::fs::read_to_string(root().join("STYLE.md")).unwrap();
    let block = style.split("```words\n").nth(1).unwrap().split("```").next().unwrap();
    let read = |line: &str| {
        let (pattern, paths) = line.split_once("  # ").unwrap_or((line, ""));
        (
            Regex::new(&format!(r"(?i)\b(?:{})\b", pattern.trim())).unwrap(),
            paths.split(", ").map(str::to_owned).collect(),
        )
    };
    block.lines().filter(|line| !line.is_empty()).map(read).collect()
}

/// The project's text files that are not generated, relative to the project.
#[expect(clippy::disallowed_methods, reason = "git lists the files; nothing of the pipeline is run")]
fn files() -> Vec<String> {
    let listed =
        Command::new("git").args(["ls-files", "-co", "--exclude-standard"]).current_dir(root()).output().unwrap();
    let generated =
        ["docs/man/", "docs/completions/", "docs/src/schema/", "scripts/npm/", "scripts/pip/", "fuzz/corpus/"];
    let text = |name: &String| {
        let ending = [".rs", ".sh", ".bats", ".bash", ".py", ".hcl", ".toml", ".yml", ".yaml", ".md", ".css", ".snap"];
        ending.iter().any(|e| name.ends_with(e))
            && !generated.iter().any(|dir| name.starts_with(dir))
            && name != "STYLE.md"
    };
    let all: Vec<String> = String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).filter(text).collect();
    assert!(all.len() > 300, "{} files", all.len());
    all
}

/// The comments and strings of a line of Rust. Identifiers are not prose.
fn prose(line: &str) -> String {
    let token = Regex::new(r#"//.*|"(?:\\.|[^"\\])*"?"#).unwrap();
    token.find_iter(line).map(|found| found.as_str()).collect::<Vec<_>>().join(" ")
}

#[test]
fn no_text_has_a_word_that_the_glossary_replaces() {
    let patterns = patterns();
    assert!(patterns.len() > 15, "{}", patterns.len());
    let mut found = Vec::new();
    for name in files() {
        let Ok(text) = std::fs::read_to_string(root().join(&name)) else { continue };
        for (number, line) in text.lines().enumerate() {
            let line = if name.ends_with(".rs") { prose(line) } else { line.to_owned() };
            for (pattern, allowed) in &patterns {
                if let Some(word) = pattern
                    .find(&line)
                    .filter(|_| !allowed.iter().any(|path| name.starts_with(path.as_str()) && !path.is_empty()))
                {
                    found.push(format!("{name}:{}: {}", number + 1, word.as_str()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{} words that STYLE.md replaces:\n{}", found.len(), found.join("\n"));
}

#[test]
fn the_test_sees_comments_and_strings_and_no_identifiers() {
    assert_eq!(prose(r#"let printed = f("a \" folder"); // what it said"#), r#""a \" folder" // what it said"#);
    assert_eq!(prose("let story = told();"), "");
}

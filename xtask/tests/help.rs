//! Every help page as a snapshot, so that a change of the language is seen in the diff, and none has a word that STYLE.md replaces.

#![expect(clippy::unwrap_used, reason = "a test stops where it cannot go on")]

use clap::{Command, CommandFactory as _};
use regex_lite::Regex;
use xtask::cli::Cli;

/// The pages of a command and of all below it, by name.
fn pages() -> Vec<(String, String)> {
    fn collect(command: &mut Command, name: &str, pages: &mut Vec<(String, String)>) {
        pages.push((name.to_owned(), command.render_long_help().to_string()));
        let below: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
        for part in below {
            let inner = command.find_subcommand_mut(&part).unwrap();
            collect(inner, &format!("{name}-{part}"), pages);
        }
    }
    let mut pages = Vec::new();
    let mut root = Cli::command().term_width(100);
    root.build();
    collect(&mut root, "xtask", &mut pages);
    pages
}

#[test]
fn every_page_reads_as_it_was_reviewed() {
    let pages = pages();
    assert!(pages.len() > 30, "{}", pages.len());
    for (name, text) in pages {
        // A default that depends on the machine would not be the same everywhere.
        insta::assert_snapshot!(name, text);
    }
}

/// The glossary's second column, as far as help uses such words.
const REPLACED: &str = r"(?i)\b(judge[ds]?|verdict|room|tells?|told|says?|said|mends?|brings?|brought|wants?|cut off|so long|deed|story|leftovers?|papers?|bears?|hold against|folders?|when left out)\b";

#[test]
fn no_page_has_a_word_that_the_glossary_replaces() {
    let replaced = Regex::new(REPLACED).unwrap();
    let style = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../STYLE.md")).unwrap();
    assert!(style.contains("| interrupted | cut off |"), "the glossary has moved");
    let mut found = Vec::new();
    for (name, text) in pages() {
        found
            .extend(text.lines().filter(|line| replaced.is_match(line)).map(|line| format!("{name}: {}", line.trim())));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

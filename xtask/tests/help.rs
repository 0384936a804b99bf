//! Every help page as a snapshot, so that each change of the text is visible in the diff. `words.rs` checks the words of the snapshots.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use clap::{Command, CommandFactory as _};
use xtask::cli::Cli;

/// The help pages of a command and its subcommands, by name.
fn pages() -> Vec<(String, String)> {
    fn collect(command: &mut Command, name: &str, pages: &mut Vec<(String, String)>) {
        pages.push((name.to_owned(), command.render_long_help().to_string()));
        let subcommands: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
        for part in subcommands {
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
fn every_page_matches_its_snapshot() {
    let pages = pages();
    assert!(pages.len() > 30, "{}", pages.len());
    for (name, text) in pages {
        // No page may contain a default that depends on the machine.
        insta::assert_snapshot!(name, text);
    }
}

//! The command line: Markdown, man pages and shell completions.

use std::fmt::Write as _;
use std::path::Path;

use clap::CommandFactory as _;

use super::{COMPLETIONS, Generated, MAN, escaped, page};
use crate::cli::Cli;
use crate::error::Result;

/// The command line in Markdown: a section for each command with its long help.
pub(super) fn reference() -> Generated {
    fn collect(command: &mut clap::Command, name: &str, contents: &mut String, sections: &mut String) {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        // GitHub and mdBook make anchors of headings so.
        let _ = writeln!(contents, "- [{name}](#{}): {}", name.replace(' ', "-"), escaped(&about));
        let help = command.render_long_help().to_string();
        let _ = writeln!(sections, "\n## {name}\n\n```text\n{}\n```", help.trim_end());
        let below: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
        for part in below {
            if let Some(inner) = command.find_subcommand_mut(&part) {
                collect(inner, &format!("{name} {part}"), contents, sections);
            }
        }
    }
    let (mut contents, mut sections) = (String::new(), String::new());
    let mut root = Cli::command().term_width(100);
    root.build();
    collect(&mut root, "cargo xtask", &mut contents, &mut sections);
    page("cli.md", "Command line", "xtask/src/cli.rs and xtask/src/cli/", &(contents + &sections))
}

/// A page for each command, as git has them: `cargo-xtask-ami-build.1`.
pub(super) fn man_pages() -> Result<Vec<Generated>> {
    fn collect(command: &clap::Command, name: &str, files: &mut Vec<Generated>) -> Result<()> {
        let mut content = Vec::new();
        let page = command.clone().name(name.to_owned()).version(None).display_name(name.to_owned());
        // The date of the build would make every page differ each day.
        clap_mangen::Man::new(page).date("").source("agent-ami").manual("agent-ami manual").render(&mut content)?;
        files.push(Generated { path: Path::new(MAN).join(format!("{name}.1")), content });
        for below in command.get_subcommands() {
            collect(below, &format!("{name}-{}", below.get_name()), files)?;
        }
        Ok(())
    }
    let mut root = Cli::command();
    root.build();
    let mut files = Vec::new();
    collect(&root, "cargo-xtask", &mut files)?;
    Ok(files)
}

pub(super) fn completions() -> Vec<Generated> {
    use clap_complete::Shell;
    let one = |shell: Shell| {
        let mut content = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "xtask", &mut content);
        Generated { path: Path::new(COMPLETIONS).join(format!("xtask.{shell}")), content }
    };
    [Shell::Bash, Shell::Zsh, Shell::Fish].map(one).into()
}

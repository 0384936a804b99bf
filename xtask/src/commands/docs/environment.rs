//! Environment variables.

use std::fmt::Write as _;

use super::{Generated, cell, page};

/// Who reads a variable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Tool,
    Dispatch,
}

/// The variables besides those of ami.toml's keys: reader, name, meaning.
const VARIABLES: &[(Reader, &str, &str)] = &[
    (Reader::Tool, "AGENT_AMI_ON", "Where images are made, `local` or `aws`, if `--on` is not given."),
    (
        Reader::Tool,
        "PKR_VAR_NAME",
        "Value of the template variable `NAME`. It overrides ami.toml; var-files and `--var` override it.",
    ),
    (
        Reader::Tool,
        "AWS_*",
        "Credentials, profile and endpoint as the AWS SDK reads them. ami.toml's `[aws] profile` overrides `AWS_PROFILE`.",
    ),
    (Reader::Tool, "CI", "Refuse an HTTP template source without a checksum, unless it is empty, `false` or `0`."),
    (Reader::Tool, "GITHUB_ACTIONS", "Print workflow commands (groups, annotations) if it is `true`."),
    (
        Reader::Tool,
        "GITHUB_OUTPUT",
        "File that a channel with `github_output = true` and commands that return ids append their outputs to.",
    ),
    (Reader::Tool, "GITHUB_STEP_SUMMARY", "File that a command appends the summary of its run report to."),
    (
        Reader::Tool,
        "GITHUB_REPOSITORY",
        "Repository of the workflow, with `GITHUB_REPOSITORY_ID` and `GITHUB_REPOSITORY_OWNER_ID`: `iam-policy --trust` takes the ids of owner and \
         repository from them.",
    ),
    (
        Reader::Tool,
        "GITHUB_ACTOR",
        "Who a promotion is recorded for. Without it `SUDO_USER`, `USER`, `LOGNAME` in this order.",
    ),
    (
        Reader::Dispatch,
        "DISPATCH_HOME",
        "Directory with `runs`, `repos` and `.env`. Default: `~/claude-executor` of the user.",
    ),
    (
        Reader::Dispatch,
        "DISPATCH_TIMEOUT",
        "Timeout for an agent: `90s`, `30m`, `2h`. Default: `55m`. `--timeout` overrides it.",
    ),
    (Reader::Dispatch, "DISPATCH_GRACE", "Seconds between SIGTERM and SIGKILL. Default: 10."),
    (
        Reader::Dispatch,
        "DISPATCH_AGENTS",
        "Agents that `dispatch-unified.sh` runs if none is given, separated by commas. Default: all that are installed and have a key.",
    ),
    (Reader::Dispatch, "DISPATCH_KEEP", "Time after which an unused run or mirror is deleted. Default: `30d`."),
    (
        Reader::Dispatch,
        "DISPATCH_KEEP_MIB",
        "Total size of all runs, and of all mirrors, above which the oldest are deleted, in MiB. Default: 20480.",
    ),
    (Reader::Dispatch, "DISPATCH_LOG_MIB", "Size limit of a run's log in MiB. Default: 256."),
    (
        Reader::Dispatch,
        "DISPATCH_USER",
        "User that root runs agents as. Default: the user for which `install.sh` installed the scripts; with `DISPATCH_ISOLATE=1` `agent`. Root only.",
    ),
    (Reader::Dispatch, "DISPATCH_PATH", "Directories that are searched for agents before the others. Root only."),
    (
        Reader::Dispatch,
        "DISPATCH_ALLOW_SUDO",
        "`1`: run the agent without `no_new_privs`, so that sudo works in it. Root only.",
    ),
    (
        Reader::Dispatch,
        "DISPATCH_ISOLATE",
        "`1`: run the agent as the user `agent` in a transient systemd unit. Root only.",
    ),
    (
        Reader::Dispatch,
        "DISPATCH_MEMORY",
        "Memory limit of an isolated run, as systemd's `MemoryMax=`. Default: `75%`. Root only.",
    ),
    (
        Reader::Dispatch,
        "DISPATCH_TASKS",
        "Limit for the processes of an isolated run, as systemd's `TasksMax=`. Default: 2048. Root only.",
    ),
];

pub(super) fn reference() -> Generated {
    let mut text = String::from("The environment variables that the tool and the dispatch scripts read.\n");
    let sections = [
        (
            Reader::Tool,
            "cargo xtask",
            "Each key of ami.toml has a variable, too: `AGENT_AMI_<SECTION>_<KEY>`, listed in [ami.toml](configuration.md).",
        ),
        (
            Reader::Dispatch,
            "Dispatch scripts",
            "Read on the instance, from the environment of the caller. Started by root, an agent gets those that are not root's, a few of the session \
             (`LANG`, `TERM`, ...), proxies, and the keys of agents.",
        ),
    ];
    for (reader, title, about) in sections {
        let _ = write!(text, "\n## {title}\n\n{about}\n\n| variable | meaning |\n|---|---|\n");
        for (_, name, meaning) in VARIABLES.iter().filter(|(of, ..)| *of == reader) {
            let _ = writeln!(text, "| `{name}` | {} |", cell(meaning));
        }
    }
    page("environment.md", "Environment variables", "xtask/src/commands/docs/environment.rs", &text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use regex_lite::Regex;

    use super::*;

    /// Variables that the dispatch scripts set for their own processes.
    const INTERNAL: [&str; 2] = ["DISPATCH_RUN", "DISPATCH_STARTER"];

    /// All matches of the first group in files below a directory.
    fn found(dir: &str, pattern: &str) -> BTreeSet<String> {
        fn walk(dir: &Path, pattern: &Regex, found: &mut BTreeSet<String>) {
            for entry in std::fs::read_dir(dir).unwrap().flatten() {
                if entry.path().is_dir() {
                    walk(&entry.path(), pattern, found);
                } else if let Ok(text) = std::fs::read_to_string(entry.path()) {
                    found.extend(pattern.captures_iter(&text).map(|c| c.get(1).unwrap().as_str().to_owned()));
                }
            }
        }
        let mut all = BTreeSet::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        walk(&root.join(dir), &Regex::new(pattern).unwrap(), &mut all);
        all
    }

    #[test]
    fn every_variable_that_is_read_is_documented() {
        let documented = |reader| -> BTreeSet<String> {
            VARIABLES.iter().filter(|(of, ..)| *of == reader).map(|(_, name, _)| (*name).to_owned()).collect()
        };
        let mut dispatch = found("scripts/agent", r"\b(DISPATCH_[A-Z_]+)\b");
        dispatch.retain(|name| !INTERNAL.contains(&name.as_str()));
        assert_eq!(documented(Reader::Dispatch), dispatch);
        let mut tool = found("xtask/src", r#"env\.get\("([A-Z_]+)"\)"#);
        tool.extend(found("xtask/src", r#"env::var\("([A-Z_]+)"\)"#));
        // Variables of the system.
        for name in ["PATH", "HOME", "CARGO_HOME"] {
            tool.remove(name);
        }
        let documented = documented(Reader::Tool);
        let missing: Vec<_> = tool.difference(&documented).collect();
        assert!(tool.len() >= 3 && missing.is_empty(), "{missing:?}");
    }
}

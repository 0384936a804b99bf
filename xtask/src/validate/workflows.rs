//! Checks GitHub Actions workflows: each `run` line is one command of this program, each action is pinned, each job declares its
//! permissions and a timeout. Runs actionlint and zizmor if they are installed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fs_err as fs;
use regex_lite::Regex;
use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::Spanned;

use super::{Clean, Finding};
use crate::config::Config;
use crate::error::Result;
use crate::process::Cmd;

mod aws;

/// The directory with the workflows.
pub const DIR: &str = ".github/workflows";
const CHECK: &str = "workflows";

/// Parses the words of a command line after `cargo xtask`. Returns the parser's message if it is not valid.
pub type Commands<'a> = &'a dyn Fn(&[String]) -> std::result::Result<(), String>;

/// The part of a workflow that the checks and tests use (docs.github.com, "Workflow syntax for GitHub Actions").
#[derive(Debug, Deserialize)]
pub struct Workflow {
    /// The default permissions of the jobs' tokens; must be empty.
    #[serde(default)]
    pub permissions: Option<Value>,
    /// Environment of all jobs.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The concurrency group of the whole workflow.
    #[serde(default)]
    pub concurrency: Option<Concurrency>,
    /// The jobs by id.
    pub jobs: BTreeMap<String, Job>,
}

/// A concurrency group.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Concurrency {
    /// The group's name. One run is pending; a later one cancels it.
    Name(String),
    /// The group's name and options.
    Group {
        /// The group's name.
        group: String,
        /// With `max`, up to 100 runs are pending. By default one is, and a later one cancels it.
        #[serde(default)]
        queue: Option<String>,
    },
}

impl Concurrency {
    /// The group's name. GitHub ignores its case.
    pub fn group(&self) -> &str {
        match self {
            Self::Name(group) | Self::Group { group, .. } => group,
        }
    }
}

/// A job of a workflow.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Job {
    /// The permissions of the job's token.
    #[serde(default)]
    pub permissions: Option<Value>,
    /// Minutes after which GitHub stops the job; 360 by default.
    #[serde(default)]
    pub timeout_minutes: Option<u32>,
    /// The environment, whose protection rules apply to the job. It is part of the subject of the job's OIDC token.
    #[serde(default)]
    pub environment: Option<String>,
    /// The job's concurrency group.
    #[serde(default)]
    pub concurrency: Option<Concurrency>,
    /// Environment of the job's steps.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The steps in order.
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// A step of a job.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Step {
    /// The id by which other steps refer to this one.
    #[serde(default)]
    pub id: Option<String>,
    /// The command line.
    #[serde(default)]
    pub run: Option<Spanned<String>>,
    /// The action.
    #[serde(default)]
    pub uses: Option<Spanned<String>>,
    /// The action's inputs.
    #[serde(default)]
    pub with: BTreeMap<String, Value>,
    /// Whether the job continues if the step fails: a bool, or an expression.
    #[serde(default)]
    pub continue_on_error: Option<Value>,
    /// The step's environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// Checks all workflows of the project.
pub fn check(root: &Path, config: &Config, clean: &Clean, commands: Commands<'_>) -> Result<Vec<Finding>> {
    let dir = root.join(DIR);
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut findings = Vec::new();
    let mut files = Vec::new();
    for entry in fs::read_dir(&dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "yml" || ending == "yaml") {
            let text = fs::read_to_string(&path)?;
            let file = path.strip_prefix(root).unwrap_or(&path).to_owned();
            findings.extend(validate_text(&file, &text, commands));
            files.push((file, text));
        }
    }
    files.sort();
    findings.extend(aws::check(&files, config));
    for linter in LINTERS {
        findings.extend(linter.run(root, clean, &files)?);
    }
    Ok(findings)
}

/// Checks one workflow, given its text.
pub fn validate_text(file: &Path, text: &str, commands: Commands<'_>) -> Vec<Finding> {
    let workflow: Workflow = match serde_saphyr::from_str(text) {
        Ok(workflow) => workflow,
        Err(error) => {
            let line = error.location().and_then(|at| usize::try_from(at.line()).ok());
            let hint = "see docs.github.com, \"Workflow syntax for GitHub Actions\"";
            return vec![Finding::error(CHECK, file, line, error.to_string(), hint)];
        }
    };
    let mut findings = Vec::new();
    if workflow.permissions != Some(Value::Object(serde_json::Map::new())) {
        let message = "the default permissions of the jobs' tokens are not empty";
        findings.push(Finding::error(
            CHECK,
            file,
            None,
            message,
            "add `permissions: {}` at the top level, and the required permissions to each job",
        ));
    }
    for (id, job) in &workflow.jobs {
        let line = super::line_of(text, &format!("\n  {id}:")).map(|line| line + 1);
        if job.permissions.is_none() {
            let message = format!("job {id} does not declare the permissions of its token");
            findings.push(Finding::error(
                CHECK,
                file,
                line,
                message,
                "add `permissions:` with those that the job needs",
            ));
        }
        if job.timeout_minutes.is_none() {
            let message = format!("job {id} has no timeout; GitHub's default is 6 hours");
            findings.push(Finding::error(CHECK, file, line, message, "add `timeout-minutes:`"));
        }
        for step in &job.steps {
            findings.extend(step.run.as_ref().and_then(|run| check_run(file, run, commands)));
            findings.extend(step.uses.as_ref().into_iter().flat_map(|uses| check_action(file, text, uses, step)));
        }
    }
    findings
}

/// Finds a `run` line that is not one valid command of this program, which a contributor could run, too.
fn check_run(file: &Path, run: &Spanned<String>, commands: Commands<'_>) -> Option<Finding> {
    let line = usize::try_from(run.referenced.line()).ok();
    let text = run.value.trim();
    let wrong = |message: String, hint: &str| Some(Finding::error(CHECK, file, line, message, hint));
    if text.contains("${{") {
        return wrong(
            format!("`{text}`: GitHub inserts the expression's value into the script"),
            "pass the value by `env:`",
        );
    }
    let Some(words) = words(text) else {
        return wrong(
            format!("`{text}` is not a single `cargo xtask` command"),
            "make it a command of xtask, so that a contributor can run it without the workflow",
        );
    };
    let message = commands(&words).err()?;
    wrong(format!("`{text}`: {message}"), "see `cargo xtask --help` for the commands")
}

/// The words after `cargo xtask` if the line is a single such command; else `None`. Variables are not expanded.
pub fn words(line: &str) -> Option<Vec<String>> {
    if line.contains(['\n', ';', '|', '&', '<', '>', '`', '(']) {
        return None;
    }
    let words = shell_words::split(line).ok()?;
    let words = words.strip_prefix(&["exec".to_owned()][..]).unwrap_or(&words);
    match words {
        [cargo, xtask, rest @ ..] if cargo == "cargo" && xtask == "xtask" => Some(rest.to_vec()),
        _ => None,
    }
}

/// Finds an action that is not pinned to a commit, and a checkout that keeps its token.
fn check_action(file: &Path, text: &str, uses: &Spanned<String>, step: &Step) -> Vec<Finding> {
    let mut findings = Vec::new();
    let line = usize::try_from(uses.referenced.line()).ok();
    let whole = line.and_then(|n| text.lines().nth(n.saturating_sub(1))).unwrap_or_default();
    // `Err` is impossible: the pattern is a valid regular expression.
    let pinned = Regex::new(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$");
    if !uses.value.starts_with("./") && !pinned.is_ok_and(|pattern| pattern.is_match(whole)) {
        let message = format!("{} is not pinned", uses.value);
        findings.push(Finding::error(
            CHECK,
            file,
            line,
            message,
            "pin it to the 40 digits of a commit, with the version as a comment: `@0123… # v1.2.3`",
        ));
    }
    let keeps = step.with.get("persist-credentials").and_then(Value::as_bool) != Some(false);
    if uses.value.starts_with("actions/checkout@") && keeps {
        let message = "the checkout leaves its token in .git, where every later step can read it";
        findings.push(Finding::error(CHECK, file, line, message, "add `persist-credentials: false`"));
    }
    findings
}

/// An external linter for workflows.
struct Linter {
    program: &'static str,
    args: &'static [&'static str],
}

const LINTERS: [Linter; 2] = [
    Linter { program: "actionlint", args: &["-no-color", "-oneline"] },
    Linter { program: "zizmor", args: &["--offline", "--no-progress", "--quiet", "--color=never", "--format=github"] },
];

impl Linter {
    /// Runs the linter. No findings if it is not installed, which `doctor` reports.
    fn run(&self, root: &Path, clean: &Clean, files: &[(PathBuf, String)]) -> Result<Vec<Finding>> {
        let Ok(version) = Cmd::new(self.program).arg("--version").output() else { return Ok(Vec::new()) };
        let texts = files.iter().map(|(file, text)| (file.to_str().unwrap_or_default(), text.as_bytes()));
        let parts = [(self.program, version.stdout.as_bytes())].into_iter().chain(texts);
        clean.unless_known(parts, || {
            let paths = files.iter().map(|(file, _)| file.display().to_string());
            let output = Cmd::new(self.program).args(self.args.iter().copied()).args(paths).dir(root).output()?;
            let mut findings: Vec<Finding> = output.stdout.lines().filter_map(|line| self.finding(line)).collect();
            if output.code != 0 && findings.is_empty() {
                let message =
                    format!("{} failed with exit code {}: {}", self.program, output.code, output.stderr.trim());
                let hint = format!("run `{}` by hand", self.program);
                findings.push(Finding::error(self.program, DIR, None, message, hint));
            }
            Ok(findings)
        })
    }

    /// Parses a line of the linter's output.
    fn finding(&self, line: &str) -> Option<Finding> {
        let dir = DIR;
        let hint = format!("run `{} {dir}` for details", self.program);
        if self.program == "actionlint" {
            // FILE:LINE:COLUMN: message
            let mut parts = line.splitn(4, ':');
            let (file, number) = (parts.next()?, parts.next()?.parse().ok()?);
            let message = parts.nth(1)?.trim();
            return Some(Finding::error(self.program, file, Some(number), message, hint));
        }
        // ::error file=…,line=…,title=…::message
        let (properties, message) = line.strip_prefix("::")?.split_once("::")?;
        let get = |name: &str| properties.split([' ', ',']).find_map(|p| p.strip_prefix(name)?.strip_prefix('='));
        let number = get("line").and_then(|n| n.parse().ok());
        Some(Finding::error(self.program, get("file").unwrap_or(DIR), number, message, hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(words: &[String]) -> std::result::Result<(), String> {
        let known = ["validate", "ami"];
        if known.contains(&words.first().map_or("", String::as_str)) { Ok(()) } else { Err("no such command".into()) }
    }

    fn found(text: &str) -> Vec<String> {
        let findings = validate_text(Path::new("w.yml"), text, &known);
        findings.into_iter().map(|f| format!("{}: {}", f.line.unwrap_or(0), f.message)).collect()
    }

    const GOOD: &str = "\
on: push
permissions: {}
jobs:
  one:
    timeout-minutes: 5
    permissions:
      contents: read
    steps:
      - uses: actions/checkout@0123456789012345678901234567890123456789 # v5.0.0
        with:
          persist-credentials: false
      - run: exec cargo xtask ami build \"$IMAGE\"
        env:
          IMAGE: ${{ matrix.image }}
";

    #[test]
    fn a_good_workflow_has_no_findings() {
        assert!(found(GOOD).is_empty(), "{:?}", found(GOOD));
    }

    #[test]
    fn each_check_finds_its_problem_and_the_line() {
        let cases = [
            ("permissions: {}\n", "", "0: the default permissions of the jobs' tokens are not empty"),
            ("    timeout-minutes: 5\n", "", "4: job one has no timeout; GitHub's default is 6 hours"),
            (
                "    permissions:\n      contents: read\n",
                "",
                "4: job one does not declare the permissions of its token",
            ),
            (" # v5.0.0", "", "9: actions/checkout@0123456789012345678901234567890123456789 is not pinned"),
            ("@0123456789012345678901234567890123456789", "@v5", "9: actions/checkout@v5 is not pinned"),
            (
                "credentials: false",
                "credentials: true",
                "9: the checkout leaves its token in .git, where every later step can read it",
            ),
            ("exec cargo xtask ami", "cargo xtask amy", "12: `cargo xtask amy build \"$IMAGE\"`: no such command"),
            (
                "exec cargo xtask ami",
                "make ami",
                "12: `make ami build \"$IMAGE\"` is not a single `cargo xtask` command",
            ),
            (
                "\"$IMAGE\"",
                "x && rm -r y",
                "12: `exec cargo xtask ami build x && rm -r y` is not a single `cargo xtask` command",
            ),
            (
                "\"$IMAGE\"",
                "${{ inputs.x }}",
                "12: `exec cargo xtask ami build ${{ inputs.x }}`: GitHub inserts the expression's value into the script",
            ),
        ];
        for (from, to, expected) in cases {
            assert!(GOOD.contains(from), "{from}");
            assert_eq!(found(&GOOD.replacen(from, to, 1)), [expected]);
        }
    }

    #[test]
    fn invalid_yaml_is_reported_with_its_line() {
        let found = found("on: push\njobs:\n  - [\n");
        assert!(found.len() == 1 && !found[0].starts_with("0:"), "{found:?}");
    }

    #[test]
    fn linter_output_is_parsed() {
        let [actionlint, zizmor] = LINTERS;
        let one = actionlint.finding(".github/workflows/a.yml:7:3: unknown key: x [syntax-check]").unwrap();
        assert_eq!((one.line, one.message.as_str()), (Some(7), "unknown key: x [syntax-check]"));
        let line = "::error file=.github/workflows/a.yml,line=12,title=template-injection::a.yml:12: code injection";
        let other = zizmor.finding(line).unwrap();
        assert_eq!((other.file.to_str(), other.line), (Some(".github/workflows/a.yml"), Some(12)));
    }
}

//! GitHub Actions workflows: every line that they run is a command of this program, every action is pinned, no job may more than it says;
//! and what actionlint and zizmor find, where they are installed.

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

/// Where GitHub looks for them.
pub const FOLDER: &str = ".github/workflows";
const CHECK: &str = "workflows";

/// Judges a command line, its words after `cargo xtask`: an error says what is wrong with it.
pub type Commands<'a> = &'a dyn Fn(&[String]) -> std::result::Result<(), String>;

/// The part of a workflow that is judged or run here (docs.github.com, "Workflow syntax for GitHub Actions").
#[derive(Debug, Deserialize)]
pub struct Workflow {
    /// What every job may; nothing.
    #[serde(default)]
    pub permissions: Option<Value>,
    /// Environment of all jobs.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What may not run at the same time as the whole workflow.
    #[serde(default)]
    pub concurrency: Option<Concurrency>,
    /// The jobs by id.
    pub jobs: BTreeMap<String, Job>,
}

/// A concurrency group: its name alone, or with how it is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Concurrency {
    /// The name. One run waits, and a further one replaces it.
    Name(String),
    /// The name and more.
    Group {
        /// The name.
        group: String,
        /// `max`: up to a hundred wait. Else one waits, and a further one replaces it.
        #[serde(default)]
        queue: Option<String>,
    },
}

impl Concurrency {
    /// The group's name. GitHub compares it without regard to case.
    pub fn group(&self) -> &str {
        match self {
            Self::Name(group) | Self::Group { group, .. } => group,
        }
    }
}

/// A job.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Job {
    /// What it may.
    #[serde(default)]
    pub permissions: Option<Value>,
    /// When it is stopped.
    #[serde(default)]
    pub timeout_minutes: Option<u32>,
    /// The environment whose rules it obeys; part of the identity that AWS sees.
    #[serde(default)]
    pub environment: Option<String>,
    /// What may not run at the same time.
    #[serde(default)]
    pub concurrency: Option<Concurrency>,
    /// Environment of its steps.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Its steps in order.
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// A step.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Step {
    /// What other steps call it.
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
    /// Whether the job goes on when it fails: a bool, or an expression.
    #[serde(default)]
    pub continue_on_error: Option<Value>,
    /// Its environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// Judges all workflows of the project.
pub fn check(root: &Path, config: &Config, clean: &Clean, commands: Commands<'_>) -> Result<Vec<Finding>> {
    let folder = root.join(FOLDER);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut findings = Vec::new();
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder)? {
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
        findings.extend(linter.ask(root, clean, &files)?);
    }
    Ok(findings)
}

/// Judges one workflow by its text.
pub fn validate_text(file: &Path, text: &str, commands: Commands<'_>) -> Vec<Finding> {
    let workflow: Workflow = match serde_saphyr::from_str(text) {
        Ok(workflow) => workflow,
        Err(error) => {
            let line = error.location().and_then(|at| usize::try_from(at.line()).ok());
            let hint = "docs.github.com, \"Workflow syntax for GitHub Actions\"";
            return vec![Finding::error(CHECK, file, line, error.to_string(), hint)];
        }
    };
    let mut findings = Vec::new();
    if workflow.permissions != Some(Value::Object(serde_json::Map::new())) {
        let message = "the token of every job may more than nothing";
        findings.push(Finding::error(
            CHECK,
            file,
            None,
            message,
            "`permissions: {}` at the top; each job says what it needs",
        ));
    }
    for (id, job) in &workflow.jobs {
        let line = super::line_of(text, &format!("\n  {id}:")).map(|line| line + 1);
        if job.permissions.is_none() {
            let message = format!("job {id} does not say what its token may");
            findings.push(Finding::error(CHECK, file, line, message, "add `permissions:`, with as little as it needs"));
        }
        if job.timeout_minutes.is_none() {
            let message = format!("job {id} may hang for six hours");
            findings.push(Finding::error(CHECK, file, line, message, "add `timeout-minutes:`"));
        }
        for step in &job.steps {
            findings.extend(step.run.as_ref().and_then(|run| ran(file, run, commands)));
            findings.extend(step.uses.as_ref().into_iter().flat_map(|uses| used(file, text, uses, step)));
        }
    }
    findings
}

/// A line that a contributor cannot run, or that does not exist.
fn ran(file: &Path, run: &Spanned<String>, commands: Commands<'_>) -> Option<Finding> {
    let line = usize::try_from(run.referenced.line()).ok();
    let text = run.value.trim();
    let wrong = |message: String, hint: &str| Some(Finding::error(CHECK, file, line, message, hint));
    if text.contains("${{") {
        return wrong(
            format!("`{text}`: GitHub puts the expression's value into the script"),
            "hand it over by `env:`",
        );
    }
    let Some(words) = words(text) else {
        return wrong(
            format!("`{text}` is no single `cargo xtask` command"),
            "what a workflow does, a contributor must be able to do: make it a command",
        );
    };
    let message = commands(&words).err()?;
    wrong(format!("`{text}`: {message}"), "`cargo xtask --help` lists the commands")
}

/// The words after `cargo xtask`, if the line is one such command. A variable stays as it is written.
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

/// What is wrong with an action that is called.
fn used(file: &Path, text: &str, uses: &Spanned<String>, step: &Step) -> Vec<Finding> {
    let mut findings = Vec::new();
    let line = usize::try_from(uses.referenced.line()).ok();
    let whole = line.and_then(|n| text.lines().nth(n.saturating_sub(1))).unwrap_or_default();
    // A pattern of our own, so it is one.
    let pinned = Regex::new(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$");
    if !uses.value.starts_with("./") && !pinned.is_ok_and(|pattern| pattern.is_match(whole)) {
        let message = format!("{} is not pinned", uses.value);
        findings.push(Finding::error(
            CHECK,
            file,
            line,
            message,
            "write the commit's 40 digits, and the version as a comment: `@0123… # v1.2.3`",
        ));
    }
    let keeps = step.with.get("persist-credentials").and_then(Value::as_bool) != Some(false);
    if uses.value.starts_with("actions/checkout@") && keeps {
        let message = "the checkout leaves its token in .git, for every later step";
        findings.push(Finding::error(CHECK, file, line, message, "`persist-credentials: false`"));
    }
    findings
}

/// A program that knows workflows better than we do.
struct Linter {
    program: &'static str,
    args: &'static [&'static str],
}

const LINTERS: [Linter; 2] = [
    Linter { program: "actionlint", args: &["-no-color", "-oneline"] },
    Linter { program: "zizmor", args: &["--offline", "--no-progress", "--quiet", "--color=never", "--format=github"] },
];

impl Linter {
    /// What it finds; nothing where it is not installed, which `doctor` tells.
    fn ask(&self, root: &Path, clean: &Clean, files: &[(PathBuf, String)]) -> Result<Vec<Finding>> {
        let Ok(version) = Cmd::new(self.program).arg("--version").output() else { return Ok(Vec::new()) };
        let texts = files.iter().map(|(file, text)| (file.to_str().unwrap_or_default(), text.as_bytes()));
        let parts = [(self.program, version.stdout.as_bytes())].into_iter().chain(texts);
        clean.unless_known(parts, || {
            let paths = files.iter().map(|(file, _)| file.display().to_string());
            let said = Cmd::new(self.program).args(self.args.iter().copied()).args(paths).dir(root).output()?;
            let mut findings: Vec<Finding> = said.stdout.lines().filter_map(|line| self.finding(line)).collect();
            if said.code != 0 && findings.is_empty() {
                let told = format!("{} ended with {}: {}", self.program, said.code, said.stderr.trim());
                findings.push(Finding::error(self.program, FOLDER, None, told, "run it by hand"));
            }
            Ok(findings)
        })
    }

    /// A line of its output as a finding.
    fn finding(&self, line: &str) -> Option<Finding> {
        let hint = format!("`{} {FOLDER}` tells more", self.program);
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
        Some(Finding::error(self.program, get("file").unwrap_or(FOLDER), number, message, hint))
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
    fn a_good_workflow_has_nothing_to_find() {
        assert!(found(GOOD).is_empty(), "{:?}", found(GOOD));
    }

    #[test]
    fn each_rule_finds_its_breach_and_its_line() {
        let cases = [
            ("permissions: {}\n", "", "0: the token of every job may more than nothing"),
            ("    timeout-minutes: 5\n", "", "4: job one may hang for six hours"),
            ("    permissions:\n      contents: read\n", "", "4: job one does not say what its token may"),
            (" # v5.0.0", "", "9: actions/checkout@0123456789012345678901234567890123456789 is not pinned"),
            ("@0123456789012345678901234567890123456789", "@v5", "9: actions/checkout@v5 is not pinned"),
            (
                "credentials: false",
                "credentials: true",
                "9: the checkout leaves its token in .git, for every later step",
            ),
            ("exec cargo xtask ami", "cargo xtask amy", "12: `cargo xtask amy build \"$IMAGE\"`: no such command"),
            ("exec cargo xtask ami", "make ami", "12: `make ami build \"$IMAGE\"` is no single `cargo xtask` command"),
            (
                "\"$IMAGE\"",
                "x && rm -r y",
                "12: `exec cargo xtask ami build x && rm -r y` is no single `cargo xtask` command",
            ),
            (
                "\"$IMAGE\"",
                "${{ inputs.x }}",
                "12: `exec cargo xtask ami build ${{ inputs.x }}`: GitHub puts the expression's value into the script",
            ),
        ];
        for (from, to, want) in cases {
            assert!(GOOD.contains(from), "{from}");
            assert_eq!(found(&GOOD.replacen(from, to, 1)), [want]);
        }
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_line() {
        let found = found("on: push\njobs:\n  - [\n");
        assert!(found.len() == 1 && !found[0].starts_with("0:"), "{found:?}");
    }

    #[test]
    fn the_linters_lines_become_findings() {
        let [actionlint, zizmor] = LINTERS;
        let one = actionlint.finding(".github/workflows/a.yml:7:3: unknown key: x [syntax-check]").unwrap();
        assert_eq!((one.line, one.message.as_str()), (Some(7), "unknown key: x [syntax-check]"));
        let line = "::error file=.github/workflows/a.yml,line=12,title=template-injection::a.yml:12: code injection";
        let other = zizmor.finding(line).unwrap();
        assert_eq!((other.file.to_str(), other.line), (Some(".github/workflows/a.yml"), Some(12)));
    }
}

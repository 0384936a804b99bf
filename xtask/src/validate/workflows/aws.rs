//! Checks that workflows which use an AWS account agree with ami.toml, with the role's policies and with one another.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{CHECK, Concurrency, Job, Workflow, words};
use crate::config::Config;
use crate::validate::{Finding, line_of};

/// The action that assumes the role.
const ASSUME: &str = "aws-actions/configure-aws-credentials@";
/// The action's default for `role-duration-seconds` (its README).
const ASSUMED: u64 = 3600;
/// Prefix of the actions that create attestations.
const ATTEST: &str = "actions/attest";

/// Checks all workflows of the project. A file that cannot be parsed is skipped: [`super::validate_text`] reports it.
pub(super) fn check(files: &[(PathBuf, String)], config: &Config) -> Vec<Finding> {
    let read = |(file, text): &(PathBuf, String)| {
        Some((file.clone(), text.clone(), serde_saphyr::from_str::<Workflow>(text).ok()?))
    };
    let workflows: Vec<(PathBuf, String, Workflow)> = files.iter().filter_map(read).collect();
    let mut findings = shared(&workflows);
    for (file, text, workflow) in &workflows {
        findings.extend(overridden(file, text, workflow));
        for (id, job) in &workflow.jobs {
            findings.extend(without_parameters(file, text, workflow, job, config));
            findings.extend(short_credentials(file, text, id, job));
            findings.extend(required_attestation(file, text, job));
        }
    }
    findings
}

/// Finds concurrency groups that two workflows share. GitHub keeps one pending run of a group and cancels the others, so that a nightly run
/// would cancel a pending release (docs.github.com, "Control the concurrency of workflows and jobs").
fn shared(workflows: &[(PathBuf, String, Workflow)]) -> Vec<Finding> {
    let mut seen: BTreeMap<String, &Path> = BTreeMap::new();
    let mut findings = Vec::new();
    for (file, text, workflow) in workflows {
        let groups =
            workflow.concurrency.iter().chain(workflow.jobs.values().filter_map(|job| job.concurrency.as_ref()));
        for group in groups.map(Concurrency::group) {
            let first = *seen.entry(group.to_lowercase()).or_insert(file);
            if first != file {
                let message = format!(
                    "the concurrency group `{group}` is also in {}: a later run cancels a pending one",
                    first.display()
                );
                let hint = "use different groups in each workflow; claims and locks already exclude concurrent runs";
                findings.push(Finding::error(CHECK, file, line_of(text, group), message, hint));
            }
        }
    }
    findings
}

/// Finds environment variables that override ami.toml in one workflow only: `iam-policy` and `validate` would read another value.
fn overridden(file: &Path, text: &str, workflow: &Workflow) -> Vec<Finding> {
    let steps = workflow.jobs.values().flat_map(|job| job.steps.iter().map(|step| &step.env).chain([&job.env]));
    let names = steps.chain([&workflow.env]).flat_map(BTreeMap::keys);
    let keys = names.filter(|name| name.starts_with("AGENT_AMI_") && *name != "AGENT_AMI_ON");
    keys.map(|name| {
        let message = format!(
            "{name} overrides ami.toml in this workflow only: `iam-policy` prints the role's policy for another value"
        );
        Finding::error(CHECK, file, line_of(text, name), message, "set the key in ami.toml, which all commands read")
    })
    .collect()
}

/// Finds promotions to a channel that has only an env file, which is lost with the runner.
fn without_parameters(file: &Path, text: &str, workflow: &Workflow, job: &Job, config: &Config) -> Vec<Finding> {
    let on_aws = |env: &BTreeMap<String, String>| env.get("AGENT_AMI_ON").is_some_and(|on| on == "aws");
    let mut findings = Vec::new();
    for run in job
        .steps
        .iter()
        .filter(|step| [&workflow.env, &job.env, &step.env].into_iter().any(on_aws))
        .filter_map(|s| s.run.as_ref())
    {
        let words = words(&run.value).unwrap_or_default();
        let after = |flag: &str| words.iter().skip_while(|word| *word != flag).nth(1);
        let named = ["promote", "rollback", "release"].iter().any(|verb| words.iter().any(|word| word == verb));
        let Some(name) = after("--channel").filter(|_| named) else { continue };
        if config.channels.get(name.as_str()).is_some_and(|channel| channel.ssm_prefix.is_none()) {
            let message = format!(
                "the channel {name} has no parameters in Systems Manager, and its env file is lost with the runner"
            );
            let hint = format!("set `ssm_prefix` of [channels.{name}] in ami.toml");
            findings.push(Finding::error(CHECK, file, line_of(text, run.value.trim()), message, hint));
        }
    }
    findings
}

/// Finds jobs whose timeout is longer than the lifetime of the credentials that they get at their start.
fn short_credentials(file: &Path, text: &str, id: &str, job: &Job) -> Option<Finding> {
    let step = job.steps.iter().find(|step| step.uses.as_ref().is_some_and(|uses| uses.value.starts_with(ASSUME)))?;
    let lasts = step.with.get("role-duration-seconds").and_then(serde_json::Value::as_u64).unwrap_or(ASSUMED);
    let needed = u64::from(job.timeout_minutes?) * 60;
    (lasts < needed).then(|| {
        let message = format!("job {id} may run for {needed} s, but its credentials expire after {lasts} s");
        let hint =
            format!("set `role-duration-seconds: {needed}`, and the role's maximum session duration to at least that");
        let line = line_of(text, &format!("\n  {id}:")).map(|line| line + 1);
        Finding::error(CHECK, file, line, message, hint)
    })
}

/// Finds attestations that fail the job. In private repositories they work only with GitHub Enterprise Cloud (docs.github.com, "Artifact
/// attestations").
fn required_attestation(file: &Path, text: &str, job: &Job) -> Option<Finding> {
    let step = job.steps.iter().find(|step| {
        step.continue_on_error.is_none() && step.uses.as_ref().is_some_and(|uses| uses.value.starts_with(ATTEST))
    })?;
    let message = "a failed attestation fails the job; in a private repository attestations fail";
    let hint = "add `continue-on-error: ${{ github.event.repository.private }}`";
    let uses = step.uses.as_ref().map_or("", |uses| uses.value.as_str());
    Some(Finding::error(CHECK, file, line_of(text, uses), message, hint))
}

#[cfg(test)]
mod tests {
    use crate::config::Overrides;

    use super::*;

    const GOOD: &str = "\
env:
  AGENT_AMI_ON: aws
concurrency:
  group: nightly
jobs:
  one:
    timeout-minutes: 180
    concurrency:
      group: release-${{ matrix.image }}
      queue: max
    steps:
      - uses: aws-actions/configure-aws-credentials@0123
        with:
          role-duration-seconds: 10800
      - run: exec cargo xtask ami promote --channel staging
      - uses: actions/attest-build-provenance@0123
        continue-on-error: ${{ github.event.repository.private }}
";

    fn found(files: &[(&str, &str)], prefix: &str) -> Vec<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut config = Config::load(root, &Overrides::default(), &BTreeMap::new()).unwrap();
        for channel in config.channels.values_mut() {
            channel.ssm_prefix = Some(prefix.to_owned()).filter(|prefix| !prefix.is_empty());
        }
        let files: Vec<(PathBuf, String)> =
            files.iter().map(|(name, text)| (name.into(), (*text).to_owned())).collect();
        check(&files, &config).into_iter().map(|f| format!("{}: {}", f.line.unwrap_or(0), f.message)).collect()
    }

    #[test]
    fn a_good_workflow_has_no_findings() {
        assert_eq!(found(&[("w.yml", GOOD)], "/agent-ami"), [""; 0]);
    }

    #[test]
    fn each_check_finds_its_problem_and_the_line() {
        let cases = [
            (
                "  AGENT_AMI_ON: aws\n",
                "  AGENT_AMI_ON: aws\n  AGENT_AMI_CHANNELS_STAGING_SSM_PREFIX: /x\n",
                "3: AGENT_AMI_CHANNELS_STAGING_SSM_PREFIX overrides ami.toml in this workflow only",
            ),
            ("10800", "3600", "6: job one may run for 10800 s, but its credentials expire after 3600 s"),
            ("        with:\n          role-duration-seconds: 10800\n", "", "6: job one may run for 10800 s"),
            ("        continue-on-error: ${{ github.event.repository.private }}\n", "", "16: a failed attestation"),
        ];
        for (from, to, expected) in cases {
            assert!(GOOD.contains(from), "{from}");
            let found = found(&[("w.yml", &GOOD.replacen(from, to, 1))], "/agent-ami");
            assert!(found.len() == 1 && found[0].starts_with(expected), "{expected}: {found:?}");
        }
        let found = found(&[("w.yml", GOOD)], "");
        assert!(found.len() == 1 && found[0].starts_with("15: the channel staging has no parameters"), "{found:?}");
    }

    #[test]
    fn a_group_in_two_workflows_is_found() {
        let other = "concurrency: Nightly\njobs: {}\n";
        let found = found(&[("a.yml", GOOD), ("b.yml", other)], "/agent-ami");
        assert!(found.len() == 1 && found[0].contains("`Nightly` is also in a.yml"), "{found:?}");
    }
}

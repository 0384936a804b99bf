//! What workflows that work in an account must agree on with ami.toml, with the role's policies and with one another.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{CHECK, Concurrency, Job, Workflow, words};
use crate::config::Config;
use crate::validate::{Finding, line_of};

/// The action that assumes the role.
const ASSUME: &str = "aws-actions/configure-aws-credentials@";
/// How long it assumes the role for where nothing else is said, in seconds (its README, `role-duration-seconds`).
const ASSUMED: u64 = 3600;
/// The actions that attest.
const ATTEST: &str = "actions/attest";

/// What is wrong with the project's workflows. One that is no workflow is found elsewhere.
pub(super) fn check(files: &[(PathBuf, String)], config: &Config) -> Vec<Finding> {
    let read = |(file, text): &(PathBuf, String)| {
        Some((file.clone(), text.clone(), serde_saphyr::from_str::<Workflow>(text).ok()?))
    };
    let workflows: Vec<(PathBuf, String, Workflow)> = files.iter().filter_map(read).collect();
    let mut findings = shared(&workflows);
    for (file, text, workflow) in &workflows {
        findings.extend(overridden(file, text, workflow));
        for (id, job) in &workflow.jobs {
            findings.extend(forgotten(file, text, workflow, job, config));
            findings.extend(short(file, text, id, job));
            findings.extend(attested(file, text, job));
        }
    }
    findings
}

/// A group that two workflows share: of those that wait in it GitHub keeps one, and a release would be cancelled for a nightly run
/// (docs.github.com, "Control the concurrency of workflows and jobs").
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
                    "the concurrency group `{group}` is also {}'s: what waits in it is cancelled for what comes later",
                    first.display()
                );
                let hint = "give each workflow groups of its own; claims and locks keep runs apart";
                findings.push(Finding::error(CHECK, file, line_of(text, group), message, hint));
            }
        }
    }
    findings
}

/// A key of ami.toml that only the workflow knows: `iam-policy` and `validate` read another value.
fn overridden(file: &Path, text: &str, workflow: &Workflow) -> Vec<Finding> {
    let steps = workflow.jobs.values().flat_map(|job| job.steps.iter().map(|step| &step.env).chain([&job.env]));
    let names = steps.chain([&workflow.env]).flat_map(BTreeMap::keys);
    let keys = names.filter(|name| name.starts_with("AGENT_AMI_") && *name != "AGENT_AMI_ON");
    keys.map(|name| {
        let message =
            format!("{name} overrides ami.toml here alone: `iam-policy` writes the role's policy for another value");
        Finding::error(CHECK, file, line_of(text, name), message, "set the key in ami.toml, which all commands read")
    })
    .collect()
}

/// A promotion whose pointer is lost with the runner.
fn forgotten(file: &Path, text: &str, workflow: &Workflow, job: &Job, config: &Config) -> Vec<Finding> {
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
        if config.channels.get(name).is_some_and(|channel| channel.ssm_prefix.is_empty()) {
            let message = format!(
                "the channel {name} has no parameters in Systems Manager, and its env file is lost with the runner"
            );
            let hint = format!("set `ssm_prefix` of [channels.{name}] in ami.toml");
            findings.push(Finding::error(CHECK, file, line_of(text, run.value.trim()), message, hint));
        }
    }
    findings
}

/// A job that may run for longer than the credentials last that it is given at its start.
fn short(file: &Path, text: &str, id: &str, job: &Job) -> Option<Finding> {
    let step = job.steps.iter().find(|step| step.uses.as_ref().is_some_and(|uses| uses.value.starts_with(ASSUME)))?;
    let lasts = step.with.get("role-duration-seconds").and_then(serde_json::Value::as_u64).unwrap_or(ASSUMED);
    let needed = u64::from(job.timeout_minutes?) * 60;
    (lasts < needed).then(|| {
        let message = format!("job {id} may run for {needed} s, and its credentials end after {lasts} s");
        let hint = format!("`role-duration-seconds: {needed}`, and as much as the role's maximum session duration");
        let line = line_of(text, &format!("\n  {id}:")).map(|line| line + 1);
        Finding::error(CHECK, file, line, message, hint)
    })
}

/// An attestation that a release depends on: a private repository has none, unless it is of GitHub Enterprise Cloud (docs.github.com,
/// "Artifact attestations").
fn attested(file: &Path, text: &str, job: &Job) -> Option<Finding> {
    let step = job.steps.iter().find(|step| {
        step.continue_on_error.is_none() && step.uses.as_ref().is_some_and(|uses| uses.value.starts_with(ATTEST))
    })?;
    let message = "an attestation that fails, as in a private repository, fails the job";
    let hint = "`continue-on-error: ${{ github.event.repository.private }}`";
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
            prefix.clone_into(&mut channel.ssm_prefix);
        }
        let files: Vec<(PathBuf, String)> =
            files.iter().map(|(name, text)| (name.into(), (*text).to_owned())).collect();
        check(&files, &config).into_iter().map(|f| format!("{}: {}", f.line.unwrap_or(0), f.message)).collect()
    }

    #[test]
    fn a_good_workflow_has_nothing_to_find() {
        assert_eq!(found(&[("w.yml", GOOD)], "/agent-ami"), [""; 0]);
    }

    #[test]
    fn each_rule_finds_its_breach_and_its_line() {
        let cases = [
            (
                "  AGENT_AMI_ON: aws\n",
                "  AGENT_AMI_ON: aws\n  AGENT_AMI_CHANNELS_STAGING_SSM_PREFIX: /x\n",
                "3: AGENT_AMI_CHANNELS_STAGING_SSM_PREFIX overrides ami.toml here alone",
            ),
            ("10800", "3600", "6: job one may run for 10800 s, and its credentials end after 3600 s"),
            ("        with:\n          role-duration-seconds: 10800\n", "", "6: job one may run for 10800 s"),
            (
                "        continue-on-error: ${{ github.event.repository.private }}\n",
                "",
                "16: an attestation that fails",
            ),
        ];
        for (from, to, wanted) in cases {
            assert!(GOOD.contains(from), "{from}");
            let found = found(&[("w.yml", &GOOD.replacen(from, to, 1))], "/agent-ami");
            assert!(found.len() == 1 && found[0].starts_with(wanted), "{wanted}: {found:?}");
        }
        let found = found(&[("w.yml", GOOD)], "");
        assert!(found.len() == 1 && found[0].starts_with("15: the channel staging has no parameters"), "{found:?}");
    }

    #[test]
    fn a_group_of_two_workflows_is_found() {
        let other = "concurrency: Nightly\njobs: {}\n";
        let found = found(&[("a.yml", GOOD), ("b.yml", other)], "/agent-ami");
        assert!(found.len() == 1 && found[0].contains("`Nightly` is also a.yml's"), "{found:?}");
    }
}

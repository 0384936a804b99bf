//! The workflows: each `run:` line is a `cargo xtask` command with valid arguments, and the lines of release.yml succeed on local machines.
//!
//! `cargo test -p xtask --test workflows -- --ignored --nocapture` runs the lines of release.yml as GitHub's runner does, with its
//! variables. An image that is up to date and has passed its smoke test is not built or tested again.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test prints its observations and fails by panicking")]

use std::collections::BTreeMap;
use std::fs;

use assert_cmd::Command;
use clap::Parser as _;
use regex_lite::Regex;
use serde_json::Value;
use xtask::cli::Cli;
use xtask::validate::workflows::{Concurrency, DIR, Step, Workflow, words};

#[path = "support/project.rs"]
mod project;
use project::{Ended, Project, copy, ended};

#[path = "support/files.rs"]
mod files;
use files::root;

fn workflow(name: &str) -> Workflow {
    serde_saphyr::from_str(&fs::read_to_string(root().join(DIR).join(name)).unwrap()).unwrap()
}

#[test]
fn every_run_line_is_a_valid_command() {
    let mut lines = 0;
    for entry in fs::read_dir(root().join(DIR)).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        for (id, job) in workflow(&name).jobs {
            for run in job.steps.iter().filter_map(|step| step.run.as_ref()) {
                let place = format!("{name}, {id}: {}", run.value);
                let words = words(&run.value).unwrap_or_else(|| panic!("{place}: expected one `cargo xtask` command"));
                Cli::try_parse_from(std::iter::once("cargo xtask".to_owned()).chain(words))
                    .unwrap_or_else(|error| panic!("{place}: {error}"));
                lines += 1;
            }
        }
    }
    assert!(lines >= 15, "only {lines} lines found");
}

#[test]
fn validate_reports_an_invalid_run_line_with_its_place() {
    let project = Project::new();
    copy(&root().join(".github"), &project.path(".github"));
    project.run(&["validate"]).assert_exit(2, &["the channel staging has no parameters in Systems Manager"]);
    project.edit("ami.toml", "ssm_prefix = \"\"", "ssm_prefix = \"/agent-ami\"");
    project.run(&["validate"]).assert_exit(0, &[]);
    project.edit(".github/workflows/gc.yml", "ami gc --apply", "ami gc --really");
    let text = fs::read_to_string(project.path(".github/workflows/gc.yml")).unwrap();
    let line = text.lines().position(|line| line.contains("--really")).unwrap() + 1;
    project.run(&["validate"]).assert_exit(2, &[&format!("gc.yml:{line}"), "--really", "error[workflows]"]);
}

/// A role can be assumed only from the environments in its trust policy.
#[test]
fn the_environment_of_every_job_with_a_role_is_in_the_trust_policy() {
    let project = Project::new();
    let policy = trust_policy(&project, "you/it", "exit 1", &[]);
    policy.assert_exit(0, &["the policy has the placeholder ACCOUNT", "the ids of you/it are unknown"]);
    let mut jobs = 0;
    for name in ["release.yml", "gc.yml", "watch.yml", "freshness.yml", "canary.yml"] {
        for (id, job) in workflow(name).jobs {
            let environment = job.environment.unwrap_or_else(|| panic!("{name}, {id} has no environment"));
            let subject = format!("\"repo:you/it:environment:{environment}\"");
            assert!(policy.stdout.contains(&subject), "{subject}: {}", policy.stdout);
            jobs += 1;
        }
    }
    assert_eq!(jobs, 8);
    project.run(&["iam-policy", "--trust", "you/*"]).assert_exit(2, &["OWNER/REPOSITORY"]);
}

/// Runs `iam-policy --trust` with this script as `gh`.
fn trust_policy(project: &Project, repository: &str, gh: &str, env: &[(&str, &str)]) -> Ended {
    let bin = project.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let program = bin.join("gh");
    fs::write(&program, format!("#!/bin/sh\n{gh}\n")).unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut command = project.command(&["iam-policy", "--trust", repository]);
    command.env("PATH", format!("{}:{path}", bin.display())).envs(env.iter().copied());
    ended(&mut command)
}

/// GitHub sends ids in the subject for repositories created since 2026-07-15.
#[test]
fn the_subject_has_ids_for_repositories_for_which_github_sends_them() {
    let project = Project::new();
    let ids = "\"repo:you@1/it@2:environment:staging\"";
    let names = "\"repo:you/it:environment:staging\"";
    let given = trust_policy(&project, "you@1/it@2", "exit 1", &[]);
    assert!(given.code == 0 && given.stdout.contains(ids) && !given.stdout.contains(names), "{}", given.stdout);
    let gh = |created: &str| {
        let answer = format!(r#"{{"id": 2, "full_name": "you/it", "owner": {{"id": 1}}, "created_at": "{created}"}}"#);
        format!("test \"$1 $2\" = 'api repos/you/it' && echo '{answer}'")
    };
    let new = trust_policy(&project, "you/it", &gh("2026-08-01T00:00:00Z"), &[]);
    assert!(new.stdout.contains(ids) && !new.stdout.contains(names), "{}{}", new.stdout, new.stderr);
    let old = trust_policy(&project, "you/it", &gh("2024-01-01T00:00:00Z"), &[]);
    assert!(old.stdout.contains(ids) && old.stdout.contains(names), "{}", old.stdout);
    let env = [("GITHUB_REPOSITORY", "you/it"), ("GITHUB_REPOSITORY_ID", "2"), ("GITHUB_REPOSITORY_OWNER_ID", "1")];
    let here = trust_policy(&project, "you/it", "exit 1", &env);
    assert!(here.stdout.contains(ids) && here.stdout.contains(names), "{}", here.stdout);
}

/// GitHub cancels a waiting run of a concurrency group when a later one is queued.
#[test]
fn a_release_neither_cancels_another_nor_blocks_it_while_waiting_for_reviewers() {
    let release = workflow("release.yml");
    assert_eq!(release.concurrency, None, "a release would wait while another one waits for reviewers");
    assert_eq!(
        release.jobs["production"].concurrency, None,
        "a release would wait while another one waits for reviewers"
    );
    let Some(Concurrency::Group { group, queue }) = &release.jobs["staging"].concurrency else {
        panic!("two releases of an image could be promoted to staging in the wrong order")
    };
    assert!(group.contains("${{ matrix.image }}"), "{group}: the jobs of one release would cancel each other");
    assert_eq!(queue.as_deref(), Some("max"));
    for name in ["gc.yml", "watch.yml", "freshness.yml", "canary.yml"] {
        let other = workflow(name).concurrency.unwrap();
        assert!(!other.group().starts_with("release"), "{name}: {}", other.group());
    }
}

/// The canary deletes its image and the resources of its run, also after a failure.
#[test]
fn the_canary_deletes_everything_after_success_and_failure() {
    let text = fs::read_to_string(root().join(DIR).join("canary.yml")).unwrap();
    let canary = workflow("canary.yml");
    let steps = &canary.jobs["canary"].steps;
    let runs: Vec<&str> = steps.iter().filter_map(|step| Some(step.run.as_ref()?.value.trim())).collect();
    let at = |text: &str| runs.iter().position(|run| run.contains(text)).unwrap_or_else(|| panic!("no `{text}`"));
    assert!(at("ami build --force") < at("ami smoke") && at("ami smoke") < at("ami delete"), "{runs:?}");
    assert!(at("ami delete") < at("ami gc --mine --apply"), "{runs:?}");
    for words in ["ami delete", "ami gc --mine --apply"] {
        let before = text.split(words).next().unwrap().rsplit("- name:").next().unwrap();
        assert!(before.contains("if: always()"), "`{words}` is skipped after a failure");
    }
    assert!(
        !text.contains("ami copy") && !text.contains("ami promote"),
        "the canary must not copy or promote its image"
    );
}

/// A failed attestation must not fail the job, because it is not available in every private repository.
#[test]
fn production_does_not_depend_on_the_attestation() {
    let staging = &workflow("release.yml").jobs["staging"];
    let attests = |step: &&Step| step.uses.as_ref().is_some_and(|uses| uses.value.starts_with("actions/attest"));
    let steps: Vec<&Step> = staging.steps.iter().filter(attests).collect();
    assert_eq!(steps.len(), 1);
    let continue_on_error = steps[0].continue_on_error.as_ref().and_then(Value::as_str);
    assert_eq!(continue_on_error, Some("${{ github.event.repository.private }}"));
}

/// Evaluates `${{ … }}` expressions, of the kinds that our workflows use: paths, `fromJSON(…)`, `… || 'text'`.
fn evaluated(text: &str, known: &BTreeMap<String, String>) -> String {
    let expression = Regex::new(r"\$\{\{\s*(.*?)\s*\}\}").unwrap();
    let value = |path: &str| -> String {
        let path = path.trim().trim_start_matches("fromJSON(").trim_end_matches(')');
        path.strip_prefix('\'')
            .map_or_else(|| known.get(path).cloned().unwrap_or_default(), |t| t.trim_end_matches('\'').to_owned())
    };
    let found = |captures: &regex_lite::Captures<'_>| {
        let alternatives = captures[1].split("||").map(value);
        alternatives.clone().find(|value| !value.is_empty()).unwrap_or_default()
    };
    expression.replace_all(text, found).into_owned()
}

/// Runs a step's line as the runner does; returns the outputs and the text that it adds to the summary.
fn run(
    step: &Step,
    env: &BTreeMap<String, String>,
    known: &BTreeMap<String, String>,
) -> (BTreeMap<String, String>, String) {
    let files = tempfile::tempdir().unwrap();
    let (output, summary) = (files.path().join("output"), files.path().join("summary"));
    let line = &step.run.as_ref().unwrap().value;
    println!("$ {line}");
    let mut command = Command::new("bash");
    // The runner uses `bash -e` for steps without `shell` (docs.github.com, "Workflow syntax").
    command.args(["-e", "-c", line]).current_dir(root()).env("GITHUB_ACTIONS", "true").env("GITHUB_ACTOR", "octocat");
    command.env("GITHUB_OUTPUT", &output).env("GITHUB_STEP_SUMMARY", &summary);
    for (name, value) in env.iter().chain(&step.env) {
        command.env(name, evaluated(value, known));
    }
    let ended = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    print!("{stderr}");
    assert!(ended.status.success(), "{line}: {}", ended.status);
    assert!(!stderr.contains("\n::error"), "{stderr}");
    let outputs = fs::read_to_string(&output).unwrap_or_default();
    let outputs = outputs.lines().filter_map(|line| line.split_once('='));
    let outputs = outputs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    (outputs, fs::read_to_string(&summary).unwrap_or_default())
}

#[test]
#[ignore = "builds and boots VMs"]
fn the_lines_of_the_release_workflow_succeed_on_local_machines() {
    let release = workflow("release.yml");
    let mut env = release.env;
    assert_eq!(env.insert("AGENT_AMI_ON".to_owned(), "local".to_owned()).as_deref(), Some("aws"));
    // Separate channels, in parameters only, so that no file of the checkout changes.
    for channel in ["STAGING", "PRODUCTION"] {
        let prefix = format!("/workflow-{}", std::process::id());
        env.insert(format!("AGENT_AMI_CHANNELS_{channel}_SSM_PREFIX"), prefix);
        env.insert(format!("AGENT_AMI_CHANNELS_{channel}_ENV_FILE"), String::new());
    }
    let mut known =
        BTreeMap::from([("inputs.override".to_owned(), "the test does not wait for the soak time".to_owned())]);
    let _ = fs::remove_dir_all(root().join("release"));

    let (mut summaries, mut ran) = (BTreeMap::new(), 0);
    for job in ["plan", "staging", "production"] {
        println!("--- {job}");
        if job == "staging" {
            let images: Value = serde_json::from_str(&known["needs.plan.outputs.images"]).unwrap();
            let names: Vec<&str> = images.as_array().unwrap().iter().map(|i| i["image"].as_str().unwrap()).collect();
            assert!(names.contains(&"locus-agent"), "{names:?}");
            known.insert("matrix.image".to_owned(), "locus-agent".to_owned());
        }
        for step in release.jobs[job].steps.iter().filter(|step| step.run.is_some()) {
            let (outputs, summary) = run(step, &env, &known);
            ran += 1;
            let Some(id) = &step.id else { continue };
            for (name, value) in outputs {
                println!("    {id}: {name}={value}");
                known.insert(format!("steps.{id}.outputs.{name}"), value.clone());
                known.insert(format!("needs.{job}.outputs.{name}"), value);
            }
            summaries.insert(format!("{job} {id}"), summary);
        }
    }
    let lines = release.jobs.values().flat_map(|job| &job.steps).filter(|step| step.run.is_some()).count();
    assert_eq!(ran, lines, "a line of the workflow was not run");

    let ami = &known["steps.build.outputs.ami_id"];
    assert!(ami.starts_with("ami-local-") && *ami == known["steps.promote.outputs.ami_id"], "{known:?}");
    assert_eq!(known["needs.staging.outputs.channel"], "staging");
    assert_eq!(known["needs.production.outputs.channel"], "production");
    let copy = &known["steps.promote.outputs.ami_id_local_2"];
    let summary = &summaries["staging promote"];
    println!("--- the summary of the step that promotes\n{summary}");
    for word in
        ["✅ locus-agent-v", "in `staging`", &format!("| local-1 | `{ami}` |"), &format!("| local-2 | `{copy}` |")]
    {
        assert!(summary.contains(word), "{word}: {summary}");
    }
    assert!(summaries["plan plan"].contains("locus-agent"), "{summaries:?}");
    assert!(summaries["staging smoke"].contains("after reboot:"), "{}", summaries["staging smoke"]);

    let documents = root().join("release");
    for name in ["report.html", "report.json", "manifest.json", "sbom.cdx.json", "smoke.json"] {
        assert!(fs::metadata(documents.join(name)).unwrap().len() > 100, "{name}");
    }
    let report = fs::read_to_string(documents.join("report.html")).unwrap();
    for word in [ami.as_str(), copy, "staging", "Timeline"] {
        assert!(report.contains(word), "{word}");
    }
    fs::remove_dir_all(documents).unwrap();
}

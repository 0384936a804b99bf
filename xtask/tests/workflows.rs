//! The workflows: every line that they run is a command of ours, and the release's lines do here what they do there.
//!
//! `cargo test -p xtask --test workflows -- --ignored --nocapture` runs release.yml, line by line as the runner would, with GitHub's
//! variables, on local machines. What is built and judged already is not built and judged again.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it sees and stops where it cannot go on"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use clap::Parser as _;
use regex_lite::Regex;
use serde_json::Value;
use xtask::cli::Cli;
use xtask::validate::workflows::{Concurrency, FOLDER, Step, Workflow, words};

#[path = "support/project.rs"]
mod project;
use project::{Ended, Project, copy, ended};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn workflow(name: &str) -> Workflow {
    serde_saphyr::from_str(&fs::read_to_string(root().join(FOLDER).join(name)).unwrap()).unwrap()
}

#[test]
fn every_line_that_is_run_is_a_command_that_exists_with_flags_that_exist() {
    let mut lines = 0;
    for entry in fs::read_dir(root().join(FOLDER)).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        for (id, job) in workflow(&name).jobs {
            for run in job.steps.iter().filter_map(|step| step.run.as_ref()) {
                let place = format!("{name}, {id}: {}", run.value);
                let words = words(&run.value).unwrap_or_else(|| panic!("{place}: no single `cargo xtask` command"));
                Cli::try_parse_from(std::iter::once("cargo xtask".to_owned()).chain(words))
                    .unwrap_or_else(|error| panic!("{place}: {error}"));
                lines += 1;
            }
        }
    }
    assert!(lines >= 15, "{lines} lines: this test looks in the wrong place");
}

#[test]
fn a_line_that_does_not_exist_is_found_with_its_place() {
    let project = Project::new();
    copy(&root().join(".github"), &project.path(".github"));
    project.run(&["validate"]).says(2, &["the channel staging has no parameters in Systems Manager"]);
    project.edit("ami.toml", "ssm_prefix = \"\"", "ssm_prefix = \"/agent-ami\"");
    project.run(&["validate"]).says(0, &[]);
    project.edit(".github/workflows/gc.yml", "ami gc --apply", "ami gc --really");
    let text = fs::read_to_string(project.path(".github/workflows/gc.yml")).unwrap();
    let line = text.lines().position(|line| line.contains("--really")).unwrap() + 1;
    project.run(&["validate"]).says(2, &[&format!("gc.yml:{line}"), "--really", "error[workflows]"]);
}

/// A role can be assumed only from environments that its trust policy names.
#[test]
fn who_gets_a_token_is_in_an_environment_that_the_trust_policy_names() {
    let project = Project::new();
    let policy = trusted(&project, "you/it", "exit 1", &[]);
    policy.says(0, &["put yours where it says ACCOUNT", "the ids of you/it are not known"]);
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
    project.run(&["iam-policy", "--trust", "you/*"]).says(2, &["OWNER/REPOSITORY"]);
}

/// `iam-policy --trust` where `gh` is this script.
fn trusted(project: &Project, repository: &str, gh: &str, env: &[(&str, &str)]) -> Ended {
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

/// GitHub sends ids in the subject of repositories that were made since 2026-07-15 (case `oidc-immutable-subject`).
#[test]
fn the_subject_has_ids_where_github_sends_them() {
    let project = Project::new();
    let ids = "\"repo:you@1/it@2:environment:staging\"";
    let names = "\"repo:you/it:environment:staging\"";
    let given = trusted(&project, "you@1/it@2", "exit 1", &[]);
    assert!(given.code == 0 && given.stdout.contains(ids) && !given.stdout.contains(names), "{}", given.stdout);
    let answer = |made: &str| {
        let answer = format!(r#"{{"id": 2, "full_name": "you/it", "owner": {{"id": 1}}, "created_at": "{made}"}}"#);
        format!("test \"$1 $2\" = 'api repos/you/it' && echo '{answer}'")
    };
    let young = trusted(&project, "you/it", &answer("2026-08-01T00:00:00Z"), &[]);
    assert!(young.stdout.contains(ids) && !young.stdout.contains(names), "{}{}", young.stdout, young.stderr);
    let old = trusted(&project, "you/it", &answer("2024-01-01T00:00:00Z"), &[]);
    assert!(old.stdout.contains(ids) && old.stdout.contains(names), "{}", old.stdout);
    let env = [("GITHUB_REPOSITORY", "you/it"), ("GITHUB_REPOSITORY_ID", "2"), ("GITHUB_REPOSITORY_OWNER_ID", "1")];
    let here = trusted(&project, "you/it", "exit 1", &env);
    assert!(here.stdout.contains(ids) && here.stdout.contains(names), "{}", here.stdout);
}

/// GitHub cancels what waits in a group when something later comes (case `release-concurrency`).
#[test]
fn no_release_is_cancelled_for_another_run_and_none_is_held_by_one_that_waits_for_reviewers() {
    let release = workflow("release.yml");
    assert_eq!(release.concurrency, None, "it would be held while production waits for its reviewers");
    assert_eq!(release.jobs["production"].concurrency, None, "as above");
    let Some(Concurrency::Group { group, queue }) = &release.jobs["staging"].concurrency else {
        panic!("two releases of an image may come to staging in the wrong order")
    };
    assert!(group.contains("${{ matrix.image }}"), "{group}: the images of one release would cancel one another");
    assert_eq!(queue.as_deref(), Some("max"));
    for name in ["gc.yml", "watch.yml", "freshness.yml", "canary.yml"] {
        let other = workflow(name).concurrency.unwrap();
        assert!(!other.group().starts_with("release"), "{name}: {}", other.group());
    }
}

/// Whatever happens, nothing of a canary is left: its image is deleted and what its run made is taken away, after a failure too.
#[test]
fn a_canary_removes_everything_whatever_happens() {
    let text = fs::read_to_string(root().join(FOLDER).join("canary.yml")).unwrap();
    let canary = workflow("canary.yml");
    let steps = &canary.jobs["canary"].steps;
    let runs: Vec<&str> = steps.iter().filter_map(|step| Some(step.run.as_ref()?.value.trim())).collect();
    let at = |words: &str| runs.iter().position(|run| run.contains(words)).unwrap_or_else(|| panic!("no `{words}`"));
    assert!(at("ami build --force") < at("ami smoke") && at("ami smoke") < at("ami delete"), "{runs:?}");
    assert!(at("ami delete") < at("ami gc --mine --apply"), "{runs:?}");
    for words in ["ami delete", "ami gc --mine --apply"] {
        let before = text.split(words).next().unwrap().rsplit("- name:").next().unwrap();
        assert!(before.contains("if: always()"), "`{words}` is left out after a failure");
    }
    assert!(!text.contains("ami copy") && !text.contains("ami promote"), "one region, and no channel");
}

/// What is optional comes after, or does not fail, what is not.
#[test]
fn production_does_not_depend_on_an_attestation() {
    let staging = &workflow("release.yml").jobs["staging"];
    let attests = |step: &&Step| step.uses.as_ref().is_some_and(|uses| uses.value.starts_with("actions/attest"));
    let steps: Vec<&Step> = staging.steps.iter().filter(attests).collect();
    assert_eq!(steps.len(), 1);
    let goes_on = steps[0].continue_on_error.as_ref().and_then(Value::as_str);
    assert_eq!(goes_on, Some("${{ github.event.repository.private }}"));
}

/// Puts values into `${{ … }}`, as far as our workflows use it: paths, `fromJSON(…)`, `… || 'text'`.
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

/// Runs a step's line as the runner does, and returns its outputs and what it adds to the summary.
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
    // docs.github.com, "Workflow syntax": bash -e where no shell is named.
    command.args(["-e", "-c", line]).current_dir(root()).env("GITHUB_ACTIONS", "true").env("GITHUB_ACTOR", "octocat");
    command.env("GITHUB_OUTPUT", &output).env("GITHUB_STEP_SUMMARY", &summary);
    for (name, value) in env.iter().chain(&step.env) {
        command.env(name, evaluated(value, known));
    }
    let ended = command.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    print!("{said}");
    assert!(ended.status.success(), "{line}: {}", ended.status);
    assert!(!said.contains("\n::error"), "{said}");
    let outputs = fs::read_to_string(&output).unwrap_or_default();
    let outputs = outputs.lines().filter_map(|line| line.split_once('='));
    let outputs = outputs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    (outputs, fs::read_to_string(&summary).unwrap_or_default())
}

#[test]
#[ignore = "builds and boots VMs"]
fn the_release_runs_here_as_it_runs_there() {
    let release = workflow("release.yml");
    let mut env = release.env;
    assert_eq!(env.insert("AGENT_AMI_ON".to_owned(), "local".to_owned()).as_deref(), Some("aws"));
    // Channels of this test's own: parameters, and no file in the checkout.
    for channel in ["STAGING", "PRODUCTION"] {
        let prefix = format!("/workflow-{}", std::process::id());
        env.insert(format!("AGENT_AMI_CHANNELS_{channel}_SSM_PREFIX"), prefix);
        env.insert(format!("AGENT_AMI_CHANNELS_{channel}_ENV_FILE"), String::new());
    }
    let mut known = BTreeMap::from([("inputs.override".to_owned(), "a test does not wait two days".to_owned())]);
    let _ = fs::remove_dir_all(root().join("release"));

    let (mut summaries, mut ran) = (BTreeMap::new(), 0);
    for job in ["plan", "staging", "production"] {
        println!("--- {job}");
        if job == "staging" {
            let images: Value = serde_json::from_str(&known["needs.plan.outputs.images"]).unwrap();
            known.insert("matrix.image".to_owned(), images[0]["image"].as_str().unwrap().to_owned());
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

    let papers = root().join("release");
    for name in ["report.html", "report.json", "manifest.json", "sbom.cdx.json", "smoke.json"] {
        assert!(fs::metadata(papers.join(name)).unwrap().len() > 100, "{name}");
    }
    let report = fs::read_to_string(papers.join("report.html")).unwrap();
    for word in [ami.as_str(), copy, "staging", "Timeline"] {
        assert!(report.contains(word), "{word}");
    }
    fs::remove_dir_all(papers).unwrap();
}

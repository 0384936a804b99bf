//! The Packer engine: runs Packer with the same template, and converts its output to events.
//!
//! Packer makes exactly one image. Copies, smoke tests and channels are left to the other stages of the pipeline.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fs_err as fs;
use serde_json::Value;

use super::{Options, post};
use crate::cloud::{ImageId, Made};
use crate::error::{Error, Exit, Result};
use crate::event::{Event, Observer, Outcome, Phase};
use crate::ids::Region;
use crate::process::{Cmd, Ended, Tail};
use crate::recipe::{PostProcessor, Recipe};
use crate::template::Setting;

mod artifacts;
mod install;
mod output;
mod unread;

pub use install::{Installer, find};
use output::{Parsed, Reader, Record};
pub use unread::obstacle;

/// The oldest version that the template supports (docs/src/reference-image.md#packer-template).
const OLDEST: semver::Version = semver::Version::new(1, 9, 0);
/// Time for Packer to clean up after an interrupt: it terminates the builder, waits for that, and deletes the key pair and the security
/// group.
const GRACE: Duration = Duration::from_secs(600);

/// An installed Packer of a supported version.
#[derive(Clone, Debug)]
pub struct Packer {
    pub binary: PathBuf,
    pub version: semver::Version,
}

/// The input of a build beside the recipe.
#[derive(Clone, Debug)]
pub struct Request {
    /// The Packer to run.
    pub packer: Packer,
    /// Template file or directory, relative to the project's root directory.
    pub template: PathBuf,
    /// Variables that are derived from ami.toml and the run; all others override them.
    pub settings: Vec<Setting>,
    /// `--var`.
    pub vars: Vec<(String, String)>,
    /// `--var-file`.
    pub var_files: Vec<PathBuf>,
    /// The directory for downloads.
    pub work_dir: PathBuf,
    /// The directory for the file of variables, below the run's directory. Its path on Packer's command line identifies the run that the
    /// process belongs to.
    pub scratch: PathBuf,
    /// Timeout for the build.
    pub timeout: Duration,
}

impl Packer {
    /// Runs `packer version` and checks that the version is supported.
    pub fn probe(binary: PathBuf) -> Result<Self> {
        let output = Cmd::new(&binary).arg("version").env("CHECKPOINT_DISABLE", "1").read()?;
        let number = output.split_whitespace().find_map(|w| semver::Version::parse(w.trim_start_matches('v')).ok());
        let Some(version) = number else {
            let message = format!("no version in the output of `{} version`: {}", binary.display(), output.trim());
            return Err(Exit::Precondition.error(message, "set `binary_path` in ami.toml to HashiCorp's Packer"));
        };
        if version < OLDEST {
            return Err(Exit::Precondition.error(
                format_args!("{} is Packer {version}; the template requires {OLDEST} or later", binary.display()),
                "install a newer one, or set auto_install = true in [packer] of ami.toml",
            ));
        }
        Ok(Self { binary, version })
    }
}

impl Request {
    fn cmd(&self, options: &Options) -> Cmd {
        Cmd::new(&self.packer.binary)
            .dir(&options.root)
            .env("CHECKPOINT_DISABLE", "1")
            .env("PACKER_NO_COLOR", "1")
            .env("PACKER_CACHE_DIR", self.work_dir.join("cache"))
    }

    /// Runs `packer init`, `packer validate` and `packer build`.
    ///
    /// `recipe` is the evaluated template, `facts` are variables that the provider sets.
    pub fn build(
        &self,
        recipe: &Recipe,
        facts: &[(String, String)],
        options: &Options,
        events: &dyn Observer,
    ) -> Result<Made> {
        let manifest = recipe.post.iter().find_map(|post| match post {
            PostProcessor::Manifest { output, .. } => Some(options.root.join(output)),
            PostProcessor::Checksum { .. } | PostProcessor::ShellLocal(_) => None,
        });
        let Some(manifest) = manifest else {
            let hint = "add post-processor \"manifest\" {} to the build block: it is how the image is found; or use --engine native";
            return Err(Exit::Usage.error("the template has no manifest post-processor", hint));
        };
        fs::create_dir_all(&self.work_dir)?;
        fs::create_dir_all(&self.scratch)?;
        post::copy_outputs(recipe, &options.outputs, &options.root)?;
        let arguments = self.arguments(recipe, facts)?;
        let on_progress = |message: &str| {
            events.event(Event::Progress { phase: Phase::Build, message: message.to_owned(), fraction: None });
        };
        on_progress("packer init");
        self.init(options)?;
        on_progress("packer validate");
        let validate = self.cmd(options).arg("validate").args(&arguments).arg(&self.template);
        validate.hint("fix the template; `cargo xtask validate` checks it, too").read()?;
        self.run(recipe, &arguments, options, events)?;
        post::copy_outputs(recipe, &options.root, &options.outputs)?;
        let made = artifact(&fs::read_to_string(manifest)?, &recipe.source.kind, &recipe.source.name)?;
        made.image(options)
    }

    fn init(&self, options: &Options) -> Result<()> {
        let hint =
            "check the connection to GitHub, or install the plugins from files with `packer plugins install --path`";
        self.cmd(options).arg("init").arg(&self.template).hint(hint).read().map(drop)
    }

    fn run(&self, recipe: &Recipe, arguments: &[String], options: &Options, events: &dyn Observer) -> Result<()> {
        let steps = &recipe.steps;
        let total = steps.len();
        let mut reader = Reader::new(steps);
        let mut began = Instant::now();
        let (mut current, mut output, mut errors) = (None::<usize>, Tail::default(), Tail::default());
        let ended = |index: usize, outcome, began: Instant| {
            let name = steps[index].name.clone();
            let seconds = began.elapsed().as_secs_f64();
            // Packer does not report it.
            let exit_code = None;
            events.event(Event::StepFinished { index: index + 1, total, name, outcome, seconds, exit_code });
        };
        let build = self.cmd(options).args(["build", "-machine-readable", "-on-error=cleanup"]).args(arguments);
        let build = build.arg(&self.template).gently(GRACE);
        let how = build.stream(Some(self.timeout), |_, line| {
            let Some(record) = Record::read(line) else { return };
            for parsed in reader.read(&record) {
                match parsed {
                    Parsed::Began(index) => {
                        (current, began) = (Some(index), Instant::now());
                        output.clear();
                        let name = steps[index].name.clone();
                        events.event(Event::StepStarted { index: index + 1, total, name, expected_seconds: None });
                    }
                    Parsed::Ended(index, good) => {
                        let outcome = if good { Outcome::Done } else { Outcome::Failed };
                        ended(index, outcome, began);
                        current = Some(index).filter(|_| !good);
                    }
                    Parsed::Output(stream, line) => {
                        let name = current.map(|i| steps[i].name.clone()).unwrap_or_default();
                        output.push(&line);
                        events.event(Event::StepOutput { name, stream, line });
                    }
                    Parsed::Progress(message) => {
                        events.event(Event::Progress { phase: Phase::Build, message, fraction: None });
                    }
                    Parsed::Error(line) => errors.push(&line),
                }
            }
        })?;
        match how {
            Ended::Code(0) => Ok(()),
            how => Err(self.failed(current.map(|i| steps[i].name.as_str()), how, &output, &errors, options)),
        }
    }

    /// The arguments of `packer validate` and `packer build`.
    fn arguments(&self, recipe: &Recipe, facts: &[(String, String)]) -> Result<Vec<String>> {
        // The settings come first, so that later arguments override them. Those that were overridden when the template was evaluated are
        // left out, because Packer gives a file of variables precedence over the environment.
        let effective =
            |setting: &&Setting| recipe.variables.iter().any(|v| v.name == setting.name && v.origin == setting.origin);
        let settings: BTreeMap<&str, &str> =
            self.settings.iter().filter(effective).map(|s| (s.name.as_str(), s.value.as_str())).collect();
        let file = self.scratch.join("settings.pkrvars.json");
        fs::write(&file, serde_json::to_vec_pretty(&settings).unwrap_or_default())?;
        let source = &recipe.source;
        // The name of a named build precedes that of the source (packer build -help, "-only").
        let build = recipe.build_name.as_ref().map_or(String::new(), |name| format!("{name}."));
        let only = format!("-only={build}{}.{}", source.kind, source.name);
        let mut arguments = vec![only, format!("-var-file={}", file.display())];
        arguments.extend(self.var_files.iter().map(|f| format!("-var-file={}", f.display())));
        // Packer rejects variables that the template does not declare, and another template may not declare all of these.
        let declared = |fact: &&(String, String)| recipe.variables.iter().any(|v| v.name == fact.0);
        let vars = self.vars.iter().chain(facts.iter().filter(declared));
        arguments.extend(vars.flat_map(|(name, value)| ["-var".to_owned(), format!("{name}={value}")]));
        Ok(arguments)
    }

    fn failed(&self, step: Option<&str>, how: Ended, output: &Tail, errors: &Tail, options: &Options) -> Error {
        let how = match how {
            Ended::Code(code) => format!("exit code {code}"),
            Ended::TimedOut => format!("timed out after {} s (build_timeout_secs)", self.timeout.as_secs()),
        };
        let at = step.map_or(String::new(), |s| format!(" in step {s}"));
        Exit::Failed.error(
            format_args!("packer build failed{at}: {how}\n{output}\n{errors}"),
            format_args!(
                "fix the step and run `{}`; `--engine native --keep-on-failure` keeps the machine for inspection",
                options.again
            ),
        )
    }
}

/// The artifacts of a build, from Packer's manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Artifact {
    /// Region and id, as `artifact_id` lists them.
    ids: Vec<(Region, ImageId)>,
    /// Files, for builders that make some.
    files: Vec<PathBuf>,
}

impl Artifact {
    /// The one image that was made: the AMI in the home region, or a disk.
    fn image(self, options: &Options) -> Result<Made> {
        if let [disk] = self.files.as_slice() {
            return Ok(Made::Disk(disk.clone()));
        }
        match self.ids.into_iter().find(|(region, _)| *region == options.region) {
            Some((region, id)) => Ok(Made::Image { region, id }),
            None => {
                let message = format!("Packer made no image in {}, the home region", options.region);
                Err(Exit::Failed
                    .error(message, "build in the first region of ami.toml; copies are made by `cargo xtask ami copy`"))
            }
        }
    }
}

/// The last build in a manifest. Packer appends every build and writes the last run to `last_run_uuid`.
fn artifact(manifest: &str, kind: &str, name: &str) -> Result<Artifact> {
    let invalid = |what: &str| {
        Exit::Failed
            .error(format_args!("Packer's manifest {what}"), "delete it and build again, which creates a new one")
    };
    let manifest: Value = serde_json::from_str(manifest).map_err(|e| invalid(&format!("cannot be parsed: {e}")))?;
    let last = manifest["last_run_uuid"].as_str().ok_or_else(|| invalid("has no last_run_uuid"))?;
    let builds = manifest["builds"].as_array().map(Vec::as_slice).unwrap_or_default();
    let build =
        builds.iter().rev().find(|b| b["packer_run_uuid"] == last && b["builder_type"] == kind && b["name"] == name);
    let build = build.ok_or_else(|| invalid(&format!("has no {kind}.{name} of the last run")))?;
    // `us-east-1:ami-1,eu-west-1:ami-2`; other builders write only a name.
    let ids = build["artifact_id"].as_str().unwrap_or_default().split(',');
    let ids = ids.filter_map(|id| id.split_once(':')).map(|(r, i)| (r.into(), ImageId(i.to_owned()))).collect();
    let files = build["files"].as_array().map(Vec::as_slice).unwrap_or_default();
    let files = files.iter().filter_map(|f| f["name"].as_str()).map(PathBuf::from).collect();
    Ok(Artifact { ids, files })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_build_of_the_last_run_is_selected_with_all_of_its_regions() {
        let build = |uuid: &str, id: &str| json!({ "name": "locus", "builder_type": "amazon-ebs", "packer_run_uuid": uuid, "artifact_id": id, "files": null });
        let manifest = json!({
            "builds": [build("1", "us-east-1:ami-old"), build("2", "eu-west-1:ami-b,us-east-1:ami-a"), build("1", "us-east-1:ami-older")],
            "last_run_uuid": "2",
        });
        let made = artifact(&manifest.to_string(), "amazon-ebs", "locus").unwrap();
        let id = |region: &str, id: &str| (Region::from(region), ImageId(id.to_owned()));
        assert_eq!(made.ids, [id("eu-west-1", "ami-b"), id("us-east-1", "ami-a")]);
        let missing = artifact(&manifest.to_string(), "qemu", "locus").unwrap_err();
        assert!(missing.to_string().contains("has no qemu.locus of the last run"), "{missing}");
        assert!(artifact("{", "qemu", "locus").is_err());
    }
}

//! The Packer engine: the guide's section 5. The real Packer carries the same template out; its words become our events.
//!
//! Packer makes exactly one image and keeps nothing of ours in mind: copies, judging and channels are the pipeline's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fs_err as fs;
use serde_json::Value;

use super::Options;
use crate::cloud::{ImageId, Made};
use crate::error::{Error, Exit, Result};
use crate::event::{Event, Observer, Outcome, Phase};
use crate::process::{Cmd, Ended, Tail};
use crate::recipe::{PostProcessor, Recipe};
use crate::template::Setting;

mod install;
mod output;

pub use install::{Installer, find};
use output::{Reader, Record, Said};

/// The oldest Packer that takes our templates (guide, section 5).
const OLDEST: semver::Version = semver::Version::new(1, 9, 0);
/// How long Packer may clean up after an interrupt: it stops the builder, waits until it is gone, deletes key and group.
const GRACE: Duration = Duration::from_secs(600);

/// A Packer that can be used.
#[derive(Clone, Debug)]
pub struct Packer {
    /// The binary.
    pub binary: PathBuf,
    /// Its version.
    pub version: semver::Version,
}

/// What it is asked, beyond the recipe.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who is asked.
    pub packer: Packer,
    /// Template file or folder, relative to the project.
    pub template: PathBuf,
    /// Variables that we set because nobody else did.
    pub settings: Vec<Setting>,
    /// `--var`.
    pub vars: Vec<(String, String)>,
    /// `--var-file`.
    pub var_files: Vec<PathBuf>,
    /// Where downloads go.
    pub work_dir: PathBuf,
    /// Where the file of variables goes: the run's folder, whose name on the command line tells whose Packer it is.
    pub scratch: PathBuf,
    /// Longest build.
    pub timeout: Duration,
}

impl Packer {
    /// Asks a binary for its version and judges it.
    pub fn probe(binary: PathBuf) -> Result<Self> {
        let said = Cmd::new(&binary).arg("version").env("CHECKPOINT_DISABLE", "1").read()?;
        let number = said.split_whitespace().find_map(|w| semver::Version::parse(w.trim_start_matches('v')).ok());
        let Some(version) = number else {
            let message = format!("`{} version` says `{}`, which names no version", binary.display(), said.trim());
            return Err(Exit::Precondition.error(message, "set `binary_path` in ami.toml to HashiCorp's Packer"));
        };
        if version < OLDEST {
            return Err(Exit::Precondition.error(
                format_args!("{} is Packer {version}; the template needs {OLDEST} or later", binary.display()),
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

    /// `init`, `validate`, `build`.
    ///
    /// `recipe` is the template as we evaluated it, `facts` are variables that only the provider knows.
    pub fn build(
        &self,
        recipe: &Recipe,
        facts: &[(String, String)],
        options: &Options,
        events: &dyn Observer,
    ) -> Result<Made> {
        fs::create_dir_all(&self.work_dir)?;
        fs::create_dir_all(&self.scratch)?;
        let arguments = self.arguments(recipe, facts)?;
        let told = |message: &str| {
            events.event(Event::Progress { phase: Phase::Build, message: message.to_owned(), fraction: None });
        };
        told("packer init");
        let init = self.cmd(options).arg("init").arg(&self.template);
        init.hint("plugins come from GitHub; `packer plugins install --path` takes one that was built elsewhere")
            .read()?;
        told("packer validate");
        let validate = self.cmd(options).arg("validate").args(&arguments).arg(&self.template);
        validate.hint("fix the template; `cargo xtask validate` looks at it too").read()?;
        self.run(recipe, &arguments, options, events)?;
        let manifest = recipe.post.iter().find_map(|post| match post {
            PostProcessor::Manifest { output, .. } => Some(options.root.join(output)),
            PostProcessor::Checksum { .. } | PostProcessor::ShellLocal(_) => None,
        });
        let Some(manifest) = manifest else {
            let hint = "add post-processor \"manifest\" {} to the build block: it says what was made";
            return Err(Exit::Usage.error("the template has no manifest post-processor", hint));
        };
        let made = artifact(&fs::read_to_string(manifest)?, &recipe.source.kind, &recipe.source.name)?;
        made.taken(options)
    }

    fn run(&self, recipe: &Recipe, arguments: &[String], options: &Options, events: &dyn Observer) -> Result<()> {
        let steps = &recipe.steps;
        let total = steps.len();
        let mut reader = Reader::new(steps);
        let mut began = Instant::now();
        let (mut current, mut said, mut wrong) = (None::<usize>, Tail::default(), Tail::default());
        let ended = |index: usize, outcome, began: Instant| {
            let name = steps[index].name.clone();
            let seconds = began.elapsed().as_secs_f64();
            events.event(Event::StepFinished { index: index + 1, total, name, outcome, seconds });
        };
        let build = self.cmd(options).args(["build", "-machine-readable", "-on-error=cleanup"]).args(arguments);
        let build = build.arg(&self.template).gently(GRACE);
        let how = build.stream(Some(self.timeout), |_, line| {
            let Some(record) = Record::read(line) else { return };
            for what in reader.read(&record) {
                match what {
                    Said::Began(index) => {
                        (current, began) = (Some(index), Instant::now());
                        said.clear();
                        let name = steps[index].name.clone();
                        events.event(Event::StepStarted { index: index + 1, total, name, expected_seconds: None });
                    }
                    Said::Ended(index, good) => {
                        let outcome = if good { Outcome::Done } else { Outcome::Failed };
                        ended(index, outcome, began);
                        current = Some(index).filter(|_| !good);
                    }
                    Said::Output(stream, line) => {
                        let name = current.map(|i| steps[i].name.clone()).unwrap_or_default();
                        said.push(&line);
                        events.event(Event::StepOutput { name, stream, line });
                    }
                    Said::Talk(message) => {
                        events.event(Event::Progress { phase: Phase::Build, message, fraction: None });
                    }
                    Said::Wrong(line) => wrong.push(&line),
                }
            }
        })?;
        match how {
            Ended::Code(0) => Ok(()),
            how => Err(self.failed(current.map(|i| steps[i].name.as_str()), how, &said, &wrong, options)),
        }
    }

    /// What `validate` and `build` are told.
    fn arguments(&self, recipe: &Recipe, facts: &[(String, String)]) -> Result<Vec<String>> {
        // Ours come first, so that everybody else's win; those that lost in our own evaluation are not among them, because a file
        // of variables would beat the environment.
        let won =
            |setting: &&Setting| recipe.variables.iter().any(|v| v.name == setting.name && v.origin == setting.origin);
        let ours: BTreeMap<&str, &str> =
            self.settings.iter().filter(won).map(|s| (s.name.as_str(), s.value.as_str())).collect();
        let file = self.scratch.join("settings.pkrvars.json");
        fs::write(&file, serde_json::to_vec_pretty(&ours).unwrap_or_default())?;
        let source = &recipe.source;
        // A named build's name stands before the source's (packer build -help, "-only").
        let build = recipe.build_name.as_ref().map_or(String::new(), |name| format!("{name}."));
        let only = format!("-only={build}{}.{}", source.kind, source.name);
        let mut arguments = vec![only, format!("-var-file={}", file.display())];
        arguments.extend(self.var_files.iter().map(|f| format!("-var-file={}", f.display())));
        // A variable that the template does not declare is an error to Packer; a template of one's own may lack some of these.
        let declared = |fact: &&(String, String)| recipe.variables.iter().any(|v| v.name == fact.0);
        let vars = self.vars.iter().chain(facts.iter().filter(declared));
        arguments.extend(vars.flat_map(|(name, value)| ["-var".to_owned(), format!("{name}={value}")]));
        Ok(arguments)
    }

    fn failed(&self, step: Option<&str>, how: Ended, said: &Tail, wrong: &Tail, options: &Options) -> Error {
        let how = match how {
            Ended::Code(code) => format!("exit code {code}"),
            Ended::TimedOut => format!("no end within {} s (build_timeout_secs)", self.timeout.as_secs()),
        };
        let at = step.map_or(String::new(), |s| format!(" in step {s}"));
        Exit::Failed.error(
            format_args!("packer build failed{at}: {how}\n{said}\n{wrong}"),
            format_args!(
                "fix the step and run `{}`; `--engine native --keep-on-failure` leaves a machine to look at",
                options.again
            ),
        )
    }
}

/// What Packer's manifest says it made.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Artifact {
    /// Region and id, as `artifact_id` lists them.
    ids: Vec<(String, String)>,
    /// Files, for builders that make some.
    files: Vec<PathBuf>,
}

impl Artifact {
    /// The one image that it is: the home region's, or a disk.
    fn taken(self, options: &Options) -> Result<Made> {
        if let [disk] = self.files.as_slice() {
            return Ok(Made::Disk(disk.clone()));
        }
        match self.ids.into_iter().find(|(region, _)| *region == options.region) {
            Some((region, id)) => Ok(Made::Image { region, id: ImageId(id) }),
            None => {
                let message = format!("Packer made no image in {}, the home region", options.region);
                Err(Exit::Failed
                    .error(message, "let the template build in the first region of ami.toml; copies are ours"))
            }
        }
    }
}

/// The last build of a manifest: it grows with every build, so `last_run_uuid` says which.
fn artifact(manifest: &str, kind: &str, name: &str) -> Result<Artifact> {
    let wrong = |what: &str| {
        Exit::Failed.error(format_args!("packer's manifest {what}"), "move it away and build again: it is made anew")
    };
    let manifest: Value = serde_json::from_str(manifest).map_err(|e| wrong(&format!("cannot be read: {e}")))?;
    let last = manifest["last_run_uuid"].as_str().ok_or_else(|| wrong("names no last run"))?;
    let builds = manifest["builds"].as_array().map(Vec::as_slice).unwrap_or_default();
    let build =
        builds.iter().rev().find(|b| b["packer_run_uuid"] == last && b["builder_type"] == kind && b["name"] == name);
    let build = build.ok_or_else(|| wrong(&format!("has no {kind}.{name} of the last run")))?;
    // `us-east-1:ami-1,eu-west-1:ami-2`; other builders write a name.
    let ids = build["artifact_id"].as_str().unwrap_or_default().split(',');
    let ids = ids.filter_map(|id| id.split_once(':')).map(|(r, i)| (r.to_owned(), i.to_owned())).collect();
    let files = build["files"].as_array().map(Vec::as_slice).unwrap_or_default();
    let files = files.iter().filter_map(|f| f["name"].as_str()).map(PathBuf::from).collect();
    Ok(Artifact { ids, files })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_run_is_picked_and_several_regions_are_read() {
        let build = |uuid: &str, id: &str| json!({ "name": "locus", "builder_type": "amazon-ebs", "packer_run_uuid": uuid, "artifact_id": id, "files": null });
        let manifest = json!({
            "builds": [build("1", "us-east-1:ami-old"), build("2", "eu-west-1:ami-b,us-east-1:ami-a"), build("1", "us-east-1:ami-older")],
            "last_run_uuid": "2",
        });
        let made = artifact(&manifest.to_string(), "amazon-ebs", "locus").unwrap();
        let id = |region: &str, id: &str| (region.to_owned(), id.to_owned());
        assert_eq!(made.ids, [id("eu-west-1", "ami-b"), id("us-east-1", "ami-a")]);
        let missing = artifact(&manifest.to_string(), "qemu", "locus").unwrap_err();
        assert!(missing.to_string().contains("has no qemu.locus of the last run"), "{missing}");
        assert!(artifact("{", "qemu", "locus").is_err());
    }
}

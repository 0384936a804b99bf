//! What commands share: the project, its configuration, the run and the observer of events.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::channel::targets::Targets;
use crate::cli::{self, Build, Common, On};
use crate::config::{Config, FILE, Overrides};
use crate::error::{Exit, Result};
use crate::event::{Document, Event, Events};
use crate::ledger::{RunOutcome, RunRecord};
use crate::run_report::About;
use crate::state::{ORPHANS, Run, RunRequest, State};

/// The project, the command line and the run.
pub struct Context {
    /// The project's root directory.
    pub root: PathBuf,
    /// Options of every command.
    pub common: Common,
    /// The observer of events.
    pub events: Events,
    /// The environment variables when the process started.
    pub env: BTreeMap<String, String>,
    /// The command line, without sensitive values.
    pub line: String,
    /// The arguments after `cargo xtask`, without sensitive values.
    pub words: Vec<String>,
    /// The run, once the command has begun one.
    pub run: OnceLock<Arc<Run>>,
    /// The images, the channel and the outputs of the command, for its report.
    pub about: Arc<Mutex<About>>,
}

/// The project's root directory: the nearest one above this crate that has an `ami.toml`. cargo sets the crate's directory at run time;
/// without cargo it is the directory at compile time.
pub fn project_root() -> PathBuf {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let above = || manifest.ancestors().skip(1);
    above().find(|dir| dir.join(FILE).exists()).or_else(|| above().next()).unwrap_or(&manifest).to_owned()
}

impl Context {
    /// Loads `ami.toml`; environment variables and options override it.
    pub fn config(&self) -> Result<Config> {
        self.load(Overrides::default())
    }

    /// Loads `ami.toml` for a build, whose options override it as well.
    pub fn config_for(&self, build: &Build) -> Result<Config> {
        if build.builder.is_some() && self.common.on != On::Local {
            let hint = "omit --builder: on EC2 the builder is an instance";
            return Err(Exit::Usage.error("--builder applies only to local images", hint));
        }
        if build.instance_type.is_some() && self.common.on == On::Local {
            let hint = "pass --on aws, or omit --instance-type: a local machine has the size of [local] in ami.toml";
            return Err(Exit::Usage.error("--instance-type applies only to images on EC2", hint));
        }
        let (local_region, aws_region) = match self.common.on {
            On::Local => (build.region.clone(), None),
            On::Aws => (None, build.region.clone()),
        };
        self.load(Overrides {
            builder: build.builder.map(cli::Builder::configured),
            local_region,
            aws_region,
            instance_type: build.instance_type.clone(),
            ..Overrides::default()
        })
    }

    fn load(&self, overrides: Overrides) -> Result<Config> {
        let overrides = Overrides { state_dir: self.common.state.clone(), ..overrides };
        Config::load(&self.root, &overrides, &self.env)
    }

    /// Opens the state directory.
    pub fn state(&self, config: &Config) -> Result<State> {
        State::open(self.in_state(config, ""))
    }

    /// A path in the state directory, which may not exist yet.
    pub fn in_state(&self, config: &Config, name: &str) -> PathBuf {
        self.root.join(&config.local.state_dir).join(name)
    }

    /// Begins a run and reports it to the observer. Returns the existing run if the command has one.
    pub fn begin_run(&self, state: &State) -> Result<Arc<Run>> {
        // A resumed command already has a run.
        if let Some(run) = self.run.get() {
            return Ok(Arc::clone(run));
        }
        let on = self.common.on.name();
        let asked = RunRequest { command: &self.line, words: &self.words, on };
        let run = match &self.common.supervised {
            Some(id) => state.begin_run_as(id.clone(), asked)?,
            None => state.begin_run(asked)?,
        };
        Ok(self.started(run))
    }

    /// Resumes an interrupted run.
    pub fn resume_run(&self, state: &State, record: &RunRecord) -> Result<Arc<Run>> {
        // `ami gc` holds this lock while it deletes orphaned resources of runs.
        let _lock = state.lock(ORPHANS, &self.line)?;
        Ok(self.started(state.resume_run(record)?))
    }

    fn started(&self, run: Run) -> Arc<Run> {
        let run = Arc::clone(self.run.get_or_init(|| Arc::new(run)));
        self.events.event(Event::RunStarted { run: run.id().clone(), command: self.line.clone() });
        run
    }

    /// Writes the outcome of the run to the ledger, if the command began one.
    pub fn end_run(&self, outcome: RunOutcome, summary: &str) -> Result<()> {
        self.run.get().map_or(Ok(()), |run| run.end(outcome, summary))
    }

    /// The targets of the configured channels.
    pub fn targets<'a>(&'a self, config: &'a Config) -> Targets<'a> {
        Targets { config, root: &self.root, env: &self.env }
    }

    /// The user who runs the command: the actor of a GitHub workflow, else the login name.
    pub fn who(&self) -> &str {
        let known = ["GITHUB_ACTOR", "SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| self.env.get(*name));
        known.map_or("unknown", String::as_str)
    }

    /// Updates [`Self::about`].
    pub fn about<T>(&self, note: impl FnOnce(&mut About) -> T) -> T {
        note(&mut self.about.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Emits the requested output of the command, as text and as data.
    pub fn document(&self, kind: &str, data: serde_json::Value, text: String) {
        self.events.event(Event::Document(Document { kind: kind.to_owned(), data, text }));
    }

    /// Asks a question for which both answers are safe. Without a terminal the answer is yes.
    pub fn agrees(&self, question: &str) -> bool {
        self.common.yes || crate::report::ask(question).unwrap_or(true)
    }

    /// Asks for confirmation, unless `--yes` is given. Without a terminal it fails.
    pub fn confirm(&self, question: &str) -> Result<()> {
        if self.common.yes {
            return Ok(());
        }
        match crate::report::ask(question) {
            Some(true) => Ok(()),
            Some(false) => Err(Exit::Usage.error("not confirmed, nothing was changed", "answer `y`, or pass --yes")),
            None => Err(Exit::Precondition.error(
                format_args!("no terminal to confirm `{question}`; nothing was changed"),
                "pass --yes to confirm",
            )),
        }
    }
}

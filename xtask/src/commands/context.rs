//! What commands share: the project, its configuration, where events go.

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
use crate::state::{Asked, LEFTOVERS, Run, State};

/// The project and the request.
pub struct Context {
    /// The project's folder.
    pub root: PathBuf,
    /// Options of every command.
    pub common: Common,
    /// Where events go.
    pub events: Events,
    /// The environment, read once.
    pub env: BTreeMap<String, String>,
    /// The command as typed.
    pub line: String,
    /// Its words after `cargo xtask`.
    pub words: Vec<String>,
    /// The run that the command began, if it did.
    pub run: OnceLock<Arc<Run>>,
    /// What the command turns out to be about, for its report.
    pub about: Arc<Mutex<About>>,
}

/// The project's folder, the nearest above the crate that has an `ami.toml`: cargo tells the crate at run time; a binary that
/// was started by hand knows where it was compiled.
pub fn project_root() -> PathBuf {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let above = || manifest.ancestors().skip(1);
    above().find(|dir| dir.join(FILE).exists()).or_else(|| above().next()).unwrap_or(&manifest).to_owned()
}

impl Context {
    /// `ami.toml`, with environment and flags over it.
    pub fn config(&self) -> Result<Config> {
        self.load(None)
    }

    /// The same for a build, whose flags win over it.
    pub fn config_for(&self, build: &Build) -> Result<Config> {
        if build.builder.is_some() && self.common.on != On::Local {
            let hint = "on EC2 the builder is an instance: leave --builder out";
            return Err(Exit::Usage.error("--builder chooses what a local image is built in", hint));
        }
        self.load(build.builder)
    }

    fn load(&self, builder: Option<cli::Builder>) -> Result<Config> {
        let builder = builder.map(|b| b.name().to_owned());
        let overrides = Overrides { state_dir: self.common.state.clone(), builder };
        Config::load(&self.root, &overrides, &self.env)
    }

    /// The state folder.
    pub fn state(&self, config: &Config) -> Result<State> {
        State::open(self.in_state(config, ""))
    }

    /// A path in the state folder, which need not be there yet.
    pub fn in_state(&self, config: &Config, name: &str) -> PathBuf {
        self.root.join(&config.local.state_dir).join(name)
    }

    /// A run, told to the observer.
    pub fn begin_run(&self, state: &State) -> Result<Arc<Run>> {
        // A command that is taken up again has its run already.
        if let Some(run) = self.run.get() {
            return Ok(Arc::clone(run));
        }
        let on = self.common.on.name();
        let run = state.begin_run(Asked { command: &self.line, words: &self.words, on })?;
        Ok(self.under_way(run))
    }

    /// Takes up a run that was cut off.
    pub fn resume_run(&self, state: &State, record: &RunRecord) -> Result<Arc<Run>> {
        // gc may be taking away what the run left.
        let _lock = state.lock(LEFTOVERS, &self.line)?;
        Ok(self.under_way(state.resume_run(record)?))
    }

    fn under_way(&self, run: Run) -> Arc<Run> {
        let run = Arc::clone(self.run.get_or_init(|| Arc::new(run)));
        self.events.event(Event::RunStarted { run: run.id().to_owned(), command: self.line.clone() });
        run
    }

    /// Writes down how the run ended, if there was one.
    pub fn end_run(&self, outcome: RunOutcome, summary: &str) -> Result<()> {
        self.run.get().map_or(Ok(()), |run| run.end(outcome, summary))
    }

    /// The targets of the configured channels.
    pub fn targets<'a>(&'a self, config: &'a Config) -> Targets<'a> {
        Targets { config, root: &self.root, env: &self.env }
    }

    /// Who runs the command: the workflow's actor, or the login name.
    pub fn who(&self) -> &str {
        let known = ["GITHUB_ACTOR", "SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| self.env.get(*name));
        known.map_or("unknown", String::as_str)
    }

    /// Notes what the command turns out to be about.
    pub fn about<T>(&self, note: impl FnOnce(&mut About) -> T) -> T {
        note(&mut self.about.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shows a document.
    pub fn document(&self, kind: &str, data: serde_json::Value, text: String) {
        self.events.event(Event::Document(Document { kind: kind.to_owned(), data, text }));
    }

    /// Asks a person something that is harmless either way; where nobody can be asked, the answer is yes.
    pub fn agrees(&self, question: &str) -> bool {
        self.common.yes || crate::report::ask(question).unwrap_or(true)
    }

    /// Asks a person, unless `--yes` answers. Without a terminal nobody can be asked.
    pub fn confirm(&self, question: &str) -> Result<()> {
        if self.common.yes {
            return Ok(());
        }
        match crate::report::ask(question) {
            Some(true) => Ok(()),
            Some(false) => Err(Exit::Usage.error("not confirmed, nothing was changed", "answer `y`, or pass --yes")),
            None => Err(Exit::Precondition.error(
                format_args!("{question} There is no terminal to ask on, so nothing was changed"),
                "pass --yes to confirm",
            )),
        }
    }
}

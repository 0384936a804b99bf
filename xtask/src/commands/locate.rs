//! Finds the template of an image: in the project, in the cache, or by a download.

use std::path::{Path, PathBuf};

use super::Context;
use crate::config::Config;
use crate::error::{Error, Exit, Result};
use crate::event::{Event, Outcome, Phase, phase};
use crate::recipe::Origin;
use crate::sensitive::HIDDEN;
use crate::state::Run;
use crate::template::Foreign;
use crate::template_source::{self, Fetched, Policy, TemplateSource};

/// The name under which the ledger notes the template that a run began with.
const NOTE: &str = "template";

/// A template on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    /// A `*.pkr.hcl` file or a directory with such files.
    pub path: PathBuf,
    /// The directory that relative paths of the template start from.
    pub root: PathBuf,
    /// Set for a template that is not part of the project.
    pub foreign: Option<Foreign>,
}

/// The directory of downloaded templates.
fn cache(root: &Path, config: &Config) -> PathBuf {
    root.join(&config.local.state_dir).join("templates")
}

/// Finds a template, and downloads it if necessary.
///
/// A run works on a copy, because Packer and post-processors write to the directory of the template. A resumed run has the template that it
/// began with, even if the branch or the file has changed since.
pub(crate) fn locate(
    context: &Context,
    config: &Config,
    source: &TemplateSource,
    run: Option<&Run>,
) -> Result<Located> {
    if let Some(path) = source.in_project() {
        let path = context.root.join(path);
        if !path.exists() {
            return Err(Exit::Usage.error(
                format_args!("the template {} does not exist", path.display()),
                "write a path relative to the directory of ami.toml",
            ));
        }
        return Ok(Located { path, root: context.root.clone(), foreign: None });
    }
    let began_with = match run.filter(|run| run.resumed() > 0) {
        Some(run) => run.ledger().noted(run.id(), NOTE)?,
        None => None,
    };
    let fetched = match began_with {
        Some(noted) => Fetched::noted(&noted).ok_or_else(|| {
            let message = format!("the template of {source} with which this run began is not in the cache any more");
            Exit::Precondition.error(message, "remove what the run left with `cargo xtask ami gc`, and build again")
        })?,
        None if source.to_string().contains(HIDDEN) => {
            let message = "the template source has a password or a token that was not recorded";
            return Err(Exit::Usage.error(message, "run the original command again"));
        }
        None => fetch(context, config, source)?,
    };
    let Some(run) = run else { return Ok(located(&fetched)) };
    run.ledger().note(run.id(), NOTE, &fetched.note())?;
    let copy = run.path("template");
    if copy.exists() {
        fs_err::remove_dir_all(&copy)?;
    }
    Ok(located(&fetched.copied_to(copy)?))
}

/// A template that needs no download: one of the project, or one in the cache whose source names its content. What another source named when
/// it was last resolved may have changed.
pub(crate) fn known(root: &Path, config: &Config, source: &TemplateSource) -> Option<Located> {
    match source.in_project() {
        Some(path) => Some(Located { path: root.join(path), root: root.to_owned(), foreign: None }),
        None if !source.is_fixed() => None,
        None => template_source::cached(&cache(root, config), &source.to_string()).map(|fetched| located(&fetched)),
    }
}

fn fetch(context: &Context, config: &Config, source: &TemplateSource) -> Result<Fetched> {
    let events = context.events.as_ref();
    let warn = |message: &str, hint: &str| {
        events.event(Event::Warning { message: message.to_owned(), hint: hint.to_owned() });
    };
    let in_ci = context.env.get("CI").is_some_and(|ci| !ci.is_empty() && ci != "false" && ci != "0");
    let policy = Policy { checksum_required: in_ci };
    phase(events, Phase::Template, "", || {
        let on_progress = |message: &str| {
            events.event(Event::Progress { phase: Phase::Template, message: message.to_owned(), fraction: None });
        };
        let fetched = template_source::fetch(source, &cache(&context.root, config), policy, &on_progress, &warn)?;
        let Origin { source, commit, digest } = &fetched.origin;
        let commit = commit.as_ref().map(|commit| format!(", commit {commit}")).unwrap_or_default();
        let summary = format!("{source}{commit}, {}", digest.short());
        Ok::<_, Error>((fetched, Outcome::Done, summary))
    })
}

fn located(fetched: &Fetched) -> Located {
    let path = fetched.template();
    // As for `packer build .` in the directory of the template.
    let root = if path.is_dir() { path.clone() } else { path.parent().unwrap_or(&fetched.tree).to_owned() };
    let foreign = Foreign { origin: fetched.origin.clone(), tree: fetched.tree.clone() };
    Located { path, root, foreign: Some(foreign) }
}

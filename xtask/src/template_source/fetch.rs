//! Downloads the template of a source, or takes it from the cache if the source names its content exactly.

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::cache::{Entry, Fetched};
use super::{FileKind, Git, Http, TEMPLATE, TemplateSource, archive, git, http, refused};
use crate::error::{Exit, Result};

/// What is allowed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policy {
    /// Refuse an HTTP source without a checksum.
    pub checksum_required: bool,
}

/// The template of a source that is not part of the project.
///
/// `on_progress` gets what is done; `warn` what should be changed, and how.
pub fn fetch(
    source: &TemplateSource,
    cache: &Path,
    policy: Policy,
    on_progress: &dyn Fn(&str),
    warn: &dyn Fn(&str, &str),
) -> Result<Fetched> {
    match source {
        TemplateSource::Builtin(_) | TemplateSource::Local(_) => {
            Err(refused(&source.to_string(), "is part of the project and is not downloaded"))
        }
        TemplateSource::Http(file) => from_http(source, file, cache, policy, on_progress, warn),
        TemplateSource::Git(repository) => from_git(source, repository, cache, on_progress),
    }
}

fn from_http(
    source: &TemplateSource,
    file: &Http,
    cache: &Path,
    policy: Policy,
    on_progress: &dyn Fn(&str),
    warn: &dyn Fn(&str, &str),
) -> Result<Fetched> {
    let text = source.to_string();
    if file.checksum.is_none() {
        if policy.checksum_required {
            return Err(refused(&text, "has no checksum, which is required in CI; add ?checksum=sha256:..."));
        }
        warn(
            &format!("the template source {} has no checksum: its content may change at any time", file.url),
            "add ?checksum=sha256:... to the source",
        );
    }
    let entry = Entry::open(cache, &text)?;
    if let Some(latest) = entry.latest().filter(|_| file.checksum.is_some()) {
        return entry.used(latest);
    }
    on_progress(&format!("downloading {}", file.url));
    let staging = entry.staging()?;
    let (download, tree) = (staging.path().join("download"), staging.path().join("tree"));
    fs::create_dir(&tree)?;
    http::download(file, &download)?;
    let path = match file.kind {
        FileKind::Template => {
            let name = file.url.split('?').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
            fs::rename(&download, tree.join(name))?;
            PathBuf::from(name)
        }
        FileKind::Zip | FileKind::TarGz => {
            archive::unpack(&download, file.kind, &tree)?;
            match &file.path {
                Some(path) => path.clone(),
                None => top(&tree)?,
            }
        }
    };
    exists(&tree, &path, &text)?;
    entry.keep(&tree, &source.recorded(), None, path)
}

fn from_git(source: &TemplateSource, git_source: &Git, cache: &Path, on_progress: &dyn Fn(&str)) -> Result<Fetched> {
    let text = source.to_string();
    let entry = Entry::open(cache, &text)?;
    // A new repository for each download: an interrupted one, or a full disk, leaves no damaged one.
    let staging = entry.staging()?;
    let repository = staging.path().join("repository.git");
    on_progress(&format!("resolving {text}"));
    let commit = git::resolve(git_source, &repository)?;
    if let Some(latest) = entry.latest().filter(|latest| latest.origin.commit.as_ref() == Some(&commit)) {
        return entry.used(latest);
    }
    on_progress(&format!("fetching {commit} of {}", git_source.url));
    let tree = staging.path().join("tree");
    git::export(git_source, &repository, &commit, &tree)?;
    let path = git_source.path.clone().unwrap_or_default();
    exists(&tree, &path, &text)?;
    entry.keep(&tree, &source.recorded(), Some(commit), path)
}

/// The template in an archive without a path: the archive itself, or its only directory, as in the archives of GitHub.
fn top(tree: &Path) -> Result<PathBuf> {
    let entries: Vec<_> = fs::read_dir(tree)?.collect::<std::io::Result<_>>()?;
    match entries.as_slice() {
        [only] if only.path().is_dir() => Ok(only.file_name().into()),
        _ => Ok(PathBuf::new()),
    }
}

/// Checks that the template exists in the tree: a `*.pkr.hcl` file, or a directory with such files.
fn exists(tree: &Path, path: &Path, source: &str) -> Result<()> {
    let place = tree.join(path);
    let is_template = |path: &Path| path.is_file() && path.to_string_lossy().ends_with(TEMPLATE);
    let found = if place.is_dir() {
        fs::read_dir(&place)?.flatten().any(|entry| is_template(&entry.path()))
    } else {
        is_template(&place)
    };
    if found {
        return Ok(());
    }
    let shown = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    Err(Exit::Usage.error(
        format_args!("{source} has no template at `{}`", shown.display()),
        format_args!("name a *{TEMPLATE} file, or a directory with such files, behind `//`"),
    ))
}

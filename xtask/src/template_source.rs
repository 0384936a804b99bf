//! Template sources: where a Packer template comes from, and how a template from elsewhere is downloaded.
//!
//! A source is one of `builtin://NAME`, a path, an `http(s)://` URL of a `*.pkr.hcl` file or an archive, and `git::URL//PATH?ref=REF`.
//! Everything that is not one of them is refused by name, before anything is downloaded. A downloaded template is stored as a tree of files
//! that contains no path out of itself, in a cache; its digest identifies its content.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, Exit, Result};
use crate::recipe::Digest;
use crate::sensitive::{self, HIDDEN};

mod archive;
mod cache;
mod fetch;
mod git;
mod http;
mod tree;

pub use cache::{Fetched, cached};
pub use fetch::{Policy, fetch};

/// The templates that are part of the project, as directories in `packer/`.
pub const BUILTIN: &[&str] = &["default-ec2"];
/// The endings of archives.
const ARCHIVES: &[&str] = &[".zip", ".tar.gz", ".tgz"];
/// The ending of a template file.
const TEMPLATE: &str = ".pkr.hcl";
/// What a source may be, for hints.
const FORMS: &str = "write builtin://default-ec2, a path, https://HOST/FILE.pkr.hcl?checksum=sha256:..., https://HOST/FILE.tar.gz//PATH?checksum=sha256:... or git::https://HOST/REPOSITORY//PATH?ref=TAG";

/// Where a template comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateSource {
    /// A template that is part of the project.
    Builtin(String),
    /// A `*.pkr.hcl` file or a directory, relative to the project.
    Local(PathBuf),
    /// A file on a web server.
    Http(Http),
    /// A Git repository.
    Git(Git),
}

/// A template file or an archive on a web server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// The URL without `checksum` and without the path in the archive.
    pub url: String,
    /// The file's SHA-256.
    pub checksum: Option<Digest>,
    /// The template in the archive.
    pub path: Option<PathBuf>,
    kind: FileKind,
}

/// A template in a Git repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Git {
    /// The URL of the repository: `https://`, `ssh://` or `file://`.
    pub url: String,
    /// The template in the repository; `None` for its root directory.
    pub path: Option<PathBuf>,
    /// Tag, branch or commit; `None` for the default branch.
    pub reference: Option<String>,
}

/// What is downloaded over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileKind {
    /// One template file.
    Template,
    Zip,
    TarGz,
}

impl TemplateSource {
    /// The template's path relative to the project; `None` for a template that is not part of it.
    pub fn in_project(&self) -> Option<PathBuf> {
        match self {
            Self::Builtin(name) => Some(Path::new("packer").join(name)),
            Self::Local(path) => Some(path.clone()),
            Self::Http(_) | Self::Git(_) => None,
        }
    }
}

impl TemplateSource {
    /// The source as it is recorded: without user and password, and without the values of parameters, which may be tokens.
    pub fn recorded(&self) -> String {
        let Self::Http(Http { url, checksum, path, kind }) = self else { return self.to_string() };
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
        let (authority, file) = place.split_once('/').unwrap_or((place, ""));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let name = |part: &str| part.split_once('=').map_or(part.to_owned(), |(name, _)| format!("{name}={HIDDEN}"));
        let query = query.map(|query| format!("?{}", query.split('&').map(name).collect::<Vec<_>>().join("&")));
        let url = format!("{scheme}://{host}/{file}{}", query.unwrap_or_default());
        Self::Http(Http { url, checksum: *checksum, path: path.clone(), kind: *kind }).to_string()
    }

    /// True if both are the same template, also if one is named by its path and one as a builtin template.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self.in_project(), other.in_project()) {
            (Some(path), Some(other)) => {
                let parts = |path: &Path| path.components().filter(|p| *p != Component::CurDir).collect::<PathBuf>();
                parts(&path) == parts(&other)
            }
            _ => self == other,
        }
    }

    /// True if the source names its content, by a checksum or a whole commit.
    pub fn is_fixed(&self) -> bool {
        match self {
            Self::Builtin(_) | Self::Local(_) => false,
            Self::Http(file) => file.checksum.is_some(),
            Self::Git(git) => git.reference.as_deref().is_some_and(git::is_commit),
        }
    }
}

impl FromStr for TemplateSource {
    type Err = Error;

    // A password in the source is marked as sensitive, so that no output and no record shows it.
    fn from_str(text: &str) -> Result<Self> {
        hide_credentials(text);
        let refuse = |why: &str| refused(text, why);
        if text.is_empty() {
            return Err(refuse("is empty"));
        }
        if text.chars().any(|c| c.is_control() || c == '"' || c == '\\') {
            return Err(refuse("contains a control character, a quotation mark or a backslash"));
        }
        if let Some(name) = text.strip_prefix("builtin://") {
            return match BUILTIN.contains(&name) {
                true => Ok(Self::Builtin(name.to_owned())),
                false => Err(refuse(&format!("is not a builtin template; there is {}", BUILTIN.join(", ")))),
            };
        }
        if let Some(rest) = text.strip_prefix("git::") {
            return git_source(rest).map(Self::Git).map_err(|why| refuse(&why));
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            return http_source(text).map(Self::Http).map_err(|why| refuse(&why));
        }
        if let Some((scheme, _)) = text.split_once("::").or_else(|| text.split_once("://")) {
            return Err(refuse(&format!("has the unknown scheme `{scheme}`")));
        }
        Ok(Self::Local(text.into()))
    }
}

impl fmt::Display for TemplateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below = |path: &Option<PathBuf>| path.as_ref().map(|p| format!("//{}", p.display())).unwrap_or_default();
        match self {
            Self::Builtin(name) => write!(f, "builtin://{name}"),
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::Http(Http { url, checksum, path, .. }) => {
                // The path in the archive precedes the query.
                let (file, query) = url.split_once('?').map_or((url.as_str(), None), |(file, q)| (file, Some(q)));
                let checksum = checksum.map(|digest| format!("checksum=sha256:{digest}"));
                let query: Vec<String> = query.map(str::to_owned).into_iter().chain(checksum).collect();
                let mark = if query.is_empty() { "" } else { "?" };
                write!(f, "{file}{}{mark}{}", below(path), query.join("&"))
            }
            Self::Git(Git { url, path, reference }) => {
                let reference = reference.as_ref().map(|r| format!("?ref={r}")).unwrap_or_default();
                write!(f, "git::{url}{}{reference}", below(path))
            }
        }
    }
}

/// Marks user and password of a URL as sensitive, and all parameters but those that are documented: they may be tokens.
fn hide_credentials(text: &str) {
    sensitive::hide_credentials(text);
    if let Some((scheme, rest)) = text.split_once("://")
        && scheme.trim_start_matches("git::").starts_with("http")
        && let Some((user, _)) = rest.split(['/', '?']).next().and_then(|authority| authority.rsplit_once('@'))
    {
        sensitive::hide(user);
        user.split(':').filter(|part| *part != "x-oauth-basic").for_each(sensitive::hide);
    }
    let query = text.split_once('?').map_or("", |(_, query)| query);
    let others = query.split('&').filter_map(|part| part.split_once('='));
    others.filter(|(name, _)| !["checksum", "ref"].contains(name)).for_each(|(_, value)| sensitive::hide(value));
}

/// The error for a source that is refused.
fn refused(source: &str, why: &str) -> Error {
    Exit::Usage.error(format_args!("the template source `{source}` {why}"), FORMS)
}

fn http_source(text: &str) -> std::result::Result<Http, String> {
    let (before, query) = text.split_once('?').map_or((text, ""), |(before, query)| (before, query));
    if query.contains('#') || before.contains('#') {
        return Err("has a fragment".to_owned());
    }
    let (file, path) = split_path(before)?;
    host(&file)?;
    let (mut checksum, mut others) = (None, Vec::new());
    for part in query.split('&').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some(("checksum", value)) => {
                let digest = value.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
                let digest = digest.ok_or("has a `checksum` that is not sha256: and 64 hexadecimal digits")?;
                if checksum.replace(digest).is_some() {
                    return Err("has two checksums".to_owned());
                }
            }
            // go-getter, from which Packer's syntax is, unpacks by this parameter.
            Some(("archive", _)) => {
                return Err("has the parameter `archive`; the ending of the file name determines its kind".to_owned());
            }
            _ => others.push(part),
        }
    }
    let kind = match () {
        () if file.ends_with(TEMPLATE) => FileKind::Template,
        () if file.ends_with(".zip") => FileKind::Zip,
        () if file.ends_with(".tar.gz") || file.ends_with(".tgz") => FileKind::TarGz,
        () => return Err(format!("has a file name that does not end in {TEMPLATE}, {}", ARCHIVES.join(", "))),
    };
    if kind == FileKind::Template && path.is_some() {
        return Err("has a path after a file that is not an archive".to_owned());
    }
    if file.starts_with("http://") && checksum.is_none() {
        return Err("is not encrypted and has no checksum; use https, or add ?checksum=sha256:...".to_owned());
    }
    let url = if others.is_empty() { file } else { format!("{file}?{}", others.join("&")) };
    Ok(Http { url, checksum, path, kind })
}

fn git_source(text: &str) -> std::result::Result<Git, String> {
    let (before, query) = text.split_once('?').map_or((text, ""), |(before, query)| (before, query));
    let scheme = before.split_once("://").map(|(scheme, _)| scheme);
    match scheme {
        Some("https" | "ssh" | "file") => {}
        Some("http" | "git") => return Err("is a repository without encryption; use https or ssh".to_owned()),
        Some(other) => return Err(format!("has the unknown Git transport `{other}`; use https, ssh or file")),
        None => return Err("has a repository that is not a URL; write git::ssh://git@HOST/REPOSITORY".to_owned()),
    }
    let (url, path) = split_path(before)?;
    match scheme {
        Some("file") => {
            let below = url.trim_start_matches("file://");
            if !below.starts_with('/') {
                return Err("has a file URL that is not absolute; write git::file:///PATH".to_owned());
            }
        }
        _ => host(&url)?,
    }
    // git would have it on its command line, which all users of this host can read.
    if scheme == Some("https") && url.trim_start_matches("https://").split('/').next().is_some_and(|a| a.contains('@'))
    {
        return Err("has a user or a password; use a credential helper of git, or ssh".to_owned());
    }
    let mut reference = None;
    for part in query.split('&').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some(("ref", value)) => {
                if reference.replace(reference_of(value)?).is_some() {
                    return Err("has two refs".to_owned());
                }
            }
            _ => return Err(format!("has the parameter `{part}`; only `ref` is supported")),
        }
    }
    Ok(Git { url, path, reference })
}

/// A tag, branch or commit. Git's rules for names (git-check-ref-format(1)), and no name that git could read as an option or a revision
/// expression.
fn reference_of(text: &str) -> std::result::Result<String, String> {
    let odd = |c: char| c.is_whitespace() || "~^:?*[@{}&;|$`'<>()!".contains(c);
    let part = |p: &str| p.is_empty() || p.starts_with('.') || p.ends_with(".lock");
    if text.starts_with('-')
        || text.contains("..")
        || text.ends_with('.')
        || text.contains(odd)
        || text.split('/').any(part)
    {
        return Err(format!("has the ref `{text}`, which is not the name of a tag or branch, and not a commit"));
    }
    Ok(text.to_owned())
}

/// Splits `URL//PATH` behind the `//` of the scheme.
fn split_path(text: &str) -> std::result::Result<(String, Option<PathBuf>), String> {
    let (scheme, rest) = text.split_once("://").ok_or("is not a URL")?;
    let Some((place, path)) = rest.split_once("//") else { return Ok((text.to_owned(), None)) };
    // `file:////srv` is not the root of a repository and a path.
    if place.is_empty() {
        return Err("has no repository before the path".to_owned());
    }
    let path = Path::new(path.trim_end_matches('/'));
    let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    if path.as_os_str().is_empty() || !inside || path.to_string_lossy().contains("//") {
        return Err(format!("has the path `{}`, which is not a path below the repository or archive", path.display()));
    }
    Ok((format!("{scheme}://{place}"), Some(path.to_owned())))
}

/// Checks that a URL has a host. A host that begins with a dash would be an option of ssh (CVE-2017-1000117).
fn host(url: &str) -> std::result::Result<(), String> {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    if host.is_empty() || host.starts_with('-') || host.starts_with(':') || user.starts_with('-') {
        return Err("has no valid host".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! Parses the template's files, and creates errors with a location in them.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use hcl_edit::Span;
use hcl_edit::structure::{Attribute, Block, Body};
use miette::{Diagnostic, NamedSource, SourceSpan};
use thiserror::Error as ThisError;

use crate::error::{Error, Exit, Result};
use crate::recipe::Place;
use crate::refusal::Cause;

/// One parsed file.
#[derive(Debug)]
pub(super) struct File {
    /// Path for messages, relative to the project.
    pub(super) name: String,
    pub(super) text: Arc<str>,
    pub(super) body: Body,
}

/// An error in a template, with its location.
#[derive(Clone, Debug, ThisError, Diagnostic)]
#[error("{message}")]
pub(super) struct Refused {
    pub(super) message: String,
    #[source_code]
    code: NamedSource<Arc<str>>,
    #[label("{label}")]
    span: SourceSpan,
    label: String,
    #[help]
    pub(super) help: String,
    pub(super) cause: Cause,
    /// What is not supported, with file and line, if the message does not state that it is the native engine that does not support it.
    pub(super) unsupported: Option<String>,
}

impl File {
    pub(super) fn parse(name: String, text: String) -> Result<Self> {
        let text: Arc<str> = text.into();
        match hcl_edit::parser::parse_body(&text) {
            Ok(body) => Ok(Self { name, text, body }),
            Err(error) => {
                let at = error.location().offset().min(text.len());
                let refused = Refused {
                    message: format!("{name}:{}: invalid HCL: {}", error.location().line(), error.message()),
                    code: NamedSource::new(&name, Arc::clone(&text)),
                    span: (at, 0).into(),
                    label: "here".to_owned(),
                    help: "see the HCL2 syntax at developer.hashicorp.com/packer/docs/templates/hcl_templates/syntax"
                        .to_owned(),
                    cause: Cause::Invalid,
                    unsupported: None,
                };
                Err(Exit::Usage.because(refused))
            }
        }
    }

    /// An error at `span`; without a span, at the start of the file.
    pub(super) fn refuse(
        &self,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Error {
        Exit::Usage.because(self.refused(Cause::Invalid, span, &message.into(), help.into()))
    }

    /// The same for what Packer supports and this crate does not.
    pub(super) fn unsupported(
        &self,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Error {
        Exit::Usage.because(self.refused(Cause::Unsupported, span, &message.into(), help.into()))
    }

    /// The same for what a template from elsewhere must not do on this host.
    pub(super) fn forbidden(
        &self,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Error {
        Exit::Usage.because(self.refused(Cause::Forbidden, span, &message.into(), help.into()))
    }

    fn refused(&self, cause: Cause, span: Option<Range<usize>>, message: &str, help: String) -> Refused {
        let span = span.unwrap_or(0..0);
        Refused {
            message: format!("{}:{}: {message}", self.name, self.line(span.start)),
            code: NamedSource::new(&self.name, Arc::clone(&self.text)),
            span: (span.start, span.end.saturating_sub(span.start)).into(),
            label: "here".to_owned(),
            help,
            cause,
            unsupported: None,
        }
    }

    /// An error for an unknown word, which Packer may know. Its help names the most similar known word, or all known words.
    pub(super) fn unknown(&self, span: Option<Range<usize>>, what: &str, word: &str, known: &[&str]) -> Error {
        let place = format!("{}:{}", self.name, self.line(span.clone().unwrap_or(0..0).start));
        let refused = self.refused(Cause::Unsupported, span, &format!("unknown {what} `{word}`"), near(word, known));
        let unsupported = format!("{place}: the native engine does not support the {what} `{word}`");
        Exit::Usage.because(Refused { unsupported: Some(unsupported), ..refused })
    }

    /// The same for a name that the template would have to define, so that Packer does not know it either.
    pub(super) fn undefined(&self, span: Option<Range<usize>>, what: &str, word: &str, known: &[&str]) -> Error {
        self.refuse(span, format!("unknown {what} `{word}`"), near(word, known))
    }

    /// Line of a byte offset, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.text.get(..offset).map_or(1, |before| before.matches('\n').count() + 1)
    }

    /// The location of a block.
    pub(super) fn place(&self, block: &Block) -> Place {
        Place { file: PathBuf::from(&self.name), line: self.line(span_of(block).map_or(0, |s| s.start)) }
    }
}

/// The span of a block's identifier. An error at the whole block would not show which line is wrong.
pub(super) fn span_of(block: &Block) -> Option<Range<usize>> {
    block.ident.span()
}

pub(super) fn span_of_attribute(attribute: &Attribute) -> Option<Range<usize>> {
    attribute.span()
}

/// Reads a template: a file, or every `*.pkr.hcl` file of a directory in order of name.
pub(super) fn read(path: &Path, root: &Path) -> Result<Vec<File>> {
    let mut paths = Vec::new();
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            let file = entry?.path();
            if file.to_string_lossy().ends_with(".pkr.hcl") {
                paths.push(file);
            } else if file.to_string_lossy().ends_with(".pkr.json") {
                // Packer reads it as well, so that it would be part of what Packer builds.
                return Err(Exit::Usage.error(
                    format_args!("{} is a template in JSON, which is not supported", shown(&file, root)),
                    "write it in HCL, or set `template` to the *.pkr.hcl file that needs no other one",
                ));
            }
        }
        paths.sort();
        if paths.is_empty() {
            return Err(Exit::Usage.error(
                format_args!("no file in {} ends in .pkr.hcl", path.display()),
                "set `template` in ami.toml to a *.pkr.hcl file, or to a directory with such files",
            ));
        }
    } else {
        paths.push(path.to_owned());
    }
    paths
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file).map_err(|e| {
                Exit::Usage.error(
                    format_args!("cannot read the template: {e}"),
                    "set `template` in ami.toml to an existing file or directory",
                )
            })?;
            File::parse(shown(&file, root), text)
        })
        .collect()
}

/// Removes `.` and `..` from a path without resolving links, so that the names of scripts are short.
pub(super) fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                out.pop();
            }
            std::path::Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

/// An error if a path leads out of the tree of a template from elsewhere, also through symbolic links.
pub(super) fn confined(path: &Path, tree: Option<&Path>) -> std::result::Result<(), String> {
    let Some(tree) = tree else { return Ok(()) };
    let inside = match (path.canonicalize(), tree.canonicalize()) {
        (Ok(path), Ok(tree)) => path.starts_with(tree),
        // It does not exist, which the caller reports.
        _ => normal(path).starts_with(normal(tree)),
    };
    if inside { Ok(()) } else { Err(format!("{} is not one of the template's own files", path.display())) }
}

/// A path for messages: relative to the project if it is inside.
pub(super) fn shown(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

fn near(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("expected one of: {}", known.join(", ")),
    }
}

/// The most similar known word, if one is similar enough.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let scored = known.iter().map(|k| (strsim::jaro_winkler(word, k), *k));
    scored.filter(|(score, _)| *score > 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, k)| k)
}

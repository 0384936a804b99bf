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

/// One parsed file.
#[derive(Debug)]
pub(super) struct File {
    /// Path for messages, relative to the project.
    pub(super) name: String,
    pub(super) text: Arc<str>,
    pub(super) body: Body,
}

/// An error in a template, with its location.
#[derive(Debug, ThisError, Diagnostic)]
#[error("{message}")]
pub(super) struct Refused {
    message: String,
    #[source_code]
    code: NamedSource<Arc<str>>,
    #[label("{label}")]
    span: SourceSpan,
    label: String,
    #[help]
    help: String,
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
        let span = span.unwrap_or(0..0);
        let message = format!("{}:{}: {}", self.name, self.line(span.start), message.into());
        Exit::Usage.because(Refused {
            message,
            code: NamedSource::new(&self.name, Arc::clone(&self.text)),
            span: (span.start, span.end.saturating_sub(span.start)).into(),
            label: "here".to_owned(),
            help: help.into(),
        })
    }

    /// An error for an unknown word. Its help names the most similar known word, or all known words.
    pub(super) fn unknown(&self, span: Option<Range<usize>>, what: &str, word: &str, known: &[&str]) -> Error {
        let help = match nearest(word, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("expected one of: {}", known.join(", ")),
        };
        self.refuse(span, format!("unknown {what} `{word}`"), help)
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

/// The most similar known word, if one is similar enough.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let scored = known.iter().map(|k| (strsim::jaro_winkler(word, k), *k));
    scored.filter(|(score, _)| *score > 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, k)| k)
}

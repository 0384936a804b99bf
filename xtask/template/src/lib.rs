//! Evaluates Packer's HCL2 templates to recipes. Reads files and runs nothing.
//!
//! The supported part of the language has Packer's semantics. Everything else is an error with its name and line and is never skipped:
//! an image in which a step was silently left out looks like a correct one.

#![warn(missing_docs)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use hcl::expr::Expression;
use hcl_edit::Span as _;
use hcl_edit::structure::{Attribute, Block, Structure};

use crate::error::{Exit, Result};
use crate::recipe::{Origin, Recipe, Source, Step};

pub mod error;
pub mod outline;
pub mod recipe;
pub mod refusal;
pub mod sensitive;
pub mod unread;

mod dates;
mod files;
#[expect(clippy::needless_pass_by_value, reason = "hcl-rs passes arguments by value")]
mod functions;
#[expect(clippy::result_large_err, reason = "hcl-rs's error kind is large, and is converted to a report at once")]
mod scope;
mod steps;
mod types;
mod variables;
mod versions;

use files::{File, span_of};
use scope::Scope;

/// The version of Packer whose language is implemented.
const LANGUAGE: &str = "1.16.0";
/// The blocks at the top level of a template.
const ROOT: &[&str] = &["packer", "variable", "locals", "local", "source", "build", "data"];
/// The blocks in a `build` block.
const BUILD: &[&str] = &["source", "provisioner", "error-cleanup-provisioner", "post-processor", "post-processors"];

/// The attributes of a `local` block.
const LOCAL: &[&str] = &["expression", "sensitive"];

/// The input of an evaluation.
#[derive(Clone, Debug)]
pub struct Request {
    /// A `*.pkr.hcl` file, or a directory with such files.
    pub path: PathBuf,
    /// The source, as `kind.name`: `qemu.locus`.
    pub source: String,
    /// Variables that `ami.toml` sets. They override only the template's defaults.
    pub settings: Vec<Setting>,
    /// `--var`, in order.
    pub vars: Vec<(String, String)>,
    /// `--var-file`, in order.
    pub var_files: Vec<PathBuf>,
    /// The environment, for `PKR_VAR_*` and `env()`.
    pub env: BTreeMap<String, String>,
    /// What `timestamp()` returns.
    pub now: jiff::Timestamp,
    /// The directory that relative paths start from: Packer's working directory.
    pub root: PathBuf,
    /// The template is not part of the project: it reads no files but its own, no environment variables but `PKR_VAR_*`, and runs nothing
    /// on this host.
    pub foreign: Option<Foreign>,
}

/// A template that is not part of the project.
#[derive(Clone, Debug)]
pub struct Foreign {
    /// Where it comes from.
    pub origin: Origin,
    /// The directory with all of its files.
    pub tree: PathBuf,
}

impl Request {
    /// The directory that the names of scripts and uploads are relative to. A template from elsewhere may be below it.
    fn base(&self) -> &std::path::Path {
        self.tree().unwrap_or(&self.root)
    }

    /// The only directory that the template can read; `None` if it can read any.
    fn tree(&self) -> Option<&std::path::Path> {
        self.foreign.as_ref().map(|foreign| foreign.tree.as_path())
    }
}

/// A variable that `ami.toml` sets.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The variable's name.
    pub name: String,
    /// The value, in the syntax of `--var`.
    pub value: String,
    /// Where the value is set, for messages.
    pub origin: String,
    /// Ignore the setting if the template does not declare the variable.
    pub optional: bool,
}

/// The template's blocks by kind.
struct Blocks<'a> {
    variables: Vec<(&'a File, &'a Block)>,
    locals: Vec<(&'a File, String, &'a Attribute)>,
    sensitive_locals: Vec<String>,
    sources: Vec<(&'a File, &'a Block)>,
    builds: Vec<(&'a File, &'a Block)>,
}

/// Evaluates a template for one source.
pub fn evaluate(request: &Request) -> Result<Recipe> {
    let files = files::read(&request.path, &request.root)?;
    let blocks = sort(&files)?;
    let dir = if request.path.is_dir() {
        request.path.clone()
    } else {
        request.path.parent().unwrap_or(&request.root).to_owned()
    };
    functions::set_dirs(&dir, &request.root, request.tree());
    // `path.root` is relative, as for a Packer that is started in the project's directory.
    let relative = dir.strip_prefix(&request.root).unwrap_or(&dir);
    let relative = if relative.as_os_str().is_empty() { std::path::Path::new(".") } else { relative };
    let mut scope = Scope::new(relative, &request.root, request.now);
    let variables = variables::resolve(&blocks.variables, request, &mut scope)?;
    locals(&blocks.locals, &mut scope)?;
    blocks.sensitive_locals.iter().for_each(|name| hide_local(name, &scope));
    let source = source(&blocks, request, &scope)?;
    scope.set("source", "type", source.kind.as_str().into());
    scope.set("source", "name", source.name.as_str().into());
    let origin = request.foreign.as_ref().map(|foreign| foreign.origin.clone());
    let mut recipe =
        Recipe { origin, build_name: None, variables, source, steps: Vec::new(), on_error: None, post: Vec::new() };
    let mut found = false;
    for (file, block) in &blocks.builds {
        if build_sources(file, block, &scope)?.contains(&request.source) {
            found = true;
            build(file, block, &scope, request, &mut recipe)?;
        }
    }
    if !found {
        let hint = "add it to the `sources` of the build block";
        return Err(Exit::Usage.error(format_args!("no build block has the source {}", request.source), hint));
    }
    if let Some(why) = functions::refused() {
        return Err(Exit::Usage.error(why, "review the template and copy it into the project"));
    }
    steps::make_unique(&mut recipe.steps);
    Ok(recipe)
}

/// The names of the variables that a template declares as sensitive.
pub fn sensitive_variables(path: &std::path::Path, root: &std::path::Path) -> Result<Vec<String>> {
    let variables = outline::outline(path, root)?.variables.into_iter();
    Ok(variables.filter(|variable| variable.sensitive).map(|variable| variable.name).collect())
}

/// True if a template declares a variable with this name.
pub fn declares(path: &std::path::Path, root: &std::path::Path, variable: &str) -> Result<bool> {
    Ok(outline::outline(path, root)?.variable(variable).is_some())
}

fn sort(files: &[File]) -> Result<Blocks<'_>> {
    let mut blocks =
        Blocks { variables: vec![], locals: vec![], sensitive_locals: vec![], sources: vec![], builds: vec![] };
    for file in files {
        for structure in &file.body {
            let block = match structure {
                Structure::Block(block) => block,
                Structure::Attribute(a) => {
                    return Err(file.refuse(
                        a.span(),
                        format!("the attribute `{}` is not in a block", a.key.as_str()),
                        "move it into a block",
                    ));
                }
            };
            match block.ident.as_str() {
                "packer" => check_packer(file, block)?,
                "variable" => blocks.variables.push((file, block)),
                "locals" => blocks.locals.extend(block.body.attributes().map(|a| (file, a.key.as_str().to_owned(), a))),
                "local" => match (block.labels.first(), block.body.get_attribute("expression")) {
                    (Some(label), Some(attribute)) => {
                        let unknown = block.body.attributes().find(|a| !LOCAL.contains(&a.key.as_str()));
                        if let Some(other) = unknown {
                            return Err(file.unknown(other.key.span(), "attribute", other.key.as_str(), LOCAL));
                        }
                        blocks.sensitive_locals.extend(variables::sensitive_name(block));
                        blocks.locals.push((file, label.as_str().to_owned(), attribute));
                    }
                    _ => {
                        return Err(file.refuse(
                            span_of(block),
                            "a local without name or `expression`",
                            "write local \"name\" { expression = … }",
                        ));
                    }
                },
                "source" if block.labels.len() == 2 => {
                    // The name is part of the names of files that post-processors write.
                    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                    if let Some(label) =
                        block.labels.iter().find(|l| l.as_str().is_empty() || !l.as_str().chars().all(is_word))
                    {
                        let message = format!("`{}` is not the type or name of a source", label.as_str());
                        return Err(file.refuse(
                            span_of(block),
                            message,
                            "use letters, digits, underscores and dashes",
                        ));
                    }
                    blocks.sources.push((file, block));
                }
                "source" => {
                    return Err(file.refuse(
                        span_of(block),
                        "a source without exactly two labels",
                        "write source \"type\" \"name\" { … }",
                    ));
                }
                "build" => blocks.builds.push((file, block)),
                // Data sources query AWS, so they are not evaluated. An expression that refers to one is an error.
                "data" => {}
                other => return Err(file.unknown(span_of(block), "block", other, ROOT)),
            }
        }
    }
    Ok(blocks)
}

fn check_packer(file: &File, block: &Block) -> Result<()> {
    const KNOWN: &[&str] = &["required_version", "required_plugins"];
    for structure in &block.body {
        let (name, span) = match structure {
            Structure::Attribute(a) => (a.key.as_str(), a.span()),
            Structure::Block(b) => (b.ident.as_str(), span_of(b)),
        };
        if !KNOWN.contains(&name) {
            return Err(file.unknown(span, "setting", name, KNOWN));
        }
        if let Structure::Attribute(a) = structure
            && name == "required_version"
        {
            let constraint = a.value.as_str().unwrap_or_default();
            match versions::admits(constraint, LANGUAGE) {
                Some(true) => {}
                Some(false) => {
                    let message = format!("the template requires Packer {constraint}, but xtask implements {LANGUAGE}");
                    return Err(file.unsupported(
                        span,
                        message,
                        "widen required_version, or build with that version of Packer",
                    ));
                }
                None => {
                    let message = format!("`{constraint}` is not a version constraint");
                    return Err(file.refuse(span, message, "write a constraint like \">= 1.9.0, < 2.0.0\""));
                }
            }
        }
    }
    Ok(())
}

/// Evaluates locals in the order of their dependencies.
fn locals(pending: &[(&File, String, &Attribute)], scope: &mut Scope) -> Result<()> {
    let mut pending: Vec<_> = pending.iter().collect();
    while !pending.is_empty() {
        let mut waiting = Vec::new();
        let before = pending.len();
        for entry in pending {
            let (file, name, attribute) = entry;
            let expression: Expression = attribute.value.clone().into();
            match scope.evaluate(&expression) {
                Ok(value) => scope.set("local", name, value),
                Err(hcl::eval::ErrorKind::NoSuchKey(_)) => waiting.push((entry, scope.attribute(file, attribute))),
                Err(_) => {
                    scope.attribute(file, attribute)?;
                }
            }
        }
        if waiting.len() == before {
            // No local could be evaluated: a name is missing, or the locals form a cycle.
            let names: Vec<&str> = waiting.iter().map(|((_, name, _), _)| name.as_str()).collect();
            let cycle = waiting.len() > 1;
            let ((file, _, attribute), result) = waiting.swap_remove(0);
            let own = attribute.value.to_string().contains(&format!("local.{}", names[0]));
            if cycle && names[1..].iter().any(|n| attribute.value.to_string().contains(&format!("local.{n}"))) || own {
                let message = format!("locals refer to each other in a cycle: {}", names.join(", "));
                return Err(file.refuse(attribute.span(), message, "break the cycle"));
            }
            return result.map(drop);
        }
        pending = waiting.into_iter().map(|(entry, _)| entry).collect();
    }
    Ok(())
}

/// Marks the value of a local as sensitive, so that no output shows it.
fn hide_local(name: &str, scope: &Scope) {
    let value = format!("local.{name}").parse::<Expression>().ok().and_then(|e| scope.evaluate(&e).ok());
    if let Some(value) = value {
        sensitive::hide_all(&json(&value));
    }
}

fn source_name(block: &Block) -> String {
    block.labels.iter().map(hcl_edit::structure::BlockLabel::as_str).collect::<Vec<_>>().join(".")
}

/// Evaluates the requested source only: the other sources may need variables that have no value.
fn source(blocks: &Blocks<'_>, request: &Request, scope: &Scope) -> Result<Source> {
    let found = blocks.sources.iter().find(|(_, block)| source_name(block) == request.source);
    let Some((file, block)) = found else {
        // A build block can give a source another name, by which Packer knows it.
        for (file, build) in &blocks.builds {
            let is_it = |inner: &&Block| {
                inner.ident.as_str() == "source" && outline::override_of(file, inner).name() == request.source
            };
            if let Some(block) = build.body.blocks().find(is_it) {
                return Err(overridden(file, block));
            }
        }
        let names: Vec<String> = blocks.sources.iter().map(|(_, b)| source_name(b)).collect();
        return Err(undeclared_source(&request.source, &names));
    };
    let settings = scope.object(file, block)?.into_iter().map(|(k, v)| (k, json(&v))).collect();
    let mut labels = block.labels.iter().map(|l| l.as_str().to_owned());
    Ok(Source { kind: labels.next().unwrap_or_default(), name: labels.next().unwrap_or_default(), settings })
}

/// The error for a source that the template does not declare.
pub(crate) fn undeclared_source(source: &str, known: &[String]) -> error::Error {
    let hint = format!("use one that it declares: {}", known.join(", "));
    Exit::Usage.error(format_args!("the template does not declare the source {source}"), hint)
}

/// The error for a source block of a build that is not empty.
fn overridden(file: &File, block: &Block) -> error::Error {
    file.unsupported(
        span_of(block),
        "settings in the source block of a build are not supported",
        "move the settings to the source block at the top level",
    )
}

fn build_sources(file: &File, block: &Block, scope: &Scope) -> Result<Vec<String>> {
    let mut names = Vec::new();
    if let Some(attribute) = block.body.get_attribute("sources") {
        let value = scope.attribute(file, attribute)?;
        let list = value.as_array().ok_or_else(|| {
            file.refuse(attribute.span(), "`sources` must be a list", "write sources = [\"source.qemu.name\"]")
        })?;
        names.extend(list.iter().filter_map(hcl::Value::as_str).map(|n| n.trim_start_matches("source.").to_owned()));
    }
    for inner in block.body.blocks().filter(|b| b.ident.as_str() == "source") {
        names.extend(inner.labels.first().map(|l| l.as_str().trim_start_matches("source.").to_owned()));
    }
    Ok(names)
}

fn build(file: &File, block: &Block, scope: &Scope, request: &Request, recipe: &mut Recipe) -> Result<()> {
    for structure in &block.body {
        match structure {
            Structure::Attribute(attribute) => match attribute.key.as_str() {
                "name" => recipe.build_name = scope.attribute(file, attribute)?.as_str().map(str::to_owned),
                "sources" | "description" => {}
                other => {
                    return Err(file.unknown(
                        attribute.key.span(),
                        "attribute",
                        other,
                        &["name", "description", "sources"],
                    ));
                }
            },
            Structure::Block(inner) => match inner.ident.as_str() {
                "provisioner" => recipe.steps.extend(steps::step(file, inner, scope, request)?),
                "error-cleanup-provisioner" => recipe.on_error = steps::step(file, inner, scope, request)?.map(cleanup),
                "post-processor" => recipe.post.extend(steps::post(file, inner, scope, request)?),
                "post-processors" => {
                    for post in inner.body.blocks() {
                        recipe.post.extend(steps::post(file, post, scope, request)?);
                    }
                }
                "source" if inner.body.is_empty() => {}
                "source" => return Err(overridden(file, inner)),
                other => return Err(file.unknown(span_of(inner), "block", other, BUILD)),
            },
        }
    }
    Ok(())
}

fn cleanup(step: Step) -> Step {
    Step { name: format!("error cleanup: {}", step.name), ..step }
}

fn json(value: &hcl::Value) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or(serde_json::Value::Null)
}

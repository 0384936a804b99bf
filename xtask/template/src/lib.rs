//! HCL2 templates -> recipe. Reads files, runs nothing.
//!
//! What Packer's templates really use is evaluated with Packer's meaning; what is not known is refused by name and line, never
//! skipped, because a step that is silently left out makes an image that looks right.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hcl::expr::Expression;
use hcl_edit::Span as _;
use hcl_edit::structure::{Attribute, Block, Structure};

use crate::error::{Exit, Result};
use crate::recipe::{Recipe, Source, Step};

pub mod error;
pub mod recipe;
pub mod sensitive;

mod dates;
mod files;
#[expect(clippy::needless_pass_by_value, reason = "hcl-rs gives a function its arguments by value")]
mod functions;
#[expect(clippy::result_large_err, reason = "hcl-rs's error kind is large; it is looked at once and told")]
mod scope;
mod steps;
mod types;
mod variables;
mod versions;

use files::{File, span_of};
use scope::Scope;

/// The Packer whose language this reader speaks.
const LANGUAGE: &str = "1.16.0";
/// The blocks a template may have at the top.
const ROOT: &[&str] = &["packer", "variable", "locals", "local", "source", "build", "data"];
/// The blocks a `build` may have.
const BUILD: &[&str] = &["source", "provisioner", "error-cleanup-provisioner", "post-processor", "post-processors"];

/// The attributes of a `local` block.
const LOCAL: &[&str] = &["expression", "sensitive"];

/// What to evaluate.
#[derive(Clone, Debug)]
pub struct Request {
    /// A `*.pkr.hcl` file or a folder of them.
    pub path: PathBuf,
    /// The source: `qemu.locus`.
    pub source: String,
    /// What `ami.toml` sets: just above the template's own defaults.
    pub settings: Vec<Setting>,
    /// `--var`, in order.
    pub vars: Vec<(String, String)>,
    /// `--var-file`, in order.
    pub var_files: Vec<PathBuf>,
    /// The environment, for `PKR_VAR_*` and `env()`.
    pub env: BTreeMap<String, String>,
    /// What `timestamp()` returns.
    pub now: jiff::Timestamp,
    /// Folder that relative paths start from; Packer's working folder.
    pub root: PathBuf,
}

/// A variable that `ami.toml` sets.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value, written as for `--var`.
    pub value: String,
    /// Where it stands, for a person.
    pub origin: String,
    /// Pass it by if the template declares no such variable.
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
    let folder = if request.path.is_dir() {
        request.path.clone()
    } else {
        request.path.parent().unwrap_or(&request.root).to_owned()
    };
    functions::set_folders(&folder, &request.root);
    // As Packer has it when it is started in the project's folder: `packer`, not its absolute path.
    let shown = folder.strip_prefix(&request.root).unwrap_or(&folder);
    let mut scope = Scope::new(shown, &request.root, request.now);
    let variables = variables::resolve(&blocks.variables, request, &mut scope)?;
    locals(&blocks.locals, &mut scope)?;
    blocks.sensitive_locals.iter().for_each(|name| hide_local(name, &scope));
    let source = source(&blocks, request, &scope)?;
    scope.set("source", "type", source.kind.as_str().into());
    scope.set("source", "name", source.name.as_str().into());
    let mut recipe =
        Recipe { build_name: None, variables, source, steps: Vec::new(), on_error: None, post: Vec::new() };
    let mut found = false;
    for (file, block) in &blocks.builds {
        if build_sources(file, block, &scope)?.contains(&request.source) {
            found = true;
            build(file, block, &scope, request, &mut recipe)?;
        }
    }
    if !found {
        let hint = "add it to the `sources` of the build block";
        return Err(Exit::Usage.error(format_args!("no build block uses the source {}", request.source), hint));
    }
    steps::make_unique(&mut recipe.steps);
    Ok(recipe)
}

/// The names of the variables that a template declares as sensitive.
pub fn sensitive_variables(path: &std::path::Path, root: &std::path::Path) -> Result<Vec<String>> {
    let files = files::read(path, root)?;
    let blocks = sort(&files)?;
    Ok(blocks.variables.iter().filter_map(|(_, block)| variables::sensitive_name(block)).collect())
}

/// The sources a template declares, as `kind.name`.
pub fn sources(path: &std::path::Path, root: &std::path::Path) -> Result<Vec<String>> {
    let files = files::read(path, root)?;
    Ok(sort(&files)?.sources.iter().map(|(_, block)| source_name(block)).collect())
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
                        format!("`{}` stands outside of every block", a.key.as_str()),
                        "a template holds blocks only",
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
                            "a local needs a name and `expression`",
                            "write local \"name\" { expression = … }",
                        ));
                    }
                },
                "source" if block.labels.len() == 2 => blocks.sources.push((file, block)),
                "source" => {
                    return Err(file.refuse(
                        span_of(block),
                        "a source has two labels",
                        "write source \"type\" \"name\" { … }",
                    ));
                }
                "build" => blocks.builds.push((file, block)),
                // Evaluated by AWS only; a reference to it is refused where it is needed.
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
                    let message = format!("the template wants Packer {constraint}; what is spoken here is {LANGUAGE}");
                    return Err(file.refuse(span, message, "widen required_version, or build with that Packer"));
                }
                None => {
                    let message = format!("`{constraint}` is no version constraint");
                    return Err(file.refuse(span, message, "write it like \">= 1.9.0, < 2.0.0\""));
                }
            }
        }
    }
    Ok(())
}

/// Evaluates locals in the order their references ask for.
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
            // Nobody got further: a missing name, or a circle.
            let names: Vec<&str> = waiting.iter().map(|((_, name, _), _)| name.as_str()).collect();
            let circle = waiting.len() > 1;
            let ((file, _, attribute), result) = waiting.swap_remove(0);
            let own = attribute.value.to_string().contains(&format!("local.{}", names[0]));
            if circle && names[1..].iter().any(|n| attribute.value.to_string().contains(&format!("local.{n}"))) || own {
                let message = format!("these locals refer to each other in a circle: {}", names.join(", "));
                return Err(file.refuse(attribute.span(), message, "break the circle"));
            }
            return result.map(drop);
        }
        pending = waiting.into_iter().map(|(entry, _)| entry).collect();
    }
    Ok(())
}

/// Hides the value of a local that its template declares as sensitive.
fn hide_local(name: &str, scope: &Scope) {
    let value = format!("local.{name}").parse::<Expression>().ok().and_then(|e| scope.evaluate(&e).ok());
    if let Some(value) = value {
        sensitive::hide_all(&json(&value));
    }
}

fn source_name(block: &Block) -> String {
    block.labels.iter().map(hcl_edit::structure::BlockLabel::as_str).collect::<Vec<_>>().join(".")
}

/// Only the source that is asked for is evaluated: the others may need what is not here.
fn source(blocks: &Blocks<'_>, request: &Request, scope: &Scope) -> Result<Source> {
    let found = blocks.sources.iter().find(|(_, block)| source_name(block) == request.source);
    let Some((file, block)) = found else {
        let names: Vec<String> = blocks.sources.iter().map(|(_, b)| source_name(b)).collect();
        let hint = format!("it declares: {}", names.join(", "));
        return Err(Exit::Usage.error(format_args!("the template declares no source {}", request.source), hint));
    };
    let settings = scope.object(file, block)?.into_iter().map(|(k, v)| (k, json(&v))).collect();
    let mut labels = block.labels.iter().map(|l| l.as_str().to_owned());
    Ok(Source { kind: labels.next().unwrap_or_default(), name: labels.next().unwrap_or_default(), settings })
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
                "source" => {
                    return Err(file.refuse(
                        span_of(inner),
                        "a source block in a build that changes settings is not supported",
                        "write the settings into the source block at the top",
                    ));
                }
                other => return Err(file.unknown(span_of(inner), "block", other, BUILD)),
            },
        }
    }
    Ok(())
}

fn cleanup(step: Step) -> Step {
    Step { name: format!("error cleanup: {}", step.name), ..step }
}

/// An HCL value as JSON.
fn json(value: &hcl::Value) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or(serde_json::Value::Null)
}

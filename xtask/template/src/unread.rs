//! A template that only Packer reads: what is known of it before Packer evaluates it. Its steps and its base image are not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fs_err as fs;
use hcl_edit::structure::Structure;
use serde::Serialize;

use crate::error::{Exit, Result};
use crate::files::File;
use crate::outline::{Declared, DeclaredAttribute, Default, Outline, Override, literal, outline};
use crate::recipe::{Digest, Origin};
use crate::variables::{auto_files, invalid_json, undeclared};
use crate::{Request, sensitive, undeclared_source};

/// A template that only Packer reads.
#[derive(Clone, Debug)]
pub struct Unread {
    /// Where the template comes from.
    pub origin: Origin,
    /// Why only Packer reads it: what was refused first, with file and line.
    pub reason: String,
    /// The source to build, as Packer names it: type and name. A build block can give it another name.
    pub source: String,
    /// The attributes of the source, as far as they are not in a nested block.
    pub attributes: Vec<DeclaredAttribute>,
    /// The variables that the template declares.
    pub variables: Vec<Given>,
    /// Identifies the files of the template, the source and the values of the variables.
    pub hash: Digest,
}

/// An input variable with the value that it is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Given {
    /// The variable's name.
    pub name: String,
    /// The value; `None` for a sensitive one, and for one that Packer evaluates.
    pub value: Option<serde_json::Value>,
    /// True if the value must not be shown.
    pub sensitive: bool,
    /// What set the value: `default`, `PKR_VAR_x`, the name of a var-file, `--var`.
    pub origin: String,
}

/// A value before it is known whether it may be shown.
struct Value {
    /// The value; `None` for an expression.
    known: Option<serde_json::Value>,
    /// As it was written, for the hash.
    text: String,
    origin: String,
}

/// Reads what is known of a template from elsewhere that Packer builds for this reason; `None` for a template of the project.
///
/// An error if a variable has no value, or if a value is given to a variable that the template does not declare: Packer refuses both.
/// Hides the values of sensitive variables.
pub fn unread(request: &Request, reason: &str) -> Result<Option<Unread>> {
    let Some(foreign) = &request.foreign else { return Ok(None) };
    let outline = outline(&request.path, &request.root)?;
    let mut set = values(&outline, request)?;
    let origin = foreign.origin.clone();
    let mut parts = vec![
        ("engine".to_owned(), b"packer".to_vec()),
        ("origin".to_owned(), origin.source.clone().into_bytes()),
        ("commit".to_owned(), origin.commit.clone().unwrap_or_default().into_bytes()),
        ("digest".to_owned(), origin.digest.bytes().to_vec()),
        ("source".to_owned(), request.source.clone().into_bytes()),
    ];
    let mut variables = Vec::new();
    for declared in &outline.variables {
        let value = set.remove(&declared.name);
        if let Some(value) = &value {
            parts.push((format!("variable {}", declared.name), value.text.clone().into_bytes()));
        }
        variables.push(given(declared, value)?);
    }
    let (source, attributes) = attributes(&outline, &request.source)?;
    Ok(Some(Unread {
        origin,
        reason: reason.to_owned(),
        source,
        attributes,
        variables,
        hash: Digest::of_parts(parts.iter().map(|(label, bytes)| (label.as_str(), bytes.as_slice()))),
    }))
}

impl Unread {
    /// True if the template declares a variable with this name.
    pub fn declares(&self, variable: &str) -> bool {
        self.variables.iter().any(|given| given.name == variable)
    }

    /// The value of a variable, if it is a text that is known.
    pub fn text(&self, variable: &str) -> Option<&str> {
        self.variables.iter().find(|given| given.name == variable)?.value.as_ref()?.as_str()
    }
}

/// A source as Packer names it, and its attributes. A build block can override both, also several times: then the source must be given by the
/// name that it has there.
fn attributes(outline: &Outline, source: &str) -> Result<(String, Vec<DeclaredAttribute>)> {
    let named: Vec<_> = outline.overrides.iter().filter(|inner| inner.name() == source).collect();
    let of_source: Vec<_> = outline.overrides.iter().filter(|inner| inner.source == source).collect();
    let (inner, declared) = match (named.as_slice(), of_source.as_slice()) {
        ([inner, ..], _) | ([], [inner]) => (Some(*inner), inner.source.as_str()),
        ([], []) => (None, source),
        ([], several) => {
            let names: Vec<String> = several.iter().map(|inner| inner.name()).collect();
            let message = format!("build blocks give the source {source} several names: {}", names.join(", "));
            return Err(Exit::Usage.error(message, "set the source in ami.toml to one of them"));
        }
    };
    let Some(block) = outline.sources.iter().find(|block| block.name == declared) else {
        return Err(undeclared_source(source, &outline.source_names()));
    };
    let mut attributes = block.attributes.clone();
    if let Some(inner) = inner {
        attributes.retain(|attribute| inner.attributes.iter().all(|other| other.name != attribute.name));
        attributes.extend(inner.attributes.iter().cloned());
    }
    Ok((inner.map_or_else(|| source.to_owned(), Override::name), attributes))
}

fn given(declared: &Declared, value: Option<Value>) -> Result<Given> {
    let Declared { name, sensitive, place, default } = declared;
    let (known, origin) = match (value, default) {
        (Some(value), _) => (value.known, value.origin),
        (None, Some(Default::Literal(value))) => (Some(value.clone()), "default".to_owned()),
        (None, Some(Default::Evaluated)) => (None, "default".to_owned()),
        (None, None) => {
            let message = format!("{}:{}: variable `{name}` has no value", place.file.display(), place.line);
            let hint = format!("set it with `--var {name}=…`, a var-file, or PKR_VAR_{name}");
            return Err(Exit::Usage.error(message, hint));
        }
    };
    if *sensitive {
        known.iter().for_each(sensitive::hide_all);
    }
    Ok(Given { name: name.clone(), value: known.filter(|_| !sensitive), sensitive: *sensitive, origin })
}

/// The values that are given to variables, with Packer's precedence: each source replaces the values of those before it.
fn values(outline: &Outline, request: &Request) -> Result<BTreeMap<String, Value>> {
    let known: Vec<&str> = outline.variables.iter().map(|variable| variable.name.as_str()).collect();
    let mut set = BTreeMap::new();
    let text =
        |text: &str, origin: &str| Value { known: Some(text.into()), text: text.to_owned(), origin: origin.to_owned() };
    for setting in &request.settings {
        match outline.variable(&setting.name) {
            Some(_) => drop(set.insert(setting.name.clone(), text(&setting.value, &setting.origin))),
            None if setting.optional => {}
            None => return Err(undeclared(&known, &setting.name, &setting.origin)),
        }
    }
    for name in &known {
        let variable = format!("PKR_VAR_{name}");
        if let Some(value) = request.env.get(&variable) {
            set.insert((*name).to_owned(), text(value, &variable));
        }
    }
    for path in auto_files(&request.path)?.iter().chain(&request.var_files) {
        set.extend(in_file(path, request)?);
    }
    for (name, value) in &request.vars {
        if !known.contains(&name.as_str()) {
            return Err(undeclared(&known, name, "--var"));
        }
        set.insert(name.clone(), text(value, "--var"));
    }
    // A value that another one replaced is sensitive, too.
    for declared in outline.variables.iter().filter(|declared| declared.sensitive) {
        let given = request.vars.iter().filter(|(name, _)| *name == declared.name).map(|(_, value)| value);
        given.chain(request.env.get(&format!("PKR_VAR_{}", declared.name))).for_each(|value| sensitive::hide(value));
        if let Some(Default::Literal(value)) = &declared.default {
            sensitive::hide_all(value);
        }
    }
    Ok(set)
}

/// The values in a file of variables, which is HCL or JSON as for Packer.
fn in_file(path: &Path, request: &Request) -> Result<Vec<(String, Value)>> {
    let full: PathBuf = request.root.join(path);
    let text = fs::read_to_string(&full).map_err(|e| {
        Exit::Usage.error(format_args!("cannot read the var-file: {e}"), "check the path given with --var-file")
    })?;
    let origin = crate::files::shown(&full, &request.root);
    if origin.ends_with(".json") {
        let parsed: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&text).map_err(|e| invalid_json(&origin, &e))?;
        let value =
            |known: serde_json::Value| Value { text: known.to_string(), known: Some(known), origin: origin.clone() };
        return Ok(parsed.into_iter().map(|(name, known)| (name, value(known))).collect());
    }
    let file = File::parse(origin.clone(), text)?;
    let attributes = file.body.iter().filter_map(|structure| match structure {
        Structure::Attribute(attribute) => Some(attribute),
        Structure::Block(_) => None,
    });
    let value = |attribute: &hcl_edit::structure::Attribute| Value {
        known: literal(attribute),
        text: attribute.value.to_string(),
        origin: origin.clone(),
    };
    Ok(attributes.map(|attribute| (attribute.key.as_str().to_owned(), value(attribute))).collect())
}

//! Input variables: reads their declarations, determines their values, converts and validates them.
//!
//! Precedence, lowest first: default, `ami.toml`, then as in Packer `PKR_VAR_x`, `*.auto.pkrvars.hcl` and then `*.auto.pkrvars.json` in order
//! of name, `--var-file` in order, `--var` (developer.hashicorp.com/packer/docs/templates/hcl_templates/variables).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fs_err as fs;
use hcl::Value;
use hcl::expr::Expression;
use hcl_edit::Span as _;
use hcl_edit::structure::{Block, Structure};

use super::Request;
use super::files::{File, shown, span_of};
use super::scope::Scope;
use super::types::{Type, convert};
use crate::error::{Error, Exit, Result};
use crate::recipe::Variable;
use crate::sensitive;

/// A `variable` block.
struct Declared<'a> {
    file: &'a File,
    block: &'a Block,
    name: String,
    kind: Type,
    sensitive: bool,
    default: Option<Value>,
}

/// A value, and what set it.
struct Set {
    value: Value,
    origin: String,
}

/// Evaluates all variables and adds them to the scope. Returns them without the values of sensitive ones, for `ami plan`.
pub(super) fn resolve(blocks: &[(&File, &Block)], request: &Request, scope: &mut Scope) -> Result<Vec<Variable>> {
    let declared: Vec<Declared<'_>> =
        blocks.iter().map(|(file, block)| declare(file, block, request, scope)).collect::<Result<_>>()?;
    let mut set: BTreeMap<String, Set> = BTreeMap::new();
    from_settings(&declared, request, &mut set)?;
    from_environment(&declared, request, &mut set)?;
    for path in auto_files(&request.path)? {
        from_file(&declared, &path, request, &mut set)?;
    }
    for path in &request.var_files {
        from_file(&declared, path, request, &mut set)?;
    }
    from_flags(&declared, request, &mut set)?;
    let mut out = Vec::new();
    for variable in &declared {
        let (value, origin) = match (set.remove(&variable.name), &variable.default) {
            (Some(set), _) => (set.value, set.origin),
            (None, Some(default)) => (default.clone(), "default".to_owned()),
            (None, None) => {
                let help = format!("set it with `--var {}=…`, a var-file, or PKR_VAR_{}", variable.name, variable.name);
                return Err(variable.file.refuse(
                    span_of(variable.block),
                    format!("variable `{}` has no value", variable.name),
                    help,
                ));
            }
        };
        let value = convert(&value, &variable.kind).map_err(|e| {
            let message = format!("variable `{}` {e} (set by {origin})", variable.name);
            variable.file.refuse(span_of(variable.block), message, "set a value of the variable's type")
        })?;
        scope.set("var", &variable.name, value.clone());
        validate(variable, scope)?;
        let shown = if variable.sensitive {
            sensitive::hide_all(&super::json(&value));
            serde_json::Value::Null
        } else {
            super::json(&value)
        };
        out.push(Variable { name: variable.name.clone(), value: shown, sensitive: variable.sensitive, origin });
    }
    Ok(out)
}

/// The variable's name, if `sensitive` in its block is true, or an expression instead of true or false.
pub(super) fn sensitive_name(block: &Block) -> Option<String> {
    let attribute = block.body.get_attribute("sensitive")?;
    let is_false = attribute.value.as_bool() == Some(false);
    block.labels.first().filter(|_| !is_false).map(|label| label.as_str().to_owned())
}

fn declare<'a>(file: &'a File, block: &'a Block, request: &Request, scope: &Scope) -> Result<Declared<'a>> {
    const KNOWN: &[&str] = &["type", "default", "description", "sensitive", "validation"];
    let [label] = block.labels.as_slice() else {
        return Err(file.refuse(
            span_of(block),
            "a variable without exactly one label",
            "write variable \"name\" { … }",
        ));
    };
    let mut declared =
        Declared { file, block, name: label.as_str().to_owned(), kind: Type::Any, sensitive: false, default: None };
    let with_env = scope.with_env(&request.env, request.foreign.is_some());
    for structure in &block.body {
        match structure {
            Structure::Attribute(attribute) => match attribute.key.as_str() {
                "type" => {
                    let expression: Expression = attribute.value.clone().into();
                    declared.kind = Type::parse(&expression)
                        .map_err(|e| file.unsupported(attribute.value.span(), e, "see Packer's type constraints"))?;
                }
                "default" => declared.default = Some(with_env.attribute(file, attribute)?),
                "sensitive" => declared.sensitive = scope.attribute(file, attribute)?.as_bool().unwrap_or(false),
                "description" => {}
                other => return Err(file.unknown(attribute.key.span(), "attribute", other, KNOWN)),
            },
            Structure::Block(inner) if inner.ident.as_str() == "validation" => {}
            Structure::Block(inner) => return Err(file.unknown(span_of(inner), "block", inner.ident.as_str(), KNOWN)),
        }
    }
    Ok(declared)
}

fn validate(variable: &Declared<'_>, scope: &Scope) -> Result<()> {
    for block in variable.block.body.blocks().filter(|b| b.ident.as_str() == "validation") {
        let attributes = scope.attributes(variable.file, block, &["condition", "error_message"], &[])?;
        if !attributes.flag("condition")? {
            let message = attributes.text("error_message")?.unwrap_or_default();
            let help = format!("see the validation block in {}", variable.file.name);
            return Err(attributes.refuse("condition", format!("variable `{}`: {message}", variable.name), help));
        }
    }
    Ok(())
}

fn from_settings(declared: &[Declared<'_>], request: &Request, set: &mut BTreeMap<String, Set>) -> Result<()> {
    for setting in &request.settings {
        match declared.iter().find(|d| d.name == setting.name) {
            Some(variable) => {
                let value = from_text(variable, &setting.value, &setting.origin)?;
                set.insert(setting.name.clone(), Set { value, origin: setting.origin.clone() });
            }
            None if setting.optional => {}
            None => return Err(undeclared(&names(declared), &setting.name, &setting.origin)),
        }
    }
    Ok(())
}

fn names<'a>(declared: &'a [Declared<'_>]) -> Vec<&'a str> {
    declared.iter().map(|d| d.name.as_str()).collect()
}

/// The error for a value of a variable that the template does not declare.
pub(super) fn undeclared(known: &[&str], name: &str, origin: &str) -> Error {
    let near = super::files::nearest(name, known);
    let hint = near.map_or_else(|| format!("declared: {}", known.join(", ")), |near| format!("did you mean `{near}`?"));
    Exit::Usage.error(format_args!("the template does not declare the variable `{name}` (set by {origin})"), hint)
}

fn from_environment(declared: &[Declared<'_>], request: &Request, set: &mut BTreeMap<String, Set>) -> Result<()> {
    for variable in declared {
        let name = format!("PKR_VAR_{}", variable.name);
        if let Some(text) = request.env.get(&name) {
            let value = from_text(variable, text, &name)?;
            set.insert(variable.name.clone(), Set { value, origin: name });
        }
    }
    Ok(())
}

fn from_flags(declared: &[Declared<'_>], request: &Request, set: &mut BTreeMap<String, Set>) -> Result<()> {
    for (name, text) in &request.vars {
        let Some(variable) = declared.iter().find(|d| d.name == *name) else {
            return Err(undeclared(&names(declared), name, "--var"));
        };
        let value = from_text(variable, text, "--var")?;
        set.insert(name.clone(), Set { value, origin: "--var".to_owned() });
    }
    Ok(())
}

/// The error for a file of variables in JSON that cannot be parsed.
pub(super) fn invalid_json(file: &str, error: &serde_json::Error) -> Error {
    Exit::Usage
        .error(format_args!("{file}: invalid JSON: {error}"), "write one object, of the variables' names and values")
}

/// The value of a text: for a string the text itself, for other types the text as an expression. Packer does the same.
fn from_text(variable: &Declared<'_>, text: &str, origin: &str) -> Result<Value> {
    if variable.kind.is_text() {
        return Ok(text.into());
    }
    let wrong = || {
        let message = format!("the value of `{}` from {origin} is not an HCL expression", variable.name);
        Exit::Usage.error(message, "quote strings inside lists and maps: --var 'names=[\"a\", \"b\"]'")
    };
    let expression: Expression = text.parse().map_err(|_| wrong())?;
    match expression {
        // A bare word, as in `--var flag=true`. The conversion to the variable's type accepts or rejects it.
        Expression::Variable(_) => Ok(text.into()),
        expression => hcl::eval::Evaluate::evaluate(&expression, &hcl::eval::Context::new()).map_err(|_| wrong()),
    }
}

pub(super) fn auto_files(path: &Path) -> Result<Vec<PathBuf>> {
    let dir = if path.is_dir() { path } else { return Ok(Vec::new()) };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let file = entry?.path();
        let name = file.to_string_lossy();
        if name.ends_with(".auto.pkrvars.hcl") || name.ends_with(".auto.pkrvars.json") {
            files.push(file);
        }
    }
    // Packer reads the files in JSON after those in HCL (packer, hcl2template/parser.go).
    files.sort_by_key(|file| (file.to_string_lossy().ends_with(".json"), file.clone()));
    Ok(files)
}

fn from_file(declared: &[Declared<'_>], path: &Path, request: &Request, set: &mut BTreeMap<String, Set>) -> Result<()> {
    let full = request.root.join(path);
    let text = fs::read_to_string(&full).map_err(|e| {
        Exit::Usage.error(format_args!("cannot read the var-file: {e}"), "check the path given with --var-file")
    })?;
    let (name, known) = (shown(&full, &request.root), names(declared));
    if name.ends_with(".json") {
        let values: hcl::Map<String, Value> = serde_json::from_str(&text).map_err(|e| invalid_json(&name, &e))?;
        if let Some(other) = values.keys().find(|other| !known.contains(&other.as_str())) {
            return Err(undeclared(&known, other, &name));
        }
        let value = |(variable, value)| (variable, Set { value, origin: name.clone() });
        set.extend(values.into_iter().map(value));
        return Ok(());
    }
    let file = File::parse(name, text)?;
    let scope = Scope::new(&request.root, &request.root, request.now);
    for structure in &file.body {
        let Structure::Attribute(attribute) = structure else {
            return Err(file.refuse(structure.span(), "a block in a var-file", "write name = value"));
        };
        let name = attribute.key.as_str();
        if !known.contains(&name) {
            return Err(file.undefined(attribute.key.span(), "variable", name, &known));
        }
        let value = scope.attribute(&file, attribute)?;
        set.insert(name.to_owned(), Set { value, origin: file.name.clone() });
    }
    Ok(())
}

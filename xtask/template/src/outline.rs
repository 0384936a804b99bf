//! What a template declares, without evaluating it. This needs less of the language than [`crate::evaluate`], so it also reads templates
//! that only Packer can build.

use std::path::Path;

use hcl::eval::Evaluate as _;
use hcl::expr::Expression;
use hcl_edit::structure::{Attribute, Block, BlockLabel};

use crate::error::Result;
use crate::files::{self, File, span_of_attribute};
use crate::recipe::Place;
use crate::variables::sensitive_name;

/// The declarations of a template, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// The input variables.
    pub variables: Vec<Declared>,
    /// The `source` blocks at the top level.
    pub sources: Vec<DeclaredSource>,
    /// The `source` blocks of build blocks, whose settings override those at the top level.
    pub overrides: Vec<Override>,
}

/// A `source` block of a build block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The source at the top level: `qemu.locus`.
    pub source: String,
    /// The attributes that are not in a nested block. `name` replaces the name of the source in the build.
    pub attributes: Vec<DeclaredAttribute>,
}

/// A declared input variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// The variable's name.
    pub name: String,
    /// True if its value must not be shown.
    pub sensitive: bool,
    /// Where it is declared.
    pub place: Place,
    /// The default; `None` if a value must be given.
    pub default: Option<Default>,
}

/// The default of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Default {
    /// A value that no name and no function is part of.
    Literal(serde_json::Value),
    /// An expression that Packer evaluates.
    Evaluated,
}

/// A declared source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredSource {
    /// Type and name: `qemu.locus`.
    pub name: String,
    /// The attributes that are not in a nested block.
    pub attributes: Vec<DeclaredAttribute>,
}

/// An attribute of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredAttribute {
    /// The attribute's name.
    pub name: String,
    /// Where it is set.
    pub place: Place,
    /// The value; `None` for an expression that Packer evaluates.
    pub literal: Option<serde_json::Value>,
}

/// Reads what a template declares: a file, or the `*.pkr.hcl` files of a directory.
pub fn outline(path: &Path, root: &Path) -> Result<Outline> {
    let mut outline = Outline::default();
    for file in &files::read(path, root)? {
        for block in file.body.blocks() {
            match block.ident.as_str() {
                "variable" => outline.variables.extend(variable(file, block)),
                // The short form: names with their defaults (packer, hcl2template/parser.go).
                "variables" => outline.variables.extend(block.body.attributes().map(|a| short(file, a))),
                "source" => outline.sources.push(source(file, block)),
                "build" => {
                    let inner = block.body.blocks().filter(|inner| inner.ident.as_str() == "source");
                    outline.overrides.extend(inner.map(|inner| override_of(file, inner)));
                }
                _ => {}
            }
        }
    }
    Ok(outline)
}

impl Outline {
    /// The names of the sources.
    pub fn source_names(&self) -> Vec<String> {
        self.sources.iter().map(|source| source.name.clone()).collect()
    }

    /// The variable with this name.
    pub fn variable(&self, name: &str) -> Option<&Declared> {
        self.variables.iter().find(|variable| variable.name == name)
    }
}

fn variable(file: &File, block: &Block) -> Option<Declared> {
    Some(Declared {
        name: block.labels.first()?.as_str().to_owned(),
        sensitive: sensitive_name(block).is_some(),
        place: file.place(block),
        default: block.body.get_attribute("default").map(default),
    })
}

fn short(file: &File, attribute: &Attribute) -> Declared {
    Declared {
        name: attribute.key.as_str().to_owned(),
        sensitive: false,
        place: place(file, attribute),
        default: Some(default(attribute)),
    }
}

fn default(attribute: &Attribute) -> Default {
    literal(attribute).map_or(Default::Evaluated, Default::Literal)
}

fn source(file: &File, block: &Block) -> DeclaredSource {
    DeclaredSource {
        name: block.labels.iter().map(BlockLabel::as_str).collect::<Vec<_>>().join("."),
        attributes: attributes(file, block),
    }
}

pub(crate) fn override_of(file: &File, block: &Block) -> Override {
    let label = block.labels.first().map(BlockLabel::as_str).unwrap_or_default();
    Override { source: label.trim_start_matches("source.").to_owned(), attributes: attributes(file, block) }
}

fn attributes(file: &File, block: &Block) -> Vec<DeclaredAttribute> {
    let attribute = |a: &Attribute| DeclaredAttribute {
        name: a.key.as_str().to_owned(),
        place: place(file, a),
        literal: literal(a),
    };
    block.body.attributes().map(attribute).collect()
}

impl Override {
    /// The source as Packer names it in the build.
    pub fn name(&self) -> String {
        let name = self.attributes.iter().find(|attribute| attribute.name == "name");
        let kind = self.source.split('.').next().unwrap_or_default();
        match name.and_then(|name| name.literal.as_ref()?.as_str()) {
            Some(name) => format!("{kind}.{name}"),
            None => self.source.clone(),
        }
    }
}

/// The value of an attribute in which no name and no function occurs.
pub(crate) fn literal(attribute: &Attribute) -> Option<serde_json::Value> {
    let expression: Expression = attribute.value.clone().into();
    expression.evaluate(&hcl::eval::Context::new()).ok().map(|value| crate::json(&value))
}

fn place(file: &File, attribute: &Attribute) -> Place {
    let offset = span_of_attribute(attribute).map_or(0, |span| span.start);
    Place { file: file.name.clone().into(), line: file.line(offset) }
}

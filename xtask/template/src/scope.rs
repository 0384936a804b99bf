//! Evaluates expressions with the values of names, and reports errors with their location and the most similar name.

use std::collections::BTreeMap;
use std::ops::Range;

use hcl::eval::{Context, ErrorKind, Evaluate as _};
use hcl::expr::{Expression, FuncCall, Operation, TemplateExpr};
use hcl::template::{Element, Strip, Template};
use hcl::{Map, Value};
use hcl_edit::Span as _;
use hcl_edit::structure::{Attribute, Block, Structure};

use super::files::{File, nearest, span_of, span_of_attribute};
use super::functions;
use crate::error::{Error, Result};

/// The values of names by root: `var`, `local`, `path`, `source`, `packer`.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    roots: BTreeMap<String, Map<String, Value>>,
    /// The time `timestamp()` returns.
    now: String,
    /// The environment. Set only for the defaults of variables, because Packer allows `env()` nowhere else.
    env: Option<BTreeMap<String, String>>,
    /// The template is not part of the project, so it must not read values of the environment.
    is_foreign: bool,
}

/// The evaluated attributes of a block, each with its span.
#[derive(Debug)]
pub(super) struct Attributes<'a> {
    file: &'a File,
    head: Option<Range<usize>>,
    values: BTreeMap<String, (Value, Option<Range<usize>>)>,
}

impl Scope {
    /// A scope with `path.root`, `path.cwd` and the time that `timestamp()` returns.
    pub(super) fn new(root: &std::path::Path, cwd: &std::path::Path, now: jiff::Timestamp) -> Self {
        let mut scope = Self {
            roots: BTreeMap::new(),
            now: now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            env: None,
            is_foreign: false,
        };
        for (name, path) in [("root", root), ("cwd", cwd)] {
            scope.set("path", name, path.display().to_string().into());
        }
        scope.set("packer", "version", "1.16.0".into());
        scope.roots.entry("var".to_owned()).or_default();
        scope.roots.entry("local".to_owned()).or_default();
        scope
    }

    /// Sets `root.name`.
    pub(super) fn set(&mut self, root: &str, name: &str, value: Value) {
        self.roots.entry(root.to_owned()).or_default().insert(name.to_owned(), value);
    }

    /// A copy of the scope in which `env()` may be called.
    pub(super) fn with_env(&self, env: &BTreeMap<String, String>, is_foreign: bool) -> Self {
        Self { env: Some(env.clone()), is_foreign, ..self.clone() }
    }

    pub(super) fn evaluate(&self, expression: &Expression) -> std::result::Result<Value, ErrorKind> {
        let mut context = Context::new();
        functions::declare(&mut context);
        for (name, values) in &self.roots {
            context.declare_var(hcl::Identifier::sanitized(name), Value::Object(values.clone()));
        }
        let expression = self.rewrite(expression.clone())?;
        expression.evaluate(&context).map_err(hcl::eval::Error::into_kind)
    }

    /// Evaluates the value of an attribute. An error has the attribute's location.
    pub(super) fn attribute(&self, file: &File, attribute: &Attribute) -> Result<Value> {
        let span = attribute.value.span();
        let expression: Expression = attribute.value.clone().into();
        self.evaluate(&expression).map_err(|kind| self.explain(file, span, &kind))
    }

    /// Evaluates all attributes of a block. An attribute that is not in `known` is an error, and a nested block that is not in `blocks`.
    pub(super) fn attributes<'a>(
        &self,
        file: &'a File,
        block: &Block,
        known: &[&str],
        blocks: &[&str],
    ) -> Result<Attributes<'a>> {
        let mut values = BTreeMap::new();
        for structure in &block.body {
            match structure {
                Structure::Attribute(attribute) => {
                    let name = attribute.key.as_str();
                    let span = span_of_attribute(attribute);
                    if !known.contains(&name) {
                        return Err(file.unknown(attribute.key.span(), "attribute", name, known));
                    }
                    values.insert(name.to_owned(), (self.attribute(file, attribute)?, span));
                }
                Structure::Block(inner) if blocks.contains(&inner.ident.as_str()) => {}
                Structure::Block(inner) => {
                    return Err(file.unknown(span_of(inner), "block", inner.ident.as_str(), blocks));
                }
            }
        }
        Ok(Attributes { file, head: span_of(block), values })
    }

    /// Evaluates a block to an object: attributes by name, nested blocks as lists of objects.
    pub(super) fn object(&self, file: &File, block: &Block) -> Result<Map<String, Value>> {
        let mut out = Map::new();
        for structure in &block.body {
            match structure {
                Structure::Attribute(attribute) => {
                    out.insert(attribute.key.as_str().to_owned(), self.attribute(file, attribute)?);
                }
                Structure::Block(inner) if inner.ident.as_str() == "dynamic" => {
                    let help = "write the blocks without `dynamic`";
                    return Err(file.unsupported(span_of(inner), "`dynamic` blocks are not supported", help));
                }
                Structure::Block(inner) => {
                    let value = Value::Object(self.object(file, inner)?);
                    let entry = out.entry(inner.ident.as_str().to_owned()).or_insert_with(|| Value::Array(Vec::new()));
                    if let Value::Array(list) = entry {
                        list.push(value);
                    }
                }
            }
        }
        Ok(out)
    }

    /// Converts an evaluation error to an error with location and help.
    fn explain(&self, file: &File, span: Option<Range<usize>>, kind: &ErrorKind) -> Error {
        match kind {
            ErrorKind::UndefinedVar(name) => match name.as_str() {
                "data" => file.unsupported(
                    span,
                    "data sources cannot be evaluated: they need an AWS account",
                    "use a variable, or refer to the data source only in the amazon-ebs source",
                ),
                "build" => {
                    file.unsupported(span, "`build` is defined only while Packer runs", "use a variable or a local")
                }
                name => {
                    let known: Vec<&str> = self.roots.keys().map(String::as_str).collect();
                    file.undefined(span, "name", name, &known)
                }
            },
            ErrorKind::UndefinedFunc(name) => file.unknown(span, "function", &name.to_string(), functions::NAMES),
            ErrorKind::NoSuchKey(key) => {
                let known: Vec<&str> = self.roots.values().flat_map(|m| m.keys().map(String::as_str)).collect();
                let help = match nearest(key, &known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "declare it with a `variable` or `locals` block".to_owned(),
                };
                file.refuse(span, format!("unknown name `{key}`"), help)
            }
            other if functions::refused().is_some() => file.forbidden(span, other.to_string(), "fix the expression"),
            other => file.unsupported(span, other.to_string(), "fix the expression"),
        }
    }

    /// Replaces calls by their values that hcl-rs cannot evaluate: `can` and `try`, whose arguments may fail, `timestamp` and `env`.
    fn rewrite(&self, expression: Expression) -> std::result::Result<Expression, ErrorKind> {
        Ok(match expression {
            Expression::FuncCall(call) => self.rewrite_call(*call)?,
            Expression::Array(items) => {
                Expression::Array(items.into_iter().map(|e| self.rewrite(e)).collect::<std::result::Result<_, _>>()?)
            }
            Expression::Object(items) => {
                let pairs = items.into_iter().map(|(k, v)| Ok((k, self.rewrite(v)?)));
                Expression::Object(pairs.collect::<std::result::Result<_, ErrorKind>>()?)
            }
            Expression::Parenthesis(inner) => Expression::Parenthesis(Box::new(self.rewrite(*inner)?)),
            Expression::Conditional(mut c) => {
                c.cond_expr = self.rewrite(c.cond_expr)?;
                c.true_expr = self.rewrite(c.true_expr)?;
                c.false_expr = self.rewrite(c.false_expr)?;
                Expression::Conditional(c)
            }
            Expression::Operation(op) => Expression::Operation(Box::new(match *op {
                Operation::Unary(mut u) => {
                    u.expr = self.rewrite(u.expr)?;
                    Operation::Unary(u)
                }
                Operation::Binary(mut b) => {
                    b.lhs_expr = self.rewrite(b.lhs_expr)?;
                    b.rhs_expr = self.rewrite(b.rhs_expr)?;
                    Operation::Binary(b)
                }
            })),
            Expression::Traversal(mut t) => {
                t.expr = self.rewrite(t.expr)?;
                Expression::Traversal(t)
            }
            Expression::TemplateExpr(template) => self.rewrite_template(&template)?,
            other => other,
        })
    }

    /// The same for the interpolations in a string.
    fn rewrite_template(&self, template: &TemplateExpr) -> std::result::Result<Expression, ErrorKind> {
        const REPLACED: [&str; 4] = ["timestamp(", "try(", "can(", "env("];
        let unchanged = Expression::TemplateExpr(Box::new(template.clone()));
        if !REPLACED.iter().any(|call| template.to_string().contains(call)) {
            return Ok(unchanged);
        }
        let parsed = Template::from_expr(template).map_err(|e| ErrorKind::from(e.to_string()))?;
        // A template that is one interpolation has the value's type (HCL syntax specification, "Template Interpolation Unwrapping").
        if let [Element::Interpolation(only)] = parsed.elements() {
            return self.rewrite(only.expr.clone());
        }
        let mut text = String::new();
        for element in parsed.elements() {
            match element {
                Element::Literal(literal) => text.push_str(literal),
                Element::Interpolation(part) if part.strip == Strip::None => match self.evaluate(&part.expr)? {
                    Value::String(value) => text.push_str(&value),
                    value @ (Value::Number(_) | Value::Bool(_)) => text.push_str(&value.to_string()),
                    _ => return Err("only strings, numbers and bools can be interpolated".into()),
                },
                // Directives and `~` are not supported with these functions: hcl-rs then reports the function as unknown.
                _ => return Ok(unchanged),
            }
        }
        Ok(Expression::String(text))
    }

    fn rewrite_call(&self, mut call: FuncCall) -> std::result::Result<Expression, ErrorKind> {
        match call.name.to_string().as_str() {
            "can" => {
                let inner = call.args.first().ok_or("`can` needs an argument")?;
                let is_ok = self.evaluate(inner).is_ok();
                functions::refused().map_or(Ok(Expression::Bool(is_ok)), |why| Err(why.into()))
            }
            "try" => {
                let found = call.args.iter().find_map(|e| self.evaluate(e).ok());
                if let Some(why) = functions::refused() {
                    return Err(why.into());
                }
                found.map(Expression::from).ok_or_else(|| "all arguments of `try` failed".into())
            }
            "timestamp" => Ok(Expression::String(self.now.clone())),
            "env" => {
                let Some(env) = &self.env else {
                    return Err("`env` can be called only in the default of a variable".into());
                };
                let Some(name) = call.args.first().map(|e| self.evaluate(e)).transpose()? else {
                    return Err("`env` needs the name of an environment variable".into());
                };
                let value = name.as_str().and_then(|name| env.get(name)).cloned();
                if self.is_foreign && value.as_ref().is_some_and(|value| !value.is_empty()) {
                    let name = name.as_str().unwrap_or_default();
                    return Err(functions::refuse(format!(
                        "`env` would give the environment variable {name} of this host to a template that is not part of the project; unset it, and pass the value by --var"
                    ))
                    .into());
                }
                Ok(Expression::String(value.unwrap_or_default()))
            }
            _ => {
                call.args = call.args.into_iter().map(|e| self.rewrite(e)).collect::<std::result::Result<_, _>>()?;
                Ok(Expression::FuncCall(Box::new(call)))
            }
        }
    }
}

impl Attributes<'_> {
    /// The attribute's value; `None` if the attribute is missing or null.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name).map(|(value, _)| value).filter(|v| !v.is_null())
    }

    /// True if the attribute is set to a value other than null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// An error at an attribute, or at the block's identifier if the attribute is missing.
    pub(super) fn refuse(&self, name: &str, message: impl Into<String>, help: impl Into<String>) -> Error {
        self.file.refuse(self.span(name), message, help)
    }

    /// The same for what Packer supports and this crate does not.
    pub(super) fn unsupported(&self, name: &str, message: impl Into<String>, help: impl Into<String>) -> Error {
        self.file.unsupported(self.span(name), message, help)
    }

    /// The same for what a template from elsewhere must not do on this host.
    pub(super) fn forbidden(&self, name: &str, message: impl Into<String>, help: impl Into<String>) -> Error {
        self.file.forbidden(self.span(name), message, help)
    }

    fn span(&self, name: &str) -> Option<Range<usize>> {
        self.values.get(name).and_then(|(_, span)| span.clone()).or_else(|| self.head.clone())
    }

    fn convert(&self, name: &str, to: &super::types::Type) -> Result<Option<Value>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        super::types::convert(value, to)
            .map(Some)
            .map_err(|e| self.refuse(name, format!("`{name}` {e}"), "see Packer's documentation of this block"))
    }

    /// The attribute as a string.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>> {
        Ok(self.convert(name, &super::types::Type::String)?.and_then(|v| v.as_str().map(str::to_owned)))
    }

    /// The attribute as a bool; false if it is missing.
    pub(super) fn flag(&self, name: &str) -> Result<bool> {
        Ok(self.convert(name, &super::types::Type::Bool)?.and_then(|v| v.as_bool()).unwrap_or(false))
    }

    /// The attribute as a non-negative integer.
    pub(super) fn whole(&self, name: &str) -> Result<Option<u64>> {
        let value = self.convert(name, &super::types::Type::Number)?;
        value
            .map(|v| {
                v.as_u64().ok_or_else(|| {
                    self.refuse(
                        name,
                        format!("`{name}` must be a non-negative integer"),
                        "write it without a sign and without a fraction",
                    )
                })
            })
            .transpose()
    }

    /// The attribute as a list of strings; empty if it is missing.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>> {
        let to = super::types::Type::List(Box::new(super::types::Type::String));
        let list = self.convert(name, &to)?;
        let items = list.as_ref().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        Ok(items.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect())
    }

    /// The attribute as a map of strings; empty if it is missing.
    pub(super) fn map(&self, name: &str) -> Result<BTreeMap<String, String>> {
        let to = super::types::Type::Map(Box::new(super::types::Type::String));
        let map = self.convert(name, &to)?;
        let pairs = map.as_ref().and_then(Value::as_object).into_iter().flatten();
        Ok(pairs.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect())
    }

    /// The attribute as a duration in Go's syntax: `5s`, `1h30m`. As in Packer, a number without a unit is an error.
    pub(super) fn duration(&self, name: &str) -> Result<Option<std::time::Duration>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        go_duration(&text).map(Some).ok_or_else(|| {
            self.refuse(
                name,
                format!("`{text}` is not a duration"),
                "write a number with a unit: 500ms, 30s, 5m, 1h30m",
            )
        })
    }
}

/// Parses Go's duration syntax (pkg.go.dev/time#ParseDuration), without signs.
pub(super) fn go_duration(text: &str) -> Option<std::time::Duration> {
    let mut total = 0.0;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let value: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_alphabetic()).len();
        let unit = match &rest[..letters] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += value * unit;
        rest = &rest[letters..];
    }
    std::time::Duration::try_from_secs_f64(total).ok()
}

#[cfg(test)]
mod tests {
    use super::go_duration;

    #[test]
    fn durations_have_gos_syntax() {
        let seconds = |t: &str| go_duration(t).map(|d| d.as_secs_f64());
        assert_eq!(seconds("1h30m"), Some(5400.0));
        assert_eq!(seconds("500ms"), Some(0.5));
        assert_eq!([seconds(""), seconds("5"), seconds("5x"), seconds("s")], [None; 4]);
    }
}

//! The reader of `ami.toml`: collects each mistake with its line, and for each value where it came from.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource};
use serde::Serialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::key::{Key, Kind};
use super::model::Words;

/// A value with its origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// `local.cpus`.
    pub key: String,
    /// The value as text.
    pub value: String,
    /// `ami.toml:34`, `environment AGENT_AMI_LOCAL_CPUS`, `--state`, `default`.
    pub origin: String,
}

/// One mistake.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    message: String,
    span: Range<usize>,
    help: String,
}

/// A mistake as a diagnostic.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Wrong {
    message: String,
    code: NamedSource<Arc<str>>,
    span: Range<usize>,
    help: String,
    others: Vec<Wrong>,
}

impl Diagnostic for Wrong {
    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        Some(Box::new(&self.help))
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        Some(&self.code)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(Some("here".to_owned()), self.span.clone()))))
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.others.iter().map(|o| o as &dyn Diagnostic)))
    }
}

/// The file being read.
#[derive(Debug)]
pub(super) struct Reader {
    name: String,
    text: Arc<str>,
    env: BTreeMap<String, String>,
    used_env: RefCell<BTreeSet<String>>,
    findings: RefCell<Vec<Finding>>,
    settings: RefCell<Vec<Setting>>,
    keys: RefCell<Vec<Key>>,
}

/// A table of the file with its dotted path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section<'a> {
    pub(super) reader: &'a Reader,
    pub(super) path: &'a str,
    table: Option<&'a DeTable<'a>>,
    /// The span that a mistake about a missing key refers to.
    head: (usize, usize),
}

impl Reader {
    pub(super) fn new(name: &str, text: &str, env: &BTreeMap<String, String>) -> Self {
        Self {
            name: name.to_owned(),
            text: text.into(),
            env: env.iter().filter(|(k, _)| is_ours(k)).map(|(k, v)| (k.clone(), v.clone())).collect(),
            used_env: RefCell::default(),
            findings: RefCell::default(),
            settings: RefCell::default(),
            keys: RefCell::default(),
        }
    }

    /// Records a mistake.
    pub(super) fn wrong(&self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        let message = format!("{}:{}: {}", self.name, self.line(span.start), message.into());
        self.findings.borrow_mut().push(Finding { message, span, help: help.into() });
    }

    /// Records an unknown word, with the most similar known one as a hint.
    pub(super) fn unknown(&self, span: Range<usize>, what: &str, word: &str, known: &[&str]) {
        self.wrong(span, format!("unknown {what} `{word}`"), suggestion(word, known));
    }

    /// The keys that were asked for so far.
    pub(super) fn keys(&self) -> Vec<Key> {
        self.keys.borrow().clone()
    }

    /// Records that a key was asked for.
    fn declare(&self, name: &str, kind: Kind) {
        self.keys.borrow_mut().push(Key { name: name.to_owned(), kind });
    }

    /// Records a value and where it came from.
    fn set(&self, key: &str, value: &dyn ToString, origin: impl Into<String>) {
        self.settings.borrow_mut().push(Setting {
            key: key.to_owned(),
            value: value.to_string(),
            origin: origin.into(),
        });
    }

    /// Records a value of a flag. It overrides the environment, so the variable counts as used.
    pub(super) fn overridden(&self, key: &str, value: &dyn ToString, flag: &str) {
        self.used_env.borrow_mut().insert(variable(key));
        self.set(key, value, flag);
    }

    /// The whole file as a section.
    pub(super) fn section<'a>(&'a self, table: &'a DeTable<'a>) -> Section<'a> {
        Section { reader: self, path: "", table: Some(table), head: (0, 0) }
    }

    /// All mistakes as one error, or the settings.
    pub(super) fn finish(self) -> Result<Vec<Setting>, Box<Wrong>> {
        let known: Vec<String> = self.settings.borrow().iter().map(|s| variable(&s.key)).collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        for name in self.env.keys().filter(|n| !self.used_env.borrow().contains(*n)) {
            let message = format!("the environment sets `{name}`, but {} has no such key", self.name);
            self.findings.borrow_mut().push(Finding { message, span: 0..0, help: suggestion(name, &known) });
        }
        let wrong = |finding: Finding| Wrong {
            message: finding.message,
            code: NamedSource::new(&self.name, Arc::clone(&self.text)),
            span: finding.span,
            help: finding.help,
            others: Vec::new(),
        };
        let mut findings = self.findings.take().into_iter();
        match findings.next() {
            None => Ok(self.settings.take()),
            Some(first) => Err(Box::new(Wrong { others: findings.map(wrong).collect(), ..wrong(first) })),
        }
    }

    fn line(&self, offset: usize) -> usize {
        self.text.get(..offset).map_or(1, |before| before.matches('\n').count() + 1)
    }

    fn environment(&self, key: &str) -> Option<(String, String)> {
        let name = variable(key);
        let value = self.env.get(&name)?.clone();
        self.used_env.borrow_mut().insert(name.clone());
        Some((value, format!("environment {name}")))
    }
}

impl<'a> Section<'a> {
    /// Refuses keys that are not in `known`.
    pub(super) fn only(self, known: &[&str]) -> Self {
        for (key, _) in self.entries() {
            if !known.contains(&key.get_ref().as_ref()) {
                self.reader.unknown(key.span(), &self.what(), key.get_ref(), known);
            }
        }
        self
    }

    fn what(&self) -> String {
        if self.path.is_empty() { "section".to_owned() } else { format!("key in [{}]", self.path) }
    }

    /// The keys with their values.
    pub(super) fn entries(
        &self,
    ) -> impl Iterator<Item = (&'a Spanned<std::borrow::Cow<'a, str>>, &'a Spanned<DeValue<'a>>)> + use<'a> {
        self.table.into_iter().flat_map(DeTable::iter)
    }

    /// A table in this one; an empty one if it is missing.
    pub(super) fn table(&self, key: &str, path: &'a str) -> Section<'a> {
        let empty = Section { reader: self.reader, path, table: None, head: self.head };
        let Some(value) = self.raw(key) else { return empty };
        match value.get_ref() {
            DeValue::Table(table) => {
                Section { table: Some(table), head: (value.span().start, value.span().end), ..empty }
            }
            _ => {
                self.reader.wrong(value.span(), format!("`{path}` must be a table"), format!("write [{path}]"));
                empty
            }
        }
    }

    fn raw(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.entries().find(|(k, _)| k.get_ref() == key).map(|(_, v)| v)
    }

    /// The span of a key's value, or of the section's head.
    pub(super) fn span(&self, key: &str) -> Range<usize> {
        self.raw(key).map_or(self.head.0..self.head.1.min(self.head.0 + 1), Spanned::span)
    }

    /// A string from the environment, the file or the default. Without a default it is required.
    pub(super) fn text(&self, key: &str, default: Option<&str>) -> String {
        self.reader.declare(&self.full(key), Kind::Text { default: default.map(str::to_owned) });
        self.text_of(key, default)
    }

    fn text_of(&self, key: &str, default: Option<&str>) -> String {
        let full = self.full(key);
        if let Some((value, origin)) = self.reader.environment(&full) {
            self.reader.set(&full, &value, origin);
            return value;
        }
        match self.raw(key) {
            Some(value) => match value.get_ref() {
                DeValue::String(text) => {
                    self.reader.set(&full, &text, self.here(value));
                    text.to_string()
                }
                other => {
                    self.reader.wrong(
                        value.span(),
                        format!("`{key}` must be a string, not {}", kind(other)),
                        format!("write {key} = \"…\""),
                    );
                    String::new()
                }
            },
            None => match default {
                Some(text) => {
                    self.reader.set(&full, &text, "default");
                    text.to_owned()
                }
                None => {
                    self.reader.wrong(
                        self.span(key),
                        format!("[{}] requires `{key}`", self.path),
                        format!("add {key} = \"…\""),
                    );
                    String::new()
                }
            },
        }
    }

    /// A string that may be empty or missing.
    pub(super) fn optional(&self, key: &str) -> Option<String> {
        Some(self.text(key, Some(""))).filter(|text| !text.is_empty())
    }

    /// One of some words; the first is the default.
    pub(super) fn word<T: Words>(&self, key: &str) -> T {
        let known: Vec<&str> = T::ALL.iter().map(|(word, _)| *word).collect();
        let (default, fallback) = T::ALL[0];
        let words = known.iter().map(|word| (*word).to_owned()).collect();
        self.reader.declare(&self.full(key), Kind::Word { default: default.to_owned(), words });
        let text = self.text_of(key, Some(default));
        let value = T::ALL.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        value.unwrap_or_else(|| {
            // An empty text is a value of another type, which has been reported.
            if !text.is_empty() {
                self.reader.unknown(self.span(key), &format!("value for `{key}`"), &text, &known);
            }
            fallback
        })
    }

    /// A whole number in a range.
    pub(super) fn number(&self, key: &str, default: u64, range: std::ops::RangeInclusive<u64>) -> u64 {
        let full = self.full(key);
        self.reader.declare(&full, Kind::Number { default, range: range.clone() });
        let help = format!("write a whole number from {} to {}", range.start(), range.end());
        let (value, origin) = match (self.reader.environment(&full), self.raw(key)) {
            (Some((text, origin)), _) => (text.parse().ok(), origin),
            (None, Some(value)) => match value.get_ref() {
                DeValue::Integer(n) => (u64::from_str_radix(n.as_str(), n.radix()).ok(), self.here(value)),
                other => {
                    self.reader.wrong(value.span(), format!("`{key}` must be a number, not {}", kind(other)), help);
                    return default;
                }
            },
            (None, None) => (Some(default), "default".to_owned()),
        };
        match value.filter(|n| range.contains(n)) {
            Some(n) => {
                self.reader.set(&full, &n, origin);
                n
            }
            None => {
                self.reader.wrong(self.span(key), format!("`{key}` is not an allowed number (from {origin})"), help);
                default
            }
        }
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> bool {
        let full = self.full(key);
        self.reader.declare(&full, Kind::Flag { default });
        let (value, origin) = match (self.reader.environment(&full), self.raw(key)) {
            (Some((text, origin)), _) => (text.parse().ok(), origin),
            (None, Some(value)) => (value.get_ref().as_bool(), self.here(value)),
            (None, None) => (Some(default), "default".to_owned()),
        };
        match value {
            Some(flag) => {
                self.reader.set(&full, &flag, origin);
                flag
            }
            None => {
                self.reader.wrong(
                    self.span(key),
                    format!("`{key}` must be true or false"),
                    format!("write {key} = true or {key} = false"),
                );
                default
            }
        }
    }

    /// A list of different strings, at least one. In the environment they are separated by commas.
    pub(super) fn list(&self, key: &str) -> Vec<String> {
        self.reader.declare(&self.full(key), Kind::List { required: true });
        let items = self.items(key);
        if items.is_empty() {
            self.reader.wrong(
                self.span(key),
                format!("`{key}` must have at least one entry, and none may be empty"),
                format!("write {key} = [\"…\"]"),
            );
        }
        items
    }

    /// A list of different strings, which may be empty or missing.
    pub(super) fn any_list(&self, key: &str) -> Vec<String> {
        self.reader.declare(&self.full(key), Kind::List { required: false });
        self.items(key)
    }

    fn items(&self, key: &str) -> Vec<String> {
        let full = self.full(key);
        let (items, origin) = match (self.reader.environment(&full), self.raw(key)) {
            (Some((text, origin)), _) => {
                (text.split(',').map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()).collect(), origin)
            }
            (None, Some(value)) => match value.get_ref() {
                DeValue::Array(array) if array.iter().all(|v| v.get_ref().as_str().is_some()) => {
                    (array.iter().filter_map(|v| v.get_ref().as_str().map(str::to_owned)).collect(), self.here(value))
                }
                other => {
                    self.reader.wrong(
                        value.span(),
                        format!("`{key}` must be a list of strings, not {}", kind(other)),
                        format!("write {key} = [\"…\"]"),
                    );
                    return Vec::new();
                }
            },
            (None, None) => (Vec::<String>::new(), "default".to_owned()),
        };
        let mut seen = BTreeSet::new();
        if let Some(twice) = items.iter().find(|i| !seen.insert(i.as_str())) {
            self.reader.wrong(self.span(key), format!("`{key}` has `{twice}` twice"), "remove one");
        }
        if items.iter().any(String::is_empty) {
            let help = format!("write {key} = [\"…\"]");
            self.reader.wrong(self.span(key), format!("`{key}` has an empty entry"), help);
        }
        self.reader.set(&full, &items.join(","), origin);
        items
    }

    /// A table of strings; numbers and booleans become strings.
    pub(super) fn strings(&self, key: &str) -> BTreeMap<String, String> {
        self.reader.declare(&self.full(key), Kind::Table);
        let Some(value) = self.raw(key) else { return BTreeMap::new() };
        let DeValue::Table(table) = value.get_ref() else {
            self.reader.wrong(
                value.span(),
                format!("`{key}` must be a table"),
                format!("write {key} = {{ name = \"value\" }}"),
            );
            return BTreeMap::new();
        };
        let mut out = BTreeMap::new();
        for (name, value) in table.iter() {
            let text = match value.get_ref() {
                DeValue::String(text) => text.to_string(),
                DeValue::Integer(n) => n.as_str().to_owned(),
                DeValue::Boolean(b) => b.to_string(),
                other => {
                    self.reader.wrong(
                        value.span(),
                        format!("`{}` must be a string, not {}", name.get_ref(), kind(other)),
                        "write the value in quotes",
                    );
                    continue;
                }
            };
            self.reader.set(&format!("{}.{}", self.full(key), name.get_ref()), &text, self.here(value));
            out.insert(name.get_ref().to_string(), text);
        }
        out
    }

    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    fn here(&self, value: &Spanned<DeValue<'_>>) -> String {
        format!("{}:{}", self.reader.name, self.reader.line(value.span().start))
    }
}

/// True for a variable that sets a key. `AGENT_AMI_ON` belongs to the flag `--on`.
fn is_ours(name: &str) -> bool {
    name.starts_with("AGENT_AMI_") && name != "AGENT_AMI_ON"
}

/// The environment variable of a key.
pub fn variable(key: &str) -> String {
    format!("AGENT_AMI_{}", key.to_uppercase().replace(['.', '-'], "_"))
}

fn suggestion(word: &str, known: &[&str]) -> String {
    let scored = known.iter().map(|k| (strsim::jaro_winkler(word, k), *k));
    match scored.filter(|(score, _)| *score > 0.7).max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((_, near)) => format!("did you mean `{near}`?"),
        None => format!("known: {}", known.join(", ")),
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a bool",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

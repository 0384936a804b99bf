//! The supported functions of Packer (developer.hashicorp.com/packer/docs/templates/hcl_templates/functions). A call of another function is
//! an error.
//!
//! All are pure except `file` and `fileexists`, which read files. `timestamp`, `env`, `can` and `try` are evaluated in `scope`.

use hcl::Value;
use hcl::eval::{Context, FuncArgs, FuncDef, ParamType};

type Answer = Result<Value, String>;

/// The names of all functions, for the help of an error.
pub(super) const NAMES: &[&str] = &[
    "abs",
    "abspath",
    "base64decode",
    "base64encode",
    "basename",
    "ceil",
    "chomp",
    "coalesce",
    "compact",
    "concat",
    "contains",
    "dirname",
    "distinct",
    "element",
    "endswith",
    "file",
    "fileexists",
    "flatten",
    "floor",
    "format",
    "formatdate",
    "index",
    "join",
    "jsondecode",
    "jsonencode",
    "keys",
    "length",
    "lookup",
    "lower",
    "max",
    "merge",
    "min",
    "range",
    "regex",
    "regex_replace",
    "replace",
    "reverse",
    "sha256",
    "slice",
    "sort",
    "split",
    "startswith",
    "strrev",
    "substr",
    "timestamp",
    "title",
    "tobool",
    "tonumber",
    "tostring",
    "trim",
    "trimprefix",
    "trimspace",
    "trimsuffix",
    "upper",
    "values",
    "zipmap",
];

pub(super) fn declare(context: &mut Context<'_>) {
    use ParamType::{Any, String as S};
    let any_array = || ParamType::array_of(Any);
    let any_object = || ParamType::object_of(Any);
    let one = |f: fn(FuncArgs) -> Answer, p: ParamType| FuncDef::builder().param(p).build(f);
    let many = |f: fn(FuncArgs) -> Answer, p: Vec<ParamType>| FuncDef::builder().params(p).build(f);
    let rest = |f: fn(FuncArgs) -> Answer, p: Vec<ParamType>| FuncDef::builder().params(p).variadic_param(Any).build(f);
    let table: Vec<(&str, FuncDef)> = vec![
        ("abs", one(|a| number(&a, f64::abs), ParamType::Number)),
        ("ceil", one(|a| number(&a, f64::ceil), ParamType::Number)),
        ("floor", one(|a| number(&a, f64::floor), ParamType::Number)),
        ("max", rest(|a| fold(&a, f64::max), vec![])),
        ("min", rest(|a| fold(&a, f64::min), vec![])),
        ("chomp", one(|a| text(&a, |s| s.trim_end_matches(['\n', '\r']).to_owned()), S)),
        ("lower", one(|a| text(&a, str::to_lowercase), S)),
        ("upper", one(|a| text(&a, str::to_uppercase), S)),
        ("title", one(|a| text(&a, title), S)),
        ("trimspace", one(|a| text(&a, |s| s.trim().to_owned()), S)),
        ("strrev", one(|a| text(&a, |s| s.chars().rev().collect()), S)),
        ("basename", one(|a| text(&a, |s| path_part(s, std::path::Path::file_name)), S)),
        ("dirname", one(|a| text(&a, |s| path_part(s, |p| p.parent().map(std::path::Path::as_os_str))), S)),
        (
            "abspath",
            one(|a| text(&a, |path| DIRS.with_borrow(|dirs| dirs.working.join(path)).display().to_string()), S),
        ),
        ("sha256", one(|a| text(&a, |s| crate::recipe::Digest::of(s.as_bytes()).to_string()), S)),
        ("base64encode", one(|a| text(&a, |s| base64::encode(s.as_bytes())), S)),
        ("base64decode", one(|a| base64::decode(str_at(&a, 0)?).map(Value::from), S)),
        ("file", one(|a| read_file(str_at(&a, 0)?).map(Value::from), S)),
        ("fileexists", one(|a| Ok(in_template(str_at(&a, 0)?)?.is_file().into()), S)),
        (
            "jsondecode",
            one(|a| serde_json::from_str::<Value>(str_at(&a, 0)?).map_err(|e| format!("this is not JSON: {e}")), S),
        ),
        ("jsonencode", one(|a| serde_json::to_string(&a[0]).map(Value::from).map_err(|e| e.to_string()), Any)),
        ("tostring", one(|a| super::types::convert(&a[0], &super::types::Type::String), Any)),
        ("tonumber", one(|a| super::types::convert(&a[0], &super::types::Type::Number), Any)),
        ("tobool", one(|a| super::types::convert(&a[0], &super::types::Type::Bool), Any)),
        ("trim", many(|a| two(&a, |s, cut| s.trim_matches(|c| cut.contains(c)).to_owned()), vec![S, S])),
        ("trimprefix", many(|a| two(&a, |s, p| s.strip_prefix(p).unwrap_or(s).to_owned()), vec![S, S])),
        ("trimsuffix", many(|a| two(&a, |s, p| s.strip_suffix(p).unwrap_or(s).to_owned()), vec![S, S])),
        ("startswith", many(|a| Ok(str_at(&a, 0)?.starts_with(str_at(&a, 1)?).into()), vec![S, S])),
        ("endswith", many(|a| Ok(str_at(&a, 0)?.ends_with(str_at(&a, 1)?).into()), vec![S, S])),
        (
            "split",
            many(|a| Ok(str_at(&a, 1)?.split(str_at(&a, 0)?).map(Value::from).collect::<Vec<_>>().into()), vec![S, S]),
        ),
        ("join", many(join, vec![S, any_array()])),
        ("replace", many(replace, vec![S, S, S])),
        ("substr", many(substr, vec![S, ParamType::Number, ParamType::Number])),
        ("regex", many(|a| regex(str_at(&a, 0)?, str_at(&a, 1)?), vec![S, S])),
        ("regex_replace", many(regex_replace, vec![S, S, S])),
        ("format", rest(format, vec![S])),
        ("formatdate", many(|a| super::dates::format(str_at(&a, 0)?, str_at(&a, 1)?).map(Value::from), vec![S, S])),
        ("length", one(length, Any)),
        ("keys", one(|a| Ok(object(&a, 0)?.keys().cloned().map(Value::from).collect::<Vec<_>>().into()), any_object())),
        ("values", one(|a| Ok(object(&a, 0)?.values().cloned().collect::<Vec<_>>().into()), any_object())),
        ("flatten", one(|a| Ok(flatten(array(&a, 0)?).into()), any_array())),
        ("distinct", one(|a| Ok(distinct(array(&a, 0)?).into()), any_array())),
        ("reverse", one(|a| Ok(array(&a, 0)?.iter().rev().cloned().collect::<Vec<_>>().into()), any_array())),
        ("sort", one(sort, ParamType::array_of(S))),
        ("compact", one(compact, Any)),
        ("contains", many(|a| Ok(array(&a, 0)?.contains(&a[1]).into()), vec![any_array(), Any])),
        ("index", many(index, vec![any_array(), Any])),
        ("element", many(element, vec![any_array(), ParamType::Number])),
        ("slice", many(slice, vec![any_array(), ParamType::Number, ParamType::Number])),
        ("zipmap", many(zipmap, vec![ParamType::array_of(S), any_array()])),
        ("range", rest(range, vec![])),
        ("concat", rest(concat, vec![])),
        ("merge", rest(merge, vec![])),
        ("coalesce", rest(coalesce, vec![])),
        ("lookup", rest(lookup, vec![any_object(), S])),
    ];
    for (name, function) in table {
        context.declare_func(name, function);
    }
}

fn str_at(args: &FuncArgs, i: usize) -> Result<&str, String> {
    args.get(i).and_then(Value::as_str).ok_or_else(|| format!("argument {} must be a string", i + 1))
}

fn num_at(args: &FuncArgs, i: usize) -> Result<f64, String> {
    args.get(i).and_then(Value::as_f64).ok_or_else(|| format!("argument {} must be a number", i + 1))
}

/// A position in a list: a non-negative integer.
fn place_at(args: &FuncArgs, i: usize) -> Result<usize, String> {
    let n = args
        .get(i)
        .and_then(Value::as_u64)
        .ok_or_else(|| format!("argument {} must be a non-negative integer", i + 1))?;
    usize::try_from(n).map_err(|e| e.to_string())
}

fn array(args: &FuncArgs, i: usize) -> Result<&Vec<Value>, String> {
    args.get(i).and_then(Value::as_array).ok_or_else(|| format!("argument {} must be a list", i + 1))
}

fn object(args: &FuncArgs, i: usize) -> Result<&hcl::Map<String, Value>, String> {
    args.get(i).and_then(Value::as_object).ok_or_else(|| format!("argument {} must be a map", i + 1))
}

fn text(args: &FuncArgs, f: impl Fn(&str) -> String) -> Answer {
    Ok(f(str_at(args, 0)?).into())
}

fn two(args: &FuncArgs, f: impl Fn(&str, &str) -> String) -> Answer {
    Ok(f(str_at(args, 0)?, str_at(args, 1)?).into())
}

fn number(args: &FuncArgs, f: impl Fn(f64) -> f64) -> Answer {
    to_number(f(num_at(args, 0)?))
}

fn to_number(n: f64) -> Answer {
    super::types::number(n).map(Value::Number)
}

fn fold(args: &FuncArgs, f: impl Fn(f64, f64) -> f64) -> Answer {
    let numbers: Vec<f64> = (0..args.len()).map(|i| num_at(args, i)).collect::<Result<_, _>>()?;
    to_number(numbers.into_iter().reduce(f).ok_or("needs at least one number")?)
}

fn title(s: &str) -> String {
    let mut start = true;
    s.chars()
        .map(|c| {
            let out = if start { c.to_ascii_uppercase() } else { c };
            start = c.is_whitespace();
            out
        })
        .collect()
}

fn path_part(s: &str, part: impl Fn(&std::path::Path) -> Option<&std::ffi::OsStr>) -> String {
    part(std::path::Path::new(s)).map(|p| p.to_string_lossy().into_owned()).unwrap_or_default()
}

fn read_file(path: &str) -> Result<String, String> {
    let full = in_template(path)?;
    std::fs::read_to_string(&full).map_err(|e| format!("{}: {e}", full.display()))
}

/// The directories that the paths of functions start from. hcl-rs's functions are function pointers, so they cannot capture them.
#[derive(Default)]
struct Dirs {
    template: std::path::PathBuf,
    working: std::path::PathBuf,
    tree: Option<std::path::PathBuf>,
    refused: Option<String>,
}

/// Notes that a template from elsewhere attempted what it must not do. `try` and `can` do not suppress such an error.
pub(super) fn refuse(why: String) -> String {
    DIRS.with_borrow_mut(|dirs| dirs.refused = Some(why.clone()));
    why
}

/// What the template attempted, if it attempted something that it must not do.
pub(super) fn refused() -> Option<String> {
    DIRS.with_borrow(|dirs| dirs.refused.clone())
}

thread_local! {
    static DIRS: std::cell::RefCell<Dirs> = std::cell::RefCell::default();
}

/// Sets the template's directory and Packer's working directory for the following evaluation on this thread, and the only directory that
/// the template can read.
pub(super) fn set_dirs(template: &std::path::Path, working: &std::path::Path, tree: Option<&std::path::Path>) {
    DIRS.set(Dirs {
        template: template.to_owned(),
        working: working.to_owned(),
        tree: tree.map(Into::into),
        refused: None,
    });
}

/// A path of `file` or `fileexists`. Packer resolves them from the template's directory, not from its working directory.
fn in_template(path: &str) -> Result<std::path::PathBuf, String> {
    let confined = DIRS.with_borrow(|dirs| {
        let full = dirs.template.join(path);
        super::files::confined(&full, dirs.tree.as_deref()).map(|()| full)
    });
    confined.map_err(refuse)
}

/// Joins strings; numbers and bools are converted to strings, as HCL does.
fn join(args: FuncArgs) -> Answer {
    let parts = array(&args, 1)?.iter().map(|v| super::types::convert(v, &super::types::Type::String));
    let parts: Vec<Value> = parts.collect::<Result<_, _>>()?;
    let parts: Vec<&str> = parts.iter().filter_map(Value::as_str).collect();
    Ok(parts.join(str_at(&args, 0)?).into())
}

/// Replaces text. A pattern between slashes is a regular expression.
fn replace(args: FuncArgs) -> Answer {
    let (s, from, to) = (str_at(&args, 0)?, str_at(&args, 1)?, str_at(&args, 2)?);
    match from.strip_prefix('/').and_then(|f| f.strip_suffix('/')) {
        Some(pattern) => Ok(compile(pattern)?.replace_all(s, to).into_owned().into()),
        None => Ok(s.replace(from, to).into()),
    }
}

fn regex_replace(args: FuncArgs) -> Answer {
    let (s, pattern, to) = (str_at(&args, 0)?, str_at(&args, 1)?, str_at(&args, 2)?);
    Ok(compile(pattern)?.replace_all(s, to).into_owned().into())
}

fn compile(pattern: &str) -> Result<regex_lite::Regex, String> {
    regex_lite::Regex::new(pattern).map_err(|e| format!("`{pattern}` is not a regular expression: {e}"))
}

/// The first match, or its groups as a list if the pattern has groups. No match is an error, for which `can` returns false.
pub(super) fn regex(pattern: &str, s: &str) -> Answer {
    let regex = compile(pattern)?;
    let captures = regex.captures(s).ok_or_else(|| format!("`{pattern}` does not match `{s}`"))?;
    if captures.len() == 1 {
        return Ok(captures[0].into());
    }
    let group = |m: Option<regex_lite::Match<'_>>| m.map_or(Value::Null, |m| m.as_str().into());
    Ok(captures.iter().skip(1).map(group).collect::<Vec<_>>().into())
}

fn substr(args: FuncArgs) -> Answer {
    let s: Vec<char> = str_at(&args, 0)?.chars().collect();
    let offset = num_at(&args, 1)?;
    let from_end = offset < 0.0;
    let start = if from_end { s.len().saturating_sub(offset.abs() as usize) } else { (offset as usize).min(s.len()) };
    let length = num_at(&args, 2)?;
    let end = if length < 0.0 { s.len() } else { (start + length as usize).min(s.len()) };
    Ok(s[start..end].iter().collect::<String>().into())
}

/// Formats values by Go's verbs `%s %d %f %q %v %t %x %%`, with width, `-`, `0` and precision.
fn format(args: FuncArgs) -> Answer {
    let mut values = args.iter().skip(1);
    let mut out = String::new();
    let mut chars = str_at(&args, 0)?.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = String::new();
        let verb = loop {
            match chars.next() {
                Some(c) if c.is_ascii_digit() || "-+.# ".contains(c) => spec.push(c),
                Some(c) => break c,
                None => return Err("the format ends in the middle of a verb".to_owned()),
            }
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let value = values.next().ok_or("there are more verbs than values")?;
        out.push_str(&pad(&verb_text(verb, &spec, value)?, &spec));
    }
    if values.next().is_some() {
        return Err("there are more values than verbs".to_owned());
    }
    Ok(out.into())
}

fn verb_text(verb: char, spec: &str, value: &Value) -> Result<String, String> {
    let as_text =
        || super::types::convert(value, &super::types::Type::String).map(|v| v.as_str().unwrap_or_default().to_owned());
    let as_number =
        || super::types::convert(value, &super::types::Type::Number).map(|v| v.as_f64().unwrap_or_default());
    match verb {
        's' | 'v' | 't' => as_text(),
        'q' => Ok(format!("{:?}", as_text()?)),
        'd' => Ok(format!("{:.0}", as_number()?)),
        'f' => {
            let precision = spec.split_once('.').and_then(|(_, p)| p.parse().ok()).unwrap_or(6);
            Ok(format!("{:.precision$}", as_number()?))
        }
        'x' => Ok(format!("{:x}", as_number()? as i64)),
        other => Err(format!("the verb %{other} is not supported")),
    }
}

fn pad(text: &str, spec: &str) -> String {
    let left = spec.starts_with('-');
    let digits = spec.trim_start_matches(['-', '+', '#', ' ']);
    let zero = digits.starts_with('0');
    let width = digits.split('.').next().and_then(|w| w.parse().ok()).unwrap_or(0);
    match (left, zero) {
        (true, _) => format!("{text:<width$}"),
        (_, true) => format!("{text:0>width$}"),
        _ => format!("{text:>width$}"),
    }
}

fn length(args: FuncArgs) -> Answer {
    match &args[0] {
        Value::String(s) => Ok(s.chars().count().into()),
        Value::Array(a) => Ok(a.len().into()),
        Value::Object(o) => Ok(o.len().into()),
        other => Err(format!("{other} has no length")),
    }
}

fn flatten(values: &[Value]) -> Vec<Value> {
    values.iter().flat_map(|v| if let Value::Array(inner) = v { flatten(inner) } else { vec![v.clone()] }).collect()
}

fn distinct(values: &[Value]) -> Vec<Value> {
    let mut seen: Vec<Value> = Vec::new();
    for value in values {
        if !seen.contains(value) {
            seen.push(value.clone());
        }
    }
    seen
}

fn sort(args: FuncArgs) -> Answer {
    let mut strings: Vec<String> = array(&args, 0)?.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    strings.sort();
    Ok(strings.into_iter().map(Value::from).collect::<Vec<_>>().into())
}

fn compact(args: FuncArgs) -> Answer {
    let keep = array(&args, 0)?.iter().filter(|v| !v.is_null() && v.as_str() != Some(""));
    Ok(keep.cloned().collect::<Vec<_>>().into())
}

fn index(args: FuncArgs) -> Answer {
    let found = array(&args, 0)?.iter().position(|v| *v == args[1]);
    found.map(Value::from).ok_or_else(|| format!("the list has no {}", args[1]))
}

fn element(args: FuncArgs) -> Answer {
    let list = array(&args, 0)?;
    if list.is_empty() {
        return Err("the list is empty".to_owned());
    }
    Ok(list[place_at(&args, 1)? % list.len()].clone())
}

fn slice(args: FuncArgs) -> Answer {
    let list = array(&args, 0)?;
    let part = list.get(place_at(&args, 1)?..place_at(&args, 2)?);
    part.map(|p| p.to_vec().into()).ok_or_else(|| format!("the list has {} elements", list.len()))
}

fn zipmap(args: FuncArgs) -> Answer {
    let (names, values) = (array(&args, 0)?, array(&args, 1)?);
    if names.len() != values.len() {
        return Err(format!("{} keys but {} values", names.len(), values.len()));
    }
    let pairs = names.iter().filter_map(Value::as_str).map(str::to_owned).zip(values.iter().cloned());
    Ok(pairs.collect::<hcl::Map<_, _>>().into())
}

fn range(args: FuncArgs) -> Answer {
    let n: Vec<f64> = (0..args.len()).map(|i| num_at(&args, i)).collect::<Result<_, _>>()?;
    let (start, end, step) = match n[..] {
        [end] => (0.0, end, 1.0),
        [start, end] => (start, end, 1.0),
        [start, end, step] if step != 0.0 => (start, end, step),
        _ => return Err("expected an end; a start and an end; or a start, an end and a step that is not 0".to_owned()),
    };
    let count = ((end - start) / step).ceil().clamp(0.0, 1024.0) as usize;
    let values: Vec<Value> = (0..count).map(|i| to_number(start + step * i as f64)).collect::<Result<_, _>>()?;
    Ok(values.into())
}

fn concat(args: FuncArgs) -> Answer {
    let mut out = Vec::new();
    for i in 0..args.len() {
        out.extend(array(&args, i)?.iter().cloned());
    }
    Ok(out.into())
}

fn merge(args: FuncArgs) -> Answer {
    let mut out = hcl::Map::new();
    for i in 0..args.len() {
        out.extend(object(&args, i)?.clone());
    }
    Ok(out.into())
}

fn coalesce(args: FuncArgs) -> Answer {
    let found = args.iter().find(|v| !v.is_null() && v.as_str() != Some(""));
    found.cloned().ok_or_else(|| "every argument is empty".to_owned())
}

fn lookup(args: FuncArgs) -> Answer {
    let key = str_at(&args, 1)?;
    let found = object(&args, 0)?.get(key).or_else(|| args.get(2));
    found.cloned().ok_or_else(|| format!("the map has no key `{key}` and no default is given"))
}

/// Base64 (RFC 4648, section 4).
mod base64 {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    pub(super) fn encode(bytes: &[u8]) -> String {
        let mut out = String::new();
        for chunk in bytes.chunks(3) {
            let n = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
            for i in 0..4 {
                let digit = ALPHABET[(n >> (18 - 6 * i) & 63) as usize];
                out.push(if i <= chunk.len() { char::from(digit) } else { '=' });
            }
        }
        out
    }

    pub(super) fn decode(text: &str) -> Result<String, String> {
        let mut bytes = Vec::new();
        let (mut n, mut bits) = (0u32, 0);
        for c in text.trim_end_matches('=').bytes() {
            let digit = ALPHABET.iter().position(|a| *a == c).ok_or("this is not base64")?;
            n = n << 6 | digit as u32;
            bits += 6;
            if bits >= 8 {
                bits -= 8;
                bytes.push((n >> bits & 255) as u8);
            }
        }
        String::from_utf8(bytes).map_err(|_| "the decoded bytes are not UTF-8".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hcl::eval::Evaluate as _;

    fn eval(text: &str) -> Result<String, String> {
        let mut context = Context::new();
        declare(&mut context);
        let expression: hcl::Expression = text.parse().map_err(|e: hcl::Error| e.to_string())?;
        expression.evaluate(&context).map(|v| serde_json::to_string(&v).unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn every_name_is_declared() {
        for name in NAMES.iter().filter(|n| **n != "timestamp") {
            let error = eval(&format!("{name}()")).err().unwrap_or_default();
            assert!(!error.contains("undefined function"), "{name}: {error}");
        }
    }

    #[test]
    fn results_are_those_of_packer() {
        let table = [
            (r#"join(",", ["a", 1, true])"#, r#""a,1,true""#),
            (r#"format("%s-%03d-%.1f%%", "x", 7, 1.25)"#, r#""x-007-1.2%""#),
            (r#"replace("a.b.c", ".", "-")"#, r#""a-b-c""#),
            (r#"replace("a1b22", "/[0-9]+/", "_")"#, r#""a_b_""#),
            (r#"regex("([a-z]+)-([0-9]+)", "ab-12")"#, r#"["ab","12"]"#),
            (r#"substr("hello", 1, 3)"#, r#""ell""#),
            (r#"substr("hello", -3, -1)"#, r#""llo""#),
            (r#"lookup({a = 1}, "b", "none")"#, r#""none""#),
            (r#"coalesce("", null, "x")"#, r#""x""#),
            (r#"flatten([[1], [2, [3]]])"#, "[1,2,3]"),
            (r#"merge({a = 1}, {b = 2})"#, r#"{"a":1,"b":2}"#),
            (r#"range(1, 4)"#, "[1,2,3]"),
            (r#"element(["a", "b"], 3)"#, r#""b""#),
            (r#"base64encode("hi!?")"#, r#""aGkhPw==""#),
            (r#"base64decode("aGkhPw==")"#, r#""hi!?""#),
            (r#"jsondecode("{\"a\": [1]}").a[0]"#, "1"),
            (r#"formatdate("YYYYMMDD-hhmm", "2026-11-21T04:05:06Z")"#, r#""20261121-0405""#),
            (r#"title("hello world")"#, r#""Hello World""#),
            (r#"max(1, 5, 3)"#, "5"),
        ];
        for (input, expected) in table {
            assert_eq!(eval(input).as_deref(), Ok(expected), "{input}");
        }
        assert!(eval(r#"regex("a", "b")"#).is_err());
        assert!(eval(r#"format("%s")"#).is_err());
    }
}

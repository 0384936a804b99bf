//! Checks the formatting of templates. Rules find the common deviations from `packer fmt` without Packer: tabs, wrong indentation, trailing
//! spaces, `=` that are not aligned. If Packer is installed, `packer fmt` and `packer validate` are run as well.

use std::path::Path;

use fs_err as fs;

use super::{Clean, Finding};
use crate::error::Result;
use crate::process::Cmd;

const HINT: &str = "format it with `packer fmt`";

/// Checks every `*.pkr.hcl` and `*.pkrvars.hcl` file of a template, and runs Packer on it if it is installed.
pub fn check(root: &Path, template: &Path, packer: &str, clean: &Clean) -> Result<Vec<Finding>> {
    let dir = root.join(template);
    let dir = if dir.is_dir() { dir } else { dir.parent().unwrap_or(root).to_owned() };
    let mut texts: Vec<(String, String)> = Vec::new();
    if dir.is_dir() {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            if name.ends_with(".pkr.hcl") || name.ends_with(".pkrvars.hcl") {
                texts.push((name, fs::read_to_string(&path)?));
            }
        }
    }
    texts.sort();
    let rules = |(name, text): &(String, String)| {
        let name = name.clone();
        layout(text).into_iter().map(move |(line, what)| Finding::error("hcl", &name, Some(line), what, HINT))
    };
    let mut findings: Vec<Finding> = texts.iter().flat_map(rules).collect();
    if let Some(version) = version(packer) {
        let parts = texts.iter().map(|(name, text)| (name.as_str(), text.as_bytes()));
        let parts = parts.chain([("packer", version.as_bytes())]);
        findings.extend(clean.unless_known(parts, || run_packer(packer, root, &root.join(template)))?);
    }
    Ok(findings)
}

/// Identifies the installed Packer by path, size and time: `packer version` takes longer than all the rules.
fn version(packer: &str) -> Option<String> {
    let found = Cmd::new("sh").args(["-c", "command -v \"$1\"", "sh", packer]).output().ok()?;
    let path = found.stdout.trim();
    let file = fs::metadata(path).ok()?;
    Some(format!("{path} {} {:?}", file.len(), file.modified().ok()?))
}

/// Runs `packer fmt` and `packer validate`; without the template's plugins, only the syntax is validated.
fn run_packer(packer: &str, root: &Path, template: &Path) -> Result<Vec<Finding>> {
    let name = template.strip_prefix(root).unwrap_or(template);
    let mut findings = Vec::new();
    let format = Cmd::new(packer).args(["fmt", "-check", "-diff", "-recursive"]).arg(template).dir(root).output()?;
    if format.code != 0 {
        let message = format!("packer fmt would change it:\n{}", format.stdout.trim());
        findings.push(Finding::error("packer", name, None, message, HINT));
    }
    let installed = Cmd::new(packer).args(["plugins", "installed"]).output()?.stdout;
    let whole = ["packer-plugin-amazon", "packer-plugin-qemu"].iter().all(|plugin| installed.contains(plugin));
    let syntax: &[&str] = if whole { &[] } else { &["-syntax-only"] };
    let valid = Cmd::new(packer).arg("validate").args(syntax).arg(template).dir(root).output()?;
    if valid.code != 0 {
        let message = format!("packer validate failed:\n{}{}", valid.stdout.trim(), valid.stderr.trim());
        findings.push(Finding::error("packer", name, None, message, "fix what Packer's output above reports"));
    }
    Ok(findings)
}

/// A line `name = value`: the column of its `=`, and what the expected column depends on.
struct Attribute {
    line: usize,
    indent: usize,
    name: usize,
    equals: usize,
    /// True if it opens a bracket that a later line closes. The alignment of a group ends with such a line.
    opens: bool,
}

/// The deviations from `packer fmt`, each with its line from 1.
fn layout(text: &str) -> Vec<(usize, String)> {
    let mut wrong = Vec::new();
    let mut depth: usize = 0;
    let mut heredoc: Option<String> = None;
    let mut group: Vec<Attribute> = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(i, l)| (i + 1, l)) {
        if let Some(end) = &heredoc {
            if line.trim() == end {
                heredoc = None;
            }
            continue;
        }
        if line.ends_with([' ', '\t']) {
            wrong.push((number, "trailing whitespace".to_owned()));
        }
        if line.contains('\t') {
            wrong.push((number, "a tab; indent with two spaces".to_owned()));
        }
        let code = without_strings_and_comments(line);
        let trimmed = code.trim();
        let closes_first = trimmed.starts_with(['}', ']', ')']);
        let indent = line.len() - line.trim_start().len();
        let expected = 2 * depth.saturating_sub(usize::from(closes_first));
        if !line.trim().is_empty() && indent != expected {
            wrong.push((number, format!("indented by {indent} spaces, expected {expected}")));
        }
        let (opened, closed) = (count(&code, &['{', '[', '(']), count(&code, &['}', ']', ')']));
        depth = (depth + opened).saturating_sub(closed);
        match attribute(&code, number, indent, opened > closed) {
            Some(attribute) => {
                let last = attribute.opens;
                group.push(attribute);
                if last {
                    wrong.extend(misaligned(&group));
                    group.clear();
                }
            }
            None => {
                wrong.extend(misaligned(&group));
                group.clear();
            }
        }
        heredoc = line.split_once("<<").map(|(_, word)| word.trim_start_matches('-').trim().to_owned());
    }
    wrong.extend(misaligned(&group));
    if !text.is_empty() && !text.ends_with('\n') {
        wrong.push((text.lines().count(), "no newline at the end of the file".to_owned()));
    }
    wrong.sort();
    wrong
}

fn count(code: &str, brackets: &[char]) -> usize {
    code.chars().filter(|c| brackets.contains(c)).count()
}

fn attribute(code: &str, line: usize, indent: usize, opens: bool) -> Option<Attribute> {
    let equals = code.find('=')?;
    let name = code[..equals].trim();
    let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_-.\"".contains(c));
    let compares = code[equals + 1..].starts_with(['=', '>']);
    (plain && !compares).then_some(Attribute { line, indent, name: name.len(), equals, opens })
}

/// The `=` of consecutive lines must be in one column, one space after the longest name.
fn misaligned(group: &[Attribute]) -> Vec<(usize, String)> {
    // A value of several lines is not aligned with the lines before it.
    let (many, alone): (Vec<&Attribute>, Vec<&Attribute>) = group.iter().partition(|a| !a.opens);
    let column = many.iter().map(|a| a.indent + a.name + 1).max().unwrap_or(0);
    let expected = many.into_iter().map(|a| (a, column)).chain(alone.into_iter().map(|a| (a, a.indent + a.name + 1)));
    let wrong = expected.filter(|(a, column)| a.equals != *column);
    wrong.map(|(a, column)| (a.line, format!("`=` in column {}, expected {}", a.equals + 1, column + 1))).collect()
}

/// The line with the text of strings replaced and comments removed, so that brackets and `=` in them do not count.
fn without_strings_and_comments(line: &str) -> String {
    let mut code = String::new();
    let (mut quoted, mut escaped) = (false, false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if quoted {
            quoted = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            code.push(if quoted { 'x' } else { '"' });
            continue;
        }
        if c == '#' || (c == '/' && chars.peek() == Some(&'/')) {
            break;
        }
        quoted = c == '"';
        code.push(c);
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_projects_templates_are_formatted() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let clean = Clean { dir: tempfile::tempdir().unwrap().path().join("clean") };
        for template in ["packer", "packer/default-ec2"] {
            let findings = check(root, Path::new(template), "packer", &clean).unwrap();
            let messages: Vec<String> =
                findings.iter().map(|f| format!("{:?} {:?} {}", f.file, f.line, f.message)).collect();
            assert!(messages.is_empty(), "{messages:#?}");
        }
    }

    #[test]
    fn deviations_from_packer_fmt_are_found() {
        for (text, expected) in [
            ("a = 1\nlong = 2\n", "1: `=` in column 3, expected 6"),
            ("build {\n    a = 1\n}\n", "2: indented by 4 spaces, expected 2"),
            ("a = 1 \n", "1: trailing whitespace"),
            ("build {\n\ta = 1\n}\n", "2: a tab; indent with two spaces"),
            ("a = 1", "1: no newline at the end of the file"),
            ("a  = {\n  b = 1\n}\n", "1: `=` in column 4, expected 3"),
        ] {
            let found: Vec<String> = layout(text).into_iter().map(|(line, what)| format!("{line}: {what}")).collect();
            assert!(found.contains(&expected.to_owned()), "{text:?}: {found:?}");
        }
    }

    #[test]
    fn formatted_text_has_no_findings() {
        let text = "locals {\n  a      = \"x = {\" # a = [\n  longer = [1, 2]\n\n  b = {\n    c = 1\n  }\n}\n\
                    x = <<EOT\n   anything = goes\n EOT\nd = a == b ? 1 : 2\n";
        assert_eq!(layout(text), []);
    }
}

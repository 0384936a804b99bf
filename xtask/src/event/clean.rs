//! Cleans the texts of events: removes sensitive values, and escapes characters with which a guest could control the terminal.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::{Document, Event, Events, Observer};
use crate::sensitive;

/// Cleans every event and passes it to the next observer. It is the first observer, so that no other one receives a text that is not clean.
pub struct Cleaner {
    next: Events,
}

impl Cleaner {
    /// Cleans events before `next` receives them.
    pub fn new(next: Events) -> Self {
        Self { next }
    }
}

impl Observer for Cleaner {
    fn event(&self, event: Event) {
        self.next.event(event.clean());
    }
}

/// Returns the text without sensitive values and with escaped control characters: `\x1b[2J`.
///
/// Control characters are the C0 and C1 sets (ECMA-48) except line feed and tab, and the characters that change the direction of the
/// following text (Unicode Standard Annex 9), with which one line can be disguised as another.
pub fn text(text: &str) -> String {
    let text = sensitive::redacted(text);
    if !text.contains(is_control) {
        return text.into_owned();
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if is_control(c) && u32::from(c) < 0x100 => _ = write!(clean, "\\x{:02x}", u32::from(c)),
            c if is_control(c) => _ = write!(clean, "\\u{{{:x}}}", u32::from(c)),
            c => clean.push(c),
        }
    }
    clean
}

fn is_control(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Cleans every text in a JSON value, including the names of fields.
pub fn json(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::String(inner) => Value::String(text(&inner)),
        Value::Array(items) => Value::Array(items.into_iter().map(json).collect()),
        Value::Object(fields) => Value::Object(fields.into_iter().map(|(k, v)| (text(&k), json(v))).collect()),
        other => other,
    }
}

impl Event {
    /// The event with all texts cleaned.
    #[must_use]
    pub fn clean(self) -> Self {
        let t = |inner: String| text(&inner);
        let path = |inner: PathBuf| PathBuf::from(text(&inner.to_string_lossy()));
        match self {
            Self::RunStarted { run, command } => Self::RunStarted { run, command: t(command) },
            Self::PhaseStarted { phase, subject } => Self::PhaseStarted { phase, subject: t(subject) },
            Self::PhaseFinished { phase, outcome, seconds, summary } => {
                Self::PhaseFinished { phase, outcome, seconds, summary: t(summary) }
            }
            Self::StepStarted { index, total, name, expected_seconds } => {
                Self::StepStarted { index, total, name: t(name), expected_seconds }
            }
            Self::StepOutput { name, stream, line } => Self::StepOutput { name: t(name), stream, line: t(line) },
            Self::StepFinished { index, total, name, outcome, seconds, exit_code } => {
                Self::StepFinished { index, total, name: t(name), outcome, seconds, exit_code }
            }
            Self::Progress { phase, message, fraction } => Self::Progress { phase, message: t(message), fraction },
            Self::Note { message } => Self::Note { message: t(message) },
            Self::Warning { message, hint } => Self::Warning { message: t(message), hint: t(hint) },
            Self::Finding { severity, check, file, line, column, message, hint } => {
                let file = file.map(path);
                Self::Finding { severity, check, file, line, column, message: t(message), hint: t(hint) }
            }
            Self::Check { pass, name, outcome, seconds, message } => {
                Self::Check { pass: t(pass), name: t(name), outcome: t(outcome), seconds, message: t(message) }
            }
            Self::Diff { file, diff } => Self::Diff { file: path(file), diff: t(diff) },
            Self::Document(Document { kind, data, text }) => {
                Self::Document(Document { kind, data: json(data), text: t(text) })
            }
            Self::Result { ok, exit, summary, error, data } => {
                Self::Result { ok, exit, summary: t(summary), error: error.map(t), data: json(data) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(text("\x1b[2J\x1b]0;title\x07 ok\r"), "\\x1b[2J\\x1b]0;title\\x07 ok\\x0d");
        assert_eq!(text("\u{9b}31m and \u{202e}txt.exe"), "\\x9b31m and \\u{202e}txt.exe");
        assert_eq!(text("a\tb\nc ä →"), "a\tb\nc ä →");
    }

    #[test]
    fn every_text_of_an_event_is_clean() {
        sensitive::hide("SECRET-OF-EVENTS");
        let dirty = || "\x1b SECRET-OF-EVENTS".to_owned();
        let data = serde_json::json!({ "a": [dirty()], dirty(): 1 });
        let events = [
            Event::RunStarted { run: "run-1".into(), command: dirty() },
            Event::PhaseStarted { phase: super::super::Phase::Build, subject: dirty() },
            Event::StepOutput { name: dirty(), stream: super::super::Stream::Stdout, line: dirty() },
            Event::Note { message: dirty() },
            Event::Warning { message: dirty(), hint: dirty() },
            Event::Check { pass: dirty(), name: dirty(), outcome: dirty(), seconds: 0.0, message: dirty() },
            Event::Diff { file: dirty().into(), diff: dirty() },
            Event::Document(Document { kind: "plan".into(), data: data.clone(), text: dirty() }),
            Event::Result { ok: false, exit: 4, summary: dirty(), error: Some(dirty()), data },
        ];
        for event in events {
            let clean = format!("{:?}", event.clean());
            assert!(!clean.contains("SECRET-OF-EVENTS") && !clean.contains("\\u{1b}"), "{clean}");
        }
    }
}

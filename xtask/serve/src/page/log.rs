//! The log of a build: each event of xtask as one line of text. `live.js` renders the same lines; the test in Chromium compares them.

use serde_json::Value;
use xtask::report::clock;

use super::clean;

/// The line of an event, cleaned. `None` for events that have no line: documents, and events of an unknown kind.
pub fn line(event: &Value) -> Option<String> {
    let s = |name| string(event, name);
    let text = match s("event") {
        "run-started" => format!("run {}: {}", s("run"), s("command")),
        "phase-started" => format!("→ {} {}", title(s("phase")), s("subject")),
        "phase-finished" => {
            let summary = Some(s("summary")).filter(|summary| !summary.is_empty());
            let summary = summary.map_or(String::new(), |summary| format!(": {summary}"));
            format!("{} {}, {}{summary}", mark(s("outcome")), title(s("phase")), took(event))
        }
        "step-started" => {
            let expected = event.get("expected_seconds").and_then(Value::as_f64);
            let expected = expected.map_or(String::new(), |seconds| format!(", {} last time", clock(seconds)));
            format!("→ {}{expected}", step(event))
        }
        "step-output" => format!("[{}] {}", s("name"), s("line")),
        "step-finished" => {
            let code = event.get("exit_code").and_then(Value::as_i64);
            let code = code.map_or(String::new(), |code| format!(", exit code {code}"));
            format!("{} {}, {}{code}", mark(s("outcome")), step(event), took(event))
        }
        "progress" => format!("… {}: {}{}", title(s("phase")), s("message"), share(event)),
        "note" => s("message").to_owned(),
        "warning" => format!("warning: {}; help: {}", s("message"), s("hint")),
        "finding" => {
            format!("{}[{}]: {}{}; help: {}", s("severity"), s("check"), place(event), s("message"), s("hint"))
        }
        "check" => {
            let check = format!("{} ({}), {}", s("name"), s("pass"), clock(seconds(event)));
            format!("{} {check}: {} {}", mark(s("outcome")), s("outcome"), s("message"))
        }
        "diff" => format!("changes {}", s("file")),
        "result" if event.get("ok").and_then(Value::as_bool) == Some(true) => format!("done: {}", s("summary")),
        "result" => {
            let why = if s("error").is_empty() { s("summary") } else { s("error") };
            format!("failed with exit code {}: {why}", number(event, "exit"))
        }
        _ => return None,
    };
    Some(clean::line(&text))
}

/// A text field of an event; empty if it has none.
pub(super) fn string<'a>(event: &'a Value, name: &str) -> &'a str {
    event.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A number of an event; 0 if it has none.
pub(super) fn number(event: &Value, name: &str) -> u64 {
    event.get(name).and_then(Value::as_u64).unwrap_or_default()
}

fn seconds(event: &Value) -> f64 {
    event.get("seconds").and_then(Value::as_f64).unwrap_or_default()
}

/// The name of a phase on the page.
pub(super) fn title(phase: &str) -> &str {
    match phase {
        "base" => "base image",
        "smoke-binary" => "smoke binary",
        "cleanup" => "clean up",
        "freshness" => "pins",
        other => other,
    }
}

fn mark(outcome: &str) -> &'static str {
    match outcome {
        "done" | "pass" => "✓",
        "up-to-date" => "=",
        "skipped" | "quarantined" => "–",
        _ => "✗",
    }
}

fn took(event: &Value) -> String {
    match string(event, "outcome") {
        "up-to-date" => "cached".to_owned(),
        _ => clock(seconds(event)),
    }
}

fn step(event: &Value) -> String {
    format!("[{}/{}] {}", number(event, "index"), number(event, "total"), string(event, "name"))
}

fn share(event: &Value) -> String {
    let part = |at: usize| event.get("fraction").and_then(|f| f.get(at)).and_then(Value::as_u64);
    match (part(0), part(1)) {
        (Some(done), Some(all)) if all > 0 => format!(" {}%", done.saturating_mul(100) / all),
        _ => String::new(),
    }
}

fn place(event: &Value) -> String {
    let file = string(event, "file");
    if file.is_empty() {
        return String::new();
    }
    let number = |name| event.get(name).and_then(Value::as_u64).map_or(String::new(), |n| format!(":{n}"));
    format!("{file}{}{}: ", number("line"), number("column"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_of_event_has_its_line() {
        let lines = [
            (
                json!({"event": "run-started", "run": "run-1", "command": "xtask ami build"}),
                "run run-1: xtask ami build",
            ),
            (json!({"event": "phase-started", "phase": "base", "subject": "debian-13"}), "→ base image debian-13"),
            (
                json!({"event": "phase-finished", "phase": "build", "outcome": "done", "seconds": 125.0, "summary": "ok"}),
                "✓ build, 2 m 05 s: ok",
            ),
            (
                json!({"event": "step-started", "index": 2, "total": 9, "name": "20-git", "expected_seconds": 6.25}),
                "→ [2/9] 20-git, 6.2 s last time",
            ),
            (json!({"event": "step-output", "name": "20-git", "stream": "stdout", "line": "\u{1b}[1mx"}), "[20-git] x"),
            (
                json!({"event": "step-finished", "index": 2, "total": 9, "name": "a", "outcome": "failed", "seconds": 1.0, "exit_code": 3}),
                "✗ [2/9] a, 1.0 s, exit code 3",
            ),
            (json!({"event": "progress", "phase": "copy", "message": "eu", "fraction": [1, 4]}), "… copy: eu 25%"),
            (json!({"event": "note", "message": "a\nb"}), "a | b"),
            (json!({"event": "warning", "message": "m", "hint": "h"}), "warning: m; help: h"),
            (
                json!({"event": "finding", "severity": "error", "check": "c", "file": "f", "line": 3, "column": null, "message": "m", "hint": "h"}),
                "error[c]: f:3: m; help: h",
            ),
            (
                json!({"event": "check", "pass": "first boot", "name": "ufw", "outcome": "fail", "seconds": 0.5, "message": "m"}),
                "✗ ufw (first boot), 0.5 s: fail m",
            ),
            (json!({"event": "result", "ok": true, "exit": 0, "summary": "built"}), "done: built"),
            (json!({"event": "result", "ok": false, "exit": 4, "error": "e"}), "failed with exit code 4: e"),
        ];
        for (event, text) in lines {
            assert_eq!(line(&event).as_deref(), Some(text));
        }
    }

    #[test]
    fn unknown_events_and_wrong_types_do_no_harm() {
        for event in [json!({"event": "document"}), json!({"event": "new-kind"}), json!({}), json!(null), json!([1])] {
            assert_eq!(line(&event), None);
        }
        assert_eq!(line(&json!({"event": "note", "message": 7})).as_deref(), Some(""));
        assert_eq!(clock(f64::INFINITY), clock(1e300));
        assert_eq!(clock(-1.0), "0.0 s");
    }
}

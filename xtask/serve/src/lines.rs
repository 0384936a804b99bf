//! Events of `xtask` as lines of text.

use serde_json::Value;

/// The line of an event in JSON. `None` for events without one: progress, documents.
pub fn of(data: &str) -> Option<String> {
    let event: Value = serde_json::from_str(data).ok()?;
    let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
    let seconds = || event.get("seconds").and_then(Value::as_f64).unwrap_or_default();
    let number = |name: &str| event.get(name).and_then(Value::as_u64).unwrap_or_default();
    let line = match text("event") {
        "run-started" => format!("{}: {}", text("run"), text("command")),
        "phase-started" => format!("{} {}", text("phase"), text("subject")).trim_end().to_owned(),
        "phase-finished" => {
            let line = format!("{} {} in {:.1} s: {}", text("phase"), text("outcome"), seconds(), text("summary"));
            line.trim_end_matches([':', ' ']).to_owned()
        }
        "step-started" => format!("step {} of {}: {}", number("index"), number("total"), text("name")),
        "step-output" => format!("[{}] {}", text("name"), text("line")),
        "step-finished" => format!(
            "step {} of {}: {} {} in {:.1} s",
            number("index"),
            number("total"),
            text("name"),
            text("outcome"),
            seconds()
        ),
        "note" => text("message").to_owned(),
        "warning" => format!("warning: {}; {}", text("message"), text("hint")),
        "check" => format!("{}: {} {}: {}", text("pass"), text("name"), text("outcome"), text("message")),
        "result" if event.get("ok").and_then(Value::as_bool) == Some(true) => text("summary").to_owned(),
        "result" => format!("error: {}", text("summary")),
        _ => return None,
    };
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_lines_and_what_is_not_one_becomes_none() {
        let output = r#"{"event":"step-output","name":"agents","stream":"stdout","line":"added 3 packages"}"#;
        assert_eq!(of(output).as_deref(), Some("[agents] added 3 packages"));
        let ended = r#"{"event":"phase-finished","phase":"build","outcome":"done","seconds":1.25,"summary":""}"#;
        assert_eq!(of(ended).as_deref(), Some("build done in 1.2 s"));
        let failed = r#"{"event":"result","ok":false,"exit":4,"summary":"no disk","error":null,"data":null}"#;
        assert_eq!(of(failed).as_deref(), Some("error: no disk"));
        for none in ["", "x", "[]", "{}", r#"{"event":"progress","message":"x"}"#] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}

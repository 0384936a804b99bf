//! What is wrong, as GitHub shows it beside the code: workflow commands (docs.github.com, "Workflow commands for GitHub Actions").
//! On standard error, which the runner reads as well, so that standard output stays what was asked for.

use std::borrow::Cow;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::event::{Event, Events, Observer, Phase};

/// Writes annotations and passes every event on.
pub struct Annotations {
    tests: AtomicBool,
    next: Events,
}

impl Annotations {
    /// In front of another observer.
    pub fn new(next: Events) -> Self {
        Self { tests: AtomicBool::new(false), next }
    }
}

impl Observer for Annotations {
    fn event(&self, event: Event) {
        // Only what the tests run is a command of ours that may have annotations; a step of a build is a guest.
        if let Event::PhaseStarted { phase, .. } = &event {
            self.tests.store(*phase == Phase::Test, Ordering::Relaxed);
        }
        let line =
            line(&event).filter(|_| self.tests.load(Ordering::Relaxed) || !matches!(event, Event::StepOutput { .. }));
        self.next.event(event);
        if let Some(line) = line {
            // A reader that went away is no reason to stop a build.
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        }
    }
}

/// Text in which the runner finds no command of its own: it takes every line that begins with `::` or `##[`, after blanks, for one
/// (actions/runner, `ActionCommand.cs`), and `::set-output` of a guest would name another image.
pub(super) fn inert(text: &str) -> Cow<'_, str> {
    let is_command = |line: &str| line.trim_start().starts_with("::") || line.trim_start().starts_with("##[");
    if !text.lines().any(is_command) {
        return Cow::Borrowed(text);
    }
    let inert = |line: &str| {
        if is_command(line) { line.replacen("::", ": :", 1).replacen("##[", "# #[", 1) } else { line.to_owned() }
    };
    Cow::Owned(text.split_inclusive('\n').map(inert).collect())
}

/// The workflow command for an event, if it is one that somebody must see.
fn line(event: &Event) -> Option<String> {
    match event {
        Event::Finding { severity, check, file, line, message, hint, .. } => {
            let mut properties = vec![("title", check.clone())];
            properties.extend(file.as_ref().map(|f| ("file", f.display().to_string())));
            properties.extend(line.map(|n| ("line", n.to_string())));
            Some(command(severity, &properties, &format!("{message}\n{hint}")))
        }
        Event::Check { pass, name, outcome, message, .. } if outcome == "fail" => {
            Some(command("error", &[("title", format!("{name}, {pass}"))], message))
        }
        Event::Warning { message, hint } => Some(command("warning", &[], &format!("{message}\n{hint}"))),
        // A command of ours that this one runs (`test` does) has told it already, behind a margin where the runner does not see it.
        Event::StepOutput { line, .. } if line.starts_with("::error") || line.starts_with("::warning") => {
            Some(line.clone())
        }
        Event::Result { ok: false, summary, .. } => Some(command("error", &[], summary)),
        _ => None,
    }
}

/// `::error title=…,file=…::text`, escaped as the runner unescapes it (actions/toolkit, core/src/command.ts).
fn command(severity: &str, properties: &[(&str, String)], text: &str) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let properties: Vec<String> =
        properties.iter().map(|(name, value)| format!("{name}={}", property(value))).collect();
    let space = if properties.is_empty() { "" } else { " " };
    format!("::{severity}{space}{}::{}", properties.join(","), data(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_stands_at_its_line_and_nothing_in_it_ends_the_command() {
        let finding = Event::Finding {
            severity: "error".into(),
            check: "lock: a, b".into(),
            file: Some("scripts/npm/package.json".into()),
            line: Some(7),
            column: None,
            message: "100% wrong".into(),
            hint: "fix\nit".into(),
        };
        assert_eq!(
            line(&finding).unwrap(),
            "::error title=lock%3A a%2C b,file=scripts/npm/package.json,line=7::100%25 wrong%0Afix%0Ait"
        );
    }

    #[test]
    fn what_a_command_within_tells_is_told_and_no_other_command_of_the_runner() {
        let output = |line: &str| Event::StepOutput {
            name: "pipeline".into(),
            stream: crate::event::Stream::Stderr,
            line: line.into(),
        };
        assert_eq!(line(&output("::error title=ufw::off")).unwrap(), "::error title=ufw::off");
        assert_eq!(line(&output("::add-path::/tmp")), None);
    }

    #[test]
    fn a_guest_commands_no_runner() {
        let text = "fine\n  ::set-output name=ami_id::ami-evil\n##[add-path]/tmp\na::b\n";
        assert_eq!(inert(text), "fine\n  : :set-output name=ami_id::ami-evil\n# #[add-path]/tmp\na::b\n");
        assert!(matches!(inert("a::b"), Cow::Borrowed(_)));
    }

    #[test]
    fn what_went_well_is_no_annotation() {
        let check = |outcome: &str| Event::Check {
            pass: "first boot".into(),
            name: "ufw".into(),
            outcome: outcome.into(),
            seconds: 1.0,
            message: "off".into(),
        };
        assert_eq!(line(&check("pass")), None);
        assert_eq!(line(&check("fail")).unwrap(), "::error title=ufw%2C first boot::off");
        assert_eq!(line(&Event::Note { message: "x".into() }), None);
    }
}

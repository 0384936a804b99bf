//! Annotations of GitHub Actions for findings, failed checks, warnings and errors, by workflow commands (docs.github.com, "Workflow
//! commands for GitHub Actions"). They are printed on standard error, which the runner reads as well, to keep standard output free of them.

use std::borrow::Cow;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::event::{Event, Events, Observer, Phase};

/// Prints annotations, and passes every event to the next observer.
pub struct Annotations {
    tests: AtomicBool,
    next: Events,
}

impl Annotations {
    /// Prints annotations before `next` receives the event.
    pub fn new(next: Events) -> Self {
        Self { tests: AtomicBool::new(false), next }
    }
}

impl Observer for Annotations {
    fn event(&self, event: Event) {
        // Only the test suite runs commands of this program, whose annotations are passed on. Steps of a build run in a guest.
        if let Event::PhaseStarted { phase, .. } = &event {
            self.tests.store(*phase == Phase::Test, Ordering::Relaxed);
        }
        let line =
            line(&event).filter(|_| self.tests.load(Ordering::Relaxed) || !matches!(event, Event::StepOutput { .. }));
        self.next.event(event);
        if let Some(line) = line {
            // A closed pipe must not stop a build.
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        }
    }
}

/// Changes lines that the runner would execute as a workflow command: those that begin with `::` or `##[` after optional whitespace
/// (actions/runner, `ActionCommand.cs`). Otherwise a guest could print `::set-output` and replace the image's id.
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

/// The annotation for an event, if it has one.
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
        // An annotation of a command that `test` runs. The runner does not recognize it after the margin of a step's output.
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
    fn a_finding_has_its_line_and_its_texts_are_escaped() {
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
    fn annotations_of_a_nested_command_are_passed_on_but_no_other_workflow_commands() {
        let output = |line: &str| Event::StepOutput {
            name: "pipeline".into(),
            stream: crate::event::Stream::Stderr,
            line: line.into(),
        };
        assert_eq!(line(&output("::error title=ufw::off")).unwrap(), "::error title=ufw::off");
        assert_eq!(line(&output("::add-path::/tmp")), None);
    }

    #[test]
    fn workflow_commands_of_a_guest_are_made_inert() {
        let text = "fine\n  ::set-output name=ami_id::ami-evil\n##[add-path]/tmp\na::b\n";
        assert_eq!(inert(text), "fine\n  : :set-output name=ami_id::ami-evil\n# #[add-path]/tmp\na::b\n");
        assert!(matches!(inert("a::b"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_passed_check_has_no_annotation() {
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

//! Parses Packer's `-machine-readable` output (developer.hashicorp.com/packer/docs/commands, "Machine-readable output"). Pure.
//!
//! Packer has no records for the start and end of a step. The reader recognizes them by messages, which it counts and assigns to the
//! recipe's steps. An unknown message is output, never an error.

use crate::event::Stream;
use crate::recipe::{Action, Step};

/// How the messages of provisioners begin when they start.
const BEGINNINGS: [&str; 4] = [
    "Provisioning with shell script: ",
    "Uploading ",
    "Running local shell script: ",
    "Pausing at breakpoint provisioner",
];
/// How the messages of builders begin after the last provisioner has ended.
const ENDINGS: [&str; 2] = ["Stopping the source instance", "Gracefully halting virtual machine"];
/// How the messages of Packer and builders begin after a provisioner failed or was cancelled.
const FAILURES: [&str; 4] =
    ["Provisioning step had errors", "Step \"", "Terminating the source AWS instance", "Cancelling provisioning"];

/// A record: one line of the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The build it is about; empty for Packer as a whole.
    pub(super) target: String,
    /// `ui`, `artifact`, `error`, `version`...
    pub(super) kind: String,
    /// The rest.
    pub(super) data: Vec<String>,
}

/// The meaning of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// The step with this index has started.
    Began(usize),
    /// The step with this index has ended; true if it succeeded.
    Ended(usize, bool),
    /// A line of output of the running step.
    Output(Stream, String),
    /// Progress of the builder: booting, stopping, making an image.
    Progress(String),
    /// An error message of Packer.
    Error(String),
}

impl Record {
    /// Parses a line `timestamp,target,type,data...`.
    pub(super) fn read(line: &str) -> Option<Self> {
        let mut parts = line.splitn(4, ',');
        parts.next()?.parse::<u64>().ok()?;
        let (target, kind) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        let data = parts.next().unwrap_or_default().split(',').map(unescaped).collect();
        Some(Self { target, kind, data })
    }
}

fn unescaped(text: &str) -> String {
    text.replace("%!(PACKER_COMMA)", ",").replace("\\r", "\r").replace("\\n", "\n")
}

/// Assigns messages to the recipe's steps.
#[derive(Debug)]
pub(super) struct Reader {
    /// The number of start messages of each step: one for each script.
    beginnings: Vec<usize>,
    /// The running step, and the number of its start messages that have not been read yet.
    current: Option<(usize, usize)>,
    next: usize,
}

impl Reader {
    pub(super) fn new(steps: &[Step]) -> Self {
        let beginnings = steps.iter().map(|step| match &step.action {
            Action::Shell(shell) => shell.scripts.len(),
            Action::ShellLocal(local) => local.scripts.len(),
            Action::Upload(_) | Action::Breakpoint { .. } => 1,
        });
        Self { beginnings: beginnings.collect(), current: None, next: 0 }
    }

    /// The meaning of each line of a record.
    pub(super) fn read(&mut self, record: &Record) -> Vec<Parsed> {
        if record.kind != "ui" {
            return Vec::new();
        }
        let error = record.data.first().is_some_and(|d| d == "error");
        let text = record.data.get(1..).unwrap_or_default().join(",");
        text.lines().map(str::trim_end).filter(|l| !l.is_empty()).flat_map(|l| self.line(l, error)).collect()
    }

    fn line(&mut self, line: &str, error: bool) -> Vec<Parsed> {
        let own = line.strip_prefix("==> ").or(line.strip_prefix("    "));
        // `==> qemu.locus: text`: the build's name has no space in it.
        let text = own.and_then(|l| l.split_once(": ")).filter(|(name, _)| !name.contains(' ')).map(|(_, text)| text);
        match text {
            Some(text) if !error && BEGINNINGS.iter().any(|b| text.starts_with(b)) => self.begin(text),
            Some(text) if ENDINGS.iter().any(|e| text.starts_with(e)) => self.end_with(true, text),
            Some(text) if FAILURES.iter().any(|e| text.starts_with(e)) => self.end_with(false, text),
            Some(text) if self.current.is_some() => {
                vec![Parsed::Output(if error { Stream::Stderr } else { Stream::Stdout }, text.to_owned())]
            }
            Some(text) if !error => vec![Parsed::Progress(text.to_owned())],
            _ if error => vec![Parsed::Error(line.to_owned())],
            _ => vec![Parsed::Progress(line.to_owned())],
        }
    }

    fn begin(&mut self, text: &str) -> Vec<Parsed> {
        match self.current {
            Some((step, left)) if left > 0 => {
                self.current = Some((step, left - 1));
                vec![Parsed::Output(Stream::Stdout, text.to_owned())]
            }
            _ if self.next < self.beginnings.len() => {
                let mut parsed = self.end(true);
                let step = self.next;
                self.current = Some((step, self.beginnings[step].saturating_sub(1)));
                self.next += 1;
                parsed.push(Parsed::Began(step));
                parsed
            }
            // There are more start messages than the recipe has scripts, so a script printed this one.
            _ => vec![Parsed::Output(Stream::Stdout, text.to_owned())],
        }
    }

    fn end(&mut self, good: bool) -> Vec<Parsed> {
        self.current.take().map(|(step, _)| Parsed::Ended(step, good)).into_iter().collect()
    }

    fn end_with(&mut self, good: bool, text: &str) -> Vec<Parsed> {
        let mut parsed = self.end(good);
        parsed.push(Parsed::Progress(text.to_owned()));
        parsed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::recipe::{Place, Script, Shell};

    fn shell(name: &str, scripts: usize) -> Step {
        let script = Script { name: name.to_owned(), content: Vec::new() };
        Step {
            name: name.to_owned(),
            place: Place { file: "t.pkr.hcl".into(), line: 1 },
            action: Action::Shell(Shell {
                scripts: vec![script; scripts],
                env: Vec::new(),
                execute_command: String::new(),
                expect_disconnect: false,
                valid_exit_codes: vec![0],
            }),
            pause_before: Duration::ZERO,
            timeout: None,
            max_retries: 0,
        }
    }

    fn parsed(reader: &mut Reader, lines: &str) -> Vec<Parsed> {
        lines.lines().filter_map(Record::read).flat_map(|r| reader.read(&r)).collect()
    }

    #[test]
    fn records_are_read_with_their_escapes() {
        let record = Record::read("1795260516,,ui,say,==> null.a: one%!(PACKER_COMMA) two\\n").unwrap();
        assert_eq!(
            (record.kind.as_str(), record.data),
            ("ui", vec!["say".to_owned(), "==> null.a: one, two\n".to_owned()])
        );
        assert_eq!(Record::read("not a record"), None);
    }

    #[test]
    fn steps_are_recognized_by_counting_start_messages() {
        let mut reader = Reader::new(&[shell("one", 1), shell("two", 2)]);
        let lines = "\
            1,,ui,say,==> qemu.locus: Waiting for SSH to become available...\n\
            2,,ui,say,==> qemu.locus: Provisioning with shell script: /tmp/packer-shell1\n\
            3,,ui,say,==> qemu.locus: hello\n\
            4,,ui,error,==> qemu.locus: + set -x\n\
            5,,ui,say,==> qemu.locus: Provisioning with shell script: a.sh\n\
            6,,ui,say,==> qemu.locus: Provisioning with shell script: b.sh\n\
            7,,ui,say,==> qemu.locus: Gracefully halting virtual machine...\n\
            8,,ui,say,==> qemu.locus: Converting hard drive...";
        let out = |text: &str| Parsed::Output(Stream::Stdout, text.to_owned());
        let progress = |text: &str| Parsed::Progress(text.to_owned());
        assert_eq!(
            parsed(&mut reader, lines),
            [
                progress("Waiting for SSH to become available..."),
                Parsed::Began(0),
                out("hello"),
                Parsed::Output(Stream::Stderr, "+ set -x".to_owned()),
                Parsed::Ended(0, true),
                Parsed::Began(1),
                out("Provisioning with shell script: b.sh"),
                Parsed::Ended(1, true),
                progress("Gracefully halting virtual machine..."),
                progress("Converting hard drive..."),
            ]
        );
    }

    #[test]
    fn a_failed_step_and_its_error_are_parsed() {
        let mut reader = Reader::new(&[shell("one", 1)]);
        let lines = "\
            1,,ui,say,==> qemu.locus: Provisioning with shell script: a.sh\n\
            2,,ui,say,==> qemu.locus: Provisioning step had errors: Running the cleanup provisioner%!(PACKER_COMMA) if present...\n\
            3,,ui,error,Build 'qemu.locus' errored after 1 minute: Script exited with non-zero exit status: 7";
        let parsed = parsed(&mut reader, lines);
        assert_eq!(parsed[1], Parsed::Ended(0, false));
        assert!(matches!(parsed.last(), Some(Parsed::Error(text)) if text.contains("non-zero exit status: 7")));
    }
}

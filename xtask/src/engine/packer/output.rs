//! Packer's `-machine-readable` output as our events (developer.hashicorp.com/packer/docs/commands, "Machine-readable output").
//!
//! Pure. Packer tells steps by sentences, not by records, so a small reader counts them against the recipe's steps; a sentence it
//! does not know is output, never an error.

use crate::event::Stream;
use crate::recipe::{Action, Step};

/// What the provisioners say when they begin.
const BEGINNINGS: [&str; 4] = [
    "Provisioning with shell script: ",
    "Uploading ",
    "Running local shell script: ",
    "Pausing at breakpoint provisioner",
];
/// What builders say when the last provisioner is through.
const ENDINGS: [&str; 2] = ["Stopping the source instance", "Gracefully halting virtual machine"];
/// What Packer and builders say when a provisioner failed or was cancelled.
const FAILURES: [&str; 4] =
    ["Provisioning step had errors", "Step \"", "Terminating the source AWS instance", "Cancelling provisioning"];

/// A line of the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The build it is about; empty for Packer as a whole.
    pub(super) target: String,
    /// `ui`, `artifact`, `error`, `version`...
    pub(super) kind: String,
    /// The rest.
    pub(super) data: Vec<String>,
}

/// What a line means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Step `.0` begins.
    Began(usize),
    /// Step `.0` is through; true if it did its work.
    Ended(usize, bool),
    /// A line of the step that runs.
    Output(Stream, String),
    /// The builder talks: booting, stopping, making an image.
    Talk(String),
    /// Packer says what is wrong.
    Wrong(String),
}

impl Record {
    /// A line `timestamp,target,type,data...`.
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

/// Counts provisioners against the recipe.
#[derive(Debug)]
pub(super) struct Reader {
    /// How many beginnings each step has.
    beginnings: Vec<usize>,
    /// The step that runs, and how many beginnings of it are still to come.
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

    /// What a record means, line by line.
    pub(super) fn read(&mut self, record: &Record) -> Vec<Said> {
        if record.kind != "ui" {
            return Vec::new();
        }
        let error = record.data.first().is_some_and(|d| d == "error");
        let text = record.data.get(1..).unwrap_or_default().join(",");
        text.lines().map(str::trim_end).filter(|l| !l.is_empty()).flat_map(|l| self.line(l, error)).collect()
    }

    fn line(&mut self, line: &str, error: bool) -> Vec<Said> {
        let own = line.strip_prefix("==> ").or(line.strip_prefix("    "));
        // `==> qemu.locus: text`: the build's name has no space in it.
        let text = own.and_then(|l| l.split_once(": ")).filter(|(name, _)| !name.contains(' ')).map(|(_, text)| text);
        match text {
            Some(text) if !error && BEGINNINGS.iter().any(|b| text.starts_with(b)) => self.begin(text),
            Some(text) if ENDINGS.iter().any(|e| text.starts_with(e)) => self.end_with(true, text),
            Some(text) if FAILURES.iter().any(|e| text.starts_with(e)) => self.end_with(false, text),
            Some(text) if self.current.is_some() => {
                vec![Said::Output(if error { Stream::Stderr } else { Stream::Stdout }, text.to_owned())]
            }
            Some(text) if !error => vec![Said::Talk(text.to_owned())],
            _ if error => vec![Said::Wrong(line.to_owned())],
            _ => vec![Said::Talk(line.to_owned())],
        }
    }

    fn begin(&mut self, text: &str) -> Vec<Said> {
        match self.current {
            Some((step, left)) if left > 0 => {
                self.current = Some((step, left - 1));
                vec![Said::Output(Stream::Stdout, text.to_owned())]
            }
            _ if self.next < self.beginnings.len() => {
                let mut said = self.end(true);
                let step = self.next;
                self.current = Some((step, self.beginnings[step].saturating_sub(1)));
                self.next += 1;
                said.push(Said::Began(step));
                said
            }
            // More than the recipe has: a script that prints such a sentence.
            _ => vec![Said::Output(Stream::Stdout, text.to_owned())],
        }
    }

    fn end(&mut self, good: bool) -> Vec<Said> {
        self.current.take().map(|(step, _)| Said::Ended(step, good)).into_iter().collect()
    }

    fn end_with(&mut self, good: bool, text: &str) -> Vec<Said> {
        let mut said = self.end(good);
        said.push(Said::Talk(text.to_owned()));
        said
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

    fn said(reader: &mut Reader, lines: &str) -> Vec<Said> {
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
    fn steps_begin_and_end_by_count() {
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
        let out = |text: &str| Said::Output(Stream::Stdout, text.to_owned());
        let talk = |text: &str| Said::Talk(text.to_owned());
        assert_eq!(
            said(&mut reader, lines),
            [
                talk("Waiting for SSH to become available..."),
                Said::Began(0),
                out("hello"),
                Said::Output(Stream::Stderr, "+ set -x".to_owned()),
                Said::Ended(0, true),
                Said::Began(1),
                out("Provisioning with shell script: b.sh"),
                Said::Ended(1, true),
                talk("Gracefully halting virtual machine..."),
                talk("Converting hard drive..."),
            ]
        );
    }

    #[test]
    fn a_failure_is_told() {
        let mut reader = Reader::new(&[shell("one", 1)]);
        let lines = "\
            1,,ui,say,==> qemu.locus: Provisioning with shell script: a.sh\n\
            2,,ui,say,==> qemu.locus: Provisioning step had errors: Running the cleanup provisioner%!(PACKER_COMMA) if present...\n\
            3,,ui,error,Build 'qemu.locus' errored after 1 minute: Script exited with non-zero exit status: 7";
        let said = said(&mut reader, lines);
        assert_eq!(said[1], Said::Ended(0, false));
        assert!(matches!(said.last(), Some(Said::Wrong(text)) if text.contains("non-zero exit status: 7")));
    }
}

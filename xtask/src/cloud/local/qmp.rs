//! A client of the QEMU Machine Protocol with the commands that a build uses (QEMU: docs/interop/qmp-spec.rst, qemu-qmp-ref).

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Error, Exit, Result};

/// Timeout of an answer. It is long because a snapshot flushes the disk first.
const TIMEOUT: Duration = Duration::from_secs(120);

/// An open session in command mode.
#[derive(Debug)]
pub(super) struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Qmp {
    /// Connects and negotiates capabilities.
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let writer = UnixStream::connect(socket).map_err(|e| wrong(&format!("cannot connect: {e}")))?;
        writer.set_read_timeout(Some(TIMEOUT))?;
        let mut qmp = Self { reader: BufReader::new(writer.try_clone()?), writer };
        let greeting = qmp.message()?;
        if greeting.get("QMP").is_none() {
            return Err(wrong(&format!("unexpected greeting {greeting}")));
        }
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Runs a command and returns its return value. Skips events that arrive before it.
    pub(super) fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.writer, "{request}")?;
        loop {
            let mut answer = self.message()?;
            if let Some(error) = answer.get("error") {
                return Err(wrong(&format!("{command}: {}", error["desc"].as_str().unwrap_or_default())));
            }
            if answer.get("return").is_some() {
                return Ok(answer["return"].take());
            }
        }
    }

    /// Resets the machine, like a hardware reset.
    pub(super) fn reset(&mut self) -> Result<()> {
        self.execute("system_reset", &json!({})).map(drop)
    }

    /// Makes `overlay` the top of the node `device`, whose current disk becomes its read-only backing file.
    ///
    /// The overlay must exist (`mode: existing`): one that QEMU creates has an absolute backing path, which breaks when the state
    /// directory is moved.
    pub(super) fn snapshot(&mut self, device: &str, overlay: &Path, node: &str) -> Result<()> {
        let arguments = json!({
            "node-name": device,
            "snapshot-file": overlay,
            "snapshot-node-name": node,
            "format": "qcow2",
            "mode": "existing",
        });
        self.execute("blockdev-snapshot-sync", &arguments).map(drop)
    }

    fn message(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(wrong("QEMU closed the connection"));
        }
        serde_json::from_str(&line).map_err(|e| wrong(&format!("`{}` is not JSON: {e}", line.trim())))
    }
}

fn wrong(what: &str) -> Error {
    Exit::Failed.error(
        format_args!("QEMU's control socket: {what}"),
        "run the command again; see the run's qemu.log if QEMU exited",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends the given answers and returns the requests that it received.
    fn server(path: &Path, answers: [&'static str; 2]) -> std::thread::JoinHandle<Vec<Value>> {
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            writeln!(stream, r#"{{"QMP": {{"version": {{}}, "capabilities": []}}}}"#).unwrap();
            let mut requests = Vec::new();
            for answer in answers {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                requests.push(serde_json::from_str(&line).unwrap());
                writeln!(stream, "{answer}").unwrap();
            }
            requests
        })
    }

    #[test]
    fn events_before_the_answer_are_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("qmp");
        let events_then_answer = "{\"event\": \"RESUME\"}\n{\"return\": {\"running\": true}}";
        let server = server(&socket, [r#"{"return": {}}"#, events_then_answer]);
        let mut qmp = Qmp::connect(&socket).unwrap();
        assert_eq!(qmp.execute("query-status", &json!({})).unwrap(), json!({ "running": true }));
        assert_eq!(server.join().unwrap()[1]["execute"], "query-status");
    }

    #[test]
    fn an_error_and_a_closed_connection_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("qmp");
        let refusal = r#"{"error": {"class": "GenericError", "desc": "Cannot find device"}}"#;
        let _server = server(&socket, [r#"{"return": {}}"#, refusal]);
        let mut qmp = Qmp::connect(&socket).unwrap();
        let error = qmp.snapshot("root", Path::new("/x"), "next").unwrap_err();
        assert!(error.to_string().contains("Cannot find device"), "{error}");
        let error = qmp.execute("quit", &json!({})).unwrap_err();
        assert!(error.exit() == Exit::Failed, "{error}");
    }
}

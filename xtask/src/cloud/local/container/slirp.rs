//! The API socket of slirp4netns (slirp4netns(1), "API socket"). Each connection carries one JSON request.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{Error, Exit, Result};
use crate::signals;

/// Timeout for slirp4netns to create its socket, and for its answer.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Forwards a loopback port of the host to a port of the guest. `Some` is why slirp4netns refused; another port may succeed.
pub(super) fn forward(socket: &Path, host_port: u16, guest_port: u16) -> Result<Option<String>> {
    let arguments =
        json!({ "proto": "tcp", "host_addr": "127.0.0.1", "host_port": host_port, "guest_port": guest_port });
    let request = json!({ "execute": "add_hostfwd", "arguments": arguments });
    let answer = ask(socket, &request)?;
    Ok(answer.get("error").map(|error| error["desc"].as_str().unwrap_or("slirp4netns gave no reason").to_owned()))
}

fn ask(socket: &Path, request: &Value) -> Result<Value> {
    let started = Instant::now();
    let mut stream = loop {
        match UnixStream::connect(socket) {
            Ok(stream) => break stream,
            Err(error) if started.elapsed() > TIMEOUT => return Err(wrong(&format!("cannot connect: {error}"))),
            Err(_) => signals::pause(Duration::from_millis(50))?,
        }
    };
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(request.to_string().as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    serde_json::from_str(&text).map_err(|e| wrong(&format!("`{}` is not JSON: {e}", text.trim())))
}

fn wrong(what: &str) -> Error {
    Exit::Failed
        .error(format_args!("slirp4netns's API socket: {what}"), "run the command again, or pass `--builder vm`")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers one request and returns it.
    fn server(path: &Path, answer: &'static str) -> std::thread::JoinHandle<Value> {
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            serde_json::from_str(&text).unwrap()
        })
    }

    #[test]
    fn a_refused_port_is_not_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("taken");
        let request = server(&socket, r#"{"error":{"desc":"bad request: add_hostfwd: slirp_add_hostfwd failed"}}"#);
        assert!(forward(&socket, 2222, 22).unwrap().unwrap().contains("slirp_add_hostfwd failed"));
        assert_eq!(request.join().unwrap()["arguments"]["host_port"], 2222);
        let socket = dir.path().join("free");
        let _request = server(&socket, r#"{"return":{"id":1}}"#);
        assert_eq!(forward(&socket, 2222, 22).unwrap(), None);
    }
}

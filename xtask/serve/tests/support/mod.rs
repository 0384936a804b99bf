//! A server on a project of its own, whose builds are those of the example `stand-in`.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test binary uses a part, and a failure is a panic"
)]
#![expect(clippy::disallowed_methods, reason = "tests start the server as its users do")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

pub mod browser;
pub mod postgres;

/// The longest time for anything that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A project with a state directory.
pub struct Project {
    pub dir: tempfile::TempDir,
}

/// A running server.
pub struct Server {
    child: Child,
    pub url: String,
    pub token: String,
    /// What it printed so far.
    log: std::sync::Arc<std::sync::Mutex<String>>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub text: String,
}

const AMI: &str = r#"
[images.default-ec2]
default = true
template = "packer/default-ec2"
version = "1.0.0"
smoke = "smoke.toml"
source_local = "qemu.it"
source_aws = "amazon-ebs.it"

[regions]
local = ["local-1", "local-2"]
aws = ["us-east-1", "eu-west-1"]

[channels.staging]
env_file = ".env.staging"

[serve]
listen = "127.0.0.1:0"
variables = ["node_version", "extra_packages"]
requests_per_minute = 1000000
"#;

impl Project {
    /// `serve` are further lines of `[serve]`.
    pub fn new(serve: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("packer/default-ec2")).unwrap();
        std::fs::write(dir.path().join("smoke.toml"), "").unwrap();
        std::fs::write(dir.path().join("ami.toml"), format!("{AMI}{serve}\n")).unwrap();
        Self { dir }
    }

    /// The project with a part of its ami.toml replaced.
    pub fn with(self, from: &str, to: &str) -> Self {
        let file = self.dir.path().join("ami.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(file, text.replace(from, to)).unwrap();
        self
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join(".agent-ami")
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask-serve"));
        command.env("CARGO_MANIFEST_DIR", self.dir.path().join("xtask")).current_dir(self.dir.path());
        // Those of the tests are no keys of ami.toml.
        let ours = std::env::vars_os()
            .filter_map(|(name, _)| name.into_string().ok())
            .filter(|name| name.starts_with("AGENT_AMI_"));
        for name in ours {
            command.env_remove(name);
        }
        command
    }

    /// Starts a server, and waits until it listens.
    pub fn start(&self) -> Server {
        self.start_with(&[], &[])
    }

    pub fn start_with(&self, options: &[&str], env: &[(&str, &str)]) -> Server {
        let stand_in = Path::new(env!("CARGO_BIN_EXE_xtask-serve")).with_file_name("examples").join("stand-in");
        assert!(stand_in.exists(), "run `cargo build --package xtask-serve --examples`: cargo omits it with --test");
        let mut command = self.command();
        command.args(["serve", "--xtask"]).arg(stand_in).args(options).envs(env.iter().copied());
        Server::listening(command, &self.state())
    }

    /// Creates a token with these scopes.
    pub fn token(&self, name: &str, scopes: &str) -> String {
        let output = self.command().args(["serve", "token", "create", name, "--scope", scopes]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// The lines of the stand-in's log.
    pub fn built(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.state().join("stand-in.log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Server {
    /// A server of the project itself, whose builds are those of `xtask`.
    pub fn real(env: &[(&str, &str)]) -> Self {
        let binary = Path::new(env!("CARGO_BIN_EXE_xtask-serve"));
        let mut command = Command::new(binary);
        command.args(["serve", "--listen=127.0.0.1:0", "--xtask"]).arg(binary.with_file_name("xtask"));
        command.env("CARGO_MANIFEST_DIR", root().join("xtask")).current_dir(root());
        command.envs(env.iter().copied());
        Self::listening(command, &root().join(".agent-ami"))
    }

    /// Starts the command, and waits until it listens. `state` is its state directory.
    fn listening(mut command: Command, state: &Path) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = std::sync::Arc::<std::sync::Mutex<String>>::default();
        let mut url = None;
        for line in lines.by_ref() {
            let line = line.unwrap();
            log.lock().unwrap().push_str(&format!("{line}\n"));
            if let Some((_, found)) = line.split_once("listening on ") {
                url = Some(found.to_owned());
                break;
            }
        }
        let url = url.unwrap_or_else(|| panic!("the server ended:\n{}", log.lock().unwrap()));
        let copy = log.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                copy.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        let token = std::fs::read_to_string(state.join("serve/admin-token")).unwrap().trim().to_owned();
        Server { child, url, token, log }
    }

    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Answer {
        let config = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0);
        let agent = config.allow_non_standard_methods(true).timeout_global(Some(PATIENCE)).build().new_agent();
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut answer = agent.run(request.body(body.unwrap_or_default().to_owned()).unwrap()).unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        Answer { status: answer.status().as_u16(), headers: answer.headers().clone(), text }
    }

    fn with_token(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(body.map(|_| ("content-type", "application/json")));
        self.request(method, path, &headers, body.map(ToString::to_string).as_deref())
    }

    pub fn get(&self, path: &str) -> Answer {
        self.with_token("GET", path, None)
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.with_token("POST", path, Some(body))
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.with_token("DELETE", path, None)
    }

    /// Queues a build of the stand-in, and returns its id.
    pub fn build(&self, what: &str) -> String {
        let body = json!({ "provider": "codex", "variables": { "node_version": what } });
        let answer = self.post("/api/v1/images/build", &body);
        assert_eq!(answer.status, 202, "{}", answer.text);
        answer.json()["build_id"].as_str().unwrap().to_owned()
    }

    pub fn show(&self, build: &str) -> Value {
        let answer = self.get(&format!("/api/v1/images/builds/{build}"));
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    }

    /// Waits until a build has one of these states, and returns it.
    pub fn wait(&self, build: &str, states: &[&str]) -> Value {
        wait(&format!("{build} to be {states:?}"), || {
            let shown = self.show(build);
            states.contains(&shown["status"].as_str().unwrap()).then_some(shown)
        })
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, signal);
    }

    /// Waits for its end; returns the exit code.
    pub fn ended(mut self) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(started.elapsed() < PATIENCE, "the server does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts that it is a problem with this status whose detail contains a text.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, detail: &str) {
        assert_eq!((self.status, self.header("content-type")), (status, "application/problem+json"), "{}", self.text);
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{}", self.text);
    }
}

/// Waits until `look` finds something.
#[track_caller]
pub fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited {} s for {what}", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Runs a program to its end.
pub fn run(program: &str, args: &[&str]) -> std::process::Output {
    Command::new(program).args(args).output().unwrap()
}

/// The events of a stream from this one on, until it ends: type, id, data.
pub fn events(url: &str, token: &str, build: &str, last: Option<&str>) -> Vec<(String, String, String)> {
    let last = last.map(|last| format!("Last-Event-ID: {last}\r\n")).unwrap_or_default();
    let mut stream = std::net::TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let path = format!("/api/v1/images/builds/{build}/events");
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{last}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains("content-type: text/event-stream"), "{text}");
    let body = text.split_once("\r\n\r\n").unwrap().1;
    let field = |block: &str, name: &str| {
        block.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap_or_default().to_owned()
    };
    let blocks = body.split("\n\n").filter(|block| block.contains("event:"));
    blocks.map(|block| (field(block, "event"), field(block, "id"), field(block, "data"))).collect()
}

/// The directory with the programs of a Python package that `.ci/NAME/requirements.txt` pins.
pub fn provided(name: &str) -> PathBuf {
    let requirements = root().join(format!(".ci/{name}/requirements.txt"));
    let digest = xtask::recipe::Digest::of(&std::fs::read(&requirements).unwrap()).short();
    let venv = root().join(format!(".agent-ami/{name}-{digest}"));
    let done = venv.join("done");
    if !done.exists() {
        let made = run("python3", &["-m", "venv", "--clear", venv.to_str().unwrap()]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let pip = venv.join("bin/pip");
        let options = ["install", "--quiet", "--no-deps", "--require-hashes", "-r", requirements.to_str().unwrap()];
        let installed = run(pip.to_str().unwrap(), &options);
        assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
        std::fs::write(done, "").unwrap();
    }
    venv.join("bin")
}

/// Root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

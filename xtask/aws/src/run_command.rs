//! Access to an instance without SSH, by Run Command of AWS Systems Manager. Needs no key pair, no open port and no address of the caller.
//!
//! Each command runs in a transient systemd unit with a fixed name and writes to files, which polls read. Run Command itself returns at
//! most 24,000 characters (API reference, GetCommandInvocation). SendCommand has no client token, so every script may run twice.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_ssm::Client;
use aws_sdk_ssm::types::CommandInvocationStatus as Status;
use aws_smithy_types::base64;
use xtask::error::{Error, Exit, Result};
use xtask::event::Stream;
use xtask::ids::Region;
use xtask::process::{Cmd, Ended, Finished, quote};
use xtask::remote::Remote;
use xtask::signals;

use crate::aws_error::{AwsError, Kind};
use crate::drive::Driver;
use crate::wait::retried;

/// Directory of commands, inputs and outputs on the instance. A reboot clears it.
const DIR: &str = "/run/agent-ami-ssm";
/// Bytes of a file in one SendCommand: its parameters are limited to 64 KB, and base64 adds a third.
const CHUNK: usize = 36 << 10;
/// Bytes of each stream in one poll: both in base64 fit into 24,000 characters.
const WINDOW: usize = 8 << 10;
/// Timeout of a command whose output is returned at once.
const SHORT: Duration = Duration::from_secs(600);

/// Access to one instance.
#[derive(Debug)]
pub struct RunCommand {
    driver: Arc<Driver>,
    client: Client,
    instance: String,
    region: Region,
    user: String,
    /// Time between two polls of a command.
    pause: Duration,
    /// Timeout for an unavailable instance.
    patience: Duration,
    boot_id: String,
    /// Distinguishes the files of this session from those of earlier sessions.
    session: u32,
    jobs: AtomicU64,
}

/// One poll of a running command: its exit code, and the next part of its output.
#[derive(Debug, PartialEq, Eq)]
struct Poll {
    boot_id: String,
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// The result of one AWS-RunShellScript.
#[derive(Debug)]
enum Answer {
    Output(String),
    /// The instance did not run it: the instance is restarting, or its agent is not running yet.
    Unavailable(String),
}

impl RunCommand {
    /// Access to an instance that may still be booting.
    pub fn new(
        driver: &Arc<Driver>,
        client: Client,
        (instance, region): (&str, &Region),
        user: &str,
        (pause, patience): (Duration, Duration),
    ) -> Self {
        let (driver, jobs) = (Arc::clone(driver), AtomicU64::new(0));
        let (instance, region, user) = (instance.to_owned(), region.clone(), user.to_owned());
        let (boot_id, session) = (String::new(), fastrand::u32(..));
        Self { driver, client, instance, region, user, pause, patience, boot_id, session, jobs }
    }

    /// Waits until the instance's agent accepts commands.
    pub fn connect(mut self, waited: &dyn Fn(Duration)) -> Result<Self> {
        let started = Instant::now();
        loop {
            match self.run("cat /proc/sys/kernel/random/boot_id")? {
                Answer::Output(boot_id) => {
                    self.boot_id = boot_id.trim().to_owned();
                    return Ok(self);
                }
                Answer::Unavailable(why) if started.elapsed() >= self.patience => {
                    return Err(Exit::Failed.error(
                        format_args!("Systems Manager did not reach {} within {} s: {why}", self.instance, self.patience.as_secs()),
                        "install amazon-ssm-agent in the image, and set `ssm_instance_profile` in ami.toml to a profile with AmazonSSMManagedInstanceCore",
                    ));
                }
                Answer::Unavailable(_) => {
                    waited(started.elapsed());
                    signals::pause(self.pause)?;
                }
            }
        }
    }

    /// Boot id of the instance at [`Self::connect`].
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Runs a script as root and returns its output. The script must be idempotent.
    fn run(&self, script: &str) -> Result<Answer> {
        self.driver.wait(self.sent(script))?.map_err(Error::from)
    }

    async fn sent(&self, script: &str) -> std::result::Result<Answer, AwsError> {
        let call = self.client.send_command().document_name("AWS-RunShellScript").instance_ids(&self.instance);
        let call = call.parameters("commands", vec![script.to_owned()]).timeout_seconds(30);
        let sent = match retried(|| call.clone().send(), "ssm:SendCommand").await {
            // The node is not registered (yet), or its last ping is too old.
            Err(aws_error) if aws_error.code.as_deref() == Some("InvalidInstanceId") => {
                return Ok(Answer::Unavailable(aws_error.message));
            }
            sent => sent?,
        };
        let id = sent.command().and_then(|c| c.command_id()).unwrap_or_default().to_owned();
        let call = self.client.get_command_invocation().command_id(id).instance_id(&self.instance);
        let started = tokio::time::Instant::now();
        loop {
            match retried(|| call.clone().send(), "ssm:GetCommandInvocation").await {
                // The invocation becomes visible shortly after SendCommand returns.
                Err(aws_error) if aws_error.kind == Kind::NotFound && started.elapsed() < self.patience => {}
                answer => {
                    let answer = answer?;
                    let output = || answer.standard_output_content().unwrap_or_default().to_owned();
                    match answer.status() {
                        Some(Status::Success) => return Ok(Answer::Output(output())),
                        Some(Status::Pending | Status::InProgress | Status::Delayed) | None
                            if started.elapsed() < self.patience => {}
                        Some(Status::Failed) => return Err(self.failed(&answer)),
                        status => {
                            let status = status.map_or("unknown", Status::as_str);
                            return Ok(Answer::Unavailable(format!("the command is {status}")));
                        }
                    }
                }
            }
            tokio::time::sleep(self.pause).await;
        }
    }

    fn failed(&self, answer: &aws_sdk_ssm::operation::get_command_invocation::GetCommandInvocationOutput) -> AwsError {
        let stderr = answer.standard_error_content().unwrap_or_default().trim().to_owned();
        let message = format!("script on {} exited with {}: {stderr}", self.instance, answer.response_code());
        AwsError { kind: Kind::Other, action: "ssm:SendCommand", code: None, message }
    }

    /// As [`Self::run`], but an unavailable instance is an error.
    fn must(&self, script: &str) -> Result<String> {
        match self.run(script)? {
            Answer::Output(output) => Ok(output),
            Answer::Unavailable(why) => Err(self.lost(&why)),
        }
    }

    fn lost(&self, why: &str) -> Error {
        Exit::Failed.error(
            format_args!("{} is not reachable any more: {why}", self.instance),
            "check its console output (`aws ec2 get-console-output`)",
        )
    }

    /// Writes bytes to a file that root owns, in several parts.
    fn send(&self, bytes: &[u8], file: &str) -> Result<()> {
        let mut parts = Vec::new();
        for (i, chunk) in bytes.chunks(CHUNK).enumerate() {
            let part = format!("{file}.{i}");
            let text = base64::encode(chunk);
            self.must(&format!("install -d -m 0700 {DIR}; printf %s {text} | base64 -d >{part}"))?;
            parts.push(part);
        }
        let all = parts.join(" ");
        self.must(&format!(
            "install -d -m 0700 {DIR}; test -e {file} || {{ cat /dev/null {all} >{file}.new && mv {file}.new {file} && rm -f {all}; }}"
        ))
        .map(drop)
    }

    /// Starts a command as the login user; returns the common path prefix of its files.
    fn start(&self, command: &str, stdin: &[u8]) -> Result<String> {
        let name = format!("{:08x}-{}", self.session, self.jobs.fetch_add(1, Ordering::Relaxed));
        let job = format!("{DIR}/{name}");
        let input = if stdin.is_empty() { "/dev/null".to_owned() } else { format!("{job}.in") };
        if !stdin.is_empty() {
            self.send(stdin, &input)?;
        }
        self.send(command.as_bytes(), &format!("{job}.cmd"))?;
        self.must(&launch(&self.user, &name, &input))?;
        Ok(job)
    }

    /// The next part of a command's output, and its exit code if it has ended. `None` if the instance has restarted meanwhile, or stays
    /// unavailable.
    fn poll(&self, job: &str, (out, err): (usize, usize)) -> Result<Option<Poll>> {
        let started = Instant::now();
        loop {
            match self.run(&peek(job, out, err))? {
                Answer::Output(output) => {
                    let poll = parse(&output).ok_or_else(|| self.lost(&format!("unexpected output {output:?}")))?;
                    return Ok(Some(poll).filter(|p| p.boot_id == self.boot_id));
                }
                Answer::Unavailable(_) if started.elapsed() < self.patience => signals::pause(self.pause)?,
                Answer::Unavailable(_) => return Ok(None),
            }
        }
    }

    /// Polls a command until it ends or times out.
    fn follow(
        &self,
        job: &str,
        deadline: Option<Instant>,
        on_output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Option<Ended>> {
        let (mut out, mut err) = (0, 0);
        loop {
            let Some(poll) = self.poll(job, (out, err))? else { return Ok(None) };
            out += poll.stdout.len();
            err += poll.stderr.len();
            let quiet = poll.stdout.is_empty() && poll.stderr.is_empty();
            on_output(Stream::Stdout, &poll.stdout);
            on_output(Stream::Stderr, &poll.stderr);
            if let Some(code) = poll.code.filter(|_| quiet) {
                self.must(&format!("rm -f {job}.*"))?;
                return Ok(Some(Ended::Code(code)));
            }
            if deadline.is_some_and(|d| Instant::now() >= d) {
                let unit = unit(job.rsplit('/').next().unwrap_or_default());
                self.must(&format!("systemctl kill --signal=KILL {unit}; rm -f {job}.*"))?;
                return Ok(Some(Ended::TimedOut));
            }
            if quiet {
                signals::pause(self.pause)?;
            }
        }
    }
}

/// A script that starts a command once, even if the script runs twice. A login shell of the user runs the command in the control group of
/// the unit, so that all of its processes can be killed (`runuser -l` would open a session in another control group). Background processes
/// of the command keep running after its end, as with ssh.
fn launch(user: &str, name: &str, input: &str) -> String {
    let (job, unit) = (format!("{DIR}/{name}"), unit(name));
    let inner = format!(
        "home=$(getent passwd {user} | cut -d: -f6); cd \"$home\"; \
         runuser -u {user} -- env -i HOME=\"$home\" USER={user} LOGNAME={user} SHELL=/bin/bash LANG=C.UTF-8 \
         bash -lc \"$(cat {job}.cmd)\" <{input} >{job}.out 2>{job}.err; echo $? >{job}.new; mv {job}.new {job}.rc"
    );
    let there = format!("test -e {job}.out || systemctl --quiet is-active {unit}");
    format!(
        "{there} || systemd-run --quiet --collect --unit={unit} --property=KillMode=process sh -c {} || {there} || exit 1\n\
         for i in 1 2 3 4 5 6 7 8; do test -e {job}.rc && break; sleep 0.1; done",
        quote(&inner)
    )
}

fn unit(name: &str) -> String {
    format!("agent-ami-ssm-{name}.service")
}

/// A script that prints boot id, exit code, and the next bytes of each stream.
fn peek(job: &str, out: usize, err: usize) -> String {
    let window = |name: &str, from: usize| {
        format!("tail -c +{} {job}.{name} 2>/dev/null | head -c {WINDOW} | base64 -w 0; echo", from + 1)
    };
    // The exit code is read first: if it exists, the output is complete.
    format!(
        "cat /proc/sys/kernel/random/boot_id; cat {job}.rc 2>/dev/null || echo -; {}; {}",
        window("out", out),
        window("err", err)
    )
}

/// Parses the output of [`peek`].
fn parse(output: &str) -> Option<Poll> {
    let mut lines = output.split('\n');
    let (boot_id, code) = (lines.next()?.trim().to_owned(), lines.next()?.trim());
    let code = if code == "-" { None } else { Some(code.parse().ok()?) };
    let stdout = base64::decode(lines.next()?.trim()).ok()?;
    let stderr = base64::decode(lines.next()?.trim()).ok()?;
    Some(Poll { boot_id, code, stdout, stderr })
}

/// Splits a stream into lines. A last line without a newline is passed on at the end of the stream.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn take(&mut self, bytes: &[u8], line: &mut dyn FnMut(&str)) {
        self.0.extend_from_slice(bytes);
        while let Some(end) = self.0.iter().position(|b| *b == b'\n') {
            let whole: Vec<u8> = self.0.drain(..=end).collect();
            line(String::from_utf8_lossy(&whole).trim_end_matches(['\n', '\r']));
        }
    }

    fn rest(&mut self, line: &mut dyn FnMut(&str)) {
        if !self.0.is_empty() {
            line(&String::from_utf8_lossy(&std::mem::take(&mut self.0)));
        }
    }
}

impl Remote for RunCommand {
    fn output(&self, command: &str, stdin: &[u8]) -> Result<Finished> {
        let job = self.start(command, stdin)?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let ended = self.follow(&job, Some(Instant::now() + SHORT), &mut |stream, bytes| match stream {
            Stream::Stdout => stdout.extend_from_slice(bytes),
            Stream::Stderr => stderr.extend_from_slice(bytes),
        })?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        match ended {
            Some(Ended::Code(code)) => Ok(Finished { code, stdout: text(stdout), stderr: text(stderr) }),
            Some(Ended::TimedOut) => Err(self.lost(&format!("`{command}` ran for more than {} s", SHORT.as_secs()))),
            None => Err(self.lost("it restarted or became unavailable")),
        }
    }

    fn stream(
        &self,
        command: &str,
        timeout: Option<Duration>,
        line: &mut dyn FnMut(Stream, &str),
    ) -> Result<Option<Ended>> {
        let job = self.start(command, b"")?;
        let (mut out, mut err) = (Lines::default(), Lines::default());
        let ended = self.follow(&job, timeout.map(|t| Instant::now() + t), &mut |stream, bytes| {
            let lines = if stream == Stream::Stdout { &mut out } else { &mut err };
            lines.take(bytes, &mut |text| line(stream, text));
        })?;
        out.rest(&mut |text| line(Stream::Stdout, text));
        err.rest(&mut |text| line(Stream::Stderr, text));
        Ok(ended)
    }

    fn upload(&self, local: &Path, remote: &str) -> Result<()> {
        let hint = "create the destination's directory, and make it writable for the login user";
        let (Some(dir), Some(name)) = (local.parent(), local.file_name()) else {
            return Err(Exit::Failed.error(format_args!("cannot upload {}", local.display()), hint));
        };
        let staging = tempfile::tempdir()?;
        let archive = staging.path().join("upload.tar.gz");
        Cmd::new("tar").arg("-C").arg(dir).arg("-czf").arg(&archive).arg(name).read()?;
        let name = quote(&name.to_string_lossy());
        let unpack = match remote.strip_suffix('/') {
            Some(dir) => format!("tar -xzf - -C {}", quote(if dir.is_empty() { "/" } else { dir })),
            None => {
                format!("d=$(mktemp -d) && tar -xzf - -C \"$d\" && mv \"$d\"/{name} {}; rm -rf \"$d\"", quote(remote))
            }
        };
        let finished = self.output(&unpack, &fs_err::read(&archive)?)?;
        if finished.code != 0 {
            let message = format!("cannot upload {} to {remote}: {}", local.display(), finished.stderr.trim());
            return Err(Exit::Failed.error(message, hint));
        }
        Ok(())
    }

    fn login_line(&self) -> String {
        format!("aws ssm start-session --region {} --target {}", self.region, self.instance)
    }

    fn launch_key(&self) -> Option<PathBuf> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_a_poll_is_parsed() {
        let output = "1b2c\n-\naGVsbG8K\n\n";
        let poll = Poll { boot_id: "1b2c".to_owned(), code: None, stdout: b"hello\n".to_vec(), stderr: Vec::new() };
        assert_eq!(parse(output), Some(poll));
        assert_eq!(parse("1b2c\n7\n\n\n").unwrap().code, Some(7));
        assert_eq!(parse("bash: no such file"), None);
    }

    #[test]
    fn lines_are_joined_across_polls() {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        for window in ["on", "e\ntw", "o\r\n\nlast"] {
            lines.take(window.as_bytes(), &mut |l| seen.push(l.to_owned()));
        }
        lines.rest(&mut |l| seen.push(l.to_owned()));
        assert_eq!(seen, ["one", "two", "", "last"]);
    }
}

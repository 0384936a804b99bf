//! The smoke test: boots a new instance of an image, runs the smoke binary on it, restarts the instance and runs the binary again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use smoke::boot::Boot;
use smoke::report::{Check, Outcome as CheckOutcome, Report};

use crate::cloud::{Cloud, Image, Machine};
use crate::contents::{MANIFEST, SBOM};
use crate::error::{Error, Exit, Result};
use crate::event::{Event, Observer, Outcome, Phase, Stream, clean, phase, second_try};
use crate::process::{Cmd, Ended, Tail};
use crate::recipe::Digest;
use crate::remote::Remote;

/// Directory of the smoke binary, its spec and its fixtures on the instance. Not below `/tmp`, which a restart empties.
pub const DIR: &str = "/var/tmp/agent-ami-smoke";
/// Timeout of one run of the smoke binary. Each check has its own, shorter timeout, so a longer run means that the binary hangs.
const TIMEOUT: Duration = Duration::from_secs(900);
/// Size limit of a report in bytes. The instance writes the report, so its size cannot be trusted.
const REPORT_LIMIT: usize = 4 << 20;
/// The boots after which the smoke binary runs, in order.
const PASSES: [&str; 2] = ["first boot", "after reboot"];
/// Name of the document with an image's last smoke record, where all passes were run.
pub const DOCUMENT: &str = "smoke.json";
/// Name of the document with the last smoke record of a run without some of the passes. It does not replace a record with all passes.
pub const PARTIAL: &str = "smoke-partial.json";

/// The files that are uploaded to the instance.
#[derive(Clone, Debug)]
pub struct Kit {
    /// The smoke binary.
    pub binary: PathBuf,
    /// The smoke spec.
    pub spec: PathBuf,
    /// The login user in the spec.
    pub user: String,
    /// CA certificates that the builder trusted during the build. The image must not trust them.
    pub build_ca: Vec<String>,
}

/// How the smoke test is carried out.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Restart the instance and run the smoke binary again.
    pub reboot: bool,
    /// Keep the instance running if the smoke test fails.
    pub keep_on_failure: bool,
}

/// The result of an image's smoke test. `promote` requires one that passed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Version of this record's layout.
    pub schema: u32,
    /// Digest of the disk that was tested. The result is valid for every copy with the same disk.
    pub content: Digest,
    /// Digest of the smoke spec.
    pub spec_sha256: Digest,
    /// True if every check of every pass passed, and the passes agree with each other.
    pub passed: bool,
    /// Time of the test, RFC 3339.
    pub at: Timestamp,
    /// Names of the passes: `first boot`, or `first boot on t3.micro` if the provider has instance types.
    #[serde(default)]
    pub passes: Vec<String>,
    /// The report of each pass.
    pub reports: Vec<Report>,
}

impl Record {
    /// True if the image's disk passed this spec in all of these passes, so that it need not be tested again.
    pub fn covers(&self, image: &Image, spec: Digest, passes: &[String]) -> bool {
        let same = self.content == image.content && self.spec_sha256 == spec;
        self.passed && same && passes.iter().all(|pass| self.passes.contains(pass))
    }
}

impl Record {
    /// The passes that measured their boot, by name.
    pub fn boots(&self) -> impl Iterator<Item = (&str, &Boot)> {
        let passes = self.passes.iter().zip(&self.reports);
        passes.filter_map(|(pass, report)| Some((pass.as_str(), report.boot.as_ref()?)))
    }

    /// All passes as one report, each check named after its pass: `first-boot/os`, `after-reboot/os`.
    pub fn merged(&self) -> Report {
        let named = |(report, pass): (&Report, &String)| {
            let pass = pass.replace(' ', "-");
            let checks = report.checks.iter().cloned();
            checks.map(move |c| Check { name: format!("{pass}/{}", c.name), ..c }).collect::<Vec<_>>()
        };
        let times = || self.reports.iter();
        Report {
            schema: 1,
            boot_id: String::new(),
            host_keys: self.reports.first().map(|r| r.host_keys.clone()).unwrap_or_default(),
            os: self.reports.first().map(|r| r.os.clone()).unwrap_or_default(),
            checks: self.reports.iter().zip(&self.passes).flat_map(named).collect(),
            wall_seconds: times().map(|r| r.wall_seconds).sum(),
            slowest_seconds: times().map(|r| r.slowest_seconds).fold(0.0, f64::max),
            boot: None,
        }
    }
}

/// The names of the passes on these instance types; an empty type stands for a provider without types.
pub fn passes(instance_types: &[String], reboot: bool) -> Vec<String> {
    let boots = &PASSES[..if reboot { 2 } else { 1 }];
    instance_types.iter().flat_map(|kind| boots.iter().map(move |boot| pass_name(boot, kind))).collect()
}

fn pass_name(boot: &str, instance_type: &str) -> String {
    if instance_type.is_empty() { boot.to_owned() } else { format!("{boot} on {instance_type}") }
}

/// Tests an image on a new instance of each instance type. Failed checks are in the returned record; an error means that the test could
/// not be carried out. The instances are removed in both cases, except one that `options` keeps; `keep` is called before that.
pub fn run<C: Cloud>(
    cloud: &C,
    image: &Image,
    kit: &Kit,
    options: Options,
    events: &dyn Observer,
    keep: &dyn Fn() -> Result<()>,
) -> Result<Record> {
    let spec = Digest::of(&fs::read(&kit.spec)?);
    let (mut reports, mut problems) = (Vec::new(), Vec::new());
    let instance_types = cloud.instance_types();
    for instance_type in &instance_types {
        let (of_passes, found) = run_on(cloud, image, instance_type, kit, options, events, keep)?;
        reports.extend(of_passes);
        problems.extend(found);
    }
    let passed = problems.is_empty() && !reports.is_empty() && reports.iter().all(Report::passed);
    let (at, passes) = (Timestamp::now(), passes(&instance_types, options.reboot));
    Ok(Record { schema: 1, content: image.content, spec_sha256: spec, passed, at, passes, reports })
}

/// Tests an image on one instance. Returns the report of each pass, and the problems that a comparison of the reports shows.
fn run_on<C: Cloud>(
    cloud: &C,
    image: &Image,
    instance_type: &str,
    kit: &Kit,
    options: Options,
    events: &dyn Observer,
    keep: &dyn Fn() -> Result<()>,
) -> Result<(Vec<Report>, Vec<String>)> {
    let on_progress = |message: &str| {
        events.event(Event::Progress { phase: Phase::Boot, message: message.to_owned(), fraction: None });
    };
    let what = pass_name(&format!("a fresh instance of {}", image.id), instance_type);
    let mut machine = phase(events, Phase::Boot, what, || {
        let mut machine = cloud.launch(image, instance_type, &kit.user, &on_progress)?;
        second_try(events, machine.second_try().as_deref());
        let summary = format!("instance of {} is up{}", image.id, to_ssh(&machine));
        Ok::<_, Error>((machine, Outcome::Done, summary))
    })?;
    save_documents(cloud, image, machine.remote())?;
    upload(machine.remote(), image, kit)?;
    let mut reports = vec![pass(&machine, &pass_name(PASSES[0], instance_type), events)?];
    if options.reboot {
        phase(events, Phase::Boot, "the instance again", || {
            machine.reboot(&on_progress)?;
            second_try(events, machine.second_try().as_deref());
            Ok::<_, Error>(((), Outcome::Done, format!("instance restarted{}", to_ssh(&machine))))
        })?;
        reports.push(pass(&machine, &pass_name(PASSES[1], instance_type), events)?);
    }
    let problems = compare(&reports, &image.builder.host_keys);
    for message in &problems {
        events
            .event(Event::Warning { message: message.clone(), hint: "the smoke test fails because of it".to_owned() });
    }
    let passed = problems.is_empty() && reports.iter().all(Report::passed);
    if !passed && options.keep_on_failure {
        keep()?;
        let login = machine.keep()?;
        let message = format!(
            "the instance is kept: {login}\nto remove it, power it off (`sudo poweroff`) and run another command"
        );
        events.event(Event::Note { message });
    }
    Ok((reports, problems))
}

/// The time from machine start to SSH at the last boot, as the end of a phase's summary.
fn to_ssh(machine: &dyn Machine) -> String {
    machine.boot_seconds().map_or(String::new(), |seconds| format!(", SSH after {seconds:.1} s"))
}

/// Stores the image's manifest and SBOM with its record. The smoke checks `manifest` and `sbom` fail if one is missing or wrong.
fn save_documents<C: Cloud>(cloud: &C, image: &Image, remote: &dyn Remote) -> Result<()> {
    for name in [MANIFEST, SBOM] {
        let finished = remote.output(&format!("cat /etc/agent-ami/{name}"), b"")?;
        if finished.code == 0 {
            cloud.put_document(image, name, finished.stdout.as_bytes())?;
        }
    }
    Ok(())
}

/// Uploads the kit and the fixtures, as one directory.
pub fn upload(remote: &dyn Remote, image: &Image, kit: &Kit) -> Result<()> {
    let staging = tempfile::tempdir()?;
    let root = staging.path().join("agent-ami-smoke");
    let fixtures = root.join("fixtures");
    fs::create_dir_all(fixtures.join("build-ca"))?;
    fs::copy(&kit.binary, root.join("smoke"))?;
    fs::copy(&kit.spec, root.join("spec.toml"))?;
    let launched_with = remote.launch_key().map(fs::read).transpose()?;
    fs::write(fixtures.join("launch.pub"), launched_with.unwrap_or_default())?;
    fs::write(fixtures.join("builder_host_keys"), image.builder.host_keys.join("\n"))?;
    fs::write(fixtures.join("builder_machine_id"), &image.builder.machine_id)?;
    for (i, certificate) in kit.build_ca.iter().enumerate() {
        fs::write(fixtures.join(format!("build-ca/{i}.crt")), certificate)?;
    }
    bundle(&fixtures.join("repo.bundle"))?;
    let dir = DIR;
    remote.read(&format!("rm -rf {dir}"))?;
    remote.upload(&root, "/var/tmp/")
}

/// Writes a git bundle, from which a check clones a repository without a network.
fn bundle(to: &Path) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let git = |args: &[&str]| {
        Cmd::new("git")
            .args(["-c", "user.name=agent-ami", "-c", "user.email=agent-ami@localhost", "-c", "commit.gpgsign=false"])
            .args(args)
            .dir(dir.path())
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .read()
    };
    git(&["init", "-q", "-b", "main"])?;
    fs::write(dir.path().join("README.md"), "# smoke\n")?;
    git(&["add", "README.md"])?;
    git(&["commit", "-q", "-m", "smoke"])?;
    git(&["bundle", "create", "-q", &to.display().to_string(), "main"])?;
    Ok(())
}

/// The command line of the smoke binary on the instance. `enter` is a command that runs it, such as `nsenter`, or empty.
pub fn command(enter: &str) -> String {
    let (dir, now) = (DIR, Timestamp::now().as_second());
    format!(
        "sudo {enter} {dir}/smoke run --spec {dir}/spec.toml --fixtures {dir}/fixtures --now {now} --format json --progress"
    )
}

/// Parses a progress line, which the smoke binary prints on standard error: `12/57 tool-git`.
fn progress(line: &str) -> Option<(u64, u64)> {
    let (done, all) = line.split_once(' ')?.0.split_once('/')?;
    Some((done.parse().ok()?, all.parse().ok()?))
}

/// Runs the smoke binary once and adds the time from machine start to SSH to its report.
fn pass(machine: &dyn Machine, name: &str, events: &dyn Observer) -> Result<Report> {
    let report = run_pass(machine.remote(), name, events)?;
    let to_ssh = machine.boot_seconds();
    if to_ssh.is_none() && report.boot.is_none() {
        return Ok(report);
    }
    let boot = Boot { to_ssh, ..report.boot.unwrap_or_default() };
    events.event(Event::Note { message: format!("{name}: {}", boot.line()) });
    Ok(Report { boot: Some(boot), ..report })
}

fn run_pass(remote: &dyn Remote, name: &str, events: &dyn Observer) -> Result<Report> {
    phase(events, Phase::Smoke, name, || {
        let (mut json, mut stderr) = (String::new(), Tail::default());
        let ended = remote.stream(&command(""), Some(TIMEOUT), &mut |stream, line| match (stream, progress(line)) {
            (Stream::Stdout, _) if json.len() < REPORT_LIMIT => json.push_str(line),
            (Stream::Stdout, _) => {}
            (Stream::Stderr, Some(fraction)) => {
                let message = line.to_owned();
                events.event(Event::Progress { phase: Phase::Smoke, message, fraction: Some(fraction) });
            }
            (Stream::Stderr, None) => stderr.push(line),
        })?;
        // Exit code 1 means that checks failed; every other code but 0, that the smoke binary could not run them.
        if !matches!(ended, Some(Ended::Code(0 | 1))) {
            let how = match ended {
                Some(Ended::Code(code)) => format!("ended with exit code {code}"),
                Some(Ended::TimedOut) => format!("timed out after {} s", TIMEOUT.as_secs()),
                None => "lost its connection".to_owned(),
            };
            let message = format!("the smoke binary {how}: {stderr}");
            let exit = if matches!(ended, Some(Ended::Code(2))) { Exit::Usage } else { Exit::Failed };
            return Err(exit.error(message, "check the smoke spec with `cargo xtask validate`"));
        }
        // The instance wrote the report, so its texts are cleaned before anything shows them.
        let report = serde_json::from_str(&json).map(clean::json).and_then(serde_json::from_value::<Report>);
        let report = report.map_err(|e| {
            let message = format!("the smoke report cannot be read: {e}");
            Exit::Failed
                .error(message, "xtask and the smoke binary may be of different versions; run the command again")
        })?;
        for check in &report.checks {
            events.event(Event::Check {
                pass: name.to_owned(),
                name: check.name.clone(),
                outcome: check.outcome.to_string(),
                seconds: check.seconds,
                message: check.message.clone(),
            });
        }
        let failed = report.checks.iter().filter(|c| c.outcome == CheckOutcome::Fail).count();
        let all = report.checks.len();
        let summary = format!("{name}: {} of {all} checks passed in {:.1} s", all - failed, report.wall_seconds);
        Ok((report, if failed == 0 { Outcome::Done } else { Outcome::Failed }, summary))
    })
}

/// Problems that no single report shows: a builder's host key, a restart that did not happen, host keys that changed.
fn compare(reports: &[Report], builder_host_keys: &[String]) -> Vec<String> {
    let mut problems = Vec::new();
    let Some(first) = reports.first() else { return vec!["no pass was run".to_owned()] };
    if first.host_keys.is_empty() {
        problems.push("the instance has no SSH host key".to_owned());
    }
    if first.host_keys.iter().any(|key| builder_host_keys.contains(key)) {
        problems.push(
            "the instance has the builder's SSH host key, which all instances of the image would share".to_owned(),
        );
    }
    if let Some(second) = reports.get(1) {
        if second.boot_id == first.boot_id {
            problems.push("the boot id did not change: the instance was not restarted".to_owned());
        }
        if second.host_keys != first.host_keys {
            problems.push("the SSH host keys changed with the restart: clients would refuse to connect".to_owned());
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(boot_id: &str, host_keys: &[&str], outcome: CheckOutcome) -> Report {
        let check = Check { name: "os".to_owned(), outcome, seconds: 1.0, message: String::new() };
        Report {
            schema: 1,
            boot_id: boot_id.to_owned(),
            host_keys: host_keys.iter().map(|k| (*k).to_owned()).collect(),
            os: "debian 13".to_owned(),
            checks: vec![check],
            wall_seconds: 1.0,
            slowest_seconds: 1.0,
            boot: None,
        }
    }

    #[test]
    fn reports_of_two_boots_are_compared() {
        let builder = ["builder".to_owned()];
        let problems = |reports: &[Report]| compare(reports, &builder).join("; ");
        let good = report("1", &["own"], CheckOutcome::Pass);
        assert_eq!(problems(&[good.clone(), report("2", &["own"], CheckOutcome::Pass)]), "");
        assert!(problems(&[good.clone(), report("1", &["own"], CheckOutcome::Pass)]).contains("was not restarted"));
        assert!(problems(&[good, report("2", &["other"], CheckOutcome::Pass)]).contains("changed with the restart"));
        assert!(problems(&[report("1", &["builder"], CheckOutcome::Pass)]).contains("the builder's SSH host key"));
        assert!(problems(&[report("1", &[], CheckOutcome::Pass)]).contains("no SSH host key"));
        assert!(problems(&[]).contains("no pass was run"));
    }

    #[test]
    fn a_merged_report_names_the_pass_of_each_check() {
        let reports = vec![report("1", &[], CheckOutcome::Pass), report("2", &[], CheckOutcome::Fail)];
        let digest = Digest::of(b"");
        let record = Record {
            schema: 1,
            content: digest,
            spec_sha256: digest,
            passed: false,
            at: Timestamp::UNIX_EPOCH,
            passes: passes(&[String::new()], true),
            reports,
        };
        let merged = record.merged();
        let names: Vec<&str> = merged.checks.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["first-boot/os", "after-reboot/os"]);
        assert_eq!(merged.failed(), ["after-reboot/os"]);
    }

    /// A machine whose smoke binary prints this text, and that accepted SSH after 33.24 s.
    #[derive(Debug)]
    struct Instance(String);

    impl Remote for Instance {
        fn output(&self, _: &str, _: &[u8]) -> Result<crate::process::Finished> {
            unreachable!("the smoke binary is streamed")
        }

        fn stream(&self, _: &str, _: Option<Duration>, line: &mut dyn FnMut(Stream, &str)) -> Result<Option<Ended>> {
            line(Stream::Stdout, &self.0);
            Ok(Some(Ended::Code(0)))
        }

        fn upload(&self, _: &Path, _: &str) -> Result<()> {
            Ok(())
        }

        fn login_line(&self) -> String {
            String::new()
        }

        fn launch_key(&self) -> Option<PathBuf> {
            None
        }
    }

    impl Machine for Instance {
        fn remote(&self) -> &dyn Remote {
            self
        }

        fn reboot(&mut self, _: &dyn Fn(&str)) -> Result<()> {
            Ok(())
        }

        fn reboot_finished(&mut self, _: &dyn Fn(&str)) -> Result<()> {
            Ok(())
        }

        fn console(&self) -> String {
            String::new()
        }

        fn second_try(&mut self) -> Option<String> {
            None
        }

        fn boot_seconds(&self) -> Option<f64> {
            Some(33.24)
        }

        fn keep(&mut self) -> Result<String> {
            Ok(String::new())
        }
    }

    #[derive(Default)]
    struct Notes(std::sync::Mutex<Vec<String>>);

    impl Observer for Notes {
        fn event(&self, event: Event) {
            if let Event::Note { message } = event {
                self.0.lock().unwrap().push(message);
            }
        }
    }

    #[test]
    fn a_pass_has_the_boot_times_of_the_instance_and_of_the_provider() {
        let own = Boot { kernel: Some(6.1), ..Boot::default() };
        for (measured, expected) in [
            (Some(own.clone()), "first boot: machine start to SSH 33.2 s, kernel 6.1 s"),
            (None, "first boot: machine start to SSH 33.2 s"),
        ] {
            let printed = Report { boot: measured.clone(), ..report("1", &["own"], CheckOutcome::Pass) };
            let notes = Notes::default();
            let machine = Instance(printed.render("json").unwrap());
            let found = pass(&machine, "first boot", &notes).unwrap();
            assert_eq!(found.boot, Some(Boot { to_ssh: Some(33.24), ..measured.unwrap_or_default() }));
            assert_eq!(*notes.0.lock().unwrap(), [expected]);
            assert_eq!(to_ssh(&machine), ", SSH after 33.2 s");
        }
    }

    #[test]
    fn progress_lines_are_parsed() {
        assert_eq!(progress("12/57 tool-git"), Some((12, 57)));
        assert_eq!(progress("error: no spec"), None);
    }
}

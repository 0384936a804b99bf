//! On a real instance: every smoke check detects its break. Requires an image: `cargo xtask ami build`, then
//! `cargo test -p xtask --test vm -- --ignored --nocapture`. `cargo xtask test` runs both.
//!
//! One break at a time would require one smoke test for each of more than eighty checks. So each round applies several independent breaks,
//! and exactly their checks must fail. `AGENT_AMI_BREAKS` selects another schedule:
//!
//! - `pairs` applies each break in two rounds, and no two breaks are together in both. This is as good as one break at a time: if check B
//!   failed because of break A, it would also fail in the round that has break A and not break B.
//! - `each` applies one break at a time.
//! - the beginning of a check's name (`ufw`) applies only the breaks of these checks, one at a time.
//!
//! `AGENT_AMI_BREAKS_IMAGE=default-ec2` tests the newest image `default-ec2` instead of the default image of ami.toml. It must contain all agents.
//!
//! The instance is a container where images are built in one, else a virtual machine; `AGENT_AMI_BREAKS_IN=vm` or `container` sets it.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test prints its observations and fails by panicking")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser as _;
use serde::Deserialize;
use smoke::report::Report;
use xtask::cli::Cli;
use xtask::cloud::local::{Local, LocalMachine, qemu::Acceleration};
use xtask::cloud::{BuilderKind, Cloud as _, Machine as _, all_images};
use xtask::commands::ami::smoke::kit;
use xtask::commands::{Context, OnLocal, Provider as _};
use xtask::config::Config;
use xtask::event::{Event, Observer};
use xtask::ledger::RunOutcome;
use xtask::process::quote;
use xtask::remote::Remote;
use xtask::stage::smoke as stage;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Break {
    check: String,
    how: String,
    fix: String,
    #[serde(default)]
    follows: Vec<String>,
    #[serde(default)]
    apart: Vec<String>,
    enter: Option<String>,
}

#[derive(Deserialize)]
struct Breaks {
    r#break: Vec<Break>,
}

impl Break {
    /// True if the two breaks must not be in the same round.
    fn conflicts(&self, other: &Break) -> bool {
        let names = |a: &Break, b: &Break| {
            let hits = |pattern: &String| match pattern.strip_suffix('*') {
                Some(start) => b.check.starts_with(start),
                None => *pattern == b.check,
            };
            a.follows.iter().chain(&a.apart).any(hits)
        };
        names(self, other) || names(other, self) || (self.enter.is_some() && other.enter.is_some())
    }
}

/// Distributes the breaks over rounds of at most `most`, without pairs that conflict or for which `apart` returns true.
fn rounds(breaks: &[Break], most: usize, apart: &dyn Fn(usize, usize) -> bool) -> Vec<Vec<usize>> {
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    for i in 0..breaks.len() {
        let fits = |round: &&mut Vec<usize>| {
            round.len() < most && round.iter().all(|&j| !breaks[i].conflicts(&breaks[j]) && !apart(i, j))
        };
        match rounds.iter_mut().find(fits) {
            Some(round) => round.push(i),
            None => rounds.push(vec![i]),
        }
    }
    rounds
}

/// The side of the smallest square with at least `many` cells.
fn side(many: usize) -> usize {
    (1..).find(|n| n * n >= many).unwrap_or(1)
}

/// Rounds in which each break occurs twice, and no two breaks are together twice.
fn schedule(breaks: &[Break]) -> Vec<Vec<usize>> {
    let most = side(breaks.len());
    let first = rounds(breaks, most, &|_, _| false);
    let together = |i, j| first.iter().any(|round| round.contains(&i) && round.contains(&j));
    let second = rounds(breaks, most, &together);
    first.into_iter().chain(second).collect()
}

/// Number of rounds without `AGENT_AMI_BREAKS`. One takes more than a minute on an emulated machine.
const ROUNDS: usize = 5;

/// Functions for the scripts in breaks.toml.
const FUNCTIONS: &str = r#"
set -euo pipefail
away=/var/lib/agent-ami-away
mkdir -p $away
# shadow NAME ARGUMENT OUTPUT: NAME ARGUMENT prints OUTPUT; with other arguments the real program runs.
shadow() {
  local real; real=$(readlink -f "$(command -v "$1")")
  if [ -e "/usr/local/bin/$1" ]; then mv "/usr/local/bin/$1" "$away/$1.link"; fi
  printf '#!/bin/sh\nif [ "$1" = %s ]; then echo "%s"; exit 0; fi\nexec %s "$@"\n' "$2" "$3" "$real" >"/usr/local/bin/$1"
  chmod 755 "/usr/local/bin/$1"
}
# hide NAME: removes the program from its directory.
hide() { local path; path=$(command -v "$1"); echo "$path" >"$away/$1.path"; mv "$path" "$away/$1.file"; }
# back NAME: undoes shadow or hide.
back() {
  if [ -e "$away/$1.path" ]; then mv "$away/$1.file" "$(cat "$away/$1.path")"; rm "$away/$1.path"; return; fi
  rm "/usr/local/bin/$1"
  if [ -L "$away/$1.link" ] || [ -e "$away/$1.link" ]; then mv "$away/$1.link" "/usr/local/bin/$1"; fi
}
"#;

/// Runs a script as root on the instance; returns an error message if it fails.
fn script(ssh: &dyn Remote, user: &str, text: &str) -> Option<String> {
    let whole = format!("export FIXTURES={}/fixtures user={user}\n{FUNCTIONS}\n{text}\n", stage::DIR);
    let finished = ssh.output("sudo bash -s", whole.as_bytes()).unwrap();
    (finished.code != 0)
        .then(|| format!("exit code {} of\n{text}{}{}", finished.code, finished.stdout, finished.stderr))
}

fn smoke(ssh: &dyn Remote, enter: Option<&str>) -> Report {
    let command = stage::command(enter.unwrap_or_default());
    let finished = ssh.output(&command, b"").unwrap();
    serde_json::from_str(&finished.stdout).unwrap_or_else(|e| panic!("{e}: {} {}", finished.stdout, finished.stderr))
}

fn failed(report: &Report) -> BTreeSet<String> {
    report.failed().into_iter().map(str::to_owned).collect()
}

/// Prints warnings and notes.
struct Lines;

impl Observer for Lines {
    fn event(&self, event: Event) {
        if let Event::Warning { .. } | Event::Note { .. } = event {
            println!("{event:?}");
        }
    }
}

fn context() -> Context {
    let cli = Cli::parse_from(["cargo xtask", "ami", "smoke"]);
    Context {
        root: PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned(),
        common: cli.common,
        events: Arc::new(Lines),
        // The variables of this test are not settings of ami.toml.
        env: std::env::vars().filter(|(name, _)| !name.starts_with("AGENT_AMI_BREAKS")).collect(),
        line: "cargo test --test vm".to_owned(),
        words: Vec::new(),
        run: std::sync::OnceLock::new(),
        about: Arc::default(),
    }
}

/// Ends the test's run, also if the test fails: `ami resume` must not try to resume it.
struct Ended<'a>(&'a Context);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let _ = self.0.end_run(RunOutcome::Done, "a test");
    }
}

/// The name of the image that is tested.
fn image_name(config: &Config) -> String {
    std::env::var("AGENT_AMI_BREAKS_IMAGE").unwrap_or_else(|_| config.image(None).unwrap().0.to_owned())
}

fn breaks() -> Vec<Break> {
    let read = |name: &str| {
        let file = context().root.join("smoke/tests").join(name);
        toml::from_str::<Breaks>(&std::fs::read_to_string(file).unwrap()).unwrap().r#break
    };
    let more = (image_name(&context().config().unwrap()) == "default-ec2").then_some("breaks-default-ec2.toml");
    ["breaks.toml", "breaks-hygiene.toml"].into_iter().chain(more).flat_map(read).collect()
}

/// Starts an instance of the newest image, uploads the smoke test's kit, and runs a test on the instance.
fn on_an_instance(in_container: Option<bool>, test: impl FnOnce(&Local, &mut LocalMachine, &str)) {
    let context = context();
    let config = context.config().unwrap();
    let state = context.state(&config).unwrap();
    let run = context.begin_run(&state).unwrap();
    let _ended = Ended(&context);
    let local = OnLocal.open(&context, &config, &state, Some(run)).unwrap();
    let name = image_name(&config);
    let (images, _) = all_images(&local).unwrap();
    let image = images.into_iter().rev().find(|i| i.image == name && i.region == local.home());
    let image = image.unwrap_or_else(|| panic!("no image {name}: run `cargo xtask ami build {name}` first"));
    let in_container = in_container.unwrap_or_else(|| local.builder_here(None).unwrap().kind == BuilderKind::Container);
    println!("on {}, {}", image.id, if in_container { "in a container" } else { "in a virtual machine" });
    let kit = kit(&context, &local, &config, &state, &image, None).unwrap();
    let mut machine = match in_container {
        true => local.launch_container(&image, &kit.user, &|_| {}).unwrap(),
        false => local.launch(&image, "", &kit.user, &|_| {}).unwrap(),
    };
    stage::upload(machine.remote(), &image, &kit).unwrap();
    test(&local, &mut machine, &kit.user);
}

/// `AGENT_AMI_BREAKS_IN`: true for a container, false for a virtual machine, `None` for the kind that builds images here.
fn in_container() -> Option<bool> {
    match std::env::var("AGENT_AMI_BREAKS_IN").as_deref() {
        Ok("vm") => Some(false),
        Ok("container") => Some(true),
        Ok(other) => panic!("AGENT_AMI_BREAKS_IN is `{other}`, expected `vm` or `container`"),
        Err(_) => None,
    }
}

#[test]
#[ignore = "starts an instance"]
fn every_check_detects_its_break_and_no_other() {
    let mut breaks = breaks();
    let choice = std::env::var("AGENT_AMI_BREAKS").unwrap_or_default();
    let plan: Vec<Vec<usize>> = match choice.as_str() {
        "" => rounds(&breaks, breaks.len().div_ceil(ROUNDS), &|_, _| false),
        "pairs" => schedule(&breaks),
        "each" => (0..breaks.len()).map(|i| vec![i]).collect(),
        start => {
            breaks.retain(|b| b.check.starts_with(start));
            (0..breaks.len()).map(|i| vec![i]).collect()
        }
    };
    println!("{} breaks in {} rounds", breaks.len(), plan.len());
    on_an_instance(in_container(), |_, machine, user| break_in_rounds(machine.remote(), user, &breaks, &plan));
}

/// For each round: applies its breaks, expects exactly their checks to fail, and applies the fixes.
fn break_in_rounds(ssh: &dyn Remote, user: &str, breaks: &[Break], plan: &[Vec<usize>]) {
    let mut problems = Vec::new();
    for (n, round) in plan.iter().enumerate() {
        let chosen: Vec<&Break> = round.iter().map(|&i| &breaks[i]).collect();
        let text = |part: fn(&Break) -> &str| chosen.iter().map(|b| format!("{}\n", part(b))).collect::<String>();
        problems.extend(script(ssh, user, &text(|b| &b.how)));
        let report = smoke(ssh, chosen.iter().find_map(|b| b.enter.as_deref()));
        problems.extend(script(ssh, user, &text(|b| &b.fix)));
        let expected: BTreeSet<String> = chosen.iter().map(|b| b.check.clone()).collect();
        let found = failed(&report);
        let outcome = if found == expected { "exactly these fail" } else { "WRONG" };
        let names: Vec<&str> = expected.iter().map(String::as_str).collect();
        println!("round {:2}/{} {:5.1} s  {outcome}: {}", n + 1, plan.len(), report.wall_seconds, names.join(" "));
        for check in report.checks.iter().filter(|c| found.contains(&c.name) != expected.contains(&c.name)) {
            let problem = format!("round {}: {} is {}: {}", n + 1, check.name, check.outcome, check.message);
            println!("  {problem}");
            problems.push(problem);
        }
        for check in report.checks.iter().filter(|c| expected.contains(&c.name)) {
            println!("  {:28} {}", check.name, check.message);
        }
    }
    let fixed = smoke(ssh, None);
    println!("fixed: {}", fixed.render("terminal").unwrap());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(fixed.passed(), "after fixing: {:?}", fixed.failed());
    // Because checks run in parallel, the smoke test takes about as long as its slowest check.
    let ratio = fixed.wall_seconds / fixed.slowest_seconds;
    assert!(ratio <= 1.3, "the smoke test took {ratio:.2} times as long as its slowest check");
}

#[test]
#[ignore = "starts an instance"]
fn dispatch_as_root_runs_the_agent_as_the_user() {
    on_an_instance(in_container(), |_, machine, _| dispatches(machine.remote()));
}

#[test]
#[ignore = "boots a VM"]
fn a_kernel_panic_is_detected() {
    on_an_instance(Some(false), |local, machine, _| panics(machine, local.acceleration().unwrap().acceleration));
}

/// Root calls dispatch.sh without a terminal. The agent prints its ids, environment and privileges, which must be those of the user.
fn dispatches(ssh: &dyn Remote) {
    let dir = "/var/tmp/agent-ami-dispatch";
    ssh.read(&format!("mkdir -p {dir}")).unwrap();
    let agent = "#!/bin/bash\nid\nenv | sort\ngrep -E '^(NoNewPrivs|CapEff)' /proc/self/status\ntty\n";
    ssh.put(agent.as_bytes(), &format!("{dir}/claude"), 0o755).unwrap();
    let call = format!(
        "sudo env DISPATCH_PATH={dir} ANTHROPIC_API_KEY=sk-test AWS_SECRET_ACCESS_KEY=secret LD_LIBRARY_PATH=/tmp \
         setsid --wait /home/ubuntu/claude-executor/dispatch.sh 'a task' </dev/null 2>&1; \
         echo; sudo ls -ln /home/ubuntu/claude-executor/runs; rm -r {dir}; sudo rm -r /home/ubuntu/claude-executor/runs/*"
    );
    let output = ssh.read(&call).unwrap();
    println!("dispatch.sh as root, without a terminal:\n{output}");
    for line in [
        "Auto-dropping privileges from root to ubuntu user...",
        "uid=1000(ubuntu) gid=1000(ubuntu) groups=",
        "HOME=/home/ubuntu\n",
        "NoNewPrivs:\t1\n",
    ] {
        assert!(output.contains(line), "{line}");
    }
    for line in ["secret", "LD_LIBRARY_PATH", "uid=0"] {
        assert!(!output.contains(line), "{line}");
    }
}

/// A kernel panic during a reboot is detected without waiting for the timeout. An emulated machine is reset, because emulation itself
/// sometimes causes a panic.
fn panics(machine: &mut LocalMachine, acceleration: Acceleration) {
    // sysrq.rst, "c": crashes the system by a panic.
    let crash = "sync; echo 1 >/proc/sys/kernel/sysrq; (sleep 2; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 &";
    machine.remote().read(&format!("sudo sh -c {}", quote(crash))).unwrap();
    let ended = machine.reboot_finished(&|_| {});
    if acceleration != Acceleration::Tcg {
        assert!(
            ended.unwrap_err().to_string().contains("panicked"),
            "a panic of a machine that is not emulated must be an error"
        );
        return;
    }
    ended.unwrap();
    let why = machine.second_try().unwrap();
    println!("the machine was reset after a panic: {}", why.lines().last().unwrap_or_default());
    assert!(why.contains("panicked"), "{why}");
    machine.remote().read("true").unwrap();
}

#[test]
fn no_two_breaks_are_together_in_both_rounds() {
    let breaks = breaks();
    let plan = schedule(&breaks);
    assert!(plan.len() <= 24, "{} rounds", plan.len());
    for i in 0..breaks.len() {
        let mine: Vec<_> = plan.iter().filter(|round| round.contains(&i)).collect();
        assert_eq!(mine.len(), 2, "{}", breaks[i].check);
        for j in (0..breaks.len()).filter(|&j| j != i) {
            let both = mine.iter().filter(|round| round.contains(&j)).count();
            assert!(both <= 1, "{} and {} are always together", breaks[i].check, breaks[j].check);
            assert!(both == 0 || !breaks[i].conflicts(&breaks[j]));
        }
    }
}

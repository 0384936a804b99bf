//! Compares the time of a build by the native engine with that of Packer: same template, base and variables, one after the other in one
//! run.
//!
//! `cargo bench --package xtask --bench build` builds a small template. BENCH_TEMPLATE=project builds the project's template, which takes
//! hours where machines are emulated. BENCH_SCENARIOS=cold,change runs only these scenarios, BENCH_SCRIPT is the script to change, and
//! BENCH_DRY=1 prints what would be built and runs `packer validate`. Requires a base image: `cargo xtask ami build` makes one.
//! `.ci/packer/provide` builds Packer and its plugins, for which it requires Go; without Go only the native engine is measured.
//!
//! `ami build --engine packer` runs Packer, with the same seed, key and variables as a build by a user. Only the time of the build phase,
//! in which Packer runs, counts. Times of one run can be compared with each other; those of two runs on a busy machine cannot.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints its results and fails by panicking")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

#[path = "support/place.rs"]
mod place;
use place::{Place, Template};

/// The scenarios: name for BENCH_SCENARIOS, and description.
const SCENARIOS: [(&str, &str); 4] = [
    ("cold", "from the base to an image"),
    ("warm", "nothing changed"),
    ("change", "last script changed, to an image"),
    ("smoke", "last script changed, to a smoke-tested image"),
];

/// The result of one engine in one scenario.
struct Measured {
    seconds: f64,
    /// Number of steps that were run.
    steps: usize,
    /// Builder of the steps; `-` if none was run.
    builder: String,
}

fn main() {
    // `cargo test --benches` and test runners call the binary with these arguments; there are no tests to list or run.
    if std::env::args().any(|a| a == "--list" || a == "--test") {
        return;
    }
    let template = match std::env::var("BENCH_TEMPLATE").as_deref() {
        Err(_) | Ok("small") => Template::Small,
        Ok("project") => Template::Project,
        Ok(other) => panic!("BENCH_TEMPLATE is `{other}`, expected `small` or `project`"),
    };
    let chosen = std::env::var("BENCH_SCENARIOS").unwrap_or_else(|_| "cold,warm,change,smoke".to_owned());
    let chosen: Vec<&str> = chosen.split(',').collect();
    if let Some(other) = chosen.iter().find(|name| !SCENARIOS.iter().any(|(known, _)| known == *name)) {
        panic!("no scenario `{other}` (BENCH_SCENARIOS); there are cold, warm, change, smoke");
    }
    let bench = Bench { place: Place::new(template), packer: packer() };
    if std::env::var_os("BENCH_DRY").is_some() {
        return bench.dry();
    }
    let mut rows = Vec::new();
    for (scenario, what) in SCENARIOS {
        if chosen.contains(&scenario) {
            println!("{what}");
            rows.push((what, bench.measure(scenario)));
        }
    }
    print_table(&bench, &rows);
}

fn print_table(bench: &Bench, rows: &[(&str, (Measured, Option<Measured>))]) {
    println!("\nthe script that was changed: {}", bench.place.script);
    println!(
        "{:46}{:>11}  {:>9}  {:10}{:>11}  {:>18}",
        "", "agent-ami", "steps run", "built in", "packer", "agent-ami / packer"
    );
    for (what, (ours, packers)) in rows {
        let theirs = packers.as_ref().map_or("-".to_owned(), |p| format!("{:.1} s", p.seconds));
        let ratio = packers.as_ref().map_or("-".to_owned(), |p| format!("{:.4}", ours.seconds / p.seconds));
        let seconds = format!("{:.1} s", ours.seconds);
        println!("{what:46}{seconds:>11}  {:>9}  {:10}{theirs:>11}  {ratio:>18}", ours.steps, ours.builder);
    }
    if bench.packer.is_none() {
        println!("packer: not measured, because .ci/packer/provide failed");
    }
}

/// Builds Packer and its plugins unless they exist; returns their directory, or `None` if that fails.
#[expect(clippy::disallowed_methods, reason = "the benchmark runs the script as a user does")]
fn packer() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let tools = root.join(".agent-ami/packer-tools");
    let built = Command::new(root.join(".ci/packer/provide")).arg(&tools).status().unwrap();
    built.success().then_some(tools)
}

/// The project, and the directory of Packer.
struct Bench {
    place: Place,
    packer: Option<PathBuf>,
}

impl Bench {
    /// Measures one scenario: the native engine, then Packer with the same files.
    fn measure(&self, scenario: &str) -> (Measured, Option<Measured>) {
        let smoke = scenario == "smoke";
        if smoke || scenario == "change" {
            self.prepare(smoke);
            self.place.change(scenario);
        }
        let ours = self.ours(smoke);
        (ours, self.packer.is_some().then(|| self.packers(smoke)))
    }

    /// Prepares the state before a change, which is not measured: an image, and the smoke binary, which both engines use.
    fn prepare(&self, smoke: bool) {
        let (_, built) = self.run(&["ami", "build", "--engine", "native"]);
        let named = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("smoke-");
        if smoke && !std::fs::read_dir(self.place.path("state/bin")).unwrap().flatten().any(named) {
            println!("  compiling the smoke binary first");
            self.smoke(&built);
        }
    }

    /// Builds with the native engine, and runs the smoke test of the image.
    fn ours(&self, smoke: bool) -> Measured {
        let started = Instant::now();
        let (events, result) = self.run(&["ami", "build", "--engine", "native"]);
        if smoke {
            self.smoke(&result);
        }
        let seconds = started.elapsed().as_secs_f64();
        let steps = events.iter().filter(|e| e["event"] == "step-finished" && e["outcome"] == "done").count();
        let builder = if steps == 0 { "-".to_owned() } else { built_in(&result) };
        println!("  agent-ami {seconds:8.1} s, {steps} steps, {builder}");
        Measured { seconds, steps, builder }
    }

    /// Builds with Packer, and runs the smoke test of the image. Only Packer's build phase and the smoke test count.
    fn packers(&self, smoke: bool) -> Measured {
        let (events, result) = self.run(&["ami", "build", "--engine", "packer", "--force"]);
        let built = events.iter().find(|e| e["event"] == "phase-finished" && e["phase"] == "build").unwrap();
        let mut seconds = built["seconds"].as_f64().unwrap();
        if smoke {
            let started = Instant::now();
            self.smoke(&result);
            seconds += started.elapsed().as_secs_f64();
        }
        let steps = events.iter().filter(|e| e["event"] == "step-finished" && e["outcome"] == "done").count();
        println!("  packer    {seconds:8.1} s, {steps} steps");
        Measured { seconds, steps, builder: "vm".to_owned() }
    }

    fn smoke(&self, built: &Value) {
        self.run(&["ami", "smoke", built["data"]["image"]["id"].as_str().unwrap()]);
    }

    /// Runs a command, which must succeed; returns its events and its result.
    fn run(&self, args: &[&str]) -> (Vec<Value>, Value) {
        let mut command = self.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut events: Vec<Value> =
            lines.map(|l| serde_json::from_str(&l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect();
        let code = child.wait().unwrap().code();
        let result = events.pop().unwrap_or_default();
        assert_eq!(code, Some(0), "{args:?}: {}", result["error"].as_str().unwrap_or_default());
        (events, result)
    }

    #[expect(clippy::disallowed_methods, reason = "the benchmark runs the command line as a user does")]
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(args).args(["--format", "json", "--yes", "--state", "state"]);
        command.env("CARGO_MANIFEST_DIR", self.place.path("xtask")).current_dir(self.place.path(""));
        command.env("AGENT_AMI_PACKER_BUILD_TIMEOUT_SECS", "14400").env_remove("AGENT_AMI_LOCAL_STATE_DIR");
        if let Some(tools) = &self.packer {
            command.env("AGENT_AMI_PACKER_BINARY_PATH", tools.join("packer"));
            command.env("PACKER_PLUGIN_PATH", tools.join("plugins"));
        }
        command
    }

    /// Prints the plan of the native engine, and validates the same template with Packer.
    #[expect(clippy::disallowed_methods, reason = "the benchmark runs Packer and ssh-keygen as a user does")]
    fn dry(&self) {
        let (_, plan) = self.run(&["ami", "plan"]);
        let steps = plan["data"]["plan"]["steps"].as_array().unwrap();
        println!("agent-ami: {} steps; changed between builds: {}", steps.len(), self.place.script);
        let Some(tools) = &self.packer else { return println!("packer: not available") };
        let values = ["qemu_base", "qemu_seed", "qemu_private_key", "output_directory"];
        let values = values.map(|name| format!("{name}={}", self.place.path(name).display()));
        let key = self.place.path("qemu_private_key");
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status().unwrap();
        assert!(made.success(), "ssh-keygen: {made}");
        let status = Command::new(tools.join("packer"))
            .args(["validate", "-only=qemu.locus"])
            .args(values.iter().flat_map(|value| ["-var", value]))
            .arg("packer")
            .env("PACKER_PLUGIN_PATH", tools.join("plugins"))
            .env("CHECKPOINT_DISABLE", "1")
            .current_dir(self.place.path(""))
            .status()
            .unwrap();
        assert!(status.success(), "packer validate: {status}");
    }
}

/// The builder in the image's record; `vm` if the record has none.
fn built_in(result: &Value) -> String {
    let image = &result["data"]["image"];
    let named = ["built_in", "builder_kind"].iter().find_map(|field| image[*field].as_str());
    named.unwrap_or("vm").to_owned()
}

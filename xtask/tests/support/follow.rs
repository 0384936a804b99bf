//! Runs a long command and reads its JSON events: prints each finished phase, finished step and failed check, and keeps the result.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Runs the command; returns its exit code and its last event, which is the result.
pub(crate) fn follow(command: &mut Command) -> (Option<i32>, Value) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut last = Value::Null;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        last = serde_json::from_str(&line.unwrap()).unwrap();
        let seconds = || last["seconds"].as_f64().unwrap();
        match last["event"].as_str().unwrap() {
            "phase-finished" => println!("{:8.1} s  {} {}", seconds(), last["phase"], last["summary"]),
            "step-finished" => println!("{:8.1} s    {} {}", seconds(), last["name"], last["outcome"]),
            "check" if last["outcome"] != "pass" => println!("            {last}"),
            _ => {}
        }
    }
    let code = child.wait().unwrap().code();
    if code != Some(0) {
        println!("{}", last["error"].as_str().unwrap_or_default());
    }
    (code, last)
}

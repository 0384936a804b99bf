//! Prints events: as text on standard error, or as JSON Lines on standard output. No other module prints.

use std::io::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use serde::Serialize;

use crate::event::{Event, Observer, Phase, SCHEMA};

mod annotations;
mod boot;
pub mod human;
pub mod markdown;
pub mod page;

pub use annotations::Annotations;
pub use human::{Human, Verbosity};

/// Prints events as JSON Lines: one per line, with `schema` and `time`; the last one has the kind `result`.
#[derive(Debug, Default)]
pub struct Json {
    out: Mutex<()>,
}

#[derive(Serialize)]
struct Line<'a> {
    schema: u32,
    time: String,
    #[serde(flatten)]
    event: &'a Event,
}

impl Observer for Json {
    fn event(&self, event: Event) {
        let line = Line { schema: SCHEMA, time: jiff::Timestamp::now().to_string(), event: &event };
        let Ok(text) = serde_json::to_string(&line) else { return };
        let _guard = self.out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A closed pipe (`| head`) must not stop a build.
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }
}

/// Renders an error as text, with its causes and help.
pub fn render(error: &crate::error::Error) -> String {
    crate::error::plain(error)
}

/// Asks a yes-or-no question on the terminal. `None` without a terminal. Every answer but `y` and `yes` is a no, including an empty one.
pub fn ask(question: &str) -> Option<bool> {
    use std::io::{BufRead as _, IsTerminal as _};
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return None;
    }
    let question = crate::event::clean::text(question);
    write!(std::io::stderr().lock(), "{question} [y/N] ").ok()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).ok()?;
    Some(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// The name of a phase in text output.
fn title(phase: Phase) -> &'static str {
    match phase {
        Phase::Doctor => "doctor",
        Phase::Validate => "validate",
        Phase::Template => "template",
        Phase::Base => "base image",
        Phase::Boot => "boot",
        Phase::Build => "build",
        Phase::Capture => "capture",
        Phase::SmokeBinary => "smoke binary",
        Phase::Smoke => "smoke",
        Phase::Copy => "copy",
        Phase::Promote => "promote",
        Phase::Cleanup => "clean up",
        Phase::Freshness => "pins",
        Phase::Test => "test",
    }
}

/// A duration as text: `9.9 s`, `119 s`, `2 m 05 s`.
pub fn clock(seconds: f64) -> String {
    if seconds < 10.0 {
        return format!("{:.1} s", seconds.max(0.0));
    }
    let whole = Duration::try_from_secs_f64(seconds).map_or(u64::MAX, |time| time.as_secs());
    if whole < 120 { format!("{whole} s") } else { format!("{} m {:02} s", whole / 60, whole % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_that_fits() {
        let shown = [0.04, 9.94, 10.0, 119.0, 125.0, 3600.0].map(clock);
        assert_eq!(shown, ["0.0 s", "9.9 s", "10 s", "119 s", "2 m 05 s", "60 m 00 s"]);
    }
}

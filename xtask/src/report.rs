//! The only place that prints. Events in, text out: for people on standard error, for machines JSON Lines on standard output.

use std::io::Write as _;
use std::sync::Mutex;

use serde::Serialize;

use crate::event::{Event, Observer, SCHEMA};

pub mod human;

pub use human::{Human, Verbosity};

/// JSON Lines: one event a line with `schema` and `time`, the last of kind `result`.
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
        // A reader that went away (`| head`) is no reason to stop a build.
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }
}

/// Renders an error the way people see it.
pub fn render(error: &crate::error::Error) -> String {
    crate::error::plain(error)
}

/// Asks a yes-or-no question on the terminal. `None` when there is none. Anything but yes is no: a bare Enter too.
pub fn ask(question: &str) -> Option<bool> {
    use std::io::{BufRead as _, IsTerminal as _};
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return None;
    }
    write!(std::io::stderr().lock(), "{question} [y/N] ").ok()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).ok()?;
    Some(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

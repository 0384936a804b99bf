//! What the pages show. All texts may come from a guest, a tool or a client; the pages clean them.

use jiff::Timestamp;
use uuid::Uuid;

pub use super::progress::{Phase, Progress, State, Step};
pub use crate::model::{Check, Status};

/// A build.
#[derive(Clone, Debug)]
pub struct Build {
    pub id: Uuid,
    pub status: Status,
    pub provider: Option<String>,
    pub region: String,
    pub template: String,
    /// Name of the token.
    pub requested_by: String,
    pub image_id: Option<String>,
    /// Id of the run, for `cargo xtask ami report RUN`.
    pub run: Option<String>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub error: Option<String>,
}

/// The outcome of an image's smoke test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Smoke {
    NotTested,
    Passed,
    Failed,
}

/// An image.
#[derive(Clone, Debug)]
pub struct Image {
    pub image_id: String,
    pub name: String,
    pub version: String,
    pub provider: Option<String>,
    pub region: String,
    pub created_at: Option<Timestamp>,
    /// The build that made it; `None` for an image that `cargo xtask` built.
    pub build_id: Option<Uuid>,
    /// The channels that point at it.
    pub channels: Vec<String>,
    pub smoke: Smoke,
}

/// A line of a build's log.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// Number of its event.
    pub seq: i64,
    pub text: String,
}

/// The page `/`.
#[derive(Clone, Debug)]
pub struct Home {
    /// Name of the token that the session was begun with.
    pub user: String,
    /// The time for durations of builds that have not ended.
    pub now: Timestamp,
    /// Scheme, host and port of the server, for the command that requests a build: `http://127.0.0.1:8470`.
    pub origin: String,
    /// The filter.
    pub status: Option<Status>,
    /// True if newer builds are on a page before this one.
    pub is_later: bool,
    /// The cursor of the next page of builds, if there is one.
    pub next_cursor: Option<String>,
    /// Newest first.
    pub builds: Vec<Build>,
    /// Newest first; or why they cannot be listed.
    pub images: Result<Vec<Image>, String>,
}

/// The page `/builds/ID`.
#[derive(Clone, Debug)]
pub struct BuildPage {
    pub user: String,
    pub now: Timestamp,
    pub build: Build,
    pub progress: Progress,
    /// The newest lines, oldest first.
    pub log: Vec<LogLine>,
    /// True if the log has lines before the first one in `log`.
    pub is_cut: bool,
    /// Number of the newest event that the page has read, with or without a line; 0 before the first.
    pub last_seq: i64,
}

/// The smoke report of an image.
#[derive(Clone, Debug)]
pub struct SmokeReport {
    pub at: Option<Timestamp>,
    /// In the order of the report.
    pub checks: Vec<Check>,
}

/// The page `/images/ID`.
#[derive(Clone, Debug)]
pub struct ImagePage {
    pub user: String,
    pub image: Image,
    /// `None` if the image was not tested.
    pub smoke: Option<SmokeReport>,
    /// Names and values of the summary of its contents; empty if they are not known.
    pub contents: Vec<(String, String)>,
}

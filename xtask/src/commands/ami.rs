//! `ami …`: builds, tests, distributes and deletes images.

pub mod build;
pub mod bump;
pub mod copy;
pub mod delete;
pub mod diff;
pub mod engine;
pub mod gc;
pub mod history;
pub mod list;
pub mod plan;
pub mod promote;
pub mod release;
pub mod report;
pub mod request;
pub mod resume;
pub mod rollback;
pub mod runs;
pub mod show;
pub mod smoke;
pub mod status;
mod unread;
pub mod watch;

//! The images API: builds are requested over HTTP, queued in a database, and run by workers as processes of `xtask`.
//!
//! A module imports only modules that are declared before it.

pub mod percent;
pub mod problem;
pub mod model;
pub mod settings;
pub mod accept;
pub mod store;
pub mod log;
pub mod inline;
pub mod words;
pub mod process;
pub mod images;
pub mod recorder;
pub mod runner;
pub mod queue;
pub mod page;
pub mod tokens;
pub mod sessions;
pub mod guard;
pub mod api;
pub mod server;
pub mod commands;

//! Builds, tests and distributes machine images with coding agents pre-installed.
//!
//! The modules are declared in the order in which data flows: `config -> recipe -> plan -> engine/stage -> events -> report`.
//! A module imports only modules that are declared before it. Only `commands` combines them, only `report` prints, and only
//! `process` starts processes. `tests/tidy.rs` checks these rules, and `ARCHITECTURE.md` explains them.

pub use packer_template as template;
pub use packer_template::{error, recipe, sensitive};

pub mod ids;

pub mod durable;
pub mod event;

pub mod signals;
pub mod process;

pub mod ledger;

pub mod partition;
pub mod template_source;
pub mod config;

pub mod state;
pub mod remote;
pub mod ssh;
pub mod cloud;
pub mod ssm;
pub mod channel;
pub mod contents;
pub mod plan;
pub mod engine;
pub mod stage;

pub mod toolchain;
pub mod doctor;
pub mod validate;

pub mod pins;
pub mod run_report;
pub mod report;
pub mod cli;
pub mod commands;

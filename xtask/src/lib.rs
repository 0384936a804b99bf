//! Builds, tests and ships machine images with coding agents pre-installed.
//!
//! The modules below stand in the order data flows: `config -> recipe -> plan -> engine/stage -> events -> report`.
//! A module imports only what stands above it; `commands` alone wires layers together, `report` alone prints and
//! `process` alone spawns. `tests/tidy.rs` holds that. `ARCHITECTURE.md` explains why.

pub use packer_template::{error, recipe, sensitive};
pub use packer_template as template;

pub mod durable;
pub mod event;

pub mod signals;
pub mod process;

pub mod ledger;

pub mod partition;
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

//! Builds, tests and ships machine images with coding agents pre-installed.
//!
//! The modules below stand in the order data flows: `config -> recipe -> plan -> engine/stage -> events -> report`.
//! A module imports only what stands above it; `commands` alone wires layers together, `report` alone prints and
//! `process` alone spawns. `tests/tidy.rs` holds that. `ARCHITECTURE.md` explains why.

pub mod error;
pub mod durable;
pub mod sensitive;
pub mod event;
pub mod recipe;

pub mod signals;
pub mod process;

pub mod ledger;

pub mod partition;
pub mod config;
pub mod template;

pub mod state;
pub mod remote;
pub mod ssh;
pub mod cloud;
pub mod fleet;
pub mod channel;
pub mod contents;
pub mod plan;
pub mod engine;
pub mod stage;

pub mod toolchain;
pub mod preflight;
pub mod check;

pub mod freshness;
pub mod story;
pub mod report;
pub mod cli;
pub mod commands;

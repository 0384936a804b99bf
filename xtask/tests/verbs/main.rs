//! The command line, by verb: a file for each command, and some for what several commands share. Images have a few bytes; the store, the
//! parameters and the ledger are the real ones.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;

use proptest::prelude::*;
use serde_json::Value;
use xtask::cloud::Image;
use xtask::recipe::Digest;
use xtask::state::State;

#[path = "../support/project.rs"]
mod project;
#[path = "../support/repository.rs"]
mod repository;
#[path = "../support/stopped.rs"]
mod stopped;

use project::{Project, ended};
use repository::commit;
use stopped::Stopped;

mod build;
mod bump;
mod command_line;
mod doctor;
mod durable;
mod errors;
mod gc;
mod gc_layers;
mod identity;
mod list;
mod plan;
mod promote;
mod report;
mod resume;
mod rollback;
mod rollback_interrupted;
mod runs;
mod sequences;
mod ssm;
mod status;
mod template_source;
mod test;
mod unread;
mod validate;
mod watch;

/// A project whose channels have parameters as well as an env file.
fn with_parameters() -> Project {
    let project = Project::new();
    project.edit("ami.toml", "ssm_prefix = \"\"", "ssm_prefix = \"/locus/ami\"");
    project
}

fn points_at(project: &Project, channel: &str) -> Value {
    project.data(&["ami", "history", "--channel", channel])["now"].clone()
}

fn ids(project: &Project, image: &Image) -> Value {
    let images = project.data(&["ami", "list"])["images"].as_array().unwrap().clone();
    images
        .iter()
        .filter(|i| i["name"] == image.name)
        .map(|i| (i["region"].as_str().unwrap().to_owned(), i["id"].clone()))
        .collect()
}

fn promote(project: &Project, image: &Image, channel: &str) -> project::Ended {
    project.run(&["ami", "promote", &image.id.0, "--channel", channel, "--yes"])
}

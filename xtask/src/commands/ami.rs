//! `ami …`: images.

pub mod build;
pub mod copy;
pub mod delete;
pub mod diff;
pub mod engine;
pub mod list;
pub mod plan;
pub mod promote;
pub mod release;
pub mod show;
pub mod smoke;

//! The stages of the pipeline after the build, one module each.
//!
//! A stage that needs a provider is generic over [`crate::cloud::Cloud`] and reports what it does as events; the others are pure.
//! `commands` decides which stages run, and in which order.

pub mod copy;
pub mod delete;
pub mod promote;
pub mod promotion;
pub mod gc;
pub mod rollback;
pub mod smoke;
pub mod version;

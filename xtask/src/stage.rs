//! The stages of the pipeline after the build, one a file, each generic over [`crate::cloud::Cloud`].
//!
//! A stage turns inputs into effects and events; what to run and in which order is for `commands`.

pub mod copy;
pub mod delete;
pub mod promote;
pub mod promotion;
pub mod gc;
pub mod rollback;
pub mod smoke;
pub mod version;

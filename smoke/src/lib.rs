//! What `xtask` and the smoke binary share: the smoke spec, the report, boot times, versions, and the catalog of checks. The checks
//! themselves are in the binary.

pub mod boot;
pub mod catalog;
pub mod report;
pub mod spec;
pub mod version;

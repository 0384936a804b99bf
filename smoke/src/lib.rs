//! What a good instance looks like (the spec) and how one was found (the report): the contract between `xtask` and the
//! on-instance judge. Types, parsing and rendering; the checks themselves are in the binary.

pub mod boot;
pub mod report;
pub mod spec;
pub mod version;

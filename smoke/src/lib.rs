//! smoke spec and report types

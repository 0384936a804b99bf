//! The template reader on arbitrary text: it evaluates or returns an error, and does not panic.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use packer_template::{Request, evaluate};

fuzz_target!(|text: &str| {
    let Ok(dir) = tempfile::tempdir() else { return };
    if std::fs::write(dir.path().join("t.pkr.hcl"), text).is_err() {
        return;
    }
    let _ = evaluate(&Request {
        path: dir.path().to_owned(),
        source: "qemu.x".to_owned(),
        settings: Vec::new(),
        vars: Vec::new(),
        var_files: Vec::new(),
        env: BTreeMap::new(),
        now: jiff::Timestamp::UNIX_EPOCH,
        root: dir.path().to_owned(),
        foreign: None,
    });
});

//! The smoke spec's parser on arbitrary text: it returns a spec or an error, and does not panic.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = smoke::spec::parse(text);
});

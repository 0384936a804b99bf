//! Documents of images, as files on this machine. The smoke record is also in the image's tags, where every machine of the account can read
//! it.

use std::path::Path;

use xtask::durable;
use xtask::error::Result;
use xtask::stage::smoke::Record;

/// Writes a document to an image's directory.
pub fn put(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    durable::replace(&dir.join(name), bytes)
}

/// A document in an image's directory; `None` if it does not exist.
pub fn get(dir: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    match std::fs::read(dir.join(name)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The newer one of two smoke records. The record in the tags is newer if another machine has tested the image since. This machine's record
/// has the reports, so it is used if both have the same time.
pub fn newest(here: Option<Vec<u8>>, tags: Option<Record>) -> Option<Vec<u8>> {
    let Some(tags) = tags else { return here };
    let known = here.as_ref().and_then(|bytes| serde_json::from_slice::<Record>(bytes).ok());
    match known {
        Some(known) if known.at >= tags.at => here,
        Some(_) | None => serde_json::to_vec(&tags).ok(),
    }
}

#[cfg(test)]
mod tests {
    use xtask::recipe::Digest;

    use super::*;

    fn record(passed: bool, at: &str) -> Record {
        let content = Digest::of(b"ami-1");
        Record {
            schema: 1,
            content,
            spec_sha256: content,
            passed,
            at: at.parse().unwrap(),
            passes: Vec::new(),
            reports: Vec::new(),
        }
    }

    #[test]
    fn a_record_of_this_machine_is_used_until_another_machine_tests_the_image() {
        let here = |at| serde_json::to_vec(&record(true, at)).ok();
        let chosen = |here, tags| newest(here, tags).map(|bytes| serde_json::from_slice::<Record>(&bytes).unwrap());
        let (early, late) = ("2026-11-21T09:59:00Z", "2026-11-21T10:00:00Z");
        assert!(!chosen(here(early), Some(record(false, late))).unwrap().passed);
        assert!(chosen(here(late), Some(record(false, early))).unwrap().passed);
        assert!(chosen(here(late), Some(record(false, late))).unwrap().passed, "the same, with its reports");
        assert!(!chosen(Some(b"{".to_vec()), Some(record(false, early))).unwrap().passed, "a damaged file");
        assert!(chosen(None, Some(record(true, early))).unwrap().passed);
        assert!(chosen(here(early), None).unwrap().passed && chosen(None, None).is_none());
    }
}

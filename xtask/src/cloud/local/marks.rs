//! The marks of local images, in a file next to the image's record.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::{Cloud as _, DAMAGED, Image};
use super::Local;
use crate::durable;
use crate::error::Result;

/// The document with an image's marks.
const FILE: &str = "marks.json";

impl Local {
    /// The marks of an image. A damaged file is moved aside and replaced by the mark [`DAMAGED`] with its new path. It is no error, because
    /// one damaged file must not fail the commands that read all images; and the image must not look unmarked, because it may have been
    /// quarantined.
    pub(super) fn read_marks(&self, image: &Image) -> Result<BTreeMap<String, String>> {
        let file = self.store.dir(image).join(FILE);
        if let Some(marks) = read(&file)? {
            return Ok(marks);
        }
        let _lock = self.state.wait_for_lock("marks", "moving damaged marks aside")?;
        // Another process may have replaced it in the meantime.
        if let Some(marks) = read(&file)? {
            return Ok(marks);
        }
        let aside = durable::set_aside(&file)?;
        let marks =
            [(DAMAGED.to_owned(), format!("the marks could not be read and are kept in {}", aside.display()))].into();
        durable::replace(&file, &text(&marks))?;
        Ok(marks)
    }

    /// Adds a mark. Processes are serialized by a lock, because each writes the whole file.
    pub(super) fn add_mark(&self, image: &Image, key: &str, value: &str) -> Result<()> {
        self.read_marks(image)?;
        let _lock = self.state.wait_for_lock("marks", "marking an image")?;
        let mut marks = read(&self.store.dir(image).join(FILE))?.unwrap_or_default();
        marks.insert(key.to_owned(), value.to_owned());
        self.put_document(image, FILE, &text(&marks))
    }
}

/// The marks in a file. Empty if the file does not exist, `None` if its content is damaged.
fn read(file: &Path) -> Result<Option<BTreeMap<String, String>>> {
    match std::fs::read(file) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Some(BTreeMap::new())),
        Err(error) => Err(error.into()),
    }
}

fn text(marks: &BTreeMap<String, String>) -> Vec<u8> {
    serde_json::to_vec_pretty(marks).unwrap_or_default()
}

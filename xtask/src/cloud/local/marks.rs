//! What people and pipelines have noted on an image of this machine: a file beside the image's record.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::{Cloud as _, DAMAGED, Image};
use super::Local;
use crate::durable;
use crate::error::Result;

/// The document that holds an image's marks.
const FILE: &str = "marks.json";

impl Local {
    /// The marks. A file that cannot be read is set aside, and the mark [`DAMAGED`] names it: one bad file must not stop the commands
    /// that look at all images, and an image whose quarantine may have been lost must not look like a good one.
    pub(super) fn read_marks(&self, image: &Image) -> Result<BTreeMap<String, String>> {
        let file = self.store.dir(image).join(FILE);
        if let Some(marks) = read(&file)? {
            return Ok(marks);
        }
        let _lock = self.state.wait_for_lock("marks", "setting damaged marks aside")?;
        // Another process may have done it in the meantime.
        if let Some(marks) = read(&file)? {
            return Ok(marks);
        }
        let aside = durable::set_aside(&file)?;
        let marks =
            [(DAMAGED.to_owned(), format!("the marks could not be read: they are in {}", aside.display()))].into();
        durable::replace(&file, &text(&marks))?;
        Ok(marks)
    }

    /// Adds a mark. One process at a time: each writes the whole file.
    pub(super) fn add_mark(&self, image: &Image, key: &str, value: &str) -> Result<()> {
        self.read_marks(image)?;
        let _lock = self.state.wait_for_lock("marks", "marking an image")?;
        let mut marks = read(&self.store.dir(image).join(FILE))?.unwrap_or_default();
        marks.insert(key.to_owned(), value.to_owned());
        self.put_document(image, FILE, &text(&marks))
    }
}

/// The marks in a file; none without the file, and `None` if it cannot be read as marks.
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

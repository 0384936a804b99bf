//! A build whose template only Packer reads.

use super::{Options, captured, packer};
use crate::cloud::{Capture, Cloud, Image};
use crate::error::{Error, Result};
use crate::event::{Observer, Outcome, Phase, phase};
use crate::template::unread::Unread;

/// One build: its inputs, its options and its observer.
pub struct UnreadJob<'a, C> {
    /// The provider, which adopts the disk.
    pub cloud: &'a C,
    /// The template.
    pub unread: &'a Unread,
    /// The input for the image's record.
    pub capture: &'a Capture,
    /// The options of the command line.
    pub options: &'a Options,
    /// Receives phases and output.
    pub events: &'a dyn Observer,
}

impl<C: Cloud> UnreadJob<'_, C> {
    /// Builds the image with Packer and returns its record, in which the base is unknown.
    pub fn build(&self, request: &packer::Request) -> Result<Image> {
        let Self { cloud, unread, capture, options, events } = *self;
        let mut facts = cloud.for_packer(None)?;
        facts.push(("build_facts".to_owned(), self.seal().to_string()));
        let made = phase(events, Phase::Build, &capture.image, || {
            let made = request.build_unread(unread, &facts, options, events)?;
            Ok::<_, Error>((made, Outcome::Done, format!("Packer {} built {}", request.packer.version, unread.source)))
        })?;
        captured(&capture.image, events, |on_progress| cloud.adopt(&made, None, capture, on_progress))
    }

    /// The value of `build` in the image's manifest, if the template writes one.
    fn seal(&self) -> serde_json::Value {
        let Capture { image, version, recipe_hash, engine, built_in, template, .. } = self.capture;
        serde_json::json!({
            "image": image,
            "version": version,
            "engine": engine,
            "builder": built_in.name(),
            "recipe_hash": recipe_hash,
            "template": template,
            "base": null,
            "built_at": jiff::Timestamp::now().to_string(),
        })
    }
}

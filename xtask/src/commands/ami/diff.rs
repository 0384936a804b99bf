//! `ami diff`: compares two images.

use crate::cli;
use crate::cloud::{Cloud, Image, find};
use crate::commands::{Context, Finish, Provider};
use crate::contents::{Contents, MANIFEST, SBOM, difference};
use crate::error::{Exit, Result};
use crate::stage::smoke::{DOCUMENT, Record};

pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Diff) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let cloud = provider.open(context, &config, &state, None)?;
    let (from, to) = (find(&cloud, &args.from)?, find(&cloud, &args.to)?);
    let difference = difference((&from, &contents(&cloud, &from)?), (&to, &contents(&cloud, &to)?));
    let data = serde_json::json!({ "from": from.id, "to": to.id, "difference": difference });
    let text = format!("{} {} -> {} {}\n{}", from.id, from.name, to.id, to.name, difference.text());
    context.document("diff", data.clone(), text);
    Ok(Finish::new("", data))
}

/// The contents and boot times of an image, from the documents that its smoke test stored.
pub fn contents<C: Cloud>(cloud: &C, image: &Image) -> Result<Contents> {
    let document = |name: &str| {
        cloud.document(image, name)?.ok_or_else(|| {
            let hint = format!("run `cargo xtask ami smoke {}` to download it", image.id);
            Exit::Precondition.error(format_args!("the contents of {} are unknown: no {name}", image.id), hint)
        })
    };
    let contents = Contents::read(image, &document(MANIFEST)?, &document(SBOM)?)?;
    // A record that cannot be read counts as no measurement here; `promote` reports it.
    let record = cloud.document(image, DOCUMENT)?.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
    Ok(match &record {
        Some(record) => contents.with_boots(record.boots()),
        None => contents,
    })
}

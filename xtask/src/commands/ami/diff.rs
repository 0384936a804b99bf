//! `ami diff`: what differs between two images.

use crate::cli;
use crate::cloud::{Cloud, Image, find};
use crate::commands::{Context, Finish, Provider};
use crate::contents::{Contents, MANIFEST, SBOM, difference};
use crate::error::{Exit, Result};
use crate::stage::smoke::{DOCUMENT, Record};

/// Runs the command.
pub fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Diff) -> Result<Finish> {
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

/// What an image says is in it, and how long it boots: from the documents that its smoke test left.
pub fn contents<C: Cloud>(cloud: &C, image: &Image) -> Result<Contents> {
    let document = |name: &str| {
        cloud.document(image, name)?.ok_or_else(|| {
            let hint = format!("`cargo xtask ami smoke {}` asks the image itself", image.id);
            Exit::Precondition.error(format_args!("what is in {} is not known here: no {name}", image.id), hint)
        })
    };
    let contents = Contents::read(image, &document(MANIFEST)?, &document(SBOM)?)?;
    // A record that cannot be read is for `promote` to name; here it measured nothing.
    let record = cloud.document(image, DOCUMENT)?.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
    Ok(match &record {
        Some(record) => contents.with_boots(record.boots()),
        None => contents,
    })
}

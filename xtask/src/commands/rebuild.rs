//! Rebuilds a damaged ledger: the file was moved aside, and the new ledger is filled from the tags of the images.

use super::{Context, Provider};
use crate::channel::mark::Promoted;
use crate::cloud::{self, Cloud, Image};
use crate::error::Result;
use crate::event::Event;
use crate::ids::RunId;
use crate::ledger::{Promotion, PromotionKind, RunOutcome};
use crate::state::State;

/// Fills the new ledger from this provider's images if the old one was damaged and this has not been done yet.
pub(super) fn if_damaged<P: Provider>(context: &Context, provider: &P) -> Result<()> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let Some(aside) = state.ledger().lacks(provider.on().name())? else { return Ok(()) };
    let cloud = provider.open(context, &config, &state, None)?;
    let (images, _) = cloud::all_images(&cloud)?;
    let (mut runs, mut promotions) = (0, 0);
    for image in &images {
        runs += usize::from(run(
            &state,
            cloud.name(),
            &image.run,
            &image.created.map(|at| at.to_string()).unwrap_or_default(),
        )?);
    }
    for image in images.iter().filter(|i| i.copied_from.is_none()) {
        for (key, value) in cloud.marks(image)? {
            let Some(channel) = key.strip_prefix("promoted:") else { continue };
            promotions += usize::from(promotion(&state, cloud.name(), image, &images, channel, &value)?);
        }
    }
    state.ledger().rebuilt(cloud.name())?;
    context.events.event(Event::Warning {
        message: format!(
            "the ledger was damaged and moved to {}; the new one is filled from the tags of the images on {}: {runs} runs, {promotions} promotions",
            aside.display(),
            cloud.name()
        ),
        hint: "run `cargo xtask ami gc` to find orphaned resources: the calls of earlier runs are only in the old file".to_owned(),
    });
    Ok(())
}

fn run(state: &State, on: &str, id: &RunId, began: &str) -> Result<bool> {
    if state.ledger().run(id)?.is_some() {
        return Ok(false);
    }
    state.ledger().begin_run(id, "(read from tags)", &[], on)?;
    state.ledger().end_run(id, RunOutcome::Done, &format!("built an image at {began}"))?;
    Ok(true)
}

/// Records the promotion that an image's mark `promoted:CHANNEL` describes. Returns false if the mark has another
/// form.
fn promotion(state: &State, on: &str, image: &Image, all: &[Image], channel: &str, mark: &str) -> Result<bool> {
    let Ok(Promoted { at, run: id, who }) = mark.parse() else { return Ok(false) };
    run(state, on, &id, &at.to_string())?;
    let copies = all.iter().filter(|i| i.name == image.name);
    state.ledger().begin_promotion(&Promotion {
        run: id.clone(),
        on: on.to_owned(),
        channel: channel.into(),
        of: image.image.clone(),
        account: image.account.clone(),
        kind: PromotionKind::Promote,
        image: image.name.clone(),
        instead_of: None,
        version: image.version.clone(),
        ids: copies.map(|i| (i.region.clone(), i.id.to_string())).collect(),
        who,
        why: Some("read from tags".to_owned()),
        at,
        ended: None,
        superseded: None,
    })?;
    state.ledger().end_promotion(&id, channel, &image.image)?;
    Ok(true)
}

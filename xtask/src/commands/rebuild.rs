//! A ledger that was damaged is set aside and begun anew, with what the images' tags still tell.

use super::{Context, Provider};
use crate::cloud::{self, Cloud, Image};
use crate::error::Result;
use crate::event::Event;
use crate::ledger::{Promotion, PromotionKind, RunOutcome};
use crate::state::State;

/// Opens the state folder and, if its ledger had to be set aside, fills the new one with what is known at this provider.
pub(super) fn if_damaged<P: Provider>(context: &Context, provider: &P) -> Result<()> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let Some(aside) = state.ledger().lacks(provider.on().name())? else { return Ok(()) };
    let cloud = provider.open(context, &config, &state, None)?;
    let (images, _) = cloud::all_images(&cloud)?;
    let (mut runs, mut promotions) = (0, 0);
    for image in &images {
        runs += usize::from(run(&state, cloud.name(), &image.run, &image.created)?);
    }
    for image in images.iter().filter(|i| i.copied_from.is_none()) {
        for (key, value) in cloud.marks(image)? {
            let Some(channel) = key.strip_prefix("promoted:") else { continue };
            promotions += usize::from(promotion(&state, cloud.name(), image, &images, channel, &value)?);
        }
    }
    state.ledger().filled_again(cloud.name())?;
    context.events.event(Event::Warning {
        message: format!(
            "the ledger was damaged and is set aside as {}; a new one holds what images on {} tell by their tags: {runs} runs, {promotions} promotions",
            aside.display(),
            cloud.name()
        ),
        hint: "single calls of earlier runs are only in the old file; `cargo xtask ami gc` looks for what they left".to_owned(),
    });
    Ok(())
}

fn run(state: &State, on: &str, id: &str, began: &str) -> Result<bool> {
    if state.ledger().run(id)?.is_some() {
        return Ok(false);
    }
    state.ledger().begin_run(id, "(read from tags)", &[], on)?;
    state.ledger().end_run(id, RunOutcome::Done, &format!("made an image at {began}"))?;
    Ok(true)
}

/// `AT by WHO in RUN`, as it was marked.
fn promotion(state: &State, on: &str, image: &Image, all: &[Image], channel: &str, mark: &str) -> Result<bool> {
    let Some((at, rest)) = mark.split_once(" by ") else { return Ok(false) };
    let Some((who, id)) = rest.split_once(" in ") else { return Ok(false) };
    run(state, on, id, at)?;
    let copies = all.iter().filter(|i| i.name == image.name);
    state.ledger().begin_promotion(&Promotion {
        run: id.to_owned(),
        on: on.to_owned(),
        channel: channel.to_owned(),
        of: image.image.clone(),
        account: image.account.clone(),
        kind: PromotionKind::Promote,
        image: image.name.clone(),
        instead_of: String::new(),
        version: image.version.clone(),
        ids: copies.map(|i| (i.region.clone(), i.id.to_string())).collect(),
        who: who.to_owned(),
        why: "read from tags".to_owned(),
        at: at.to_owned(),
        ended: None,
        superseded: None,
    })?;
    state.ledger().end_promotion(id, channel, &image.image)?;
    Ok(true)
}

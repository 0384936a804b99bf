//! What the commands about channels share: a channel's sinks, the images of a version, and the way from a plan to what was read back.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::channel::{self, Change, Target, claim};
use crate::cli;
use crate::cloud::{Cloud, Image, ImageId};
use crate::commands::Context;
use crate::config::{Channel, Config, Image as ImageConfig};
use crate::error::{Exit, Result};
use crate::event::{Event, Outcome};
use crate::ledger::{Intent, Promotion, PromotionKind};
use crate::stage::rollback::{self, Stands};
use crate::state::{Run, State};

/// The mark that says since when a channel has pointed at an image: `promoted:staging`.
pub fn promoted(channel: &str) -> String {
    format!("promoted:{channel}")
}

/// The mark that says why an image must not be used any more.
pub const QUARANTINED: &str = "quarantined";

/// A channel of ami.toml by its name.
pub fn configured<'a>(config: &'a Config, name: &str) -> Result<&'a Channel> {
    config.channels.get(name).ok_or_else(|| {
        let known = config.channels.keys().cloned().collect::<Vec<_>>().join(", ");
        Exit::Usage.error(format_args!("ami.toml has no channel `{name}`"), format_args!("its channels are: {known}"))
    })
}

/// The sinks of a channel for one image of ami.toml.
pub fn target(context: &Context, config: &Config, image: &str, name: &str) -> Result<Target> {
    let channel = configured(config, name)?;
    let (image, configured) = context.image(config, Some(image))?;
    Ok(sinks(context, (image, configured), (name, channel)))
}

fn sinks(context: &Context, (image, configured): (&str, &ImageConfig), (name, channel): (&str, &Channel)) -> Target {
    let set = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
    let shown = channel.env_file.display().to_string();
    Target {
        name: name.to_owned(),
        image: image.to_owned(),
        variable: configured.env_variable.clone(),
        env_file: set(&shown).map(|shown| (context.root.join(&channel.env_file), shown)),
        prefix: set(&channel.ssm_prefix),
        output: context.env.get("GITHUB_OUTPUT").filter(|_| channel.github_output).map(PathBuf::from),
    }
}

/// The sinks of all channels for all images.
pub fn targets(context: &Context, config: &Config) -> Vec<Target> {
    let of = |(name, channel): (&String, &Channel)| {
        let images = config.images.iter();
        images.map(|(image, at)| sinks(context, (image, at), (name, channel))).collect::<Vec<_>>()
    };
    config.channels.iter().flat_map(of).collect()
}

/// Everything that refers to an image: channels, parameters, instances, launch templates.
pub fn users<C: Cloud>(context: &Context, cloud: &C, config: &Config, image: &Image) -> Result<Vec<String>> {
    let mut users = cloud.users(image)?;
    users.extend(references(context, cloud, config, &image.region, &image.id)?);
    Ok(users)
}

/// The channels and parameters that refer to an id in a region.
pub fn references<C: Cloud>(
    context: &Context,
    cloud: &C,
    config: &Config,
    region: &str,
    id: &ImageId,
) -> Result<Vec<String>> {
    let all = channel::references(cloud, &targets(context, config), &[region].into())?;
    Ok(all.get(id).cloned().unwrap_or_default())
}

/// Deletes an image, and before it what names its version: killed in between, the image is still there to be deleted.
pub fn delete<C: Cloud>(context: &Context, cloud: &C, config: &Config, image: &Image) -> Result<()> {
    channel::forget(cloud, &targets(context, config), image)?;
    cloud.delete(image)
}

/// The image in every region, home first: the same name, and in other regions copies of it.
pub fn everywhere<C: Cloud>(cloud: &C, all: &[Image], image: &Image) -> Vec<Image> {
    let copies = all.iter().filter(|i| i.name == image.name && i.region != image.region);
    let mut images: Vec<Image> = std::iter::once(image).chain(copies).cloned().collect();
    images.sort_by_key(|i| cloud.regions().iter().position(|r| *r == i.region));
    images
}

/// The regions that must have the image; those that may lack it and do are told.
pub fn required<C: Cloud>(
    context: &Context,
    cloud: &C,
    images: &[Image],
    best_effort: &cli::BestEffort,
) -> Result<Vec<String>> {
    let best_effort = super::copy::best_effort(cloud, best_effort)?;
    let mut required = cloud.regions().to_vec();
    required.retain(|region| {
        let lacks = best_effort.contains(region) && !images.iter().any(|i| i.region == *region);
        if lacks {
            let message = format!("{region} lacks the image and keeps what it had");
            let hint = format!("`cargo xtask ami copy --region {region}`, then promote again");
            context.events.event(Event::Warning { message, hint });
        }
        !lacks
    });
    Ok(required)
}

/// What a channel points at, of what its pointers hold `now`. Regions that may lack an image keep what they had, so they need not agree
/// with the others.
pub fn stands<C: Cloud>(cloud: &C, all: &[Image], now: &BTreeMap<String, ImageId>) -> Stands {
    let regions: Vec<String> = cloud.regions().iter().filter(|r| !cloud.best_effort().contains(r)).cloned().collect();
    rollback::stands(all, now, &regions)
}

/// The last promotion of the channel that was interrupted in this state folder, if nothing has moved the channel since.
pub fn half_done<C: Cloud>(cloud: &C, state: &State, target: &Target, run: &str) -> Result<Option<Promotion>> {
    let mut all = state.ledger().promotions(cloud.name())?;
    all.retain(|p| p.moves(&target.name, &target.image) && p.is_half_done() && p.run != run);
    Ok(all.pop())
}

/// What moves a channel.
pub struct Move<'a> {
    /// Its sinks.
    pub target: &'a Target,
    /// To these images, home first.
    pub images: &'a [Image],
    /// The name of the image that it points at now, if that is known.
    pub instead_of: Option<&'a str>,
    /// Forward or back.
    pub kind: PromotionKind,
    /// Why, for the history.
    pub why: &'a str,
    /// A person has agreed already.
    pub asked: bool,
}

/// Shows what will change, asks, writes it down, makes each change and reads it back. The caller holds the channel's lock.
pub fn point<C: Cloud>(
    context: &Context,
    cloud: &C,
    state: &State,
    run: &Run,
    step: &Move<'_>,
) -> Result<(Outcome, String)> {
    let Move { target, images, .. } = step;
    let channel = &target.name;
    let ids: BTreeMap<String, String> = images.iter().map(|i| (i.region.clone(), i.id.to_string())).collect();
    let shown = ids.values().cloned().collect::<Vec<_>>().join(", ");
    let changes = channel::plan(cloud, target, images)?;
    let mut history = state.ledger().promotions(cloud.name())?;
    history.retain(|p| p.moves(channel, &target.image));
    let mine = history.iter().rfind(|p| p.run == run.id());
    if let Some(by) = mine.and_then(|p| p.superseded.as_deref()) {
        return Err(Exit::Precondition.error(
            format_args!("{channel} was moved by {by} after {} was interrupted", run.id()),
            format_args!("`cargo xtask ami history --channel {channel}` shows it; promote again what you want there"),
        ));
    }
    let unfinished = mine.is_some_and(Promotion::is_half_done);
    same_account(&history, target, images)?;
    if changes.is_empty() && !unfinished {
        // What was begun and moved nothing must not move it later, either.
        if !context.common.dry_run {
            state.ledger().end_promotion(run.id(), channel, &target.image)?;
        }
        return Ok((Outcome::UpToDate, format!("{channel} points at {shown} already")));
    }
    for change in &changes {
        context.events.event(Event::Diff { file: change.place().into(), diff: change.diff() });
    }
    if context.common.dry_run {
        return Ok((Outcome::UpToDate, "nothing was written: --dry-run".to_owned()));
    }
    let name = images.first().map_or("nothing", |i| i.name.as_str());
    // What was begun was agreed to.
    if !step.asked && !unfinished {
        context.confirm(&format!("Point {channel} at {name}?"))?;
    }
    for image in *images {
        cloud.usable(image)?;
        cloud.promotable(image)?;
    }
    free_dead_claim(context, cloud, state, run, target)?;
    claim::take(cloud, target, run.id(), &who(context))?;
    let moved = moved(context, cloud, state, run, step, &changes, ids);
    let released = claim::release(cloud, target, run.id());
    moved.and(released)?;
    state.ledger().end_promotion(run.id(), channel, &target.image)?;
    Ok((Outcome::Done, format!("{channel} points at {shown}")))
}

/// Refuses to mix accounts in one channel: its env file is on this machine, and whoever reads it expects ids of one account.
fn same_account(history: &[Promotion], target: &Target, images: &[Image]) -> Result<()> {
    let Some(account) = images.first().and_then(|i| i.account.as_deref()) else { return Ok(()) };
    let last = history.iter().rev().filter(|p| p.ended.is_some()).find_map(|p| p.account.as_deref());
    match last.filter(|last| *last != account) {
        None => Ok(()),
        Some(last) => Err(Exit::Precondition.error(
            format_args!(
                "{} of {} was last pointed at images of account {last}, and these are of account {account}",
                target.name, target.image
            ),
            format_args!(
                "use another profile, or give each account a state folder and env files of its own: --state DIR, AGENT_AMI_CHANNELS_{}_ENV_FILE",
                target.name.to_uppercase().replace('-', "_")
            ),
        )),
    }
}

/// Gives up the claim of a run of this state folder whose process is dead: nobody else will, and a rollback must not wait an hour.
fn free_dead_claim<C: Cloud>(context: &Context, cloud: &C, state: &State, run: &Run, target: &Target) -> Result<()> {
    let Some(holder) = claim::held(cloud, target)?.and_then(|claim| claim.run) else { return Ok(()) };
    if holder == run.id() || state.ledger().run(&holder)?.is_none() || state.is_alive(&holder)? {
        return Ok(());
    }
    let message = format!("{holder} was interrupted while it moved {}; its claim is given up", target.name);
    context.events.event(Event::Note { message });
    claim::release(cloud, target, &holder)
}

/// Makes the changes and reads back what they made of the channel. The caller holds the claim on it.
fn moved<C: Cloud>(
    context: &Context,
    cloud: &C,
    state: &State,
    run: &Run,
    step: &Move<'_>,
    changes: &[Change],
    ids: BTreeMap<String, String>,
) -> Result<()> {
    let Move { target, images, .. } = step;
    let channel = &target.name;
    // Between the plan and the claim somebody else may have been here.
    if channel::plan(cloud, target, images)? != changes {
        let hint = "run the command again and look at the new diff";
        return Err(Exit::Failed.error(format_args!("{channel} was moved by someone else in between"), hint));
    }
    state.ledger().begin_promotion(&promotion(context, cloud, run, step, ids))?;
    for change in changes {
        write(context, cloud, run, channel, change)?;
    }
    let since = format!("{} by {} in {}", jiff::Timestamp::now(), who(context), run.id());
    for image in *images {
        cloud.mark(image, &promoted(channel), &since)?;
        // More than the channel's own check: nobody can remove it by accident. The channel points at it all the same.
        if let Err(error) = cloud.protect(image) {
            let message = format!("{} is not protected from deregistration: {error}", image.id);
            context
                .events
                .event(Event::Warning { message, hint: "`cargo xtask iam-policy` has what it takes".to_owned() });
        }
    }
    let now = channel::points_at(cloud, target)?;
    match images.iter().find(|i| now.get(&i.region) != Some(&i.id)) {
        None => Ok(()),
        Some(image) => {
            let holds = now.get(&image.region).map_or("nothing".to_owned(), ToString::to_string);
            Err(Exit::Failed.error(
                format_args!("{channel} was pointed at {} in {} and points at {holds}", image.id, image.region),
                "somebody else moves it too; `cargo xtask ami history` shows what this machine did",
            ))
        }
    }
}

fn promotion<C: Cloud>(
    context: &Context,
    cloud: &C,
    run: &Run,
    step: &Move<'_>,
    ids: BTreeMap<String, String>,
) -> Promotion {
    let home = step.images.first();
    Promotion {
        run: run.id().to_owned(),
        on: cloud.name().to_owned(),
        channel: step.target.name.clone(),
        of: step.target.image.clone(),
        account: home.and_then(|i| i.account.clone()),
        kind: step.kind,
        image: home.map(|i| i.name.clone()).unwrap_or_default(),
        instead_of: step.instead_of.unwrap_or_default().to_owned(),
        version: home.map(|i| i.version.clone()).unwrap_or_default(),
        ids,
        who: who(context),
        why: step.why.to_owned(),
        at: jiff::Timestamp::now().to_string(),
        ended: None,
        superseded: None,
    }
}

fn write<C: Cloud>(context: &Context, cloud: &C, run: &Run, channel: &str, change: &Change) -> Result<()> {
    // A parameter's write is a call of the provider's, which writes it down itself.
    if matches!(change, Change::Parameter(_)) {
        channel::apply(cloud, change)?;
    } else {
        let intent = Intent {
            action: "channel:Write".to_owned(),
            subject: channel.to_owned(),
            token: change.place(),
            ..Intent::default()
        };
        run.journal(&intent, || channel::apply(cloud, change).map(|()| ((), vec![change.place()])))?;
    }
    context.events.event(Event::Note { message: format!("{} written and read back", change.place()) });
    Ok(())
}

/// Who asks: the workflow's actor, or the login name.
fn who(context: &Context) -> String {
    let known = ["GITHUB_ACTOR", "SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| context.env.get(*name));
    known.cloned().unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promotion(account: Option<&str>, ended: bool) -> Promotion {
        Promotion {
            run: "run-1".to_owned(),
            on: "aws".to_owned(),
            channel: "staging".to_owned(),
            of: "locus-agent".to_owned(),
            account: account.map(str::to_owned),
            kind: PromotionKind::Promote,
            image: "v1".to_owned(),
            instead_of: String::new(),
            version: "1.0.0".to_owned(),
            ids: BTreeMap::new(),
            who: "ann".to_owned(),
            why: String::new(),
            at: "2026-11-21T10:00:00Z".to_owned(),
            ended: ended.then(|| "2026-11-21T10:00:01Z".to_owned()),
            superseded: None,
        }
    }

    #[test]
    fn a_channel_stays_in_its_account() {
        let target = Target { name: "staging".to_owned(), image: "locus-agent".to_owned(), ..Target::default() };
        let image = |account: &str| Image { account: Some(account.to_owned()), ..Image::sample() };
        let history = [promotion(Some("111111111111"), true), promotion(None, true)];
        same_account(&history, &target, &[image("111111111111")]).unwrap();
        let error = same_account(&history, &target, &[image("222222222222")]).unwrap_err();
        assert_eq!(error.exit(), Exit::Precondition);
        assert!(
            error.to_string().contains("of account 111111111111, and these are of account 222222222222"),
            "{error}"
        );
        // What was interrupted pointed the channel nowhere for good, and local images have no account.
        same_account(&[promotion(Some("111111111111"), false)], &target, &[image("222222222222")]).unwrap();
        same_account(&history, &target, &[Image { account: None, ..Image::sample() }]).unwrap();
    }
}

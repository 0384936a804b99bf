//! `ami gc`: plans which images, layers and orphaned resources to delete, and carries the plan out with `--apply`. Each decision has a
//! reason.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::channel::mark::Promoted;
use crate::channel::{claim, references};
use crate::cli;
use crate::cloud::{self, Cloud, DAMAGED, Image, ImageId, Kind, Orphan};
use crate::commands::{Context, Finish, Provider};
use crate::config::Config;
use crate::error::{Error, Exit, Result};
use crate::event::{Event, Outcome, Phase, phase};
use crate::ids::{Region, RunId};
use crate::ledger::RunOutcome;
use crate::stage::delete;
use crate::stage::gc::layers::size;
use crate::stage::gc::{self as stage, Action, Decision, Facts, Policy};
use crate::stage::promotion::QUARANTINED;
use crate::state::{ORPHANS, State};

mod layers;

use layers::Layers;

/// The mark with the time at which an image was deprecated.
const DEPRECATED: &str = "deprecated";
/// The mark with the time at which an image was disabled.
const DISABLED: &str = "disabled";
/// Hours for which a temporary resource of a run of another machine is kept, if it has no expiry.
const GRACE_HOURS: i64 = 24;

pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Gc) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let reader = provider.open(context, &config, &state, None)?;
    let local = provider.on() == cli::On::Local;
    let runs = if args.mine { dead(&state)? } else { args.runs.iter().map(|run| run.as_str().into()).collect() };
    if args.mine && runs.is_empty() {
        return Ok(Finish::new("no run of this state directory has ended", serde_json::json!({ "decisions": [] })));
    }
    let planned = |cloud: &P::Cloud| -> Result<Planned> {
        let facts = facts(context, cloud, &config, &state, &runs)?;
        let mut decisions = stage::plan(&facts, &policy(cloud, &config), Timestamp::now(), local);
        let summary = summary(&decisions);
        // Layers belong to no run: the next build starts from them, whichever run made them.
        let all = local && runs.is_empty();
        let layers = if all { Layers::plan(context, cloud, &config, &state)? } else { Layers::default() };
        decisions.extend(layers.decisions());
        Ok(Planned { facts, summary: format!("{summary}{}", layers.summary()), decisions, layers })
    };
    if !args.apply || context.common.dry_run {
        let plan = planned(&reader)?;
        context.document("gc", plan.data(), render(&plan.decisions, args.all));
        caveats(context, &reader);
        let hint = if plan.changes_nothing() { "" } else { "; pass --apply to carry it out" };
        return Ok(Finish::new(format!("{}{hint}", plan.summary), plan.data()));
    }
    // While these locks are held, no channel is changed, no copy of a dead run is adopted, and no run is resumed.
    let channels = config.channels.keys().map(|name| format!("channel-{name}"));
    let locks: Result<Vec<_>> =
        channels.chain(["copy".to_owned(), ORPHANS.to_owned()]).map(|name| state.lock(&name, &context.line)).collect();
    let _locks = locks?;
    let plan = planned(&reader)?;
    context.document("gc", plan.data(), render(&plan.decisions, args.all));
    if plan.changes_nothing() {
        return Ok(Finish::new(plan.summary.clone(), plan.data()));
    }
    context.confirm(&format!("{}. Carry out the plan?", plan.summary))?;
    let run = context.begin_run(&state)?;
    let cloud = provider.open(context, &config, &state, Some(Arc::clone(&run)))?;
    apply(context, &cloud, &config, &plan)?;
    // Interrupted runs whose resources were deleted are marked as cleaned up, so that they are not resumed.
    let mut cleaned = Vec::new();
    for record in
        super::resume::interrupted(&state)?.into_iter().filter(|r| r.on == provider.on().name() && r.id != *run.id())
    {
        if runs.is_empty() || runs.contains(&record.id) {
            warn_interrupted_promotion(context, &state, &cloud, &record.id)?;
            state.ledger().end_run(&record.id, RunOutcome::Cleaned, &format!("cleaned up by {}", run.id()))?;
            cleaned.push(record.id);
        }
    }
    let mut data = plan.data();
    data["cleaned"] = serde_json::json!(cleaned);
    Ok(Finish::new(plan.summary, data))
}

/// The plan, and the facts that it was made from.
struct Planned {
    facts: Facts,
    layers: Layers,
    /// First those about images and orphaned resources, then those about layers.
    decisions: Vec<Decision>,
    summary: String,
}

impl Planned {
    fn data(&self) -> serde_json::Value {
        serde_json::json!({ "decisions": self.decisions, "layers_left_alone": self.layers.left_alone })
    }

    fn changes_nothing(&self) -> bool {
        self.decisions.iter().all(|d| d.action == Action::Keep)
    }
}

/// Warns about channels that an interrupted run was changing, because a run that is cleaned up cannot finish that any more.
fn warn_interrupted_promotion<C: Cloud>(context: &Context, state: &State, cloud: &C, run: &RunId) -> Result<()> {
    let all = state.ledger().promotions(cloud.name())?;
    for promotion in all.iter().filter(|p| p.run == *run && p.is_interrupted()) {
        let (channel, image) = (&promotion.channel, &promotion.image);
        let message = format!("{channel} may point at {image} in some regions and at the previous image in others");
        let hint = format!(
            "run `cargo xtask ami promote {image} --channel {channel}` or `cargo xtask ami rollback --channel {channel} --to VERSION --reason ...`"
        );
        context.events.event(Event::Warning { message, hint });
    }
    Ok(())
}

/// The runs of this state directory whose process has ended.
fn dead(state: &State) -> Result<Vec<RunId>> {
    let mut dead = Vec::new();
    for run in state.ledger().runs()? {
        if !state.is_alive(&run.id)? {
            dead.push(run.id);
        }
    }
    Ok(dead)
}

fn policy<C: Cloud>(cloud: &C, config: &Config) -> Policy {
    let days = |n: u64| SignedDuration::from_hours(24 * i64::try_from(n).unwrap_or(3650));
    let retention = &config.retention;
    Policy {
        keep: days(retention.keep_days),
        deprecated: days(retention.deprecate_days),
        disabled: Some(retention.disable_days).filter(|n| *n > 0 && cloud.disables()).map(days),
        keep_last: usize::try_from(retention.keep_last).unwrap_or(usize::MAX),
        max_removals: usize::try_from(retention.max_removals).unwrap_or(usize::MAX),
        grace: SignedDuration::from_hours(GRACE_HOURS),
    }
}

fn facts<C: Cloud>(context: &Context, cloud: &C, config: &Config, state: &State, runs: &[RunId]) -> Result<Facts> {
    let mut facts = Facts { orphans: cloud.orphans()?, ..Facts::default() };
    let targets = context.targets(config).all();
    for target in &targets {
        facts.orphans.extend(claim::held(cloud, target)?);
    }
    for run in state.ledger().runs()? {
        if state.is_alive(&run.id)? {
            facts.living.insert(run.id);
        } else {
            facts.known.insert(run.id);
        }
    }
    if !runs.is_empty() {
        facts.orphans.retain(|l: &Orphan| l.run.as_ref().is_some_and(|run| runs.contains(run)));
        return Ok(facts);
    }
    facts.images = cloud::all_images(cloud)?.0;
    facts.users = by_id(references(cloud, &targets, &BTreeSet::new())?);
    for promotion in state.ledger().promotions(cloud.name())? {
        let channel = pointer(&promotion.of, &promotion.channel);
        facts.promoted.entry(promotion.image).or_default().push((channel, promotion.at));
    }
    for image in facts.images.clone() {
        for (key, value) in cloud.marks(&image)? {
            if key == QUARANTINED || key == DAMAGED {
                facts.quarantined.insert(image.name.clone(), value);
            } else if key == DEPRECATED {
                facts.deprecated.extend(value.parse().ok().map(|at| (image.id.to_string(), at)));
            } else if key == DISABLED {
                facts.disabled.extend(value.parse().ok().map(|at| (image.id.to_string(), at)));
            } else if let (Some(channel), Ok(mark)) = (key.strip_prefix("promoted:"), value.parse::<Promoted>()) {
                let moves = facts.promoted.entry(image.name.clone()).or_default();
                moves.push((pointer(&image.image, channel), mark.at));
            }
        }
    }
    // Users are looked up only for the images that would be changed, because each lookup takes one or two calls.
    let first = stage::plan(&facts, &policy(cloud, config), Timestamp::now(), false);
    let changed: BTreeSet<&str> =
        first.iter().filter(|d| d.what == "image" && d.action != Action::Keep).map(|d| d.of.as_str()).collect();
    let changed: Vec<&Image> = facts.images.iter().filter(|i| changed.contains(i.name.as_str())).collect();
    let regions: BTreeSet<&Region> = changed.iter().map(|i| &i.region).collect();
    let mut users = by_id(references(cloud, &targets, &regions)?);
    for image in changed {
        users.entry(image.id.to_string()).or_default().extend(cloud.users(image)?);
    }
    facts.users = users;
    Ok(facts)
}

/// The key of a channel's pointer for one image of ami.toml. An image counts as replaced when the same pointer moves to another one.
fn pointer(of: &str, channel: &str) -> String {
    format!("{of}/{channel}")
}

fn by_id(references: BTreeMap<ImageId, Vec<String>>) -> BTreeMap<String, Vec<String>> {
    references.into_iter().map(|(id, users)| (id.0, users)).collect()
}

/// Carries out the decisions. A failure is a warning and does not stop the others; the first one is returned at the end.
fn apply<C: Cloud>(context: &Context, cloud: &C, config: &Config, plan: &Planned) -> Result<()> {
    let events = context.events.as_ref();
    let mut first: Option<Error> = None;
    for decision in plan.decisions.iter().filter(|d| d.action != Action::Keep) {
        let subject = format!("{} {}", decision.what, decision.id);
        let done = phase(events, Phase::Cleanup, subject, || {
            let what = carry_out(context, cloud, config, plan, decision)?;
            Ok::<_, Error>((
                (),
                Outcome::Done,
                format!("{what} {} {} in {}", decision.what, decision.id, decision.region),
            ))
        });
        match done {
            Err(error) if error.exit() == Exit::Interrupted => return Err(error),
            Err(error) => {
                let message = format!("{} {} was not changed: {error}", decision.what, decision.id);
                events.event(Event::Warning { message, hint: "run `cargo xtask ami gc` again".to_owned() });
                first = first.or(Some(error));
            }
            Ok(()) => {}
        }
    }
    caveats(context, cloud);
    first.map_or(Ok(()), Err)
}

/// Reports what could not be listed, and what EC2 retains.
fn caveats<C: Cloud>(context: &Context, cloud: &C) {
    for message in cloud.caveats() {
        context.events.event(Event::Note { message });
    }
}

fn carry_out<C: Cloud>(
    context: &Context,
    cloud: &C,
    config: &Config,
    plan: &Planned,
    decision: &Decision,
) -> Result<&'static str> {
    if let Some(layer) = plan.layers.find(decision) {
        cloud.remove_layer(layer)?;
        return Ok("removed");
    }
    let facts = &plan.facts;
    if let Some(orphan) = facts.orphans.iter().find(|l| l.id == decision.id && l.region == decision.region) {
        match orphan.kind {
            Kind::Claim => claim::release_abandoned(cloud, orphan)?,
            _ => cloud.remove_orphan(orphan)?,
        }
        return Ok("deleted");
    }
    let Some(image) = facts.images.iter().find(|i| i.id.0 == decision.id) else {
        let message = format!("{} does not exist any more", decision.id);
        return Err(Exit::Failed.error(message, "nothing remains to be done"));
    };
    if decision.action == Action::Deprecate {
        cloud.deprecate(image)?;
        cloud.mark(image, DEPRECATED, &Timestamp::now().to_string())?;
        return Ok("deprecated");
    }
    // Checked again, because an instance may have been launched or another machine may have promoted the image since.
    let targets = context.targets(config).all();
    let users = delete::users(cloud, &targets, image)?;
    if !users.is_empty() {
        return Err(Exit::Precondition.error(format_args!("now in use by {}", users.join(", ")), "the image is kept"));
    }
    if decision.action == Action::Disable {
        cloud.disable(image)?;
        cloud.mark(image, DISABLED, &Timestamp::now().to_string())?;
        return Ok("disabled");
    }
    delete::delete(cloud, &targets, image)?;
    Ok("removed")
}

fn summary(plan: &[Decision]) -> String {
    let count = |action| plan.iter().filter(|d| d.action == action).count();
    let saved: f64 = plan.iter().filter(|d| d.action == Action::Remove).filter_map(|d| d.monthly).sum();
    let money = if saved > 0.0 { format!(", saves at most ${saved:.2} a month") } else { String::new() };
    let (remove, deprecate, keep) = (count(Action::Remove), count(Action::Deprecate), count(Action::Keep));
    let disable = match count(Action::Disable) {
        0 => String::new(),
        some => format!("{some} to disable, "),
    };
    format!("{remove} to remove, {disable}{deprecate} to deprecate, {keep} to keep{money}")
}

fn render(plan: &[Decision], all: bool) -> String {
    let mut text = String::new();
    for d in plan.iter().filter(|d| all || d.action != Action::Keep) {
        let verb = match d.action {
            Action::Keep => "keep",
            Action::Deprecate => "deprecate",
            Action::Disable => "disable",
            Action::Remove => "remove",
        };
        let size = d.bytes.map_or(String::new(), |bytes| format!("  {}", size(bytes)));
        let cost = d.monthly.map_or(size, |m| format!("  ${m:.2} a month"));
        text.push_str(&format!("{verb:9} {:16} {}  {:14} {}  {}{cost}\n", d.what, d.id, d.region, d.of, d.reason));
    }
    text
}

//! `ami bump`: determines the next version from the changes since the last release, and writes it to ami.toml and the changelog.

use fs_err as fs;
use semver::Version;

use super::diff::contents;
use super::smoke::chosen;
use jiff::Timestamp;

use crate::channel::mark::Promoted;
use crate::cli;
use crate::cloud::{self, Cloud, Image};
use crate::commands::{Context, Finish, Provider};
use crate::config::FILE;
use crate::contents::difference;
use crate::durable;
use crate::error::{Exit, Result};
use crate::event::Event;
use crate::run_report::Since;
use crate::stage::version::{self, Level};
use crate::state::State;

/// The changelog, relative to the project's root directory.
const CHANGELOG: &str = "CHANGELOG.md";

/// The last release before this image: the image that a channel was last pointed at, by the ledger or, if another machine promoted it, by
/// its marks.
pub fn last_release<C: Cloud>(cloud: &C, state: &State, image: &Image) -> Result<Option<Image>> {
    let (all, _) = cloud::all_images(cloud)?;
    let mut last: Option<(Timestamp, Image)> = None;
    let history = state.ledger().promotions(cloud.name())?;
    let others = all.iter().filter(|i| i.image == image.image && i.name != image.name && i.copied_from.is_none());
    for other in others {
        let written = history.iter().filter(|p| p.image == other.name && p.ended.is_some()).map(|p| p.at);
        let marks = cloud.marks(other)?;
        let marked = marks.iter().filter(|(key, _)| key.starts_with("promoted:"));
        let marked = marked.filter_map(|(_, value)| value.parse::<Promoted>().ok().map(|mark| mark.at));
        if let Some(at) = written.chain(marked).max()
            && last.as_ref().is_none_or(|(best, _)| at > *best)
        {
            last = Some((at, other.clone()));
        }
    }
    Ok(last.map(|(_, image)| image))
}

/// The changes since the last release and the version bump that they require; `None` if there is no release before.
pub fn since<C: Cloud>(cloud: &C, state: &State, image: &Image) -> Result<Option<Since>> {
    let Some(last) = last_release(cloud, state, image)? else { return Ok(None) };
    let difference = difference((&last, &contents(cloud, &last)?), (image, &contents(cloud, image)?));
    let reasons = version::required(&difference).reasons;
    Ok(Some(Since { name: last.name, version: last.version, difference, reasons }))
}

/// Fails if the version of an image is too low for the changes since the last release; a warning if `allowed`.
pub fn gate<C: Cloud>(context: &Context, cloud: &C, state: &State, image: &Image, allowed: bool) -> Result<()> {
    let since = match since(cloud, state, image) {
        Ok(Some(since)) => since,
        Ok(None) => return Ok(()),
        Err(error) if error.exit() == Exit::Precondition => {
            let message = format!("the version cannot be compared with the last release: {error}");
            let hint = "run `cargo xtask ami smoke` with its id to download its manifest and SBOM".to_owned();
            context.events.event(Event::Warning { message, hint });
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    context.about(|about| about.since = Some(since.clone()));
    let Some((level, why)) = since.reasons.first() else { return Ok(()) };
    let (was, is) = (parsed(&since.version)?, parsed(&image.version)?);
    let least = version::next(&was, *level);
    if is >= least {
        return Ok(());
    }
    let message =
        format!("version {is} is too low: since {was} ({}) {why}, which requires at least {least}", since.name);
    if allowed {
        context.events.event(Event::Warning { message, hint: "--allow-version was given".to_owned() });
        return Ok(());
    }
    Err(Exit::Usage.error(
        message,
        "run `cargo xtask ami bump` and release again, which runs only the last step, or pass --allow-version",
    ))
}

fn parsed(version: &str) -> Result<Version> {
    Version::parse(version).map_err(|e| {
        Exit::Usage
            .error(format_args!("`{version}` is not a semantic version: {e}"), "write MAJOR.MINOR.PATCH in ami.toml")
    })
}

pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Bump) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let cloud = provider.open(context, &config, &state, None)?;
    let image = chosen(&cloud, args.image.as_deref())?;
    if args.check {
        context.about(|about| about.images = vec![image.clone()]);
        gate(context, &cloud, &state, &image, false)?;
        let text = format!("version {} is sufficient for {}", image.version, image.name);
        return Ok(Finish::new(text, serde_json::json!({ "image": image.id, "version": image.version })));
    }
    let Some(since) = since(&cloud, &state, &image)? else {
        return Ok(Finish::new(
            format!("no release before {}: version {} is allowed", image.name, image.version),
            serde_json::Value::Null,
        ));
    };
    let required = since.reasons.first().map(|(level, _)| *level);
    let Some(level) = args.level.map(level).or(required) else {
        let text = format!("{} does not differ from {}: no new version is required", image.name, since.name);
        return Ok(Finish::new(text, serde_json::json!({ "from": since.version, "level": null })));
    };
    let (was, configured) = (parsed(&since.version)?, parsed(&config.images[&image.image].version)?);
    let next = version::next(&was, level);
    let mut text = format!("{} {was} -> {next} ({})\n", image.image, level.name());
    for (level, why) in &since.reasons {
        text.push_str(&format!("  {:5}  {why}\n", level.name()));
    }
    let data = serde_json::json!({ "image": image.image, "from": was.to_string(), "to": next.to_string(), "level": level, "reasons": since.reasons });
    context.document("bump", data.clone(), text);
    if configured >= next && args.level.is_none() {
        return Ok(Finish::new(format!("ami.toml already has version {configured}, which is sufficient"), data));
    }
    if context.common.dry_run {
        return Ok(Finish::new("nothing was written: --dry-run", data));
    }
    context.confirm(&format!("Write version {next} to {FILE} and {CHANGELOG}?"))?;
    write_version(context, &image.image, &next)?;
    write_entry(context, &image.image, &next, &since.reasons)?;
    Ok(Finish::new(format!("{} now has version {next}", image.image), data))
}

fn level(level: cli::BumpLevel) -> Level {
    match level {
        cli::BumpLevel::Patch => Level::Patch,
        cli::BumpLevel::Minor => Level::Minor,
        cli::BumpLevel::Major => Level::Major,
    }
}

/// Sets the version in ami.toml. All other characters of the file, also comments, stay the same.
fn write_version(context: &Context, image: &str, version: &Version) -> Result<()> {
    let file = context.root.join(FILE);
    let mut document: toml_edit::DocumentMut =
        fs::read_to_string(&file)?.parse().map_err(|e: toml_edit::TomlError| {
            Exit::Usage.error(format_args!("{FILE}: {e}"), "run `cargo xtask validate`, which prints the location")
        })?;
    let item = &mut document["images"][image]["version"];
    let decor = item.as_value().map(|value| value.decor().clone());
    *item = toml_edit::value(version.to_string());
    if let (Some(value), Some(decor)) = (item.as_value_mut(), decor) {
        *value.decor_mut() = decor;
    }
    durable::replace(&file, document.to_string().as_bytes())
}

/// Inserts an entry above the newest one of the changelog.
fn write_entry(context: &Context, image: &str, version: &Version, reasons: &[(Level, String)]) -> Result<()> {
    let file = context.root.join(CHANGELOG);
    let before = if file.exists() { fs::read_to_string(&file)? } else { "# Changelog\n\n".to_owned() };
    let day = Timestamp::now().strftime("%Y-%m-%d");
    let mut entry = format!("## {image} {version} ({day})\n\n");
    for (level, why) in reasons {
        entry.push_str(&format!("- {}: {why}\n", level.name()));
    }
    entry.push('\n');
    let at = before.find("\n## ").map_or(before.len(), |at| at + 1);
    durable::replace(&file, format!("{}{entry}{}", &before[..at], &before[at..]).as_bytes())
}

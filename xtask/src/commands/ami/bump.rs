//! `ami bump`: the next version by what really changed since the last release, written into ami.toml and the changelog.

use fs_err as fs;
use semver::Version;

use super::diff::contents;
use super::smoke::chosen;
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

/// The changelog, relative to the project.
const CHANGELOG: &str = "CHANGELOG.md";

/// The last release before this image: what a channel was pointed at last, here or, as marks tell, from elsewhere.
pub fn last_release<C: Cloud>(cloud: &C, state: &State, image: &Image) -> Result<Option<Image>> {
    let (all, _) = cloud::all_images(cloud)?;
    let mut last: Option<(String, Image)> = None;
    let history = state.ledger().promotions(cloud.name())?;
    let others = all.iter().filter(|i| i.image == image.image && i.name != image.name && i.copied_from.is_none());
    for other in others {
        let written = history.iter().filter(|p| p.image == other.name && p.ended.is_some()).map(|p| p.at.clone());
        let marks = cloud.marks(other)?;
        let marked = marks.iter().filter(|(key, _)| key.starts_with("promoted:"));
        let marked = marked.filter_map(|(_, value)| value.split(' ').next().map(str::to_owned));
        if let Some(at) = written.chain(marked).max()
            && last.as_ref().is_none_or(|(best, _)| at > *best)
        {
            last = Some((at, other.clone()));
        }
    }
    Ok(last.map(|(_, image)| image))
}

/// What changed since the last release, and what that asks of the version; nothing if this is the first.
pub fn since<C: Cloud>(cloud: &C, state: &State, image: &Image) -> Result<Option<Since>> {
    let Some(last) = last_release(cloud, state, image)? else { return Ok(None) };
    let difference = difference((&last, &contents(cloud, &last)?), (image, &contents(cloud, image)?));
    let reasons = version::required(&difference).reasons;
    Ok(Some(Since { name: last.name, version: last.version, difference, reasons }))
}

/// Refuses an image whose version says less than what changed since the last release.
pub fn gate<C: Cloud>(context: &Context, cloud: &C, state: &State, image: &Image, allowed: bool) -> Result<()> {
    let since = match since(cloud, state, image) {
        Ok(Some(since)) => since,
        Ok(None) => return Ok(()),
        Err(error) if error.exit() == Exit::Precondition => {
            let message = format!("the version cannot be held against the last release: {error}");
            let hint = "`cargo xtask ami smoke` with its id brings home what is in it".to_owned();
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
        format!("version {is} says too little: since {was} ({}) {why}, which asks for {least} or more", since.name);
    if allowed {
        context.events.event(Event::Warning { message, hint: "--allow-version was given".to_owned() });
        return Ok(());
    }
    Err(Exit::Usage.error(
        message,
        "`cargo xtask ami bump` writes the version, then release again: only the last step is built anew; or pass --allow-version",
    ))
}

fn parsed(version: &str) -> Result<Version> {
    Version::parse(version).map_err(|e| {
        Exit::Usage
            .error(format_args!("`{version}` is no semantic version: {e}"), "write MAJOR.MINOR.PATCH in ami.toml")
    })
}

/// Runs the command.
pub fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Bump) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let cloud = provider.open(context, &config, &state, None)?;
    let image = chosen(&cloud, args.image.as_deref())?;
    if args.check {
        context.about(|about| about.images = vec![image.clone()]);
        gate(context, &cloud, &state, &image, false)?;
        let text = format!("{} is enough for {}", image.version, image.name);
        return Ok(Finish::new(text, serde_json::json!({ "image": image.id, "version": image.version })));
    }
    let Some(since) = since(&cloud, &state, &image)? else {
        return Ok(Finish::new(
            format!("nothing was released before {}: {} is as good as any", image.name, image.version),
            serde_json::Value::Null,
        ));
    };
    let asked = since.reasons.first().map(|(level, _)| *level);
    let Some(level) = args.level.map(level).or(asked) else {
        let text = format!("nothing in {} differs from {}: no new version is needed", image.name, since.name);
        return Ok(Finish::new(text, serde_json::json!({ "from": since.version, "level": null })));
    };
    let (was, stands) = (parsed(&since.version)?, parsed(&config.images[&image.image].version)?);
    let next = version::next(&was, level);
    let mut text = format!("{} {was} -> {next} ({})\n", image.image, level.name());
    for (level, why) in &since.reasons {
        text.push_str(&format!("  {:5}  {why}\n", level.name()));
    }
    let data = serde_json::json!({ "image": image.image, "from": was.to_string(), "to": next.to_string(), "level": level, "reasons": since.reasons });
    context.document("bump", data.clone(), text);
    if stands >= next && args.level.is_none() {
        return Ok(Finish::new(format!("ami.toml says {stands} already, which is enough"), data));
    }
    if context.common.dry_run {
        return Ok(Finish::new("nothing was written: --dry-run", data));
    }
    context.confirm(&format!("Write {next} into {FILE} and {CHANGELOG}?"))?;
    write_version(context, &image.image, &next)?;
    write_entry(context, &image.image, &next, &since.reasons)?;
    Ok(Finish::new(format!("{} is {next} now", image.image), data))
}

fn level(level: cli::BumpLevel) -> Level {
    match level {
        cli::BumpLevel::Patch => Level::Patch,
        cli::BumpLevel::Minor => Level::Minor,
        cli::BumpLevel::Major => Level::Major,
    }
}

/// Sets the version and leaves every other character of the file as it is.
fn write_version(context: &Context, image: &str, version: &Version) -> Result<()> {
    let file = context.root.join(FILE);
    let mut document: toml_edit::DocumentMut =
        fs::read_to_string(&file)?.parse().map_err(|e: toml_edit::TomlError| {
            Exit::Usage.error(format_args!("{FILE}: {e}"), "`cargo xtask validate` shows the place")
        })?;
    let item = &mut document["images"][image]["version"];
    let decor = item.as_value().map(|value| value.decor().clone());
    *item = toml_edit::value(version.to_string());
    if let (Some(value), Some(decor)) = (item.as_value_mut(), decor) {
        *value.decor_mut() = decor;
    }
    durable::replace(&file, document.to_string().as_bytes())
}

/// Puts an entry above the newest one.
fn write_entry(context: &Context, image: &str, version: &Version, reasons: &[(Level, String)]) -> Result<()> {
    let file = context.root.join(CHANGELOG);
    let before = if file.exists() { fs::read_to_string(&file)? } else { "# Changelog\n\n".to_owned() };
    let day = jiff::Timestamp::now().strftime("%Y-%m-%d");
    let mut entry = format!("## {image} {version} ({day})\n\n");
    for (level, why) in reasons {
        entry.push_str(&format!("- {}: {why}\n", level.name()));
    }
    entry.push('\n');
    let at = before.find("\n## ").map_or(before.len(), |at| at + 1);
    durable::replace(&file, format!("{}{entry}{}", &before[..at], &before[at..]).as_bytes())
}

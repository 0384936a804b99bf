//! `ami list`: lists the images of all regions, and warns about damaged ones.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::channel;
use crate::cli;
use crate::cloud::{self, Cloud, Image, ImageId};
use crate::commands::{Context, Finish, Provider};
use crate::config::Config;
use crate::error::{Exit, Result};
use crate::event::Event;
use crate::ids::{ChannelName, Region};
use crate::stage::smoke::{DOCUMENT, Record};

/// What `--long` adds to an image.
#[derive(Clone, Debug, Default, Serialize)]
struct Use {
    /// The channels that point at it.
    channels: Vec<ChannelName>,
    /// Whether it passed its smoke test; `None` if it was not tested.
    smoke_passed: Option<bool>,
}

pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::List) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let cloud = provider.open(context, &config, &state, None)?;
    if let Some(region) = args.region.as_ref().filter(|region| !cloud.regions().contains(region)) {
        let known = cloud.regions().iter().map(Region::as_str).collect::<Vec<_>>().join(", ");
        let hint = format!("use one of them, or add it to [regions] in ami.toml: {known}");
        return Err(Exit::Usage.error(format_args!("`{region}` is not a region of ami.toml"), hint));
    }
    let (mut images, bad) = cloud::all_images(&cloud)?;
    images.retain(|image| args.region.as_ref().is_none_or(|region| image.region == *region));
    images.retain(|image| args.provider.is_none() || image.agent == args.provider);
    for damaged in &bad {
        let hint = format!("remove it with `cargo xtask ami delete {}`; the other images are not affected", damaged.id);
        let message = format!("{} is damaged: {}", damaged.place, damaged.problem);
        context.events.event(Event::Warning { message, hint });
    }
    let uses = if args.long { uses(context, &config, &cloud, &images)? } else { BTreeMap::new() };
    let mut text = String::new();
    for image in &images {
        let size = image.disk_bytes / 1_000_000;
        text.push_str(&format!(
            "{:24} {:10} {:44} {:12} {size:>6} MB  {}{}\n",
            image.id,
            image.region,
            image.name,
            image.agent.as_deref().unwrap_or("-"),
            image.base.as_ref().map_or("-", |base| &base.name),
            uses.get(&image.id).map_or_else(String::new, columns)
        ));
    }
    let mut data = serde_json::json!({ "images": images, "damaged": bad.len() });
    if args.long {
        data["uses"] = serde_json::json!(uses);
    }
    context.document("images", data.clone(), text);
    let filtered = args.region.is_some() || args.provider.is_some();
    let summary = match images.is_empty() {
        true if filtered => "no images with this region and provider",
        true => "no images; `cargo xtask ami build` builds one",
        false => "",
    };
    Ok(Finish::new(summary, data))
}

/// The channels and the smoke result of each image.
fn uses<C: Cloud>(context: &Context, config: &Config, cloud: &C, images: &[Image]) -> Result<BTreeMap<ImageId, Use>> {
    let mut uses = BTreeMap::new();
    for image in images {
        let record = cloud.document(image, DOCUMENT)?.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
        uses.insert(image.id.clone(), Use { channels: Vec::new(), smoke_passed: record.map(|record| record.passed) });
    }
    for target in context.targets(config).all() {
        for id in channel::points_at(cloud, &target)?.into_values() {
            if let Some(entry) = uses.get_mut(&id).filter(|entry| !entry.channels.contains(&target.name)) {
                entry.channels.push(target.name.clone());
            }
        }
    }
    Ok(uses)
}

/// The columns of `--long`.
fn columns(used: &Use) -> String {
    let smoke = match used.smoke_passed {
        Some(true) => "passed",
        Some(false) => "failed",
        None => "not tested",
    };
    let channels: Vec<&str> = used.channels.iter().map(ChannelName::as_str).collect();
    format!("  {smoke:10}  {}", if channels.is_empty() { "-".to_owned() } else { channels.join(",") })
}

//! Copies: all regions at once. EC2 limits copies for each destination, so one a region is never too many; what is there
//! already is taken, what failed is tried again alone, and no region's id is lost for another's failure.

use std::collections::BTreeMap;
use std::time::Instant;

use aws_sdk_ec2::types::{Image as Ami, ImageState, ResourceType, TagSpecification};
use futures_util::stream::{FuturesUnordered, Stream};
use xtask::cloud::{Copied, Fraction, Image, Listed};
use xtask::error::{Error, Exit, Result};
use xtask::recipe::Digest;

use crate::clients::Clients;
use crate::fault::{Called as _, Fault, Kind};
use crate::image;
use crate::record::{self, CONTENT, COPIED_FROM};
use crate::settings::Settings;

/// How often a copy that EC2 gives up on is begun again.
const TRIES: u32 = 3;
/// How many pauses to wait when a destination has no free slot.
const FULL: u32 = 12;

/// Copies to all regions at once; each result comes as soon as it is known.
pub fn to_all<'a>(
    clients: &'a Clients,
    settings: &'a Settings,
    source: &'a Image,
    regions: &'a [String],
    told: &'a dyn Fn(&str, Fraction),
) -> impl Stream<Item = Copied> + Unpin + 'a {
    let one = move |region: &'a String| async move {
        let started = Instant::now();
        let result = to_one(clients, settings, source, region, &|_| told(region, None)).await;
        Copied { region: region.clone(), result, took: started.elapsed() }
    };
    regions.iter().map(one).collect::<FuturesUnordered<_>>()
}

async fn to_one(
    clients: &Clients,
    settings: &Settings,
    source: &Image,
    region: &str,
    told: &dyn Fn(&str),
) -> Result<(Image, bool)> {
    let ec2 = clients.ec2(region);
    let mut made = false;
    let mut last: Option<Error> = None;
    for attempt in 0..TRIES {
        let id = match there(&ec2, source).await? {
            // EC2 never makes a failed copy good: it is taken away and begun again.
            Some(ami) if dead(&ami) => {
                let id = ami.image_id().unwrap_or_default();
                image::remove(&ec2, id).await.map_err(first)?;
                begin(&ec2, settings, source, region, attempt).await?
            }
            Some(ami) => ami.image_id().unwrap_or_default().to_owned(),
            None => {
                made = true;
                begin(&ec2, settings, source, region, attempt).await?
            }
        };
        match image::available(&ec2, &id, settings.patience.copy, told).await {
            Ok(ami) => {
                image::tag(&ec2, &ami, &tags(source)).await?;
                if let Some(copy) = as_copy(region, &ami) {
                    return Ok((copy, made));
                }
                return Ok((read_back(&ec2, settings, region, &id).await?, made));
            }
            Err(gave_up @ crate::wait::GaveUp::Final(_)) => {
                image::remove(&ec2, &id).await.map_err(first)?;
                last = Some(gave_up.told(&format!("{id} in {region}")));
            }
            Err(gave_up) => return Err(gave_up.told(&format!("{id} in {region}"))),
        }
    }
    Err(last.unwrap_or_else(|| Exit::Failed.error(format_args!("no copy in {region}"), "run the same command again")))
}

/// The copy that an earlier run made or began: a name is unique in a region, and the tags say whose it is, if they are there yet.
async fn there(ec2: &aws_sdk_ec2::Client, source: &Image) -> Result<Option<Ami>, Fault> {
    Ok(image::by_name(ec2, &source.name).await?.filter(|ami| {
        let tags = record::plain_tags(ami.tags());
        let content = source.content.to_string();
        tags.is_empty() || tags.get(CONTENT) == Some(&content) || tags.get(record::RUN) == Some(&source.run)
    }))
}

fn dead(ami: &Ami) -> bool {
    matches!(ami.state(), Some(ImageState::Failed | ImageState::Error | ImageState::Invalid | ImageState::Deregistered))
}

async fn begin(
    ec2: &aws_sdk_ec2::Client,
    settings: &Settings,
    source: &Image,
    region: &str,
    attempt: u32,
) -> Result<String> {
    // The same copy is the same token, whoever asks and however often; another attempt is another copy.
    let token = Digest::of_parts([
        ("source", source.id.0.as_bytes()),
        ("region", region.as_bytes()),
        ("attempt", attempt.to_string().as_bytes()),
    ]);
    let key = settings.kms_keys.get(region).cloned();
    let call = ec2
        .copy_image()
        .client_token(token.to_string())
        .name(&source.name)
        .source_region(&source.region)
        .source_image_id(&source.id.0)
        .copy_image_tags(true)
        // What the source does not have; the rest is carried. Snapshots get nothing carried.
        .tag_specifications(specification(ResourceType::Image, &own(source)))
        .tag_specifications(specification(ResourceType::Snapshot, &tags(source)))
        .encrypted(true)
        .set_kms_key_id(key)
        .set_snapshot_copy_completion_duration_minutes(settings.copy_within.map(|d| (d.as_secs() / 60) as i64));
    let deadline = Instant::now() + settings.patience.copy.deadline;
    loop {
        match call.clone().send().await.called("ec2:CopyImage") {
            Ok(begun) => return Ok(begun.image_id().unwrap_or_default().to_owned()),
            // Twenty copies into a destination at a time; other programs may hold the slots.
            Err(fault) if (fault.kind == Kind::Quota || fault.passes()) && Instant::now() < deadline => {
                let pause = settings.patience.pause;
                tokio::time::sleep(if fault.kind == Kind::Quota { pause * FULL } else { pause }).await;
            }
            Err(fault) => return Err(Error::from(fault).context(format!("{} was not copied to {region}", source.id))),
        }
    }
}

fn specification(kind: ResourceType, tags: &BTreeMap<String, String>) -> TagSpecification {
    TagSpecification::builder().resource_type(kind).set_tags(Some(record::sdk_tags(tags))).build()
}

/// What a copy's tags say that its source's do not.
fn own(source: &Image) -> BTreeMap<String, String> {
    let own = [(COPIED_FROM, source.id.to_string()), (CONTENT, source.content.to_string())];
    own.map(|(key, value)| (key.to_owned(), value)).into()
}

/// The tags of a copy: the source's, where it came from, and what it shares with the others.
fn tags(source: &Image) -> BTreeMap<String, String> {
    let mut tags = record::Facts::of_image(source).tags(&source.tags);
    tags.extend(own(source));
    tags
}

/// The copy's record, if its tags are all there.
fn as_copy(region: &str, ami: &Ami) -> Option<Image> {
    match record::read(region, ami) {
        Listed::Image(copy) if copy.copied_from.is_some() => Some(*copy),
        Listed::Image(_) | Listed::Corrupt(_) => None,
    }
}

/// What EC2 says about the copy now: tags may have been refused, lost or changed.
async fn read_back(ec2: &aws_sdk_ec2::Client, settings: &Settings, region: &str, id: &str) -> Result<Image> {
    for _ in 0..10 {
        let ami = image::by_ids(ec2, &[id.to_owned()]).await?.into_iter().next();
        if let Some(copy) = ami.and_then(|ami| as_copy(region, &ami)) {
            return Ok(copy);
        }
        tokio::time::sleep(settings.patience.pause).await;
    }
    Err(Exit::Failed.error(
        format_args!("the tags of {id} in {region} cannot be read back"),
        "run the same command again: the copy is taken up where it is",
    ))
}

/// The first of several faults.
pub fn first(faults: Vec<Fault>) -> Error {
    let more = faults.len().saturating_sub(1);
    let error = faults.into_iter().next().map(Error::from);
    let error = error.unwrap_or_else(|| Exit::Failed.error("nothing was removed", "run the same command again"));
    if more == 0 { error } else { error.context(format!("and {more} more calls failed")) }
}

//! Copies of an image to several regions concurrently. An existing copy is used, a failed copy is repeated in its region alone, and a
//! failure in one region does not affect the others.
//!
//! CopyImage is idempotent by its client token, even after its copy was deregistered: the same token returns the id of the dead copy.
//! Therefore a token is a digest of all parameters and of a nonce, which the run's ledger keeps for each attempt. A resumed run repeats the
//! call; another run or another attempt creates another copy.

use std::collections::BTreeMap;
use std::time::Instant;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::operation::copy_image::builders::CopyImageFluentBuilder;
use aws_sdk_ec2::types::{Image as Ami, ImageState, ResourceType, TagSpecification};
use futures_util::stream::{FuturesUnordered, Stream};
use jiff::Timestamp;
use xtask::cloud::{Copied, Fraction, Image, Listed};
use xtask::error::{Error, Exit, Result};
use xtask::ids::Region;
use xtask::recipe::Digest;
use xtask::state::Run;

use crate::aws_error::{AwsError, Called as _, Kind};
use crate::clients::Clients;
use crate::drive::Sections;
use crate::image;
use crate::record::{self, CONTENT, COPIED_FROM, COPY_EXPIRES, COPY_RUN};
use crate::settings::Settings;
use crate::wait::WaitError;

/// Number of attempts in a region.
const TRIES: u32 = 3;
/// Number of pauses to wait when the destination has no free slot for a copy.
const FULL: u32 = 6;

/// The copies of one image.
#[derive(Clone, Copy)]
pub struct Copies<'a> {
    /// The clients of all regions.
    pub clients: &'a Clients,
    /// Settings of the provider.
    pub settings: &'a Settings,
    /// The run that copies.
    pub run: &'a Run,
    /// The calls that a signal must not end.
    pub sections: &'a Sections,
    /// The image to copy.
    pub source: &'a Image,
    /// Called with a region, the state of its copy, and the progress.
    pub on_progress: &'a dyn Fn(&Region, &str, Fraction),
}

/// One CopyImage of a run, as its ledger records it.
#[derive(Debug)]
struct Attempt {
    /// Its key in the ledger.
    key: String,
    nonce: String,
    /// Time until which no other run may remove the copy.
    expires: Timestamp,
}

/// Why CopyImage was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// An image in the region has the name already: a copy of this image, or an unrelated one.
    Named,
    /// The token was used with other parameters.
    Token,
    /// Too many copies are in progress; a slot becomes free when one ends.
    Slots,
    /// A transient error.
    Transient,
    /// Waiting does not help.
    Final,
}

/// Copies to all regions concurrently; yields each result as soon as it is known.
pub fn to_all<'a>(copies: Copies<'a>, regions: &'a [Region]) -> impl Stream<Item = Copied> + Unpin + 'a {
    let one = move |region: &'a Region| async move {
        let started = Instant::now();
        let result = copies.one_to(region).await;
        Copied { region: region.clone(), result, took: started.elapsed() }
    };
    regions.iter().map(one).collect::<FuturesUnordered<_>>()
}

impl Copies<'_> {
    async fn one_to(&self, region: &Region) -> Result<(Image, bool)> {
        let ec2 = self.clients.ec2(region);
        let what = |id: &str| format!("{id} in {region}");
        let (mut made, mut last): (bool, Option<Error>) = (false, None);
        for _ in 0..TRIES {
            let mut attempt = self.attempt(region)?;
            let there = match self.existing(&ec2).await? {
                // A failed copy never becomes available, so it is removed and started again.
                Some(ami) if dead(&ami) => {
                    self.remove(&ec2, ami.image_id().unwrap_or_default()).await?;
                    self.mark_dead(&attempt, ami.image_id().unwrap_or_default())?;
                    attempt = self.attempt(region)?;
                    None
                }
                Some(ami) if ami.state() == Some(&ImageState::Disabled) => {
                    return Err(image::disabled(region, ami.image_id().unwrap_or_default()));
                }
                there => there,
            };
            let id = match there {
                Some(ami) => {
                    self.take_over(&ec2, &ami, region).await?;
                    ami.image_id().unwrap_or_default().to_owned()
                }
                None => {
                    made = true;
                    match self.begin(&ec2, region, &attempt).await? {
                        Some(id) => id,
                        // The token belongs to another call, so this attempt is void.
                        None => {
                            self.mark_dead(&attempt, "")?;
                            continue;
                        }
                    }
                }
            };
            let on_progress = |state: &str, percent: Option<u8>| {
                (self.on_progress)(region, state, percent.map(|percent| (u64::from(percent), 100)));
            };
            match image::watched(&ec2, &id, self.settings.patience.copy, &on_progress).await {
                Ok(ami) => return Ok((self.finished(&ec2, region, &ami).await?, made)),
                // A copy that never becomes visible was created with this token earlier, and has been deregistered since.
                Err(wait_error @ (WaitError::Final(_) | WaitError::Missing(_))) => {
                    self.remove(&ec2, &id).await?;
                    self.mark_dead(&attempt, &id)?;
                    last = Some(wait_error.into_error(&what(&id)));
                }
                Err(wait_error) => return Err(wait_error.into_error(&what(&id))),
            }
        }
        let none = || Exit::Failed.error(format_args!("no copy in {region}"), "run the same command again");
        Err(last.unwrap_or_else(none))
    }

    /// The current attempt in a region: the first of this run that is not marked as dead.
    fn attempt(&self, region: &Region) -> Result<Attempt> {
        let (ledger, run) = (self.run.ledger(), self.run.id());
        let mut n = 0;
        loop {
            let key = format!("copy of {} to {region}, attempt {n}", self.source.id);
            if ledger.noted(run, &dead_key(&key))?.is_some() {
                n += 1;
                continue;
            }
            ledger.note(run, &key, &format!("{:032x} {}", fastrand::u128(..), self.lease()))?;
            let noted = ledger.noted(run, &key)?.unwrap_or_default();
            let (nonce, expires) = noted.split_once(' ').unwrap_or((&noted, ""));
            let expires = expires.parse().unwrap_or_else(|_| self.lease());
            return Ok(Attempt { key, nonce: nonce.to_owned(), expires });
        }
    }

    /// Marks an attempt as dead: its token is not used again.
    fn mark_dead(&self, attempt: &Attempt, id: &str) -> Result<()> {
        self.run.ledger().note(self.run.id(), &dead_key(&attempt.key), id)
    }

    /// Time until which no other run may remove a copy that starts now.
    fn lease(&self) -> Timestamp {
        Timestamp::now() + self.settings.patience.copy.deadline * 2
    }

    /// The copy that this or an earlier run has started. A name is unique in a region, and the tags identify the copy as soon as they are
    /// visible.
    async fn existing(&self, ec2: &Client) -> Result<Option<Ami>, AwsError> {
        let content = self.source.content.to_string();
        Ok(image::by_name(ec2, &self.source.name).await?.filter(|ami| {
            let tags = record::plain_tags(ami.tags());
            tags.is_empty()
                || tags.get(CONTENT) == Some(&content)
                || tags.get(record::RUN).is_some_and(|run| self.source.run == run.as_str())
        }))
    }

    /// Tags a copy in progress that another run started as one that this run waits for now.
    async fn take_over(&self, ec2: &Client, ami: &Ami, region: &Region) -> Result<()> {
        let tags = record::plain_tags(ami.tags());
        let soon = Timestamp::now() + self.settings.patience.copy.deadline;
        let lasts = tags.get(COPY_EXPIRES).and_then(|at| at.parse::<Timestamp>().ok()).is_some_and(|at| at > soon);
        if ami.state() != Some(&ImageState::Pending)
            || (lasts && tags.get(COPY_RUN).is_some_and(|r| self.run.id().as_str() == r))
        {
            return Ok(());
        }
        (self.on_progress)(region, "taking over the copy that is in progress", None);
        Ok(self.sections.enter(image::tag(ec2, ami, &lease_tags(self.run.id(), self.lease()))).await?)
    }

    async fn remove(&self, ec2: &Client, id: &str) -> Result<()> {
        self.sections.enter(image::remove(ec2, id)).await.map_err(first)
    }

    /// Calls CopyImage, and repeats it while the refusal is temporary; `None` if the attempt's token belongs to another call.
    async fn begin(&self, ec2: &Client, region: &Region, attempt: &Attempt) -> Result<Option<String>> {
        let call = self.call(ec2, region, attempt);
        let patience = &self.settings.patience;
        let deadline = Instant::now() + patience.copy.deadline;
        loop {
            // In a section, so that the response is always written to the ledger.
            let aws_error = match self.sections.enter(call.clone().send()).await.called("ec2:CopyImage") {
                Ok(begun) => return Ok(Some(begun.image_id().unwrap_or_default().to_owned())),
                Err(aws_error) => aws_error,
            };
            let pause = match refusal(&aws_error) {
                Refusal::Token => return Ok(None),
                Refusal::Named => {
                    // A copy of an earlier call whose response was lost becomes visible soon. An unrelated image never matches.
                    for _ in 0..image::VISIBLE {
                        if let Some(ami) = self.existing(ec2).await? {
                            return Ok(ami.image_id().map(str::to_owned));
                        }
                        tokio::time::sleep(patience.pause).await;
                    }
                    return Err(self.refused(&aws_error, region));
                }
                Refusal::Slots | Refusal::Transient if Instant::now() >= deadline => {
                    return Err(self.refused(&aws_error, region));
                }
                Refusal::Slots => {
                    (self.on_progress)(
                        region,
                        &format!("waiting until another copy to the region ends ({aws_error})"),
                        None,
                    );
                    patience.pause * FULL
                }
                Refusal::Transient => {
                    (self.on_progress)(region, &format!("retrying ({aws_error})"), None);
                    patience.pause
                }
                Refusal::Final => return Err(self.refused(&aws_error, region)),
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn refused(&self, aws_error: &AwsError, region: &Region) -> Error {
        let what = format!("{} was not copied to {region}", self.source.id);
        match quota(aws_error) {
            None => Error::from(aws_error.clone()).context(what),
            Some(quota) => Exit::Precondition.error(
                format_args!("{what}: the quota \"{quota}\" is used up there: {aws_error}"),
                "remove images with `cargo xtask ami gc`, or request a higher quota in Service Quotas",
            ),
        }
    }

    fn call(&self, ec2: &Client, region: &Region, attempt: &Attempt) -> CopyImageFluentBuilder {
        let (source, settings) = (self.source, self.settings);
        let lease = lease_tags(self.run.id(), attempt.expires);
        let minutes = settings.copy_within.and_then(|within| i64::try_from(within.as_secs() / 60).ok());
        let call = ec2
            .copy_image()
            .name(&source.name)
            .source_region(source.region.as_str())
            .source_image_id(&source.id.0)
            .copy_image_tags(true)
            // Only the tags that the source does not have: EC2 copies the others to the image, but none to its snapshots.
            .tag_specifications(specification(ResourceType::Image, &with(own(source), &lease)))
            .tag_specifications(specification(ResourceType::Snapshot, &with(tags(source), &lease)))
            .encrypted(true)
            .set_kms_key_id(settings.kms_keys.get(region).cloned())
            .set_snapshot_copy_completion_duration_minutes(minutes);
        let token = token(region, &attempt.nonce, &call);
        call.client_token(token)
    }

    /// The record of an available copy, with all its tags.
    async fn finished(&self, ec2: &Client, region: &Region, ami: &Ami) -> Result<Image> {
        self.sections.enter(image::tag(ec2, ami, &tags(self.source))).await?;
        match as_copy(region, ami) {
            Some(copy) => Ok(copy),
            None => self.read_back(ec2, region, ami.image_id().unwrap_or_default()).await,
        }
    }

    /// The record of a copy, read from EC2 until all its tags are visible.
    async fn read_back(&self, ec2: &Client, region: &Region, id: &str) -> Result<Image> {
        for _ in 0..10 {
            let ami = image::by_ids(ec2, &[id.to_owned()]).await?.into_iter().next();
            if let Some(copy) = ami.and_then(|ami| as_copy(region, &ami)) {
                return Ok(copy);
            }
            tokio::time::sleep(self.settings.patience.pause).await;
        }
        Err(Exit::Failed.error(
            format_args!("the tags of {id} in {region} cannot be read back"),
            "run the same command again; it continues with this copy",
        ))
    }
}

fn dead_key(attempt: &str) -> String {
    format!("{attempt}, is dead")
}

/// The client token of a call: a digest of the region, the nonce and all parameters.
fn token(region: &str, nonce: &str, call: &CopyImageFluentBuilder) -> String {
    let parameters = format!("{:?}", call.as_input());
    let parts = [("region", region), ("nonce", nonce), ("parameters", parameters.as_str())];
    Digest::of_parts(parts.map(|(label, text)| (label, text.as_bytes()))).to_string()
}

/// Classifies a refusal. `ResourceLimitExceeded` is the code of several limits: of copies in progress, as in EC2's list of error codes, and
/// of quotas, which its message then names.
fn refusal(aws_error: &AwsError) -> Refusal {
    let message = aws_error.message.to_lowercase();
    match aws_error.code.as_deref() {
        Some("IdempotentParameterMismatch") => Refusal::Token,
        Some("ConcurrentSnapshotLimitExceeded" | "PendingSnapshotLimitExceeded") => Refusal::Slots,
        Some("ResourceLimitExceeded") if !["quota", "maximum number"].iter().any(|word| message.contains(word)) => {
            Refusal::Slots
        }
        _ if aws_error.kind == Kind::Duplicate => Refusal::Named,
        _ if aws_error.kind != Kind::Quota && aws_error.is_transient() => Refusal::Transient,
        _ => Refusal::Final,
    }
}

/// The name in Service Quotas of the quota that a copy exceeds.
fn quota(aws_error: &AwsError) -> Option<&'static str> {
    match aws_error.code.as_deref()? {
        "SnapshotLimitExceeded" => Some("Snapshots per Region"),
        "ConcurrentSnapshotLimitExceeded" | "PendingSnapshotLimitExceeded" => {
            Some("Concurrent snapshot copies per destination Region")
        }
        "ResourceLimitExceeded" if refusal(aws_error) == Refusal::Slots => {
            Some("Concurrent snapshot copies per destination Region")
        }
        code if code == "ResourceLimitExceeded" || code.contains("Image") || code.contains("AMI") => {
            (aws_error.kind == Kind::Quota).then_some("AMIs")
        }
        _ => None,
    }
}

fn dead(ami: &Ami) -> bool {
    matches!(ami.state(), Some(ImageState::Failed | ImageState::Error | ImageState::Invalid | ImageState::Deregistered))
}

fn specification(kind: ResourceType, tags: &BTreeMap<String, String>) -> TagSpecification {
    TagSpecification::builder().resource_type(kind).set_tags(Some(record::sdk_tags(tags))).build()
}

fn with(mut tags: BTreeMap<String, String>, more: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    tags.extend(more.clone());
    tags
}

/// The run that waits for a copy, and the time until which no other run may remove it.
fn lease_tags(run: &str, expires: Timestamp) -> BTreeMap<String, String> {
    [(COPY_RUN.to_owned(), run.to_owned()), (COPY_EXPIRES.to_owned(), expires.to_string())].into()
}

/// The permanent tags of a copy that its source does not have.
fn own(source: &Image) -> BTreeMap<String, String> {
    let own = [(COPIED_FROM, source.id.to_string()), (CONTENT, source.content.to_string())];
    own.map(|(key, value)| (key.to_owned(), value)).into()
}

/// The permanent tags of a copy: the source's and its own.
fn tags(source: &Image) -> BTreeMap<String, String> {
    with(record::Facts::of_image(source).tags(&source.tags), &own(source))
}

/// The copy's record, if all its tags are visible.
fn as_copy(region: &Region, ami: &Ami) -> Option<Image> {
    match record::read(region, ami) {
        Listed::Image(copy) if copy.copied_from.is_some() => Some(*copy),
        Listed::Image(_) | Listed::Corrupt(_) => None,
    }
}

/// The first of several AWS errors, with the number of the others.
pub fn first(aws_errors: Vec<AwsError>) -> Error {
    let more = aws_errors.len().saturating_sub(1);
    let error = aws_errors.into_iter().next().map(Error::from);
    let error = error.unwrap_or_else(|| Exit::Failed.error("nothing was removed", "run the same command again"));
    if more == 0 { error } else { error.context(format!("and {more} more calls failed")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aws_error(code: &str, message: &str) -> AwsError {
        let kind = if code.ends_with("LimitExceeded") { Kind::Quota } else { Kind::Other };
        AwsError { kind, action: "ec2:CopyImage", code: Some(code.to_owned()), message: message.to_owned() }
    }

    #[test]
    fn a_refused_copy_is_repeated_only_if_waiting_helps() {
        let cases = [
            (
                "ResourceLimitExceeded",
                "Too many snapshot copies in progress. The limit is 20 for this region.",
                Refusal::Slots,
            ),
            ("ResourceLimitExceeded", "You have reached your quota of 50000 for the number of images", Refusal::Final),
            ("ResourceLimitExceeded", "The maximum number of AMIs has been reached", Refusal::Final),
            ("PendingSnapshotLimitExceeded", "", Refusal::Slots),
            ("SnapshotLimitExceeded", "", Refusal::Final),
            ("IdempotentParameterMismatch", "", Refusal::Token),
            ("InvalidParameterValue", "", Refusal::Final),
        ];
        for (code, message, expected) in cases {
            assert_eq!(refusal(&aws_error(code, message)), expected, "{code}: {message}");
        }
        let throttled = AwsError { kind: Kind::Throttled, ..aws_error("RequestLimitExceeded", "") };
        assert_eq!(refusal(&throttled), Refusal::Transient);
        assert_eq!(quota(&aws_error("SnapshotLimitExceeded", "")), Some("Snapshots per Region"));
        assert_eq!(quota(&aws_error("InvalidParameterValue", "")), None);
    }

    #[test]
    fn a_token_depends_on_all_parameters_of_its_call() {
        let config =
            aws_sdk_ec2::Config::builder().behavior_version(aws_sdk_ec2::config::BehaviorVersion::v2026_01_12());
        let ec2 = Client::from_conf(config.build());
        let call = || ec2.copy_image().name("one").source_image_id("ami-1").encrypted(true);
        let one = token("eu-west-1", "n", &call());
        assert_eq!(one, token("eu-west-1", "n", &call()), "the same call again");
        let lease = |run| specification(ResourceType::Image, &lease_tags(run, Timestamp::UNIX_EPOCH));
        let others = [
            token("us-west-2", "n", &call()),
            token("eu-west-1", "m", &call()),
            token("eu-west-1", "n", &call().kms_key_id("key")),
            token("eu-west-1", "n", &call().snapshot_copy_completion_duration_minutes(15)),
            token("eu-west-1", "n", &call().tag_specifications(lease("run-1"))),
            token("eu-west-1", "n", &call().tag_specifications(lease("run-2"))),
        ];
        let different: std::collections::BTreeSet<&String> = others.iter().chain([&one]).collect();
        assert_eq!((different.len(), one.len()), (others.len() + 1, 64));
    }
}

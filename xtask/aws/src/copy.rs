//! Copies: all regions at once. What is there already is taken, what failed is tried again alone, and no region's id is lost for
//! another's failure.
//!
//! CopyImage is idempotent by its client token, also when the copy that it made is gone: the same token gives the dead copy's id again.
//! So a token is a digest of all parameters and of a nonce, which the run's ledger keeps for each attempt: a run that is resumed repeats the
//! call, and another run or another attempt makes another copy.

use std::collections::BTreeMap;
use std::time::Instant;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::operation::copy_image::builders::CopyImageFluentBuilder;
use aws_sdk_ec2::types::{Image as Ami, ImageState, ResourceType, TagSpecification};
use futures_util::stream::{FuturesUnordered, Stream};
use jiff::Timestamp;
use xtask::cloud::{Copied, Fraction, Image, Listed};
use xtask::error::{Error, Exit, Result};
use xtask::recipe::Digest;
use xtask::state::Run;

use crate::aws_error::{AwsError, Called as _, Kind};
use crate::clients::Clients;
use crate::drive::Sections;
use crate::image;
use crate::record::{self, CONTENT, COPIED_FROM, COPY_EXPIRES, COPY_RUN};
use crate::settings::Settings;
use crate::wait::GaveUp;

/// How often a copy that EC2 gives up on is begun again.
const TRIES: u32 = 3;
/// How many pauses to wait when a destination has no free slot.
const FULL: u32 = 6;

/// What copies of one image share.
#[derive(Clone, Copy)]
pub struct Copies<'a> {
    /// EC2 everywhere.
    pub clients: &'a Clients,
    /// See there.
    pub settings: &'a Settings,
    /// The run that copies.
    pub run: &'a Run,
    /// What a signal must not end.
    pub sections: &'a Sections,
    /// What is copied.
    pub source: &'a Image,
    /// Gets a region, what happens there, and the progress.
    pub told: &'a dyn Fn(&str, &str, Fraction),
}

/// One CopyImage of a run, as its ledger knows it.
#[derive(Debug)]
struct Attempt {
    /// What the ledger calls it.
    key: String,
    nonce: String,
    /// Until when nobody else may take the copy away.
    expires: Timestamp,
}

/// What a refused CopyImage means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// Another copy has the name: ours, or somebody else's.
    Named,
    /// The token was used with other parameters.
    Token,
    /// Too many copies are in progress; one that ends makes room.
    Slots,
    /// It passes by itself.
    Passes,
    /// Waiting does not help.
    Final,
}

/// Copies to all regions at once; each result comes as soon as it is known.
pub fn to_all<'a>(copies: Copies<'a>, regions: &'a [String]) -> impl Stream<Item = Copied> + Unpin + 'a {
    let one = move |region: &'a String| async move {
        let started = Instant::now();
        let result = copies.one_to(region).await;
        Copied { region: region.clone(), result, took: started.elapsed() }
    };
    regions.iter().map(one).collect::<FuturesUnordered<_>>()
}

impl Copies<'_> {
    async fn one_to(&self, region: &str) -> Result<(Image, bool)> {
        let ec2 = self.clients.ec2(region);
        let what = |id: &str| format!("{id} in {region}");
        let (mut made, mut last): (bool, Option<Error>) = (false, None);
        for _ in 0..TRIES {
            let mut attempt = self.attempt(region)?;
            let there = match self.there(&ec2).await? {
                // EC2 never makes a failed copy good: it is taken away and begun again.
                Some(ami) if dead(&ami) => {
                    self.remove(&ec2, ami.image_id().unwrap_or_default()).await?;
                    self.is_dead(&attempt, ami.image_id().unwrap_or_default())?;
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
                        // The token has another copy: this attempt cannot be made.
                        None => {
                            self.is_dead(&attempt, "")?;
                            continue;
                        }
                    }
                }
            };
            let told = |state: &str, percent: Option<u8>| {
                (self.told)(region, state, percent.map(|percent| (u64::from(percent), 100)));
            };
            match image::watched(&ec2, &id, self.settings.patience.copy, &told).await {
                Ok(ami) => return Ok((self.finished(&ec2, region, &ami).await?, made)),
                // One that is never seen is one that this token made once and that is gone since.
                Err(gave_up @ (GaveUp::Final(_) | GaveUp::Missing(_))) => {
                    self.remove(&ec2, &id).await?;
                    self.is_dead(&attempt, &id)?;
                    last = Some(gave_up.told(&what(&id)));
                }
                Err(gave_up) => return Err(gave_up.told(&what(&id))),
            }
        }
        let none = || Exit::Failed.error(format_args!("no copy in {region}"), "run the same command again");
        Err(last.unwrap_or_else(none))
    }

    /// The attempt that is due in a region: the first of this run whose copy is not known to be dead.
    fn attempt(&self, region: &str) -> Result<Attempt> {
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

    /// The token of this attempt is not used again.
    fn is_dead(&self, attempt: &Attempt, id: &str) -> Result<()> {
        self.run.ledger().note(self.run.id(), &dead_key(&attempt.key), id)
    }

    /// Until when a copy that is begun now is left alone, whoever looks.
    fn lease(&self) -> Timestamp {
        Timestamp::now() + self.settings.patience.copy.deadline * 2
    }

    /// The copy that an earlier run made or began: a name is unique in a region, and the tags say whose it is, if they are there yet.
    async fn there(&self, ec2: &Client) -> Result<Option<Ami>, AwsError> {
        let content = self.source.content.to_string();
        Ok(image::by_name(ec2, &self.source.name).await?.filter(|ami| {
            let tags = record::plain_tags(ami.tags());
            tags.is_empty() || tags.get(CONTENT) == Some(&content) || tags.get(record::RUN) == Some(&self.source.run)
        }))
    }

    /// Says on a copy in progress that another run of ours began that it is this run that waits for it now.
    async fn take_over(&self, ec2: &Client, ami: &Ami, region: &str) -> Result<()> {
        let tags = record::plain_tags(ami.tags());
        let soon = Timestamp::now() + self.settings.patience.copy.deadline;
        let lasts = tags.get(COPY_EXPIRES).and_then(|at| at.parse::<Timestamp>().ok()).is_some_and(|at| at > soon);
        if ami.state() != Some(&ImageState::Pending)
            || (lasts && tags.get(COPY_RUN).is_some_and(|r| r == self.run.id()))
        {
            return Ok(());
        }
        (self.told)(region, "taking over the copy that is in progress", None);
        Ok(self.sections.enter(image::tag(ec2, ami, &lease_tags(self.run.id(), self.lease()))).await?)
    }

    async fn remove(&self, ec2: &Client, id: &str) -> Result<()> {
        self.sections.enter(image::remove(ec2, id)).await.map_err(first)
    }

    /// CopyImage, again as long as what refuses it passes; `None` if the attempt's token belongs to another call.
    async fn begin(&self, ec2: &Client, region: &str, attempt: &Attempt) -> Result<Option<String>> {
        let call = self.call(ec2, region, attempt);
        let patience = &self.settings.patience;
        let deadline = Instant::now() + patience.copy.deadline;
        loop {
            // A copy that is asked for is also written down.
            let aws_error = match self.sections.enter(call.clone().send()).await.called("ec2:CopyImage") {
                Ok(begun) => return Ok(Some(begun.image_id().unwrap_or_default().to_owned())),
                Err(aws_error) => aws_error,
            };
            let pause = match refusal(&aws_error) {
                Refusal::Token => return Ok(None),
                Refusal::Named => {
                    // An earlier call's, whose answer was lost, is visible soon; somebody else's never is.
                    for _ in 0..image::VISIBLE {
                        if let Some(ami) = self.there(ec2).await? {
                            return Ok(ami.image_id().map(str::to_owned));
                        }
                        tokio::time::sleep(patience.pause).await;
                    }
                    return Err(self.refused(&aws_error, region));
                }
                Refusal::Slots | Refusal::Passes if Instant::now() >= deadline => {
                    return Err(self.refused(&aws_error, region));
                }
                Refusal::Slots => {
                    (self.told)(
                        region,
                        &format!("waiting until another copy into the region ends ({aws_error})"),
                        None,
                    );
                    patience.pause * FULL
                }
                Refusal::Passes => {
                    (self.told)(region, &format!("trying again ({aws_error})"), None);
                    patience.pause
                }
                Refusal::Final => return Err(self.refused(&aws_error, region)),
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn refused(&self, aws_error: &AwsError, region: &str) -> Error {
        let what = format!("{} was not copied to {region}", self.source.id);
        match quota(aws_error) {
            None => Error::from(aws_error.clone()).context(what),
            Some(quota) => Exit::Precondition.error(
                format_args!("{what}: the quota \"{quota}\" is used up there: {aws_error}"),
                "`cargo xtask ami gc` shows what can go; Service Quotas takes requests for more",
            ),
        }
    }

    fn call(&self, ec2: &Client, region: &str, attempt: &Attempt) -> CopyImageFluentBuilder {
        let (source, settings) = (self.source, self.settings);
        let lease = lease_tags(self.run.id(), attempt.expires);
        let minutes = settings.copy_within.and_then(|within| i64::try_from(within.as_secs() / 60).ok());
        let call = ec2
            .copy_image()
            .name(&source.name)
            .source_region(&source.region)
            .source_image_id(&source.id.0)
            .copy_image_tags(true)
            // What the source does not have; the rest is carried. Snapshots get nothing carried.
            .tag_specifications(specification(ResourceType::Image, &with(own(source), &lease)))
            .tag_specifications(specification(ResourceType::Snapshot, &with(tags(source), &lease)))
            .encrypted(true)
            .set_kms_key_id(settings.kms_keys.get(region).cloned())
            .set_snapshot_copy_completion_duration_minutes(minutes);
        let token = token(region, &attempt.nonce, &call);
        call.client_token(token)
    }

    /// The record of a copy that is there, with all its tags.
    async fn finished(&self, ec2: &Client, region: &str, ami: &Ami) -> Result<Image> {
        self.sections.enter(image::tag(ec2, ami, &tags(self.source))).await?;
        match as_copy(region, ami) {
            Some(copy) => Ok(copy),
            None => self.read_back(ec2, region, ami.image_id().unwrap_or_default()).await,
        }
    }

    /// What EC2 says about the copy now: tags may have been refused, lost or changed.
    async fn read_back(&self, ec2: &Client, region: &str, id: &str) -> Result<Image> {
        for _ in 0..10 {
            let ami = image::by_ids(ec2, &[id.to_owned()]).await?.into_iter().next();
            if let Some(copy) = ami.and_then(|ami| as_copy(region, &ami)) {
                return Ok(copy);
            }
            tokio::time::sleep(self.settings.patience.pause).await;
        }
        Err(Exit::Failed.error(
            format_args!("the tags of {id} in {region} cannot be read back"),
            "run the same command again: the copy is taken up where it is",
        ))
    }
}

fn dead_key(attempt: &str) -> String {
    format!("{attempt}, is dead")
}

/// The client token of a call: a digest of the region, the nonce and everything the call says.
fn token(region: &str, nonce: &str, call: &CopyImageFluentBuilder) -> String {
    let parameters = format!("{:?}", call.as_input());
    let parts = [("region", region), ("nonce", nonce), ("parameters", parameters.as_str())];
    Digest::of_parts(parts.map(|(label, text)| (label, text.as_bytes()))).to_string()
}

/// The sorting of a refusal. `ResourceLimitExceeded` is the code of several limits: that of copies in progress, for which EC2's list of
/// error codes names it, and quotas, which its message then names.
fn refusal(aws_error: &AwsError) -> Refusal {
    let message = aws_error.message.to_lowercase();
    match aws_error.code.as_deref() {
        Some("IdempotentParameterMismatch") => Refusal::Token,
        Some("ConcurrentSnapshotLimitExceeded" | "PendingSnapshotLimitExceeded") => Refusal::Slots,
        Some("ResourceLimitExceeded") if !["quota", "maximum number"].iter().any(|word| message.contains(word)) => {
            Refusal::Slots
        }
        _ if aws_error.kind == Kind::Duplicate => Refusal::Named,
        _ if aws_error.kind != Kind::Quota && aws_error.passes() => Refusal::Passes,
        _ => Refusal::Final,
    }
}

/// The name in Service Quotas of what a refused copy ran into.
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

/// Which run waits for a copy, and until when nobody else may take it away.
fn lease_tags(run: &str, expires: Timestamp) -> BTreeMap<String, String> {
    [(COPY_RUN.to_owned(), run.to_owned()), (COPY_EXPIRES.to_owned(), expires.to_string())].into()
}

/// What a copy's tags say for good that its source's do not.
fn own(source: &Image) -> BTreeMap<String, String> {
    let own = [(COPIED_FROM, source.id.to_string()), (CONTENT, source.content.to_string())];
    own.map(|(key, value)| (key.to_owned(), value)).into()
}

/// The tags of a copy: the source's, where it came from, and what it shares with the others.
fn tags(source: &Image) -> BTreeMap<String, String> {
    with(record::Facts::of_image(source).tags(&source.tags), &own(source))
}

/// The copy's record, if its tags are all there.
fn as_copy(region: &str, ami: &Ami) -> Option<Image> {
    match record::read(region, ami) {
        Listed::Image(copy) if copy.copied_from.is_some() => Some(*copy),
        Listed::Image(_) | Listed::Corrupt(_) => None,
    }
}

/// The first of several faults.
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
    fn a_refusal_is_waited_for_only_if_waiting_helps() {
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
        for (code, message, wanted) in cases {
            assert_eq!(refusal(&aws_error(code, message)), wanted, "{code}: {message}");
        }
        let throttled = AwsError { kind: Kind::Throttled, ..aws_error("RequestLimitExceeded", "") };
        assert_eq!(refusal(&throttled), Refusal::Passes);
        assert_eq!(quota(&aws_error("SnapshotLimitExceeded", "")), Some("Snapshots per Region"));
        assert_eq!(quota(&aws_error("InvalidParameterValue", "")), None);
    }

    #[test]
    fn a_token_says_all_that_its_call_says() {
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

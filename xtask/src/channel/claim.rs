//! A claim on a channel that every machine sees: a parameter that says which run moves the channel, or that none does.
//!
//! It is made once and never deleted, because a deleted name cannot be made again for 30 seconds (API reference, DeleteParameter): a
//! release is a write, too. Of several that claim the same free channel, the versions of their writes leave one: the provider's write
//! succeeds only for the version that follows the one that was read.

use jiff::{SignedDuration, Timestamp};

use super::Target;
use crate::cloud::{Cloud, Kind, Orphan, Parameter};
use crate::error::{Exit, Result};

/// A claim older than this is a dead one's: a move takes seconds.
const DEAD: SignedDuration = SignedDuration::from_hours(1);
/// How the value of a claim begins that nobody holds.
const FREE: &str = "free ";

/// Asks whether the channel could be claimed, long before it is: an identity that may not write the claim is refused before it builds an image.
pub fn ready<C: Cloud>(cloud: &C, target: &Target) -> Result<()> {
    let Some((region, name)) = place(cloud, target) else { return Ok(()) };
    cloud.writable(&region, &name, &format!("{FREE}since {}", Timestamp::now()))
}

/// Claims the channel for a run. Nothing to do for a channel that only this machine's files hold.
pub fn take<C: Cloud>(cloud: &C, target: &Target, run: &str, who: &str) -> Result<()> {
    let Some((region, name)) = place(cloud, target) else { return Ok(()) };
    let mine = format!("{run} by {who} at {}", Timestamp::now());
    let expected = match cloud.parameter(&region, &name)? {
        // Taken up again.
        Some(there) if is_of(&there, run) => return Ok(()),
        Some(there) if is_free(&there) || is_dead(&there) => Some(there.version),
        Some(there) => return Err(lost(target, &there.value)),
        None => None,
    };
    cloud.put_parameter(&region, &name, &mine, expected).map_err(|error| match cloud.parameter(&region, &name) {
        Ok(Some(there)) if !is_free(&there) && !is_of(&there, run) => lost(target, &there.value),
        _ => error,
    })
}

/// Gives a run's claim up. Somebody else's stays: it was taken over after an hour.
pub fn release<C: Cloud>(cloud: &C, target: &Target, run: &str) -> Result<()> {
    let Some((region, name)) = place(cloud, target) else { return Ok(()) };
    match cloud.parameter(&region, &name)? {
        Some(there) if is_of(&there, run) => free(cloud, &region, &name, &there),
        Some(_) | None => Ok(()),
    }
}

/// Frees a claim whose run is over.
pub fn give_up<C: Cloud>(cloud: &C, claim: &Orphan) -> Result<()> {
    match cloud.parameter(&claim.region, &claim.id)? {
        Some(there) if claim.run.as_ref().is_some_and(|run| is_of(&there, run)) => {
            free(cloud, &claim.region, &claim.id, &there)
        }
        Some(_) | None => Ok(()),
    }
}

fn free<C: Cloud>(cloud: &C, region: &str, name: &str, there: &Parameter) -> Result<()> {
    let run = there.value.split(' ').next().unwrap_or_default();
    let value = format!("{FREE}since {}, held by {run} before", Timestamp::now());
    cloud.put_parameter(region, name, &value, Some(there.version))
}

/// The claim on the channel, if somebody holds it.
pub fn held<C: Cloud>(cloud: &C, target: &Target) -> Result<Option<Orphan>> {
    let Some((region, name)) = place(cloud, target) else { return Ok(None) };
    Ok(cloud.parameter(&region, &name)?.filter(|claim| !is_free(claim)).map(|claim| Orphan {
        kind: Kind::Claim,
        id: name,
        region,
        run: claim.value.split(' ').next().map(str::to_owned),
        expires: made(&claim).map(|at| (at + DEAD).to_string()),
        bytes: None,
    }))
}

/// In the home region, so that there is one.
fn place<C: Cloud>(cloud: &C, target: &Target) -> Option<(String, String)> {
    let prefix = target.prefix.as_ref()?;
    Some((cloud.regions().first()?.clone(), format!("{prefix}/claims/{}/{}", target.image, target.name)))
}

fn is_free(claim: &Parameter) -> bool {
    claim.value.starts_with(FREE)
}

fn is_of(claim: &Parameter, run: &str) -> bool {
    claim.value.split(' ').next() == Some(run)
}

fn is_dead(claim: &Parameter) -> bool {
    made(claim).is_some_and(|at| Timestamp::now().duration_since(at) > DEAD)
}

fn made(claim: &Parameter) -> Option<Timestamp> {
    claim.value.rsplit(" at ").next().and_then(|at| at.parse().ok())
}

fn lost(target: &Target, holder: &str) -> crate::error::Error {
    Exit::Precondition.error(
        format_args!("{} is being moved by somebody else: {holder}", target.name),
        "wait until that is done and look at the new diff; if that run is dead, `cargo xtask ami resume` it where it began, or wait an hour",
    )
}

//! The claim on a channel: a parameter with the run that moves the channel, or with the text that it is free. All machines read it.
//!
//! The parameter is created once and never deleted, because a deleted name cannot be created again for 30 seconds (Systems Manager API
//! reference, DeleteParameter). A release is a write, too. If several runs claim a free channel at once, one of them gets it: a write
//! succeeds only if it returns the version that follows the one that was read.

use jiff::{SignedDuration, Timestamp};

use super::Target;
use crate::cloud::{Cloud, Kind, Orphan, Parameter};
use crate::error::{Exit, Result};
use crate::ids::{Region, RunId};

/// Age from which another run may take over a claim. A move takes seconds, so the run of an older claim is dead.
const DEAD: SignedDuration = SignedDuration::from_hours(1);
/// Prefix of the parameter's value while no run holds the claim.
const FREE: &str = "free ";

/// Checks that the channel can be claimed. A release does this first, so that an identity without permission to write the parameter gets
/// an error before it builds an image.
pub fn ready<C: Cloud>(cloud: &C, target: &Target) -> Result<()> {
    let Some((region, name)) = place(cloud, target) else { return Ok(()) };
    cloud.writable(&region, &name, &format!("{FREE}since {}", Timestamp::now()))
}

/// Claims the channel for a run. A channel without parameters needs no claim.
pub fn take<C: Cloud>(cloud: &C, target: &Target, run: &RunId, who: &str) -> Result<()> {
    let Some((region, name)) = place(cloud, target) else { return Ok(()) };
    let mine = format!("{run} by {who} at {}", Timestamp::now());
    let expected = match cloud.parameter(&region, &name)? {
        // The run was interrupted and is resumed.
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

/// Releases a run's claim. The claim of another run, which took it over after an hour, stays.
pub fn release<C: Cloud>(cloud: &C, target: &Target, run: &RunId) -> Result<()> {
    let Some((region, name)) = place(cloud, target) else { return Ok(()) };
    match cloud.parameter(&region, &name)? {
        Some(there) if is_of(&there, run) => free(cloud, &region, &name, &there),
        Some(_) | None => Ok(()),
    }
}

/// Releases a claim whose run has ended, for `ami gc`.
pub fn release_abandoned<C: Cloud>(cloud: &C, claim: &Orphan) -> Result<()> {
    match cloud.parameter(&claim.region, &claim.id)? {
        Some(there) if claim.run.as_ref().is_some_and(|run| is_of(&there, run)) => {
            free(cloud, &claim.region, &claim.id, &there)
        }
        Some(_) | None => Ok(()),
    }
}

fn free<C: Cloud>(cloud: &C, region: &Region, name: &str, there: &Parameter) -> Result<()> {
    let run = there.value.split(' ').next().unwrap_or_default();
    let value = format!("{FREE}since {}, held by {run} before", Timestamp::now());
    cloud.put_parameter(region, name, &value, Some(there.version))
}

/// The claim on the channel, if a run holds it.
pub fn held<C: Cloud>(cloud: &C, target: &Target) -> Result<Option<Orphan>> {
    let Some((region, name)) = place(cloud, target) else { return Ok(None) };
    Ok(cloud.parameter(&region, &name)?.filter(|claim| !is_free(claim)).map(|claim| Orphan {
        kind: Kind::Claim,
        id: name,
        region,
        run: claim.value.split(' ').next().map(RunId::from),
        expires: claimed_at(&claim).map(|at| (at + DEAD).to_string()),
        bytes: None,
    }))
}

/// Region and name of the claim's parameter. It is in the home region only, so that there is one claim for all regions.
fn place<C: Cloud>(cloud: &C, target: &Target) -> Option<(Region, String)> {
    let prefix = target.prefix.as_ref()?;
    Some((cloud.regions().first()?.clone(), format!("{prefix}/claims/{}/{}", target.image, target.name)))
}

fn is_free(claim: &Parameter) -> bool {
    claim.value.starts_with(FREE)
}

fn is_of(claim: &Parameter, run: &RunId) -> bool {
    claim.value.split(' ').next() == Some(run.as_str())
}

fn is_dead(claim: &Parameter) -> bool {
    claimed_at(claim).is_some_and(|at| Timestamp::now().duration_since(at) > DEAD)
}

fn claimed_at(claim: &Parameter) -> Option<Timestamp> {
    claim.value.rsplit(" at ").next().and_then(|at| at.parse().ok())
}

fn lost(target: &Target, holder: &str) -> crate::error::Error {
    Exit::Precondition.error(
        format_args!("{} is being moved by another run: {holder}", target.name),
        "wait for that run and review the new diff; if it was interrupted, run `cargo xtask ami resume` on its machine, or wait an hour",
    )
}

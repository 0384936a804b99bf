//! A claim on a channel that every machine sees: a parameter that exists while somebody moves the channel. Only one can make it, because a
//! parameter that is there is not made again.

use jiff::{SignedDuration, Timestamp};

use super::Target;
use crate::cloud::{Cloud, Kind, Leftover, Parameter};
use crate::error::{Exit, Result};

/// A claim older than this is a dead one's: a move takes seconds.
const DEAD: SignedDuration = SignedDuration::from_hours(1);

/// Claims the channel for a run. Nothing to do for a channel that only this machine's files hold.
pub fn take<C: Cloud>(cloud: &C, target: &Target, run: &str, who: &str) -> Result<()> {
    let Some((region, name)) = place(cloud, target) else { return Ok(()) };
    let mine = format!("{run} by {who} at {}", Timestamp::now());
    match cloud.parameter(&region, &name)? {
        // Taken up again.
        Some(there) if there.value.starts_with(&format!("{run} ")) => Ok(()),
        Some(there) if is_dead(&there) => cloud.put_parameter(&region, &name, &mine, Some(there.version)),
        Some(there) => Err(lost(target, &there.value)),
        None => {
            cloud.put_parameter(&region, &name, &mine, None).map_err(|error| match cloud.parameter(&region, &name) {
                Ok(Some(there)) => lost(target, &there.value),
                _ => error,
            })
        }
    }
}

/// Gives the claim up.
pub fn release<C: Cloud>(cloud: &C, target: &Target) -> Result<()> {
    place(cloud, target).map_or(Ok(()), |(region, name)| cloud.delete_parameter(&region, &name))
}

/// The claim on the channel, if there is one.
pub fn held<C: Cloud>(cloud: &C, target: &Target) -> Result<Option<Leftover>> {
    let Some((region, name)) = place(cloud, target) else { return Ok(None) };
    Ok(cloud.parameter(&region, &name)?.map(|claim| Leftover {
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

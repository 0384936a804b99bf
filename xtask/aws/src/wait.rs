//! Waiting for EC2: a poller that survives what EC2 does while it is not yet consistent.
//!
//! The SDK's waiters end at the first NotFound or dropped connection, and take one good answer for the truth. This one tolerates
//! NotFound for a while after a create, asks again after transport errors, and wants answers that agree. Knows no clock but
//! tokio's, so tests run in virtual time.

use std::time::Duration;

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use tokio::time::Instant;
use xtask::error::{Error, Exit};

use crate::fault::{Called as _, Fault, Kind};

/// How long to wait, and how.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Give up after this long.
    pub deadline: Duration,
    /// How long after the start NotFound means "not yet" (EC2 developer guide, "Eventual consistency").
    pub missing: Duration,
    /// How many good answers in a row are believed.
    pub agreeing: u32,
    /// Time to the second look; it doubles up to `longest`.
    pub first: Duration,
    /// Longest time between two looks.
    pub longest: Duration,
    /// Time to the look that confirms a good one: the answers come from different servers, so they need not be far apart.
    pub confirm: Duration,
}

/// What one look showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look<T> {
    /// Not yet; what it is instead.
    Pending(String),
    /// There.
    Ready(T),
    /// It will never be: `failed`, `error`, `deregistered`, and why.
    Final(String),
    /// It is not known (yet).
    Missing,
}

/// Why waiting ended without the thing.
#[derive(Clone, Debug)]
pub enum GaveUp {
    /// It will never be.
    Final(String),
    /// It was not found for longer than eventual consistency explains.
    Missing(Duration),
    /// Time is up; what the last look showed.
    Deadline(Duration, String),
    /// A call failed in a way that waiting does not mend.
    Fault(Fault),
}

impl Patience {
    /// For images, which take minutes.
    pub const IMAGE: Self = Self {
        deadline: Duration::from_secs(90 * 60),
        missing: Duration::from_secs(5 * 60),
        agreeing: 2,
        first: Duration::from_secs(5),
        longest: Duration::from_secs(15),
        confirm: Duration::from_secs(2),
    };

    /// For copies across regions, which were seen to take 18 minutes (hashicorp/packer#12779).
    pub const COPY: Self = Self { first: Duration::from_secs(15), ..Self::IMAGE };

    /// For instances, which take seconds.
    pub const INSTANCE: Self = Self {
        deadline: Duration::from_secs(10 * 60),
        missing: Duration::from_secs(5 * 60),
        agreeing: 1,
        first: Duration::from_secs(2),
        longest: Duration::from_secs(10),
        confirm: Duration::from_secs(2),
    };
}

/// Looks again and again until the thing is there.
pub async fn until<T>(
    patience: Patience,
    told: &dyn Fn(&str),
    mut look: impl AsyncFnMut() -> Result<Look<T>, Fault>,
) -> Result<T, GaveUp> {
    let started = Instant::now();
    let (mut good, mut pause) = (0, patience.first);
    let mut last;
    loop {
        match look().await {
            Ok(Look::Ready(thing)) => {
                good += 1;
                if good >= patience.agreeing {
                    return Ok(thing);
                }
                last = "ready, to be confirmed".to_owned();
                pause = patience.confirm;
            }
            Ok(Look::Pending(state)) => (good, last) = (0, state),
            Ok(Look::Final(why)) => return Err(GaveUp::Final(why)),
            Ok(Look::Missing) if started.elapsed() < patience.missing => {
                (good, last) = (0, "not visible yet".to_owned());
            }
            Ok(Look::Missing) => return Err(GaveUp::Missing(started.elapsed())),
            Err(fault) if fault.passes() => (good, last) = (0, fault.to_string()),
            Err(fault) => return Err(GaveUp::Fault(fault)),
        }
        told(&last);
        if started.elapsed() >= patience.deadline {
            return Err(GaveUp::Deadline(started.elapsed(), last));
        }
        // Jitter, so that regions and runs do not ask in step.
        tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(patience.longest);
    }
}

/// Asks again after transport errors, on top of the SDK's own retries: for calls that may be repeated.
pub async fn retried<T, E>(call: impl AsyncFn() -> Result<T, SdkError<E>>, action: &'static str) -> Result<T, Fault>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let mut left = 3;
    loop {
        match call().await.called(action) {
            Err(fault) if fault.passes() && left > 0 => {
                left -= 1;
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            result => return result,
        }
    }
}

/// As [`retried`], and again while something that was just made is not visible yet.
pub async fn retried_not_found<T, E>(
    call: impl AsyncFn() -> Result<T, SdkError<E>>,
    action: &'static str,
) -> Result<T, Fault>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let mut left = 20;
    loop {
        match retried(&call, action).await {
            Err(fault) if fault.kind == Kind::NotFound && left > 0 => {
                left -= 1;
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
            result => return result,
        }
    }
}

impl GaveUp {
    /// The error for a person; `what` is what was waited for.
    pub fn told(self, what: &str) -> Error {
        let again = "run the same command again: it goes on from what is there";
        match self {
            Self::Final(why) => Exit::Failed.error(format_args!("{what} will not come: {why}"), again),
            Self::Missing(after) => Exit::Failed.error(
                format_args!("{what} was not found for {} s after it was made", after.as_secs()),
                "EC2 may have lost it, or somebody deleted it; run the same command again",
            ),
            Self::Deadline(after, last) => Exit::Failed
                .error(format_args!("{what} did not come within {} s; last: {last}", after.as_secs()), again),
            Self::Fault(fault) => Error::from(fault).context(format!("while waiting for {what}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: Kind) -> Fault {
        Fault { kind, action: "ec2:DescribeImages", code: None, message: "x".to_owned() }
    }

    /// Plays looks back, the last for ever; returns how it ended, how long it took and how often it looked.
    async fn played(looks: Vec<Result<Look<u8>, Fault>>) -> (Result<u8, GaveUp>, Duration, usize) {
        let started = Instant::now();
        let mut n = 0;
        let result = until(Patience::IMAGE, &|_| {}, async || {
            n += 1;
            looks[(n - 1).min(looks.len() - 1)].clone()
        })
        .await;
        (result, started.elapsed(), n)
    }

    #[tokio::test(start_paused = true)]
    async fn good_answers_in_a_row_are_believed_and_fewer_are_not() {
        let pending = || Ok(Look::Pending("pending".to_owned()));
        let looks = vec![pending(), Ok(Look::Ready(1)), pending(), Ok(Look::Ready(1)), Ok(Look::Ready(2))];
        let (result, _, n) = played(looks).await;
        assert_eq!((result.unwrap(), n), (2, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn not_found_is_not_yet_for_five_minutes() {
        let (result, took, _) = played(vec![Ok(Look::Missing)]).await;
        assert!(matches!(result, Err(GaveUp::Missing(_))));
        assert!(took >= Duration::from_secs(300) && took < Duration::from_secs(360), "{took:?}");
        let (result, ..) = played([vec![Ok(Look::Missing); 8], vec![Ok(Look::Ready(7))]].concat()).await;
        assert_eq!(result.unwrap(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_connection_is_survived_and_a_refusal_is_not() {
        let (result, ..) = played(vec![
            Err(fault(Kind::Transport)),
            Err(fault(Kind::Throttled)),
            Err(fault(Kind::Server)),
            Ok(Look::Ready(1)),
        ])
        .await;
        assert_eq!(result.unwrap(), 1);
        let (result, _, n) = played(vec![Err(fault(Kind::Expired))]).await;
        assert!(matches!(result, Err(GaveUp::Fault(f)) if f.kind == Kind::Expired) && n == 1);
    }

    #[tokio::test(start_paused = true)]
    async fn failed_is_final_and_time_is_up_at_the_deadline() {
        let (result, took, _) = played(vec![Ok(Look::Final("failed: no key".to_owned()))]).await;
        assert!(matches!(result, Err(GaveUp::Final(why)) if why == "failed: no key") && took.is_zero());
        let (result, took, n) = played(vec![Ok(Look::Pending("pending".to_owned()))]).await;
        assert!(matches!(result, Err(GaveUp::Deadline(_, last)) if last == "pending"));
        assert!(took >= Patience::IMAGE.deadline && took < Patience::IMAGE.deadline + Duration::from_secs(60));
        assert!((300..500).contains(&n), "{n} looks in 90 minutes");
    }
}

//! Waiting for EC2: a poller that survives what EC2 does while it is not yet consistent.
//!
//! The SDK's waiters end at the first NotFound or dropped connection, and take one good answer for the truth. This one tolerates
//! NotFound for a while after a create, asks again after transport errors, and wants answers that agree. Knows no clock but
//! tokio's, so tests run in virtual time.

use std::time::Duration;

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use tokio::time::Instant;
use xtask::error::{Error, Exit};

use crate::aws_error::{AwsError, Called as _, Kind};

/// How long to wait, and how.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Give up after this long.
    pub deadline: Duration,
    /// How long after the start NotFound means "not yet" (EC2 developer guide, "Eventual consistency").
    pub missing: Duration,
    /// How many good answers in a row are believed.
    pub agreeing: u32,
    /// Time to the second look.
    pub first: Duration,
    /// Longest time between two looks.
    pub longest: Duration,
    /// How late an end that nothing announces may be seen, as a share of the time waited so far.
    pub late: f64,
    /// Time to the look that confirms a good one: the answers come from different servers, so they need not be far apart.
    pub confirm: Duration,
}

/// What one look showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look<T> {
    /// Not yet; what it is instead.
    Pending(String),
    /// Not yet; what it is instead, and how much of it is done, in percent.
    Partly(String, u8),
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
    /// A call failed in a way that waiting does not fix.
    AwsError(AwsError),
}

impl Patience {
    /// For images, which take minutes.
    pub const IMAGE: Self = Self {
        deadline: Duration::from_secs(90 * 60),
        missing: Duration::from_secs(5 * 60),
        agreeing: 2,
        first: Duration::from_secs(5),
        longest: Duration::from_secs(15),
        late: 0.04,
        confirm: Duration::from_secs(1),
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
        late: 0.2,
        confirm: Duration::from_secs(2),
    };

    /// How long to pause after the looks so far, none of which showed the thing: until most of what is left by the progress seen should be
    /// done, else a small share of the time waited.
    pub fn pause(&self, seen: &[Seen]) -> Duration {
        let Some(last) = seen.last().filter(|_| seen.len() > 1) else { return self.first };
        let unannounced = last.elapsed.mul_f64(self.late).max(SHORTEST.min(self.first));
        let predicted = left(seen).map_or(Duration::ZERO, |left| left.mul_f64(0.8));
        predicted.max(unannounced).min(self.longest)
    }
}

/// A look and what it showed of the progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Since the wait began.
    pub elapsed: Duration,
    /// In percent; `None` where nothing is known of it.
    pub percent: Option<u8>,
}

/// Shortest time between two looks of a wait of minutes.
const SHORTEST: Duration = Duration::from_secs(3);

/// How long the rest takes: by the pace since the start or by the latest pace, whichever is less, because a look too many costs less than
/// time lost. Progress comes in steps: a percentage counts from the look that showed it first.
fn left(seen: &[Seen]) -> Option<Duration> {
    let now = seen.last()?.elapsed;
    let percent = seen.last()?.percent.filter(|p| (1..100).contains(p))?;
    let rest = f64::from(100 - percent);
    let reached = seen.iter().find(|s| s.percent == Some(percent))?.elapsed;
    let overall = reached.mul_f64(rest / f64::from(percent));
    let earlier = seen.iter().rev().find(|s| s.elapsed < reached && s.percent.is_some_and(|p| p < percent));
    let recent = earlier.and_then(|e| {
        let step = f64::from(percent - e.percent?);
        Some((reached - e.elapsed).mul_f64(rest / step))
    });
    let from_then = recent.map_or(overall, |recent| recent.min(overall));
    Some(from_then.saturating_sub(now - reached))
}

/// Looks again and again until the thing is there.
pub async fn until<T>(
    patience: Patience,
    told: &dyn Fn(&str),
    look: impl AsyncFnMut() -> Result<Look<T>, AwsError>,
) -> Result<T, GaveUp> {
    until_with(patience, &|state, _| told(state), look).await
}

/// As [`until`]; `told` also gets the progress in percent, where it is known.
pub async fn until_with<T>(
    patience: Patience,
    told: &dyn Fn(&str, Option<u8>),
    mut look: impl AsyncFnMut() -> Result<Look<T>, AwsError>,
) -> Result<T, GaveUp> {
    let started = Instant::now();
    let mut good = 0;
    let mut seen = Vec::new();
    let mut last;
    loop {
        let (mut percent, mut confirm) = (None, false);
        match look().await {
            Ok(Look::Ready(thing)) => {
                good += 1;
                if good >= patience.agreeing {
                    return Ok(thing);
                }
                (last, confirm) = ("ready, to be confirmed".to_owned(), true);
            }
            Ok(Look::Pending(state)) => (good, last) = (0, state),
            Ok(Look::Partly(state, done)) => (good, last, percent) = (0, state, Some(done)),
            Ok(Look::Final(why)) => return Err(GaveUp::Final(why)),
            Ok(Look::Missing) if started.elapsed() < patience.missing => {
                (good, last) = (0, "not visible yet".to_owned());
            }
            Ok(Look::Missing) => return Err(GaveUp::Missing(started.elapsed())),
            Err(aws_error) if aws_error.passes() => (good, last) = (0, aws_error.to_string()),
            Err(aws_error) => return Err(GaveUp::AwsError(aws_error)),
        }
        told(&last, percent);
        if started.elapsed() >= patience.deadline {
            return Err(GaveUp::Deadline(started.elapsed(), last));
        }
        seen.push(Seen { elapsed: started.elapsed(), percent });
        let pause = if confirm { patience.confirm } else { patience.pause(&seen) };
        // Jitter, so that regions and runs do not ask in step.
        tokio::time::sleep(pause.mul_f64(0.9 + fastrand::f64() / 5.0)).await;
    }
}

/// Asks again after transport errors, on top of the SDK's own retries: for calls that may be repeated.
pub async fn retried<T, E>(call: impl AsyncFn() -> Result<T, SdkError<E>>, action: &'static str) -> Result<T, AwsError>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let mut left = 3;
    loop {
        match call().await.called(action) {
            Err(aws_error) if aws_error.passes() && left > 0 => {
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
) -> Result<T, AwsError>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let mut left = 20;
    loop {
        match retried(&call, action).await {
            Err(aws_error) if aws_error.kind == Kind::NotFound && left > 0 => {
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
            Self::AwsError(aws_error) => Error::from(aws_error).context(format!("while waiting for {what}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aws_error(kind: Kind) -> AwsError {
        AwsError { kind, action: "ec2:DescribeImages", code: None, message: "x".to_owned() }
    }

    /// Plays looks back, the last for ever; returns how it ended, how long it took and how often it looked.
    async fn played(looks: Vec<Result<Look<u8>, AwsError>>) -> (Result<u8, GaveUp>, Duration, usize) {
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

    /// Pauses have jitter: one run may be unlucky.
    const RUNS: u64 = 40;

    /// The progress that is shown when a share of the time is over.
    type Shape = fn(f64) -> Option<u8>;

    /// Waits for a copy that takes `takes` seconds and shows its progress so; returns how late its end was seen, and the looks.
    async fn copied(takes: f64, progress: Shape) -> (f64, usize) {
        let started = Instant::now();
        let mut looks = 0;
        let done = until(Patience::COPY, &|_| {}, async || {
            looks += 1;
            let share = started.elapsed().as_secs_f64() / takes;
            Ok(match progress(share) {
                _ if share >= 1.0 => Look::Ready(()),
                Some(percent) => Look::Partly("pending".to_owned(), percent),
                None => Look::Pending("pending".to_owned()),
            })
        });
        done.await.unwrap();
        (started.elapsed().as_secs_f64() / takes, looks)
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_copy_is_seen_soon_after_it() {
        let even = |share: f64| Some((share * 100.0) as u8);
        let coarse = |share: f64| Some((share * 4.0).floor() as u8 * 25);
        let late = |share: f64| Some(if share < 0.7 { 0 } else { ((share - 0.7) * 333.0) as u8 });
        let stuck = |_| Some(99);
        let silent = |_| None;
        let shapes: [(&str, Shape); 5] =
            [("even", even), ("coarse", coarse), ("late", late), ("stuck", stuck), ("silent", silent)];
        for (name, shape) in shapes {
            for takes in [60.0, 95.0, 240.0, 1100.0] {
                let mut ratios = Vec::new();
                for seed in 0..RUNS {
                    fastrand::seed(seed);
                    let (ratio, looks) = copied(takes, shape).await;
                    // No pause is longer than 15 s, and jitter adds a tenth.
                    let late = (ratio - 1.0) * takes;
                    assert!(late <= 18.0, "{name}: seen {late:.1} s after the {takes} s of the copy, seed {seed}");
                    assert!(looks <= 130, "{name}: {looks} looks in {takes} s, seed {seed}");
                    ratios.push(ratio);
                }
                let mean = ratios.iter().sum::<f64>() / RUNS as f64;
                assert!(mean <= 1.09, "{name}: seen after {mean:.3} times the {takes} s of the copy, on average");
            }
        }
        fastrand::seed(0);
        let (_, looks) = copied(60.0, even).await;
        assert!(looks <= 12, "the progress predicts the end: {looks} looks");
    }

    #[test]
    fn the_pause_follows_the_progress_and_its_latest_pace() {
        let seen = |points: &[(u64, Option<u8>)]| {
            let points =
                points.iter().map(|(at, percent)| Seen { elapsed: Duration::from_secs(*at), percent: *percent });
            Patience { longest: Duration::from_secs(3600), ..Patience::COPY }
                .pause(&points.collect::<Vec<_>>())
                .as_secs()
        };
        assert_eq!(seen(&[(0, None)]), 15, "the first one");
        assert_eq!(seen(&[(0, Some(0)), (100, Some(50))]), 80, "four fifths of what is left");
        assert_eq!(seen(&[(0, Some(0)), (100, Some(10)), (120, Some(50))]), 20, "it became faster");
        assert_eq!(seen(&[(0, None), (1000, None)]), 40, "nothing is known");
        assert_eq!(seen(&[(0, None), (1000, Some(100))]), 40, "the image is later than its snapshots");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_connection_is_survived_and_a_refusal_is_not() {
        let (result, ..) = played(vec![
            Err(aws_error(Kind::Transport)),
            Err(aws_error(Kind::Throttled)),
            Err(aws_error(Kind::Server)),
            Ok(Look::Ready(1)),
        ])
        .await;
        assert_eq!(result.unwrap(), 1);
        let (result, _, n) = played(vec![Err(aws_error(Kind::Expired))]).await;
        assert!(matches!(result, Err(GaveUp::AwsError(f)) if f.kind == Kind::Expired) && n == 1);
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

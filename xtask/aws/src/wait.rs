//! Polling of EC2 that handles eventual consistency.
//!
//! The SDK's waiters end at the first NotFound or dropped connection, and accept a single positive response. This poller takes NotFound as
//! "not yet" for some time after a create, retries after transient errors, and requires several positive responses in a row. It uses no
//! clock but tokio's, so tests run in virtual time.

use std::time::Duration;

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use tokio::time::Instant;
use xtask::error::{Error, Exit};

use crate::aws_error::{AwsError, Called as _, Kind};

/// Timeout and intervals of a wait.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Timeout of the whole wait.
    pub deadline: Duration,
    /// How long after the start NotFound means "not yet" (EC2 developer guide, "Eventual consistency").
    pub missing: Duration,
    /// Number of consecutive [`Poll::Ready`] that are required.
    pub agreeing: u32,
    /// Time between the first and the second poll.
    pub first: Duration,
    /// Longest time between two polls.
    pub longest: Duration,
    /// Time to the next poll where the progress is unknown, as a share of the time waited so far.
    pub late: f64,
    /// Time to the poll that confirms a [`Poll::Ready`]. It can be short, because different servers respond.
    pub confirm: Duration,
}

/// The result of one poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Poll<T> {
    /// Not ready yet; the current state.
    Pending(String),
    /// Not ready yet; the current state, and the progress in percent.
    Partly(String, u8),
    /// The resource is ready.
    Ready(T),
    /// The resource will never be ready: its state (`failed`, `error`, `deregistered`) and the reason.
    Final(String),
    /// The resource was not found.
    Missing,
}

/// Why a wait ended before the resource was ready.
#[derive(Clone, Debug)]
pub enum WaitError {
    /// It will never be ready; its state and the reason.
    Final(String),
    /// It was not found for longer than [`Patience::missing`].
    Missing(Duration),
    /// The timeout passed; the last state.
    Deadline(Duration, String),
    /// A call failed with an error that is not transient.
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

    /// For copies across regions, which can take 18 minutes (hashicorp/packer#12779).
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

    /// Time to the next poll, after polls none of which was [`Poll::Ready`]: 80 % of the remaining time that the progress predicts, at
    /// least [`Patience::late`] of the time waited, and at most [`Patience::longest`].
    pub fn pause(&self, seen: &[Seen]) -> Duration {
        let Some(last) = seen.last().filter(|_| seen.len() > 1) else { return self.first };
        let unannounced = last.elapsed.mul_f64(self.late).max(SHORTEST.min(self.first));
        let predicted = left(seen).map_or(Duration::ZERO, |left| left.mul_f64(0.8));
        predicted.max(unannounced).min(self.longest)
    }
}

/// Time and progress of a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Time since the start of the wait.
    pub elapsed: Duration,
    /// Progress in percent, if it is known.
    pub percent: Option<u8>,
}

/// Shortest time between two polls of a wait that takes minutes.
const SHORTEST: Duration = Duration::from_secs(3);

/// The predicted remaining time: by the rate since the start or by the latest rate, whichever gives less, because an additional poll costs
/// less than a late one. Progress comes in steps, so a percentage counts from the first poll that returned it.
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

/// Polls until the resource is ready.
pub async fn until<T>(
    patience: Patience,
    on_progress: &dyn Fn(&str),
    poll: impl AsyncFnMut() -> Result<Poll<T>, AwsError>,
) -> Result<T, WaitError> {
    until_with(patience, &|state, _| on_progress(state), poll).await
}

/// As [`until`]; `on_progress` also gets the progress in percent, if it is known.
pub async fn until_with<T>(
    patience: Patience,
    on_progress: &dyn Fn(&str, Option<u8>),
    mut poll: impl AsyncFnMut() -> Result<Poll<T>, AwsError>,
) -> Result<T, WaitError> {
    let started = Instant::now();
    let mut ready = 0;
    let mut seen = Vec::new();
    let mut last;
    loop {
        let (mut percent, mut confirm) = (None, false);
        match poll().await {
            Ok(Poll::Ready(resource)) => {
                ready += 1;
                if ready >= patience.agreeing {
                    return Ok(resource);
                }
                (last, confirm) = ("ready, to be confirmed".to_owned(), true);
            }
            Ok(Poll::Pending(state)) => (ready, last) = (0, state),
            Ok(Poll::Partly(state, done)) => (ready, last, percent) = (0, state, Some(done)),
            Ok(Poll::Final(why)) => return Err(WaitError::Final(why)),
            Ok(Poll::Missing) if started.elapsed() < patience.missing => {
                (ready, last) = (0, "not visible yet".to_owned());
            }
            Ok(Poll::Missing) => return Err(WaitError::Missing(started.elapsed())),
            Err(aws_error) if aws_error.is_transient() => (ready, last) = (0, aws_error.to_string()),
            Err(aws_error) => return Err(WaitError::AwsError(aws_error)),
        }
        on_progress(&last, percent);
        if started.elapsed() >= patience.deadline {
            return Err(WaitError::Deadline(started.elapsed(), last));
        }
        seen.push(Seen { elapsed: started.elapsed(), percent });
        let pause = if confirm { patience.confirm } else { patience.pause(&seen) };
        // Jitter, so that regions and runs do not poll at the same time.
        tokio::time::sleep(pause.mul_f64(0.9 + fastrand::f64() / 5.0)).await;
    }
}

/// Repeats an idempotent call after transient errors, in addition to the SDK's retries.
pub async fn retried<T, E>(call: impl AsyncFn() -> Result<T, SdkError<E>>, action: &'static str) -> Result<T, AwsError>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let mut left = 3;
    loop {
        match call().await.called(action) {
            Err(aws_error) if aws_error.is_transient() && left > 0 => {
                left -= 1;
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            result => return result,
        }
    }
}

/// As [`retried`], and also repeats after NotFound, while a new resource is not visible yet.
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

impl WaitError {
    /// The error to report; `what` names the resource that was waited for.
    pub fn into_error(self, what: &str) -> Error {
        let again = "run the same command again; it continues with what exists";
        match self {
            Self::Final(why) => Exit::Failed.error(format_args!("{what} did not become ready: {why}"), again),
            Self::Missing(after) => Exit::Failed.error(
                format_args!("{what} was not found for {} s after it was made", after.as_secs()),
                "run the same command again; another process may have deleted it",
            ),
            Self::Deadline(after, last) => Exit::Failed
                .error(format_args!("{what} was not ready within {} s; last state: {last}", after.as_secs()), again),
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

    /// Waits with these polls, of which the last one repeats; returns the result, the time waited and the number of polls.
    async fn waited(polls: Vec<Result<Poll<u8>, AwsError>>) -> (Result<u8, WaitError>, Duration, usize) {
        let started = Instant::now();
        let mut n = 0;
        let result = until(Patience::IMAGE, &|_| {}, async || {
            n += 1;
            polls[(n - 1).min(polls.len() - 1)].clone()
        })
        .await;
        (result, started.elapsed(), n)
    }

    #[tokio::test(start_paused = true)]
    async fn consecutive_ready_polls_are_required() {
        let pending = || Ok(Poll::Pending("pending".to_owned()));
        let polls = vec![pending(), Ok(Poll::Ready(1)), pending(), Ok(Poll::Ready(1)), Ok(Poll::Ready(2))];
        let (result, _, n) = waited(polls).await;
        assert_eq!((result.unwrap(), n), (2, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn not_found_means_not_yet_for_five_minutes() {
        let (result, took, _) = waited(vec![Ok(Poll::Missing)]).await;
        assert!(matches!(result, Err(WaitError::Missing(_))));
        assert!(took >= Duration::from_secs(300) && took < Duration::from_secs(360), "{took:?}");
        let (result, ..) = waited([vec![Ok(Poll::Missing); 8], vec![Ok(Poll::Ready(7))]].concat()).await;
        assert_eq!(result.unwrap(), 7);
    }

    /// Number of seeds for the jitter of the pauses.
    const RUNS: u64 = 40;

    /// Progress in percent, by the share of the time that has passed.
    type Shape = fn(f64) -> Option<u8>;

    /// Waits for a copy that takes `takes` seconds with this progress; returns the time waited as a multiple of `takes`, and the number of
    /// polls.
    async fn copied(takes: f64, progress: Shape) -> (f64, usize) {
        let started = Instant::now();
        let mut polls = 0;
        let done = until(Patience::COPY, &|_| {}, async || {
            polls += 1;
            let share = started.elapsed().as_secs_f64() / takes;
            Ok(match progress(share) {
                _ if share >= 1.0 => Poll::Ready(()),
                Some(percent) => Poll::Partly("pending".to_owned(), percent),
                None => Poll::Pending("pending".to_owned()),
            })
        });
        done.await.unwrap();
        (started.elapsed().as_secs_f64() / takes, polls)
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_copy_is_noticed_within_seconds() {
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
                    let (ratio, polls) = copied(takes, shape).await;
                    // No pause is longer than 15 s, and jitter adds a tenth.
                    let late = (ratio - 1.0) * takes;
                    assert!(late <= 18.0, "{name}: noticed {late:.1} s after the {takes} s of the copy, seed {seed}");
                    assert!(polls <= 130, "{name}: {polls} polls in {takes} s, seed {seed}");
                    ratios.push(ratio);
                }
                let mean = ratios.iter().sum::<f64>() / RUNS as f64;
                assert!(mean <= 1.09, "{name}: noticed after {mean:.3} times the {takes} s of the copy, on average");
            }
        }
        fastrand::seed(0);
        let (_, polls) = copied(60.0, even).await;
        assert!(polls <= 12, "the progress predicts the end: {polls} polls");
    }

    #[test]
    fn the_pause_follows_the_progress_and_its_latest_rate() {
        let seen = |points: &[(u64, Option<u8>)]| {
            let points =
                points.iter().map(|(at, percent)| Seen { elapsed: Duration::from_secs(*at), percent: *percent });
            Patience { longest: Duration::from_secs(3600), ..Patience::COPY }
                .pause(&points.collect::<Vec<_>>())
                .as_secs()
        };
        assert_eq!(seen(&[(0, None)]), 15, "the first pause");
        assert_eq!(seen(&[(0, Some(0)), (100, Some(50))]), 80, "80 % of the remaining time");
        assert_eq!(seen(&[(0, Some(0)), (100, Some(10)), (120, Some(50))]), 20, "the rate has increased");
        assert_eq!(seen(&[(0, None), (1000, None)]), 40, "the progress is unknown");
        assert_eq!(seen(&[(0, None), (1000, Some(100))]), 40, "the snapshots are complete, the image is not");
    }

    #[tokio::test(start_paused = true)]
    async fn transient_errors_are_retried_and_others_are_not() {
        let (result, ..) = waited(vec![
            Err(aws_error(Kind::Transport)),
            Err(aws_error(Kind::Throttled)),
            Err(aws_error(Kind::Server)),
            Ok(Poll::Ready(1)),
        ])
        .await;
        assert_eq!(result.unwrap(), 1);
        let (result, _, n) = waited(vec![Err(aws_error(Kind::Expired))]).await;
        assert!(matches!(result, Err(WaitError::AwsError(f)) if f.kind == Kind::Expired) && n == 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_final_state_ends_the_wait_at_once_and_the_timeout_ends_any_wait() {
        let (result, took, _) = waited(vec![Ok(Poll::Final("failed: no key".to_owned()))]).await;
        assert!(matches!(result, Err(WaitError::Final(why)) if why == "failed: no key") && took.is_zero());
        let (result, took, n) = waited(vec![Ok(Poll::Pending("pending".to_owned()))]).await;
        assert!(matches!(result, Err(WaitError::Deadline(_, last)) if last == "pending"));
        assert!(took >= Patience::IMAGE.deadline && took < Patience::IMAGE.deadline + Duration::from_secs(60));
        assert!((300..500).contains(&n), "{n} polls in 90 minutes");
    }
}

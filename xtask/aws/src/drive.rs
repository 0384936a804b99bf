//! Runs the SDK's futures for the blocking code of `xtask`, and ends waits at a signal.
//!
//! A signal ends read calls and waits. It never ends a mutating call, because the result of an abandoned call would be unknown.

use std::cell::Cell;
use std::future::{Future, pending};
use std::time::Duration;

use xtask::error::Result;
use xtask::signals;

/// Runs futures on this thread.
#[derive(Debug)]
pub struct Driver(tokio::runtime::Runtime);

impl Driver {
    /// A driver on a new runtime.
    pub fn new() -> Result<Self> {
        Ok(Self(tokio::runtime::Builder::new_current_thread().enable_all().build()?))
    }

    /// A driver on this runtime; tests pass one with a paused clock.
    pub fn over(runtime: tokio::runtime::Runtime) -> Self {
        Self(runtime)
    }

    /// Runs a future to its end regardless of signals, for mutating calls.
    pub fn finish<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.block_on(future)
    }

    /// Runs a future until it ends or a signal arrives, for read calls and waits.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> Result<T> {
        self.wait_around(&Sections::default(), future)
    }

    /// Sleeps; a signal ends it with an error.
    pub fn pause(&self, time: Duration) -> Result<()> {
        // Created inside the future: a tokio timer requires the context of the runtime.
        self.wait(async { tokio::time::sleep(time).await })
    }

    /// As [`Driver::wait`], for a future that also makes mutating calls: a signal ends it as soon as none of its sections is open.
    pub fn wait_around<T>(&self, sections: &Sections, future: impl Future<Output = T>) -> Result<T> {
        self.0.block_on(async {
            tokio::select! {
                done = future => Ok(done),
                () = async { interrupted().await; sections.closed().await } => Err(signals::check().err().unwrap_or_else(|| {
                    xtask::error::Exit::Interrupted.error("interrupted", "run the same command again to continue")
                })),
            }
        })
    }
}

/// The critical sections of a future that mostly waits. A mutating call inside a section runs to its end and is written to the ledger, also
/// after a signal. After a signal no section is entered.
#[derive(Debug, Default)]
pub struct Sections {
    open: Cell<usize>,
}

impl Sections {
    /// Runs a future inside a section.
    pub async fn enter<T>(&self, future: impl Future<Output = T>) -> T {
        self.enter_unless(signals::interrupted, future).await
    }

    async fn enter_unless<T>(&self, interrupted: impl Fn() -> bool, future: impl Future<Output = T>) -> T {
        if interrupted() {
            // `wait_around` drops this future.
            return pending().await;
        }
        self.open.set(self.open.get() + 1);
        let _open = Open(self);
        future.await
    }

    /// Waits until no section is open.
    async fn closed(&self) {
        while self.open.get() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// An open section; dropping it closes the section.
struct Open<'a>(&'a Sections);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
    }
}

async fn interrupted() {
    while !signals::interrupted() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_works_outside_of_a_runtime() {
        Driver::new().unwrap().pause(Duration::from_millis(1)).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_section_runs_to_its_end_and_none_is_entered_after_a_signal() {
        let (sections, done) = (Sections::default(), Cell::new(0));
        let call = async {
            tokio::time::sleep(Duration::from_secs(30)).await;
            done.set(done.get() + 1);
        };
        // The signal comes after a second, in the middle of the call.
        let signal = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            sections.closed().await;
        };
        tokio::select! {
            () = async { sections.enter_unless(|| false, call).await; pending::<()>().await } => {},
            () = signal => {},
        }
        assert_eq!(done.get(), 1, "the call was dropped");

        let late = sections.enter_unless(|| true, async { done.set(done.get() + 1) });
        assert!(tokio::time::timeout(Duration::from_secs(60), late).await.is_err());
        assert_eq!((done.get(), sections.open.get()), (1, 0));
    }
}

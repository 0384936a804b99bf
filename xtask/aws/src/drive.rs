//! From `xtask`'s blocking calls to the SDK's futures, and back when a person interrupts.
//!
//! Reading and waiting end at a signal; a mutating call never does, because nobody would know what it made.

use std::cell::Cell;
use std::future::{Future, pending};
use std::time::Duration;

use xtask::error::Result;
use xtask::signals;

/// Runs futures on this thread.
#[derive(Debug)]
pub struct Driver(tokio::runtime::Runtime);

impl Driver {
    /// A driver of its own.
    pub fn new() -> Result<Self> {
        Ok(Self(tokio::runtime::Builder::new_current_thread().enable_all().build()?))
    }

    /// A driver over a runtime that a test made, whose clock it may have stopped.
    pub fn over(runtime: tokio::runtime::Runtime) -> Self {
        Self(runtime)
    }

    /// Runs to the end, whatever is signalled: for calls that make or remove something.
    pub fn finish<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.block_on(future)
    }

    /// Runs to the end, or to a signal: for reading and waiting.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> Result<T> {
        self.wait_around(&Sections::default(), future)
    }

    /// Does nothing for a while, or until a signal.
    pub fn pause(&self, time: Duration) -> Result<()> {
        // Made inside: a timer belongs to the runtime in which it is made.
        self.wait(async { tokio::time::sleep(time).await })
    }

    /// As [`Driver::wait`], for a future that also changes something: a signal ends it as soon as none of its sections is open.
    pub fn wait_around<T>(&self, sections: &Sections, future: impl Future<Output = T>) -> Result<T> {
        self.0.block_on(async {
            tokio::select! {
                done = future => Ok(done),
                () = async { interrupted().await; sections.closed().await } => Err(signals::check().err().unwrap_or_else(|| {
                    xtask::error::Exit::Interrupted.error("interrupted", "run the same command to go on")
                })),
            }
        })
    }
}

/// The critical sections of a future that mostly waits: inside one it makes a mutating call, which is finished and written down
/// whatever is signalled. After a signal no section is entered any more.
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
            // Whoever waits for the future drops it.
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

/// A section that is open.
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
    fn a_pause_needs_no_runtime_around_it() {
        Driver::new().unwrap().pause(Duration::from_millis(1)).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_section_that_is_open_is_left_before_the_wait_ends_and_none_is_entered_after_a_signal() {
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

//! From `xtask`'s blocking calls to the SDK's futures, and back when a person interrupts.
//!
//! Reading and waiting end at a signal; a mutating call never does, because nobody would know what it made.

use std::future::Future;
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
        self.0.block_on(async {
            tokio::select! {
                done = future => Ok(done),
                () = interrupted() => Err(signals::check().err().unwrap_or_else(|| {
                    xtask::error::Exit::Interrupted.error("interrupted", "run the same command to go on")
                })),
            }
        })
    }
}

async fn interrupted() {
    while !signals::interrupted() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

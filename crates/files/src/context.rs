//! Progress and cancellation of long computations.

use std::sync::atomic::{AtomicBool, Ordering};

/// A receiver of progress. It is called from many threads.
pub trait Progress: Sync {
    /// A stage begins that will process `total_bytes` bytes.
    fn begin(&self, stage: &str, total_bytes: u64);
    /// A stage begins that will process `total` items other than bytes.
    fn count(&self, stage: &str, total: u64);
    /// `done` more bytes or items of the stage have been processed.
    fn advance(&self, done: u64);
}

/// Discards progress.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: u64) {}
    fn count(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
}

/// Progress and cancellation of one computation; the last parameter of every function that may take long.
pub struct Context<'a> {
    progress: &'a dyn Progress,
    cancelled: &'a AtomicBool,
}

/// The computation was cancelled. It left no output behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Cancelled;

static NEVER: AtomicBool = AtomicBool::new(false);

impl Context<'static> {
    /// A context without progress and cancellation.
    pub fn silent() -> Self {
        Self { progress: &Silent, cancelled: &NEVER }
    }
}

impl<'a> Context<'a> {
    /// Reports to `progress`, and stops the computation soon after `cancelled` becomes true.
    pub fn new(progress: &'a dyn Progress, cancelled: &'a AtomicBool) -> Self {
        Self { progress, cancelled }
    }

    /// Reports that a stage begins that will process `total_bytes` bytes.
    pub fn begin(&self, stage: &str, total_bytes: u64) {
        self.progress.begin(stage, total_bytes);
    }

    /// Reports that a stage begins that will process `total` items other than bytes.
    pub fn count(&self, stage: &str, total: u64) {
        self.progress.count(stage, total);
    }

    /// Reports that `done` more bytes or items have been processed, and checks for cancellation.
    ///
    /// # Errors
    /// [`Cancelled`] if the computation shall stop.
    pub fn advance(&self, done: u64) -> Result<(), Cancelled> {
        self.progress.advance(done);
        if self.cancelled.load(Ordering::Relaxed) { Err(Cancelled) } else { Ok(()) }
    }
}

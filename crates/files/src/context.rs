//! What a long computation is given besides its data: where to tell its progress, and when to stop.

use std::sync::atomic::{AtomicBool, Ordering};

/// Where progress goes. Calls come from many threads.
pub trait Progress: Sync {
    /// A stage begins that will handle `total_bytes` bytes.
    fn begin(&self, stage: &str, total_bytes: u64);
    /// A stage begins that will handle `total` things of another kind than bytes.
    fn count(&self, stage: &str, total: u64);
    /// So many more are done.
    fn advance(&self, done: u64);
}

/// Tells no one.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: u64) {}
    fn count(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
}

/// Passed last to everything that takes long; never global.
pub struct Context<'a> {
    progress: &'a dyn Progress,
    cancelled: &'a AtomicBool,
}

/// The computation was asked to stop; nothing was left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Cancelled;

static NEVER: AtomicBool = AtomicBool::new(false);

impl Context<'static> {
    /// No progress, no cancellation.
    pub fn silent() -> Self {
        Self { progress: &Silent, cancelled: &NEVER }
    }
}

impl<'a> Context<'a> {
    /// Tells `progress`, and stops soon after `cancelled` becomes true.
    pub fn new(progress: &'a dyn Progress, cancelled: &'a AtomicBool) -> Self {
        Self { progress, cancelled }
    }

    /// A stage begins that will handle `total_bytes` bytes.
    pub fn begin(&self, stage: &str, total_bytes: u64) {
        self.progress.begin(stage, total_bytes);
    }

    /// A stage begins that will handle `total` things of another kind than bytes.
    pub fn count(&self, stage: &str, total: u64) {
        self.progress.count(stage, total);
    }

    /// So many more are done; the place where cancellation is noticed.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn advance(&self, done: u64) -> Result<(), Cancelled> {
        self.progress.advance(done);
        if self.cancelled.load(Ordering::Relaxed) { Err(Cancelled) } else { Ok(()) }
    }
}

//! What a person who waits wants to know.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Something that a person who waits wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A request is tried again.
    Again {
        /// The server.
        origin: String,
        /// What went wrong.
        reason: String,
        /// How long is waited before.
        wait: Duration,
    },
    /// Another process downloads the same file.
    WaitsForLock {
        /// The file, as the hub names it.
        file: String,
        /// The process that has the lock, where the system says so.
        process: Option<u32>,
        /// The lock.
        lock: PathBuf,
    },
    /// A server sends no parts of files, so that all of one is fetched.
    WholeFile {
        /// The file.
        address: String,
    },
}

/// Receives notices, on any thread.
pub type Notify = Arc<dyn Fn(&Notice) + Send + Sync>;

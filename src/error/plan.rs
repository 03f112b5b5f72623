//! Why the plan of a run cannot be used.

use crate::shard::sealed::{Broken, TOOL};
use std::path::{Path, PathBuf};

/// Why the plan of a run on several machines cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PlanFault {
    /// It is something else.
    #[error("{}: not a plan of a diff", path.display())]
    NotAPlan {
        /// The file.
        path: PathBuf,
    },
    /// Its digest is not that of its content.
    #[error("{}: damaged: its content has another SHA-256 than it was written with", path.display())]
    Damaged {
        /// The plan.
        path: PathBuf,
    },
    /// Another version wrote it.
    #[error("{}: written by {found:?}; plans are read by the version that wrote them, and this is {expected}", path.display())]
    Version {
        /// The plan.
        path: PathBuf,
        /// What wrote it.
        found: String,
        /// What reads it.
        expected: &'static str,
    },
    /// Its content makes no sense.
    #[error("{}: not a valid plan: {reason}", path.display())]
    Malformed {
        /// The plan.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file is not the one that was planned with.
    #[error("{name} is not the file of the plan: {found}, and {planned} was planned with")]
    OtherSource {
        /// The file.
        name: String,
        /// What it is, as a sentence without its end.
        found: String,
        /// What it was.
        planned: String,
    },
    /// The plan has another number of shards.
    #[error("the plan has {planned} shards, and shard {number} of {of} was asked for")]
    OtherShards {
        /// The number of shards.
        planned: u32,
        /// The shard that was asked for.
        number: u32,
        /// The number of shards that was asked for.
        of: u32,
    },
}

impl PlanFault {
    /// Of a sealed file that was meant to be a plan.
    pub fn broken(path: &Path, broken: Broken) -> Self {
        let path = path.to_owned();
        match broken {
            Broken::Other => Self::NotAPlan { path },
            Broken::Damaged => Self::Damaged { path },
            Broken::Version(found) => Self::Version { path, found, expected: TOOL },
            Broken::Content(reason) => Self::Malformed { path, reason },
        }
    }
}

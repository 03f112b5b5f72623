//! Why a part of a diff cannot be used.

use super::list::named;
use crate::shard::sealed::{Broken, TOOL};
use crate::words::{count, counted};
use std::path::{Path, PathBuf};

/// Why a part of a diff in shards cannot be used, or parts not together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartFault {
    /// It is something else.
    #[error("{}: not a part of a diff in shards", path.display())]
    NotAPart {
        /// The file.
        path: PathBuf,
    },
    /// Its digest is not that of its content.
    #[error("{}: damaged: its content has another SHA-256 than it was written with", path.display())]
    Damaged {
        /// The part.
        path: PathBuf,
    },
    /// Another version wrote it.
    #[error("{}: written by {found:?}; parts are read by the version that wrote them, and this is {expected}", path.display())]
    Version {
        /// The part.
        path: PathBuf,
        /// What wrote it.
        found: String,
        /// What reads it.
        expected: &'static str,
    },
    /// Its content makes no sense.
    #[error("{}: not a valid part: {reason}", path.display())]
    Malformed {
        /// The part.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It is of other checkpoints, or was made with other options.
    #[error("{}: a part of another run: other checkpoints, other options or another number of shards", path.display())]
    OtherRun {
        /// The part.
        path: PathBuf,
    },
    /// It holds something else than is needed.
    #[error("{}: it holds {found}, and {expected} are needed", path.display())]
    Content {
        /// The part.
        path: PathBuf,
        /// What it holds.
        found: PartContent,
        /// What is needed.
        expected: PartContent,
    },
    /// A file of a result is not what its shard wrote.
    #[error("{}: it is not what shard {shard} wrote", path.display())]
    OtherFile {
        /// The file.
        path: PathBuf,
        /// The shard, from 1 on.
        shard: u32,
    },
    /// Parts are missing.
    #[error("{} of {of} {} missing", if shards.len() == 1 { format!("shard {}", shards[0]) } else { format!("shards {}", named(shards.iter())) }, if shards.len() == 1 { "is" } else { "are" })]
    Missing {
        /// Their shards, from 1 on.
        shards: Vec<u32>,
        /// How many shards there are.
        of: u32,
    },
    /// Two parts are of the same shard.
    #[error("{} and {} are both of shard {shard}", first.display(), second.display())]
    Twice {
        /// The one.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// The shard, from 1 on.
        shard: u32,
    },
    /// The elements are not those that were ranked.
    #[error(
        "the ranks are not those of these checkpoints: of shard {shard} of {of}, {} were ranked, and there are {}", counted(*expected, "weight"), count(*found)
    )]
    Changed {
        /// The shard, from 1 on.
        shard: u32,
        /// How many shards there are.
        of: u32,
        /// Selected elements, by the ranks.
        expected: u64,
        /// Selected elements there are.
        found: u64,
    },
    /// Something for which shards would have to know more of each other.
    #[error("{what} does not go with shards: {}", what.why())]
    Unsupported {
        /// What was asked for.
        what: Undivided,
    },
}

impl PartFault {
    /// Of a sealed file that was meant to be a part, or a receipt.
    pub(crate) fn broken(path: &Path, broken: Broken) -> Self {
        let path = path.to_owned();
        match broken {
            Broken::Other => Self::NotAPart { path },
            Broken::Damaged => Self::Damaged { path },
            Broken::Version(found) => Self::Version { path, found, expected: TOOL },
            Broken::Content(reason) => Self::Malformed { path, reason },
        }
    }
}

/// What a part of a diff holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartContent {
    /// The largest differences of its shard, to be ranked with those of the others.
    Ranks,
    /// The blocks of the patch that begin in its shard.
    Blocks,
}

impl std::fmt::Display for PartContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            PartContent::Ranks => "ranks",
            PartContent::Blocks => "blocks",
        })
    }
}

/// What cannot be done shard by shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Undivided {
    /// A selection by masks, or at random.
    Localization,
    /// As many weights as the masks give.
    SizeOfMasks,
    /// A patch with pruning masks.
    Masks,
    /// A reference that is cast to the target's dtype.
    Cast,
    /// Deltas of reduced precision.
    ReducedPrecision,
    /// The SHA-256 of whole files.
    Sha256,
}

impl Undivided {
    fn why(self) -> &'static str {
        match self {
            Self::Localization => "only differences are ranked shard by shard",
            Self::SizeOfMasks | Self::Masks => "masks are counted over whole checkpoints",
            Self::Cast => "whether the reference fits the target's dtype is known of whole checkpoints only",
            Self::ReducedPrecision => "the digest of the result is found by applying the whole patch",
            Self::Sha256 => "the SHA-256 of a file cannot be joined from parts",
        }
    }
}

impl std::fmt::Display for Undivided {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Localization => "a selection by masks or at random",
            Self::SizeOfMasks => "a selection of as many weights as the masks give",
            Self::Masks => "a pruning mask",
            Self::Cast => "a cast to the target's dtype",
            Self::ReducedPrecision => "reduced precision",
            Self::Sha256 => "naming files by SHA-256",
        })
    }
}

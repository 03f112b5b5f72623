//! A pair of checkpoints to a selection: which weights make the difference.
//!
//! [`candidates`] says where to look; [`value`] takes the largest differences (paper eq 2) with the exact [`top_k`];
//! [`full`] takes every element that differs.

pub mod candidates;
pub mod full;
pub mod top_k;
pub mod value;

use crate::context::Cancelled;
use crate::dtype::Dtype;

/// Why a selection can not be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Impossible {
    /// A candidate is NaN or infinite, so it has no rank.
    #[error("element {index} of {tensor:?} is {value} in the {side}; only finite weights can be ranked")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// Flat index.
        index: u64,
        /// `target` or `reference`.
        side: &'static str,
        /// The value.
        value: f64,
    },
    /// A reference that is cast leaves the range of the target's dtype.
    #[error("element {index} of {tensor:?} is {value} in the reference, which {dtype} can not hold")]
    Cast {
        /// The tensor.
        tensor: String,
        /// Flat index.
        index: u64,
        /// The value.
        value: f64,
        /// The target's dtype.
        dtype: Dtype,
    },
    /// More weights are asked for than there are.
    #[error("{k} weights are asked for, there are {candidates} candidates")]
    TooMany {
        /// The number asked for.
        k: u64,
        /// Candidates.
        candidates: u64,
    },
    /// No tensor is a candidate.
    #[error("no tensor is left to select from: {reason}")]
    NoCandidates {
        /// Which options leave none.
        reason: String,
    },
    /// A glob does not parse.
    #[error("{pattern:?} is not a glob: {reason}")]
    Glob {
        /// The glob.
        pattern: String,
        /// What is wrong.
        reason: String,
    },
    /// Asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

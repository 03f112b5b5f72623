//! Localization: which weights of a pair of checkpoints a patch changes.
//!
//! [`candidates`] chooses the tensors to search. [`mask`] selects the weights that exactly one pruning mask keeps (paper eq 1), [`value`]
//! the weights that differ most (paper eq 2), [`random`] draws weights as a baseline, and [`full`] selects every weight that differs.
//! [`scan`] reads both checkpoints once, for the search and for their digests.

pub mod candidates;
pub mod full;
pub mod mask;
pub mod random;
pub mod room;
pub mod scan;
pub mod value;

use crate::context::Cancelled;
use crate::dtype::Dtype;
use crate::mask::MaskFault;
use crate::mask::top_k::TooFew;
use crate::words::count;
use candidates::Params;

/// Why a selection cannot be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Impossible {
    /// A candidate is NaN or infinite, and cannot be ranked.
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
    /// A value of the reference is outside the range of the target's dtype, to which it is cast.
    #[error("element {index} of {tensor:?} is {value} in the reference, which {dtype} cannot hold")]
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
    /// More weights are asked for than there are candidates.
    #[error("more weights are asked for ({}) than there are candidates ({})", count(*k), count(*candidates))]
    TooMany {
        /// The number asked for.
        k: u64,
        /// Candidates.
        candidates: u64,
    },
    /// The masks are the same, so that no weight is kept by exactly one.
    #[error("nothing is selected: both masks keep the same weights")]
    SameMasks,
    /// A pruning mask cannot be read.
    #[error(transparent)]
    Mask(MaskFault),
    /// The checkpoint that should be the target before it was pruned has other tensors.
    #[error("{tensor:?} is not in the unpruned checkpoint with the target's dtype and shape")]
    Unpruned {
        /// The tensor.
        tensor: String,
    },
    /// The selection needs pruning masks, and there are none.
    #[error("there are no pruning masks")]
    NoMasks,
    /// No tensor is a candidate.
    #[error("no tensor is left to select from: {}", if *no_floats { "none of them holds floats".to_owned() } else { format!("none of the set {:?} matches", params.label()) })]
    NoCandidates {
        /// The set.
        params: Params,
        /// Whether only floats can be selected, and there are none.
        no_floats: bool,
    },
    /// A glob does not parse.
    #[error("{pattern:?} is not a glob: {reason}")]
    Glob {
        /// The glob.
        pattern: String,
        /// Why it does not parse.
        reason: String,
    },
    /// A glob matches no tensor of any patch.
    #[error("no tensor of the patch matches {pattern:?}{}", like(nearest))]
    Unmatched {
        /// The glob.
        pattern: String,
        /// The names that are most like it.
        nearest: Vec<String>,
    },
    /// So many elements change so regularly that their patch would be smaller than readers take (spec R10).
    #[error("{} weights change so regularly that a patch of them has {file_bytes} bytes, and readers take at most {} in such a file", count(*selected), count(*most))]
    TooRegular {
        /// The number of elements that change.
        selected: u64,
        /// How many readers take.
        most: u64,
        /// Bytes of the patch.
        file_bytes: u64,
    },
    /// Asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// The names that may have been meant.
fn like(nearest: &[String]) -> String {
    if nearest.is_empty() { String::new() } else { format!("; it has {}", nearest.join(", ")) }
}

impl From<MaskFault> for Impossible {
    fn from(fault: MaskFault) -> Self {
        match fault {
            MaskFault::Cancelled(cancelled) => Self::Cancelled(cancelled),
            fault => Self::Mask(fault),
        }
    }
}

impl From<TooFew> for Impossible {
    fn from(TooFew { k, found }: TooFew) -> Self {
        Self::TooMany { k, candidates: found }
    }
}

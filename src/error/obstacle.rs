//! Why a patch cannot be made of others.

use crate::words::count;
use std::path::PathBuf;

/// Why a patch cannot be made of others. Nothing was written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Obstacle {
    /// The patch is coded relative to a base that was not given.
    #[error("{} does not carry its base's values, which are needed to {} it", patch.display(), to(verb))]
    NeedsBase {
        /// The patch.
        patch: PathBuf,
        /// The verb.
        verb: &'static str,
    },
    /// The patch selects more elements than its size justifies, and there is no base to justify them.
    #[error("{} selects {selected} elements in {bytes} bytes, more than the {most} that {verb} reads from so many without the base", patch.display())]
    Selected {
        /// The patch.
        patch: PathBuf,
        /// The verb.
        verb: &'static str,
        /// Elements that it selects.
        selected: u64,
        /// Bytes of its file.
        bytes: u64,
        /// Elements that so many bytes justify.
        most: u64,
    },
    /// Deltas with reduced precision do not say what the reference's bits are.
    #[error("the deltas of {} have reduced precision, so they do not lead to exact bits", patch.display())]
    Reduced {
        /// The patch.
        patch: PathBuf,
    },
    /// The other side is not known well enough.
    #[error("{} cannot be inverted: {reason}", patch.display())]
    NoInverse {
        /// The patch.
        patch: PathBuf,
        /// What is missing.
        reason: &'static str,
    },
    /// The second patch is not for the result of the first.
    #[error("{} is not for the result of {}: {tensor:?} differs", second.display(), first.display())]
    Chain {
        /// The first patch.
        first: PathBuf,
        /// The second one.
        second: PathBuf,
        /// The first tensor that differs.
        tensor: String,
    },
    /// Two patches are not for the same base.
    #[error("{} and {} are not for the same base: {tensor:?} differs", first.display(), second.display())]
    Bases {
        /// One patch.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// The first tensor that differs.
        tensor: String,
    },
    /// Base values that a mask does not count.
    #[error("{} is for a base that holds unpruned weights, so it is not possible to {} it", patch.display(), to(verb))]
    Unpruned {
        /// The patch.
        patch: PathBuf,
        /// The verb.
        verb: &'static str,
    },
    /// A number that is no float would have to be scaled or ranked.
    #[error("{tensor:?} holds no floats, so its changes can be neither scaled nor ranked")]
    Integer {
        /// The tensor.
        tensor: String,
    },
    /// A sum is not finite.
    #[error("element {index} of {tensor:?} would become infinite or NaN")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// Flat index.
        index: u64,
    },
    /// More elements are asked for than the patch selects.
    #[error("more weights are asked for ({}) than {} selects ({})", count(*k), patch.display(), count(*selected))]
    TooMany {
        /// The patch.
        patch: PathBuf,
        /// The number asked for.
        k: u64,
        /// Elements that it selects in the tensors that stay.
        selected: u64,
    },
    /// Nothing is left.
    #[error("nothing is selected: {reason}")]
    Empty {
        /// Why.
        reason: String,
    },
}

/// A verb as it goes before its object.
fn to(verb: &'static str) -> &'static str {
    if verb == "select" { "select a part of" } else { verb }
}

//! Why a patch is not written in another tool's format, or what such a tool wrote does not become a patch.

use crate::dtype::Dtype;
use crate::words::{count, counted, plural};
use std::path::PathBuf;

/// Why a patch is not exported, or something else not imported. Nothing was written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ExchangeFault {
    /// Tensors that an adapter cannot change.
    #[error("{} of {of} {} that the patch changes cannot be in a SHiRA adapter", tensors.len(), plural(*of, "tensor"))]
    NotLinear {
        /// Their names, and why.
        tensors: Vec<(String, String)>,
        /// Tensors that the patch changes.
        of: usize,
    },
    /// The patch changes nothing.
    #[error("{} changes nothing at alpha {alpha}", patch.display())]
    Nothing {
        /// The patch.
        patch: PathBuf,
        /// Alpha.
        alpha: f64,
    },
    /// One number of weights for all modules is more than one of them has.
    #[error("{module:?} has {} weights, and with r = {r}, which another module needs, it would have to list {}", count(*elements), count(*listed))]
    Rank {
        /// The module.
        module: String,
        /// PEFT's `r`.
        r: u64,
        /// Weights that each module of this shape must list.
        listed: u64,
        /// Weights that it has.
        elements: u64,
    },
    /// Most of an adapter would be padding.
    #[error("the adapter would hold {} of padding, more than {most} times the {} of the patch", counted(*padding, "byte"), counted(*patch, "byte"))]
    Padding {
        /// Bytes of the padding.
        padding: u64,
        /// Bytes of the patch.
        patch: u64,
        /// How many times the patch it may be.
        most: u64,
    },
    /// The format has no way to say a number.
    #[error("element {index} of {tensor:?} is {value} in the {side}, which {format} cannot say: {reason}")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// Flat index.
        index: u64,
        /// The value.
        value: f64,
        /// `base` or `result`.
        side: &'static str,
        /// The format.
        format: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// What an import adds is not a number.
    #[error("element {index} of {tensor:?} would become infinite or NaN")]
    BecomesNotFinite {
        /// The tensor.
        tensor: String,
        /// Flat index.
        index: u64,
    },
    /// Indices do not reach all elements.
    #[error("{tensor:?} has {} elements, more than indices of 32 bits reach", count(*elements))]
    TooLong {
        /// The tensor.
        tensor: String,
        /// Its elements.
        elements: u64,
    },
    /// Elements are not single numbers.
    #[error("{tensor:?} has dtype {dtype}, whose elements torch counts in another way")]
    Dtype {
        /// The tensor.
        tensor: String,
        /// Its dtype.
        dtype: Dtype,
    },
    /// An adapter would be beside patches.
    #[error("{} has patches: transformers would load an adapter beside them in their place", path.display())]
    BesidePatches {
        /// The directory.
        path: PathBuf,
    },
    /// What is imported breaks its own format.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// What is imported is well formed, and something that does not become a patch.
    #[error("{}: {reason}", path.display())]
    Unsuited {
        /// The file.
        path: PathBuf,
        /// What it is.
        reason: String,
    },
    /// An adapter that is no list of weights.
    #[error("{}: {reason}", path.display())]
    OtherAdapter {
        /// The file.
        path: PathBuf,
        /// What it is.
        reason: String,
    },
    /// A file of torch that is well formed, and no dictionary of plain tensors.
    #[error("{}: {reason}", path.display())]
    Torch {
        /// The file.
        path: PathBuf,
        /// What it is.
        reason: String,
    },
    /// The base does not have a tensor that is changed.
    #[error("{}: it changes {tensor:?}, which the base does not have", path.display())]
    NotInBase {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The base's tensor of which the name is an end, or that is an end of the name, if there is one.
        near: Option<String>,
    },
    /// The base has a tensor that is changed, and it is another one.
    #[error("{}: {tensor:?} is {expected} here, and the base's has dtype {dtype} and shape {shape:?}", path.display())]
    OtherTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What it is in the file.
        expected: String,
        /// The base's dtype.
        dtype: Dtype,
        /// The base's shape.
        shape: Vec<u64>,
    },
}

impl ExchangeFault {
    /// Lines below the message.
    pub fn details(&self) -> Vec<String> {
        match self {
            Self::NotLinear { tensors, .. } => tensors.iter().map(|(name, why)| format!("{name}: {why}")).collect(),
            _ => Vec::new(),
        }
    }
}

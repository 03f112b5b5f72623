//! Writing mask files (`spec/mask-files.md`): safetensors, one packed tensor of bits for each tensor of weights.

use super::pruning::{MaskFault, PruningMask};
use super::selection::blocks;
use crate::checkpoint::Tensor;
use crate::context::Context;
use crate::durable::{Existing, Failed, NewFile};
use safetensors::tensor::{Dtype, View, serialize_to_file};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

/// Why a mask file was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The mask has no value somewhere.
    #[error(transparent)]
    Mask(#[from] MaskFault),
    /// The file can not be put in its place.
    #[error(transparent)]
    Output(#[from] Failed),
}

/// Writes the mask of `weights` to a new file at `path`. Memory: the packed mask of one tensor.
///
/// # Errors
/// [`WriteError`].
pub fn write(
    mask: &PruningMask<'_>,
    weights: &[Tensor<'_>],
    path: &Path,
    existing: Existing,
    context: &Context<'_>,
) -> Result<(), WriteError> {
    let new = NewFile::create(path, existing)?;
    let fault = RefCell::new(None);
    let packed = weights.iter().map(|weights| {
        let shape = [weights.info.elements().div_ceil(8) as usize];
        (weights.info.name.as_str(), Packed { mask, weights: *weights, shape, fault: &fault, context })
    });
    let about = HashMap::from([("format".to_owned(), "lcepatch-mask".to_owned())]);
    let written = serialize_to_file(packed, Some(about), new.temporary_path());
    if let Some(fault) = fault.take() {
        return Err(fault.into());
    }
    written.map_err(|e| Failed::io("write", path, std::io::Error::other(e)))?;
    Ok(new.commit()?)
}

/// The packed mask of one tensor, worked out when it is written.
struct Packed<'p> {
    mask: &'p PruningMask<'p>,
    weights: Tensor<'p>,
    shape: [usize; 1],
    fault: &'p RefCell<Option<MaskFault>>,
    context: &'p Context<'p>,
}

impl View for Packed<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::U8
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = Vec::with_capacity(self.data_len());
        for index in blocks(self.weights.info.elements()) {
            match self.mask.block(self.weights, index, self.context) {
                Ok(mut bits) => {
                    bits.set_uninitialized(false);
                    bytes.extend(bits.into_vec());
                }
                Err(fault) => {
                    // The library has no way to hear of it; what it writes now is thrown away.
                    self.fault.replace(Some(fault));
                    bytes.resize(self.data_len(), 0);
                    break;
                }
            }
        }
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.shape[0]
    }
}

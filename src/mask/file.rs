//! Writing mask files (`spec/mask-files.md`): safetensors, one packed tensor of bits for each tensor of weights.

use super::pruning::{MaskFault, PruningMask};
use crate::checkpoint::{self, Checkpoint, OpenError, Tensor};
use crate::context::Context;
use crate::dtype::Dtype;
use crate::durable::{Existing, Failed, NewFile};
use crate::format::block::blocks;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Why a mask file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The mask cannot be read or computed.
    #[error(transparent)]
    Mask(#[from] MaskFault),
    /// A checkpoint changed while the mask was read from it.
    #[error(transparent)]
    Checkpoint(#[from] OpenError),
    /// The file could not be written.
    #[error(transparent)]
    Output(#[from] Failed),
}

/// Writes the mask of `weights` to a new file at `path`. `sources` are the checkpoints from which the mask is read; nothing is written if
/// one of them changes meanwhile. Memory: the mask of one block.
///
/// # Errors
/// [`WriteError`].
pub fn write(
    mask: &PruningMask<'_>,
    weights: &[Tensor<'_>],
    sources: &[&Checkpoint],
    path: &Path,
    existing: Existing,
    context: &Context<'_>,
) -> Result<(), WriteError> {
    let new = NewFile::create(path, existing)?;
    let failed = |e| Failed::io("write", path, e);
    let mut out = BufWriter::new(new.file());
    out.write_all(&header(weights)).map_err(failed)?;
    for tensor in weights {
        for index in blocks(tensor.info.elements()) {
            let mut bits = mask.block(*tensor, index, context)?;
            bits.set_uninitialized(false);
            out.write_all(bits.as_raw_slice()).map_err(failed)?;
        }
    }
    out.flush().map_err(failed)?;
    drop(out);
    sources.iter().try_for_each(|checkpoint| checkpoint.unchanged())?;
    Ok(new.commit()?)
}

/// The safetensors header, with its length.
fn header(weights: &[Tensor<'_>]) -> Vec<u8> {
    let packed: Vec<[u64; 1]> = weights.iter().map(|tensor| [tensor.info.elements().div_ceil(8)]).collect();
    let tensors = weights.iter().zip(&packed).map(|(tensor, bytes)| (&tensor.info.name[..], Dtype::U8, &bytes[..]));
    checkpoint::header(tensors, &[("format", "lcepatch-mask")])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{checkpoint, floats, vector};

    fn write_and_open(mask: &PruningMask<'_>, weights: &Checkpoint) -> Checkpoint {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.safetensors");
        let tensors: Vec<Tensor<'_>> = weights.tensors().collect();
        write(mask, &tensors, &[weights], &path, Existing::Keep, &Context::silent()).unwrap();
        Checkpoint::from_bytes(&path, std::fs::read(&path).unwrap()).unwrap()
    }

    #[test]
    fn a_mask_is_packed_with_the_first_weight_in_the_lowest_bit() {
        let weights = floats(&[("a", &[1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0]), ("b", &[0.0])]);
        let file = write_and_open(&PruningMask::zeros(weights.tensors()), &weights);
        let bytes = |name: &str| file.tensor(name).map(|tensor| tensor.elements(0..tensor.info.elements()).to_vec());
        assert_eq!((bytes("a"), bytes("b")), (Some(vec![0b1101, 0b10]), Some(vec![0])));
    }

    #[test]
    fn a_mask_that_was_written_keeps_the_same_weights() {
        let weights = floats(&[("a", &[1.0; 9]), ("b", &[0.0, 3.0, 0.0])]);
        let given =
            checkpoint(&[vector("a", Dtype::U8, &[1, 0, 0, 1, 1, 0, 1, 1, 0]), vector("b", Dtype::U8, &[0, 1, 1])]);
        let given = PruningMask::stored(&given, &weights).unwrap();
        let file = write_and_open(&given, &weights);
        let written = PruningMask::stored(&file, &weights).unwrap();
        for tensor in weights.tensors() {
            let block = |mask: &PruningMask<'_>| mask.block(tensor, 0, &Context::silent()).unwrap();
            assert_eq!(block(&written), block(&given));
        }
    }
}

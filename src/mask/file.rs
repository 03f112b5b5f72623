//! Writing mask files (`spec/mask-files.md`): safetensors, one packed tensor of bits for each tensor of weights.

use super::pruning::{MaskFault, PruningMask};
use crate::checkpoint::{Checkpoint, OpenError, Tensor};
use crate::context::Context;
use crate::durable::{Existing, Failed, NewFile};
use crate::format::block::blocks;
use serde_json::{Map, Value, json};
use std::io::{BufWriter, Write};
use std::path::Path;

/// Why a mask file was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The mask has no value somewhere.
    #[error(transparent)]
    Mask(#[from] MaskFault),
    /// A checkpoint changed while the mask was made of it.
    #[error(transparent)]
    Checkpoint(#[from] OpenError),
    /// The file cannot be put in its place.
    #[error(transparent)]
    Output(#[from] Failed),
}

/// Writes the mask of `weights`, which is made of the checkpoints `of`, to a new file at `path`. Memory: the mask of one block.
///
/// # Errors
/// [`WriteError`].
pub fn write(
    mask: &PruningMask<'_>,
    weights: &[Tensor<'_>],
    of: &[&Checkpoint],
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
    of.iter().try_for_each(|checkpoint| checkpoint.unchanged())?;
    Ok(new.commit()?)
}

/// The front of the file. Written here, since the safetensors library wants all data at once, or a place of its own.
fn header(weights: &[Tensor<'_>]) -> Vec<u8> {
    let mut entries = Map::new();
    entries.insert("__metadata__".to_owned(), json!({ "format": "lcepatch-mask" }));
    let mut start = 0;
    for tensor in weights {
        let bytes = tensor.info.elements().div_ceil(8);
        let entry = json!({ "dtype": "U8", "shape": [bytes], "data_offsets": [start, start + bytes] });
        entries.insert(tensor.info.name.clone(), entry);
        start += bytes;
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes(), &text[..]].concat()
}

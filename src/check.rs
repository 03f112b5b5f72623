//! Whether a patch is intact.

use crate::apply::fit::{base_block, decode_bytes, needs_base};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::pair::PrefixMap;
use crate::context::Context;
use crate::error::Error;
use crate::format::block::Streams;
use crate::format::{Invalid, Patch};
use rayon::prelude::*;
use std::path::Path;

/// What was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intact {
    /// Blocks whose digest is right.
    pub blocks: usize,
    /// How many of them were also decoded; the others need the base.
    pub decoded: usize,
}

/// Verifies the digest of every block of `patch`, which is at `path`, and decodes those that need no base.
///
/// # Errors
/// I/O, R18 to R20, cancellation.
pub fn intact(patch: &Patch, path: &Path, context: &Context<'_>) -> Result<Intact, Error> {
    let (blocks, decoded) = decode(patch, path, None, context)?;
    Ok(Intact { blocks, decoded })
}

/// Decodes the blocks that need the base, with a `base` that fits and what stands for the patch's prefix in its names.
/// Returns how many there are.
///
/// # Errors
/// As [`intact`].
pub fn decodes_with(
    patch: &Patch,
    path: &Path,
    (base, prefix): (&Checkpoint, Option<&PrefixMap>),
    context: &Context<'_>,
) -> Result<usize, Error> {
    let decoded = decode(patch, path, Some((base, prefix)), context);
    base.unchanged()?;
    Ok(decoded?.1)
}

/// Decodes the blocks that need their base, if there is one, else the others. Returns the number of all blocks, and of
/// those that were decoded.
fn decode(
    patch: &Patch,
    path: &Path,
    base: Option<(&Checkpoint, Option<&PrefixMap>)>,
    context: &Context<'_>,
) -> Result<(usize, usize), Error> {
    context.begin("checking the patch", patch.file_bytes);
    let blocks: Vec<_> =
        patch.table.tensors.iter().flat_map(|entry| entry.blocks.iter().map(move |block| (entry, block))).collect();
    let decoded = blocks
        .par_iter()
        .map(|(entry, block)| {
            context.advance(block.bytes)?;
            let bytes = patch.block(entry, block).map_err(|e| Error::of_patch(path, e))?;
            let (tensor, index) = (entry.name.clone(), block.index);
            let streams = Streams::read(&bytes)
                .map_err(|reason| Error::invalid(path, Invalid::Streams { tensor, block: index, reason }))?;
            if needs_base(&streams) != base.is_some() {
                return Ok(false);
            }
            let base = base.and_then(|(base, prefix)| base_block(base, patch, entry, block, prefix));
            decode_bytes(patch, path, (entry, block), &bytes, base.as_ref()).map_err(|e| e.error)?;
            Ok(true)
        })
        .collect::<Result<Vec<bool>, Error>>()?;
    Ok((decoded.len(), decoded.iter().filter(|decoded| **decoded).count()))
}

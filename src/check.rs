//! Whether a patch is intact, without its base.

use crate::apply::fit::{decode_block, needs_base};
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
            if needs_base(&streams) {
                return Ok(false);
            }
            decode_block(patch, path, entry, block, None).map_err(|e| e.error)?;
            Ok(true)
        })
        .collect::<Result<Vec<bool>, Error>>()?;
    Ok(Intact { blocks: decoded.len(), decoded: decoded.iter().filter(|decoded| **decoded).count() })
}

//! Whether a patch is intact, and whether it says what is so of a base.

use crate::apply::{
    Carried, Check, base_block, carried_digest, carried_root_fits, counterparts_fit, results, root_fits,
};
use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::error::Error;
use crate::format::Invalid;
use crate::format::block::BaseElements;
use crate::format::block::decode::streams;
use crate::format::block::encode::values_digest;
use crate::format::tensor_table::{BlockEntry, TensorEntry};
use crate::pair::PrefixMap;
use crate::patch::Patch;
use rayon::prelude::*;

/// What was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intact {
    /// Blocks whose digest is right.
    pub blocks: usize,
    /// How many of them were also decoded; the others need the base.
    pub decoded: usize,
    /// What the blocks carry.
    pub carried: Carried,
}

/// Verifies the digest of every block of `patch`, and decodes those that need no base; also what the patch says
/// of itself twice: the base's values if all blocks carry them, and the digests of reference and result.
///
/// # Errors
/// I/O, R18 to R21, cancellation.
pub fn intact(patch: &Patch, context: &Context<'_>) -> Result<Intact, Error> {
    context.begin("checking the patch", patch.file_bytes);
    counterparts_fit(patch)?;
    let blocks = blocks(patch);
    let each = blocks.par_iter().map(|(entry, block)| {
        context.advance(block.bytes)?;
        let bytes = patch.block(entry, block)?;
        let invalid = |reason| Invalid::Streams { tensor: entry.name.clone(), block: block.index, reason };
        let streams = streams(&bytes, entry.dtype).map_err(|reason| patch.invalid(invalid(reason)))?;
        let carried = Carried::by_block(&streams);
        if streams.needs_base() {
            return Ok((carried, false, None));
        }
        let decoded = patch.decode_bytes(entry, block, &bytes, None).map_err(|e| e.error)?;
        Ok((carried, true, carried_digest(patch, entry, &decoded)))
    });
    let each = each.collect::<Result<Vec<_>, Error>>()?;
    let digests: Vec<_> = each.iter().map(|(.., digest)| *digest).collect();
    carried_root_fits(patch, &digests)?;
    Ok(Intact {
        blocks: each.len(),
        decoded: each.iter().filter(|(_, decoded, _)| *decoded).count(),
        carried: each.iter().fold(Carried::default(), |all, (carried, ..)| all.and(*carried)),
    })
}

/// Decodes every block with a `base` that fits; `prefix` is what stands for the patch's prefix in its names. What the patch says of
/// the base's values at the selected positions and, in a full check, of its result at alpha 1 must be so.
///
/// Reads the base's tensors that change, and decodes the patch twice. Memory: as an apply.
///
/// # Errors
/// I/O, R18 to R21, cancellation.
///
/// # Panics
/// When a tensor of `base` has another dtype or shape than in the patch.
pub fn true_of(
    patch: &Patch,
    (base, prefix): (&Checkpoint, Option<&PrefixMap>),
    check: Check,
    context: &Context<'_>,
) -> Result<(), Error> {
    context.begin("checking the patch", patch.file_bytes);
    let roots = patch.table.roots;
    let digests = blocks(patch).into_par_iter().map(|(entry, block)| {
        context.advance(block.bytes)?;
        let Some(base) = base_block(base, patch, entry, block, prefix) else { return Ok(None) };
        let decoded = patch.decode_on_base(entry, block, &base).map_err(|e| e.error)?;
        Ok(Some(values_digest(roots.hash, entry.dtype, &base.bits_at(&decoded.positions))))
    });
    let digests = base.settled(digests.collect::<Result<Option<Vec<_>>, Error>>())?.unwrap_or_default();
    root_fits(patch, "the base's selected values", &digests, roots.selected)?;
    if check == Check::Quick || !roots.result.is_known() {
        return Ok(());
    }
    context.begin("checking the result", base.bytes());
    let results = base.settled(results(base, patch, prefix, context))?;
    root_fits(patch, "the result's tensors", &results, roots.result)
}

fn blocks(patch: &Patch) -> Vec<(&TensorEntry, &BlockEntry)> {
    patch.table.tensors.iter().flat_map(|entry| entry.blocks.iter().map(move |block| (entry, block))).collect()
}

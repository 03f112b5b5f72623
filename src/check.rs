//! Whether a patch is intact, and whether what it declares about its base and its result is true.

use crate::apply::{Carried, Check, base_block, carried_root_fits, counterparts_fit, results, root_fits};
use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::error::Error;
use crate::format::Invalid;
use crate::format::block::BaseElements;
use crate::format::block::decode::streams;
use crate::format::block::encode::values_digest;
use crate::pair::PrefixMap;
use crate::patch::Patch;
use rayon::prelude::*;

/// What the check of a patch found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Intact {
    /// The number of blocks. The digest of each is right.
    pub blocks: usize,
    /// How many of the blocks were also decoded. The others need the base.
    pub decoded: usize,
    /// What the blocks carry.
    pub carried: Carried,
}

/// Verifies the digest of every block of `patch`, and decodes the blocks that need no base. Also verifies what the patch declares twice:
/// the digest of its base values, if all blocks carry them, and the digests of reference and result.
///
/// # Errors
/// I/O, R18 to R21, cancellation.
pub fn intact(patch: &Patch, context: &Context<'_>) -> Result<Intact, Error> {
    context.begin("checking the patch", patch.file_bytes());
    counterparts_fit(patch)?;
    let blocks: Vec<_> = patch.table().blocks().collect();
    let each = blocks.par_iter().map(|(entry, block)| {
        context.advance(block.bytes)?;
        let bytes = patch.block(entry, block)?;
        let invalid = |reason| Invalid::Streams { tensor: entry.name.clone(), block: block.index, reason };
        let streams = streams(&bytes, entry.dtype).map_err(|reason| patch.invalid(invalid(reason)))?;
        let carried = Carried::by_block(&streams);
        if streams.needs_base() {
            return Ok((carried, false, None));
        }
        Ok((carried, true, patch.check_bytes(entry, block, &bytes)?))
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

/// Decodes every block with a `base` that fits, and compares the base's values at the selected positions and, in a full check, the result
/// at alpha 1 with the digests that the patch declares. `prefix` maps the patch's names to the base's.
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
    context.begin("checking the patch", patch.file_bytes());
    let roots = patch.table().roots;
    let digests = patch.table().blocks().collect::<Vec<_>>().into_par_iter().map(|(entry, block)| {
        context.advance(block.bytes)?;
        let Some(base) = base_block(base, patch, entry, block, prefix) else { return Ok(None) };
        let decoded = patch.decode_on_base(entry, block, &base).map_err(|e| e.error)?;
        Ok(Some(values_digest(entry.dtype, &base.bits_at(&decoded.positions))))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::format::tensor_table::BlockEntry;
    use crate::testing::Portability;
    use crate::testing::{floats, patch};

    fn pair() -> (Checkpoint, Checkpoint) {
        (floats(&[("a", &[1.0, 2.0]), ("b", &[3.0])]), floats(&[("a", &[1.0, 2.5]), ("b", &[3.5])]))
    }

    #[test]
    fn every_block_of_a_portable_patch_is_decoded_without_its_base() {
        let (base, reference) = pair();
        let portable = patch(&base, &reference, Portability::Portable);
        let Intact { blocks, decoded, carried } = intact(&portable, &Context::silent()).unwrap();
        assert_eq!((blocks, decoded, carried.portable), (2, 2, 2));
    }

    #[test]
    fn a_flipped_bit_in_any_block_is_found() {
        let (base, reference) = pair();
        let portable = patch(&base, &reference, Portability::Portable);
        let blocks: Vec<&BlockEntry> = portable.table().tensors.iter().flat_map(|entry| &entry.blocks).collect();
        // Blocks are the end of the file.
        let payload_start = portable.file_bytes() - blocks.iter().map(|block| block.bytes).sum::<u64>();
        for block in blocks {
            let mut bytes = portable.to_bytes().unwrap();
            bytes[(payload_start + block.offset) as usize] ^= 1;
            let damaged = Patch::from_bytes("damaged", bytes).unwrap();
            let found = intact(&damaged, &Context::silent()).map_err(|error| error.kind());
            assert_eq!(found.err(), Some(ErrorKind::PatchInvalid));
        }
    }

    #[test]
    fn a_patch_is_true_of_its_base_and_of_no_other() {
        let (base, reference) = pair();
        let patch = patch(&base, &reference, Portability::NeedsBase);
        let check = |base, check| true_of(&patch, (base, None), check, &Context::silent());
        check(&base, Check::Full).unwrap();
        check(&base, Check::Quick).unwrap();
        let other = floats(&[("a", &[1.0, 9.0]), ("b", &[3.0])]);
        assert!(check(&other, Check::Quick).is_err());
    }
}

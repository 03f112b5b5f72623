//! What the blocks of a patch carry, as their streams show. The metadata only claim it, and decide nothing.

use crate::context::Context;
use crate::error::Error;
use crate::format::Invalid;
use crate::format::block::decode::streams;
use crate::format::block::{DeltaCodec, MaskCodec, PositionCodec, Streams};
use crate::format::metadata::Metadata;
use crate::patch::Patch;
use crate::words::counted;
use rayon::prelude::*;
use serde::Serialize;

/// How many blocks of a patch carry base values, reduced deltas, or masks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Carried {
    /// All blocks.
    pub blocks: u64,
    /// Blocks with base-free positions and the base's values at them (spec §8).
    pub portable: u64,
    /// Blocks whose deltas are rounded to bfloat16.
    pub bf16: u64,
    /// Blocks whose deltas are rounded to eight bits.
    pub int8: u64,
    /// Blocks with pruning masks.
    pub masks: u64,
    /// Blocks with masks that say what the base held before it was pruned: as values of their own, or because the base still holds it.
    pub before_pruning: u64,
}

impl Carried {
    /// Verifies the digest of every block of `patch` and reads its streams' headers. Decodes nothing.
    ///
    /// Reads the whole patch, in parallel. Memory: one block for each thread.
    ///
    /// # Errors
    /// I/O, R18, R19, cancellation.
    pub fn read(patch: &Patch, context: &Context<'_>) -> Result<Self, Error> {
        let blocks: Vec<_> = patch.table().blocks().collect();
        let carried = blocks.par_iter().map(|(entry, block)| {
            context.advance(0)?;
            let bytes = patch.block(entry, block)?;
            let invalid = |reason| Invalid::Streams { tensor: entry.name.clone(), block: block.index, reason };
            let streams = streams(&bytes, entry.dtype).map_err(|reason| patch.invalid(invalid(reason)))?;
            Ok(Self::by_block(&streams))
        });
        carried.try_reduce(Self::default, |one, other| Ok(one.and(other)))
    }

    /// The counts of one block.
    pub(crate) fn by_block(streams: &Streams<&[u8]>) -> Self {
        let is = |fact: bool| u64::from(fact);
        let unpruned = matches!(streams.masks, Some((MaskCodec::UnprunedBase, _)));
        Self {
            blocks: 1,
            portable: is(streams.positions.0 == PositionCodec::Gaps && streams.base_values.is_some()),
            bf16: is(streams.deltas.0 == DeltaCodec::Bf16),
            int8: is(streams.deltas.0 == DeltaCodec::Int8),
            masks: is(streams.masks.is_some()),
            before_pruning: is(unpruned || streams.values_before.is_some()),
        }
    }

    /// The sum of both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            blocks: self.blocks + other.blocks,
            portable: self.portable + other.portable,
            bf16: self.bf16 + other.bf16,
            int8: self.int8 + other.int8,
            masks: self.masks + other.masks,
            before_pruning: self.before_pruning + other.before_pruning,
        }
    }

    /// Whether the patch can be used without its base: every block is portable (spec §8).
    pub fn is_portable(&self) -> bool {
        self.portable == self.blocks
    }

    /// Whether all deltas lead to the reference's bits.
    pub fn is_exact(&self) -> bool {
        self.bf16 + self.int8 == 0
    }

    /// The claims of `metadata` that the blocks contradict, one sentence for each.
    pub fn denied(&self, metadata: &Metadata) -> Vec<String> {
        let mut denied = Vec::new();
        if metadata.portable && !self.is_portable() {
            let (own, all) = (self.portable, self.blocks);
            denied.push(format!(
                "it says that it is portable, and of {}, {own} can be used without the base",
                counted(all, "block")
            ));
        }
        if let Some(reduced) = &metadata.reduced {
            let named = &reduced.delta_dtype;
            let own = [("bf16", self.bf16), ("int8", self.int8)].into_iter().find(|(name, _)| name == named);
            if own.is_none_or(|(_, blocks)| blocks == 0) {
                denied.push(format!("it says that its deltas are {named}, and none are"));
            }
        }
        // The masks that metadata of other patches describe say among which weights was chosen.
        let holds_masks = metadata.masks.is_some() && metadata.localization.method == "mask";
        if holds_masks && self.masks == 0 && self.blocks > 0 {
            denied.push("it says that it has pruning masks, and no block has any".to_owned());
        }
        denied
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::block::BaseCodec;
    use crate::format::metadata::{Localization, Masks, Reduced};

    fn plain() -> Streams<&'static [u8]> {
        Streams {
            positions: (PositionCodec::Gaps, b""),
            deltas: (DeltaCodec::Ulp, b""),
            base_values: None,
            masks: None,
            values_before: None,
        }
    }

    #[test]
    fn a_patch_is_portable_if_every_block_is() {
        let portable = Streams { base_values: Some((BaseCodec::Bits, &b""[..])), ..plain() };
        let needs_base = Streams { positions: (PositionCodec::ClassGaps, &b""[..]), ..portable.clone() };
        let [portable, needs_base] = [portable, needs_base].map(|streams| Carried::by_block(&streams));
        assert!(portable.is_portable() && portable.and(portable).is_portable());
        assert!(!needs_base.is_portable() && !portable.and(needs_base).is_portable());
        assert!(!Carried::by_block(&plain()).is_portable());
    }

    #[test]
    fn what_the_streams_deny_is_said_and_what_is_left_out_is_not() {
        let bf16 = Carried::by_block(&Streams { deltas: (DeltaCodec::Bf16, &b""[..]), ..plain() });
        let reduced = |name: &str| Some(Reduced { delta_dtype: name.to_owned(), ..Reduced::default() });
        let claims = |reduced, portable| Metadata { reduced, portable, ..Metadata::default() };
        assert_eq!(bf16.denied(&claims(reduced("bf16"), false)), Vec::<String>::new());
        assert_eq!(bf16.denied(&claims(None, false)), Vec::<String>::new(), "no claim");
        assert_eq!(bf16.denied(&claims(reduced("int8"), true)).len(), 2);
        let by = |method: &str| Metadata {
            masks: Some(Masks::default()),
            localization: Localization { method: method.to_owned(), ..Localization::default() },
            ..claims(reduced("bf16"), false)
        };
        assert_eq!(bf16.denied(&by("mask")).len(), 1);
        assert_eq!(bf16.denied(&by("value")), Vec::<String>::new(), "they say among which weights it was chosen");
        assert!(!bf16.is_exact() && Carried::by_block(&plain()).is_exact());
    }
}

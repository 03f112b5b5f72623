//! Decodes the blocks of a patch, within the budget for their memory.

use super::{Patch, Reservation, Unreadable};
use crate::digest::Digest;
use crate::format::Invalid;
use crate::format::block::decode::{
    BlockError, decode, dense_deltas, dense_memory, memory, streams, verify, verify_memory,
};
use crate::format::block::dense::AddDeltas;
use crate::format::block::{BaseElements, DecodedBlock, Streams};
use crate::format::invalid::StreamFault;
use crate::format::patch::ReadError;
use crate::format::tensor_table::{BlockEntry, TensorEntry};
use std::ops::Deref;

/// A block could not be decoded.
#[derive(Debug)]
pub(crate) struct Undecoded {
    /// What is wrong with the patch, if the base is the right one.
    pub error: Unreadable,
    /// Whether a wrong base could be the reason.
    pub of_base: bool,
}

/// A decoded block, and the memory that is reserved for it.
#[derive(Debug)]
pub(crate) struct Decoded {
    block: DecodedBlock,
    _memory: Reservation,
}

impl Deref for Decoded {
    type Target = DecodedBlock;

    fn deref(&self) -> &DecodedBlock {
        &self.block
    }
}

/// The deltas of a dense block, and the memory that is reserved for them.
pub(crate) struct DenseBlock<'p> {
    deltas: Box<dyn AddDeltas>,
    of: (&'p Patch, &'p TensorEntry, &'p BlockEntry),
    _memory: Reservation,
}

impl DenseBlock<'_> {
    /// Number of elements that change.
    pub fn selected(&self) -> u64 {
        self.of.2.selected.into()
    }

    /// Adds the deltas to the next elements of the block, as [`AddDeltas::add`].
    pub fn add(&mut self, start: u32, bytes: &mut [u8]) {
        self.deltas.add(start, bytes);
    }

    /// Checks, after all elements were walked, that the base was the right one.
    ///
    /// # Errors
    /// R20.
    pub fn finish(&self) -> Result<(), Unreadable> {
        let (patch, entry, block) = self.of;
        self.deltas.finish().map_err(|reason| {
            patch.invalid(Invalid::Content { tensor: entry.name.clone(), block: block.index, reason })
        })
    }
}

impl Patch {
    /// Reads one block, compares it with its digest, and decodes it. `base` has the base's elements in the block, which some blocks
    /// need.
    ///
    /// # Errors
    /// I/O, R18 to R20.
    pub(crate) fn decode(
        &self,
        entry: &TensorEntry,
        block: &BlockEntry,
        base: Option<&dyn BaseElements>,
    ) -> Result<Decoded, Undecoded> {
        let bytes = self.block(entry, block).map_err(|error| Undecoded { error, of_base: false })?;
        self.decode_bytes(entry, block, &bytes, base)
    }

    /// As [`Patch::decode`], with the base that the patch is for: the base's values that the block carries must equal it (spec §11.5).
    ///
    /// # Errors
    /// I/O, R18 to R21.
    pub(crate) fn decode_on_base(
        &self,
        entry: &TensorEntry,
        block: &BlockEntry,
        base: &dyn BaseElements,
    ) -> Result<Decoded, Undecoded> {
        let decoded = self.decode(entry, block, Some(base))?;
        match decoded.carried_base() {
            Some(carried) if carried != base.bits_at(&decoded.positions) => {
                let invalid = Invalid::BaseValues { tensor: entry.name.clone(), block: block.index };
                Err(Undecoded { error: self.invalid(invalid), of_base: true })
            }
            _ => Ok(decoded),
        }
    }

    /// Decodes the verified `bytes` of one block.
    ///
    /// # Errors
    /// R19, R20.
    pub(crate) fn decode_bytes(
        &self,
        entry: &TensorEntry,
        block: &BlockEntry,
        bytes: &[u8],
        base: Option<&dyn BaseElements>,
    ) -> Result<Decoded, Undecoded> {
        let (elements, selected, dtype) = (self.elements(entry, block), block.selected, entry.dtype);
        let decoded = streams(bytes, dtype).map_err(BlockError::from).and_then(|streams| {
            // Reserved before anything is allocated.
            let memory = Reservation::new(bytes.len() as u64, memory(&streams, dtype, elements, selected));
            let block = if base.is_none() && memory.is_shared() {
                let bytes = bytes.to_vec();
                memory.allocate(move || decode(&bytes, dtype, elements, selected, None))?
            } else {
                decode(bytes, dtype, elements, selected, base)?
            };
            Ok(Decoded { block, _memory: memory })
        });
        decoded.map_err(|reason| self.undecoded(entry, block, bytes, reason))
    }

    /// Checks the verified `bytes` of one block that needs no base as [`Patch::decode_bytes`] does, in less memory: that of one of its
    /// streams. Returns the digest of the base values that it carries.
    ///
    /// # Errors
    /// R19, R20.
    pub(crate) fn check_bytes(
        &self,
        entry: &TensorEntry,
        block: &BlockEntry,
        bytes: &[u8],
    ) -> Result<Option<Digest>, Unreadable> {
        let (elements, selected, dtype) = (self.elements(entry, block), block.selected, entry.dtype);
        let checked = streams(bytes, dtype).map_err(BlockError::from).and_then(|streams| {
            // Reserved before anything is allocated.
            let memory = Reservation::new(bytes.len() as u64, verify_memory(&streams, dtype, selected));
            if memory.is_shared() {
                let bytes = bytes.to_vec();
                memory.allocate(move || verify(&bytes, dtype, elements, selected))
            } else {
                verify(bytes, dtype, elements, selected)
            }
        });
        checked.map_err(|reason| self.undecoded(entry, block, bytes, reason).error)
    }

    /// Reads one block, compares it with its digest, and decodes its deltas if it is dense. `None` for other blocks.
    ///
    /// # Errors
    /// I/O, R18 to R20.
    pub(crate) fn dense_block<'p>(
        &'p self,
        entry: &'p TensorEntry,
        block: &'p BlockEntry,
    ) -> Result<Option<DenseBlock<'p>>, Unreadable> {
        if !self.begins_dense(block)? {
            return Ok(None);
        }
        let bytes = self.block(entry, block)?;
        let (elements, selected, dtype) = (self.elements(entry, block), block.selected, entry.dtype);
        // Reserved before anything is allocated.
        let memory = Reservation::new(bytes.len() as u64, dense_memory(dtype, elements, selected));
        let deltas = dense_deltas(&bytes, dtype, elements, selected);
        let deltas = deltas.map_err(|reason| self.undecoded(entry, block, &bytes, reason).error)?;
        Ok(deltas.map(|deltas| DenseBlock { deltas, of: (self, entry, block), _memory: memory }))
    }

    /// The number of elements of a block.
    fn elements(&self, entry: &TensorEntry, block: &BlockEntry) -> u32 {
        let range = self.table().elements_of(entry, block);
        (range.end - range.start) as u32
    }

    fn undecoded(&self, entry: &TensorEntry, block: &BlockEntry, bytes: &[u8], reason: BlockError) -> Undecoded {
        let (tensor, block) = (entry.name.clone(), block.index);
        let invalid = match reason {
            BlockError::Streams(reason) => Invalid::Streams { tensor, block, reason },
            BlockError::Content(reason) => Invalid::Content { tensor, block, reason },
            // Callers without a base ask `Streams::needs_base` first.
            BlockError::NeedsBase => Invalid::Streams { tensor, block, reason: StreamFault::Missing(3) },
        };
        let uses_base = Streams::read(bytes).is_ok_and(|streams| streams.needs_base());
        let of_base = matches!(invalid, Invalid::Content { .. }) && uses_base;
        Undecoded { error: self.invalid(invalid), of_base }
    }

    /// The error that this patch breaks a rule of the format.
    pub(crate) fn invalid(&self, invalid: Invalid) -> Unreadable {
        Unreadable { patch: self.name().into(), reason: ReadError::Invalid(invalid) }
    }
}

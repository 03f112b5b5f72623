//! A patch in the making: tensors and their blocks to the bytes of a file (spec §4, §12.3). The same parts give the same bytes.

use crate::block::Magnitude;
use crate::block::encode::{Chosen, Portability, Variants, choose};
use crate::digest::{ContentHash, Digest};
use crate::dtype::Dtype;
use crate::header::{Packing, Preamble, section, write_section};
use crate::invalid::Invalid;
use crate::metadata::Metadata;
use crate::tensor_table::{BlockEntry, Counterparts, Roots, Statistics, TensorEntry, TensorTable, digests_section};
use std::collections::BTreeMap;

/// What a patch says of a tensor, besides its blocks.
#[derive(Debug, Clone)]
pub struct TensorParts {
    /// Its name in the base.
    pub name: String,
    /// Its element type in the base.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<u64>,
    /// The digest of its bytes in the base.
    pub base_digest: Digest,
    /// Its digests on the other side, for portable patches.
    pub counterparts: Option<Counterparts>,
}

impl TensorParts {
    /// What another patch says of a tensor.
    pub fn of(entry: &TensorEntry) -> Self {
        let TensorEntry { name, dtype, shape, base_digest, counterparts, .. } = entry.clone();
        Self { name, dtype, shape, base_digest, counterparts }
    }
}

/// A block as it is written.
#[derive(Debug, Clone)]
pub struct NewBlock {
    /// Its index in the tensor.
    pub index: u64,
    /// Selected elements, at least 1.
    pub selected: u32,
    /// Its streams, as [`crate::block::Streams::write`] gives them.
    pub bytes: Vec<u8>,
    /// The digest of the base's values at the selected elements, or [`Digest::UNKNOWN`].
    pub base_values: Digest,
}

/// Collects the tensors of a patch, ascending by name, and their blocks, ascending by index.
#[derive(Debug)]
pub struct PatchBuilder {
    portability: Portability,
    hash: ContentHash,
    block_log2: u32,
    tensors: Vec<TensorParts>,
    encoded: Vec<Variants>,
    copied: BTreeMap<usize, (Option<Statistics>, Vec<NewBlock>)>,
}

impl PatchBuilder {
    /// A patch in blocks of `2^block_log2` elements, whose digests of contents are made with `hash`.
    pub fn new(portability: Portability, hash: ContentHash, block_log2: u32) -> Self {
        let (tensors, encoded, copied) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { portability, hash, block_log2, tensors, encoded, copied }
    }

    /// Adds a tensor and returns its place. One that gets no block is not in the patch.
    pub fn tensor(&mut self, parts: TensorParts) -> usize {
        self.tensors.push(parts);
        self.tensors.len() - 1
    }

    /// The tensor at a place, to complete what is said of it.
    pub fn tensor_mut(&mut self, place: usize) -> Option<&mut TensorParts> {
        self.tensors.get_mut(place)
    }

    /// Adds encoded blocks of the tensors that they name by their places.
    pub fn encoded(&mut self, blocks: impl IntoIterator<Item = Variants>) {
        self.encoded.extend(blocks);
    }

    /// Gives the tensor at `place` all its blocks as they are, and the statistics that go with them.
    pub fn copied(&mut self, place: usize, statistics: Option<Statistics>, blocks: Vec<NewBlock>) {
        self.copied.insert(place, (statistics, blocks));
    }

    /// Decides how blocks are encoded, which is one decision for the whole patch.
    pub fn choose(self) -> NewPatch {
        let Self { portability, hash, block_log2, tensors: parts, encoded, mut copied } = self;
        let Chosen { blocks, portability_bytes, restores, invertible } = choose(encoded, portability);
        let total = blocks.iter().map(|block| block.magnitude).fold(Magnitude::default(), Magnitude::and);
        let portability_bytes = copied.is_empty().then_some(portability_bytes);
        let mut blocks = blocks.into_iter().peekable();
        let mut tensors = Vec::new();
        for (place, parts) in parts.into_iter().enumerate() {
            let (mut magnitude, mut own) = (Magnitude::default(), Vec::new());
            while let Some(block) = blocks.next_if(|block| block.tensor == place) {
                magnitude = magnitude.and(block.magnitude);
                let (index, selected, base_values) = (block.index, block.selected, block.base_digest);
                own.push(NewBlock { index, selected, bytes: block.streams.write(), base_values });
            }
            let (statistics, blocks) = match copied.remove(&place) {
                Some(copied) => copied,
                None => (parts.dtype.float().map(|_| magnitude.statistics(&own)), own),
            };
            if !blocks.is_empty() {
                tensors.push(NewTensor { place, parts, statistics, blocks });
            }
        }
        NewPatch { portability, hash, block_log2, tensors, total, portability_bytes, restores, invertible }
    }
}

impl Magnitude {
    fn statistics(&self, blocks: &[NewBlock]) -> Statistics {
        let selected: u64 = blocks.iter().map(|block| u64::from(block.selected)).sum();
        Statistics { mean: (self.sum / selected as f64) as f32, max: self.max as f32 }
    }
}

/// A patch whose blocks are encoded; only metadata and roots are missing.
#[derive(Debug)]
pub struct NewPatch {
    /// Whether it serves without its base.
    pub portability: Portability,
    /// What its digests of contents are made with.
    pub hash: ContentHash,
    block_log2: u32,
    /// Its tensors, all of which have a block.
    pub tensors: Vec<NewTensor>,
    /// How large the deltas of encoded blocks are.
    pub total: Magnitude,
    /// Bytes that portability costs, or would cost about; none where blocks were copied.
    pub portability_bytes: Option<u64>,
    /// Whether what the base held before it was pruned is known at every selected element that has a mask.
    pub restores: bool,
    /// Whether the bits of base and reference are all that there is to the patch, so that it can be inverted.
    pub invertible: bool,
}

/// A tensor of a new patch.
#[derive(Debug)]
pub struct NewTensor {
    /// The place that [`PatchBuilder::tensor`] gave it.
    pub place: usize,
    /// What is said of it.
    pub parts: TensorParts,
    /// How large its deltas are, for floats.
    pub statistics: Option<Statistics>,
    /// Its blocks.
    pub blocks: Vec<NewBlock>,
}

impl NewTensor {
    fn selected(&self) -> u64 {
        self.blocks.iter().map(|block| u64::from(block.selected)).sum()
    }
}

impl NewPatch {
    /// Selected elements.
    pub fn selected(&self) -> u64 {
        self.tensors.iter().map(NewTensor::selected).sum()
    }

    /// The digest over the base's values at all selected elements, if they are known of every block.
    fn selected_root(&self) -> Digest {
        let values = || self.tensors.iter().flat_map(|tensor| tensor.blocks.iter().map(|block| &block.base_values));
        if values().all(Digest::is_known) { self.hash.root(values()) } else { Digest::UNKNOWN }
    }

    /// The bytes of the patch file. `reference` and `result` are the digests over those of its tensors there, or
    /// [`Digest::UNKNOWN`].
    ///
    /// # Errors
    /// R10, when free metadata cannot be written as JSON.
    pub fn write(&self, metadata: &Metadata, reference: Digest, result: Digest) -> Result<Vec<u8>, Invalid> {
        let roots = Roots { hash: self.hash, selected: self.selected_root(), reference, result };
        let mut offset = 0;
        let tensors = self.tensors.iter().map(|tensor| entry(tensor, &mut offset)).collect();
        let table = TensorTable { block_log2: self.block_log2, roots, tensors };
        let counterparts = table.write_counterparts();
        let [table, digests, statistics] = table.write();

        let mut sections = Vec::new();
        write_section(&mut sections, section::METADATA, &metadata.write()?, Packing::Zstd);
        write_section(&mut sections, section::TABLE, &table, Packing::Zstd);
        write_section(&mut sections, digests_section(self.hash), &digests, Packing::Raw);
        write_section(&mut sections, section::STATISTICS, &statistics, Packing::Zstd);
        if let Some(counterparts) = counterparts {
            write_section(&mut sections, section::COUNTERPARTS, &counterparts, Packing::Raw);
        }
        let mut out = Preamble::write(&sections, offset);
        out.reserve_exact(offset as usize);
        let blocks = self.tensors.iter().flat_map(|tensor| &tensor.blocks);
        blocks.for_each(|block| out.extend_from_slice(&block.bytes));
        Ok(out)
    }
}

/// The table's entry of a tensor whose blocks begin `offset` bytes into the payload. Moves `offset` behind them.
fn entry(tensor: &NewTensor, offset: &mut u64) -> TensorEntry {
    let TensorParts { name, dtype, shape, base_digest, counterparts } = tensor.parts.clone();
    let blocks = tensor.blocks.iter().map(|block| {
        let entry = BlockEntry {
            index: block.index,
            selected: block.selected,
            offset: *offset,
            bytes: block.bytes.len() as u64,
            digest: Digest::sha256(&block.bytes),
        };
        *offset += entry.bytes;
        entry
    });
    let (blocks, selected, statistics) = (blocks.collect(), tensor.selected(), tensor.statistics);
    TensorEntry { name, dtype, shape, base_digest, selected, statistics, counterparts, blocks }
}

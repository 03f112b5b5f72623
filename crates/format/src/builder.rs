//! Builds the bytes of a patch file from tensors and their blocks (spec §4, §11.3). Deterministic: the same input gives the same bytes.

use crate::block::Magnitude;
use crate::block::choose::{BlockEncodings, ChosenBlocks, choose};
use crate::block::encode::Portability;
use crate::digest::Digest;
use crate::dtype::Dtype;
use crate::header::{Packing, Preamble, section, write_section};
use crate::metadata::{Metadata, Unwritable};
use crate::tensor_table::{BlockEntry, Counterparts, Roots, Statistics, TensorEntry, TensorTable, elements};
use std::collections::BTreeMap;

/// A tensor's entry in the tensor table, without its blocks.
#[derive(Debug, Clone)]
pub struct TensorParts {
    /// The tensor's name in the base.
    pub name: String,
    /// Element type in the base.
    pub dtype: Dtype,
    /// Shape in the base.
    pub shape: Vec<u64>,
    /// Digest of the tensor's bytes in the base.
    pub base_digest: Digest,
    /// Digests of the tensor in reference and result, for portable patches (spec §11.4).
    pub counterparts: Option<Counterparts>,
}

impl TensorParts {
    /// Number of elements, as [`Dtype::width`] counts them.
    pub fn elements(&self) -> u64 {
        elements(self.dtype, &self.shape).unwrap_or(0)
    }

    /// The same data from another patch's tensor table.
    pub fn of(entry: &TensorEntry) -> Self {
        let TensorEntry { name, dtype, shape, base_digest, counterparts, .. } = entry.clone();
        Self { name, dtype, shape, base_digest, counterparts }
    }
}

/// A block as it goes into the file.
#[derive(Debug, Clone)]
pub struct NewBlock {
    /// Index of the block in the tensor.
    pub index: u64,
    /// Number of selected elements, at least 1.
    pub selected: u32,
    /// The serialized streams ([`crate::block::Streams::write`]).
    pub bytes: Vec<u8>,
    /// Digest of the base's values at the selected elements, or [`Digest::UNKNOWN`].
    pub base_values: Digest,
}

/// Collects the tensors of a patch and their blocks. The caller adds tensors in ascending order of their names, and blocks in the order
/// of tensors and ascending by index.
#[derive(Debug)]
pub struct PatchBuilder {
    portability: Portability,
    block_log2: u32,
    tensors: Vec<TensorParts>,
    encoded: Vec<BlockEncodings>,
    /// Blocks that are taken over from another patch, by the index of their tensor.
    copied: BTreeMap<usize, CopiedBlocks>,
}

#[derive(Debug)]
struct CopiedBlocks {
    statistics: Option<Statistics>,
    blocks: Vec<NewBlock>,
}

impl PatchBuilder {
    /// Begins a patch with blocks of `2^block_log2` elements.
    pub fn new(portability: Portability, block_log2: u32) -> Self {
        let (tensors, encoded, copied) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { portability, block_log2, tensors, encoded, copied }
    }

    /// Adds a tensor and returns its index. A tensor that gets no block is left out of the patch.
    pub fn tensor(&mut self, parts: TensorParts) -> usize {
        self.tensors.push(parts);
        self.tensors.len() - 1
    }

    /// The tensor with an index that [`PatchBuilder::tensor`] returned, for instance to set digests that were not known before.
    pub fn tensor_mut(&mut self, tensor: usize) -> Option<&mut TensorParts> {
        self.tensors.get_mut(tensor)
    }

    /// Adds encoded blocks. Each names its tensor by the index that [`PatchBuilder::tensor`] returned.
    pub fn encoded(&mut self, blocks: impl IntoIterator<Item = BlockEncodings>) {
        self.encoded.extend(blocks);
    }

    /// Sets all blocks of the tensor with index `tensor`, and their statistics, to those of another patch.
    pub fn copied(&mut self, tensor: usize, statistics: Option<Statistics>, blocks: Vec<NewBlock>) {
        self.copied.insert(tensor, CopiedBlocks { statistics, blocks });
    }

    /// Chooses the encoding of all blocks; base-free or base-conditioned is one decision for the whole patch.
    pub fn choose(self) -> NewPatch {
        let Self { portability, block_log2, tensors: parts, encoded, mut copied } = self;
        let ChosenBlocks { blocks, portability_bytes, restores, invertible } = choose(encoded, portability);
        let total = blocks.iter().map(|block| block.magnitude).fold(Magnitude::default(), Magnitude::and);
        let portability_bytes = copied.is_empty().then_some(portability_bytes);
        let mut encoded = blocks.into_iter().peekable();
        let mut tensors = Vec::new();
        for (index, parts) in parts.into_iter().enumerate() {
            let (mut magnitude, mut blocks) = (Magnitude::default(), Vec::new());
            while let Some(block) = encoded.next_if(|block| block.tensor == index) {
                magnitude = magnitude.and(block.magnitude);
                blocks.push(NewBlock {
                    index: block.index,
                    selected: block.selected,
                    bytes: block.streams.write(),
                    base_values: block.base_digest,
                });
            }
            let mut statistics = parts.dtype.float().map(|_| magnitude.statistics(&blocks));
            if let Some(copied) = copied.remove(&index) {
                (statistics, blocks) = (copied.statistics, copied.blocks);
            }
            if !blocks.is_empty() {
                tensors.push(NewTensor { place: index, parts, statistics, blocks });
            }
        }
        NewPatch { portability, block_log2, tensors, total, portability_bytes, restores, invertible }
    }
}

impl Magnitude {
    fn statistics(&self, blocks: &[NewBlock]) -> Statistics {
        let selected: u64 = blocks.iter().map(|block| u64::from(block.selected)).sum();
        Statistics { mean: (self.sum / selected as f64) as f32, max: self.max as f32 }
    }
}

/// A patch whose blocks are encoded. Only metadata, and the digests over reference and result, are missing.
#[derive(Debug)]
pub struct NewPatch {
    /// Whether the patch can be read without its base.
    pub portability: Portability,
    block_log2: u32,
    /// The tensors that have a block.
    pub tensors: Vec<NewTensor>,
    /// Statistics of the deltas of all encoded blocks; copied blocks are not counted.
    pub total: Magnitude,
    /// As [`ChosenBlocks::portability_bytes`]; `None` if blocks were copied, whose other encoding is not known.
    pub portability_bytes: Option<u64>,
    /// Whether the patch has masks and knows the base's value before pruning at every selected element.
    pub restores: bool,
    /// Whether the bits of base and reference are all the information in the patch, so that it can be inverted.
    pub invertible: bool,
}

/// A tensor of a new patch.
#[derive(Debug)]
pub struct NewTensor {
    /// The index that [`PatchBuilder::tensor`] returned.
    pub place: usize,
    /// Name, dtype, shape and digests.
    pub parts: TensorParts,
    /// Statistics of the deltas, for floats.
    pub statistics: Option<Statistics>,
    /// The blocks, at least one.
    pub blocks: Vec<NewBlock>,
}

impl NewTensor {
    fn selected(&self) -> u64 {
        self.blocks.iter().map(|block| u64::from(block.selected)).sum()
    }
}

impl NewPatch {
    /// Number of selected elements.
    pub fn selected(&self) -> u64 {
        self.tensors.iter().map(NewTensor::selected).sum()
    }

    fn blocks(&self) -> impl Iterator<Item = &NewBlock> {
        self.tensors.iter().flat_map(|tensor| &tensor.blocks)
    }

    /// The digest over the base's values at all selected elements; unknown if it is unknown for a block.
    fn selected_root(&self) -> Digest {
        let digests = || self.blocks().map(|block| &block.base_values);
        if digests().all(Digest::is_known) { Digest::root(digests()) } else { Digest::UNKNOWN }
    }

    /// The bytes of the patch file. `reference` and `result` are the digests over the digests of the patch's tensors in the reference
    /// and in the result at alpha 1 (spec §11.2), or [`Digest::UNKNOWN`].
    ///
    /// # Errors
    /// [`Unwritable`] metadata.
    pub fn write(&self, metadata: &Metadata, reference: Digest, result: Digest) -> Result<Vec<u8>, Unwritable> {
        let roots = Roots { selected: self.selected_root(), reference, result };
        let mut offset = 0;
        let tensors = self.tensors.iter().map(|tensor| entry(tensor, &mut offset)).collect();
        let table = TensorTable { block_log2: self.block_log2, roots, tensors };
        let counterparts = table.write_counterparts();
        let [table, digests, statistics] = table.write();

        let mut sections = Vec::new();
        write_section(&mut sections, section::METADATA, &metadata.write()?, Packing::Zstd);
        write_section(&mut sections, section::TABLE, &table, Packing::Zstd);
        write_section(&mut sections, section::DIGESTS, &digests, Packing::Raw);
        write_section(&mut sections, section::STATISTICS, &statistics, Packing::Zstd);
        if let Some(counterparts) = counterparts {
            write_section(&mut sections, section::COUNTERPARTS, &counterparts, Packing::Raw);
        }
        let mut out = Preamble::write(&sections, offset);
        out.reserve_exact(offset as usize);
        self.blocks().for_each(|block| out.extend_from_slice(&block.bytes));
        Ok(out)
    }
}

/// The table's entry of a tensor whose blocks begin `offset` bytes into the payload. Advances `offset` to their end.
fn entry(tensor: &NewTensor, offset: &mut u64) -> TensorEntry {
    let TensorParts { name, dtype, shape, base_digest, counterparts } = tensor.parts.clone();
    let blocks = tensor.blocks.iter().map(|block| {
        let entry = BlockEntry {
            index: block.index,
            selected: block.selected,
            offset: *offset,
            bytes: block.bytes.len() as u64,
            digest: Digest::of(&block.bytes),
        };
        *offset += entry.bytes;
        entry
    });
    let (blocks, selected, statistics) = (blocks.collect(), tensor.selected(), tensor.statistics);
    TensorEntry { name, dtype, shape, base_digest, selected, statistics, counterparts, blocks }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::encode::{Encoding, Precision, encode};
    use crate::block::{BlockId, Deltas, Elements, decode};
    use crate::codec::Effort;
    use crate::patch::Patch;

    const BLOCK_LOG2: u32 = 8;

    fn builder() -> PatchBuilder {
        PatchBuilder::new(Portability::Portable, BLOCK_LOG2)
    }

    fn parts(name: &str) -> TensorParts {
        let base_digest = Digest::of(name.as_bytes());
        TensorParts { name: name.to_owned(), dtype: Dtype::Bf16, shape: vec![300], base_digest, counterparts: None }
    }

    /// Block `index` of a tensor, in which positions 3 and 5 change from 1.0 to its successor and to its predecessor.
    fn encoded(tensor: usize, index: u64) -> BlockEncodings {
        let (base, reference) = (vec![0x3f80; 2], vec![0x3f81, 0x3f7f]);
        let elements = Elements { positions: vec![3, 5], base, reference, ..Elements::new(Dtype::Bf16) };
        let (precision, portability) = (Precision::Exact, Portability::Portable);
        let encoding = Encoding { precision, portability, effort: Effort::Default };
        encode(BlockId { tensor, index }, &elements, None, encoding).unwrap()
    }

    fn read(patch: &NewPatch) -> Patch {
        Patch::read(patch.write(&Metadata::default(), Digest::UNKNOWN, Digest::UNKNOWN).unwrap()).unwrap()
    }

    #[test]
    fn encoded_and_copied_tensors_are_read_back() {
        let mut first = builder();
        let tensor = first.tensor(parts("a"));
        first.encoded([encoded(tensor, 0), encoded(tensor, 1)]);
        let first = first.choose();
        let NewTensor { statistics, blocks, .. } = &first.tensors[0];

        let mut both = builder();
        let encoded_tensor = both.tensor(parts("a"));
        let copied_tensor = both.tensor(parts("b"));
        both.encoded([encoded(encoded_tensor, 0), encoded(encoded_tensor, 1)]);
        both.copied(copied_tensor, *statistics, blocks.clone());
        let patch = read(&both.choose());

        let names: Vec<&str> = patch.table().tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        for tensor in &patch.table().tensors {
            assert_eq!((tensor.selected, tensor.base_digest), (4, Digest::of(tensor.name.as_bytes())));
            // Differences of 2^-7 and 2^-8.
            assert_eq!(tensor.statistics, Some(Statistics { mean: 0.005_859_375, max: 0.007_812_5 }));
            let indices: Vec<u64> = tensor.blocks.iter().map(|block| block.index).collect();
            assert_eq!(indices, [0, 1]);
            for (block, elements) in tensor.blocks.iter().zip([256, 44]) {
                let bytes = patch.block(tensor, block).unwrap();
                let decoded = decode(&bytes, tensor.dtype, elements, block.selected, None).unwrap();
                assert_eq!(decoded.positions, [3, 5]);
                assert_eq!(decoded.deltas, Deltas::Ulp(vec![1, 0xffff]));
                assert_eq!(decoded.carried_base(), Some(&[0x3f80, 0x3f80][..]));
            }
        }
    }

    #[test]
    fn a_tensor_without_blocks_is_left_out() {
        let mut patch = builder();
        patch.tensor(parts("a"));
        let tensor = patch.tensor(parts("b"));
        patch.encoded([encoded(tensor, 1)]);
        let patch = patch.choose();
        assert_eq!((patch.tensors.len(), patch.tensors[0].place), (1, tensor));
        let read = read(&patch);
        assert_eq!((read.table().tensors.len(), read.table().tensors[0].name.as_str()), (1, "b"));
    }

    #[test]
    fn the_selected_root_is_unknown_if_the_base_values_of_a_block_are() {
        let mut known = builder();
        let tensor = known.tensor(parts("a"));
        known.encoded([encoded(tensor, 0)]);
        let known = known.choose();
        let digest = known.tensors[0].blocks[0].base_values;
        assert_eq!(read(&known).table().roots.selected, Digest::root([&digest]));

        let mut unknown = builder();
        let encoded_tensor = unknown.tensor(parts("a"));
        let copied_tensor = unknown.tensor(parts("b"));
        unknown.encoded([encoded(encoded_tensor, 0)]);
        let block = NewBlock { base_values: Digest::UNKNOWN, ..known.tensors[0].blocks[0].clone() };
        unknown.copied(copied_tensor, None, vec![block]);
        assert_eq!(read(&unknown.choose()).table().roots.selected, Digest::UNKNOWN);
    }
}

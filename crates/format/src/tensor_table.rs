//! The tensor table and the sections that belong to it: digests, statistics and counterparts (spec §7, §11).

// Reads untrusted bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::header::section;
use super::invalid::Invalid;
use super::limits::*;
use crate::block::block_elements;
use crate::codec::reader::Reader;
use crate::codec::{Corrupt, varint};
use crate::digest::Digest;
use crate::dtype::Dtype;
use std::ops::Range;

/// A tensor that a patch changes.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorEntry {
    /// The tensor's name in the base.
    pub name: String,
    /// Element type in the base.
    pub dtype: Dtype,
    /// Shape in the base.
    pub shape: Vec<u64>,
    /// Digest of the tensor's bytes in the base.
    pub base_digest: Digest,
    /// Number of selected elements, at least 1.
    pub selected: u64,
    /// Magnitudes of the deltas, if the patch stores them.
    pub statistics: Option<Statistics>,
    /// Digests of the tensor in reference and result, if the patch stores them.
    pub counterparts: Option<Counterparts>,
    /// The blocks that have a selected element, in order.
    pub blocks: Vec<BlockEntry>,
}

impl TensorEntry {
    /// Number of elements, as [`Dtype::width`] counts them.
    pub fn elements(&self) -> u64 {
        elements(self.dtype, &self.shape).unwrap_or(0)
    }
}

/// Number of elements of a tensor, as [`Dtype::width`] counts them; `None` if it has more than 2^48 bytes.
pub fn elements(dtype: Dtype, shape: &[u64]) -> Option<u64> {
    let entries = shape.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim))?;
    let bytes = entries.checked_mul(dtype.storage_bits())?.div_ceil(8);
    (bytes <= 1 << 48).then_some(bytes / dtype.width().bytes() as u64)
}

/// Magnitudes of reference minus base over the selected elements of a tensor (spec §7.3), rounded to bfloat16.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics {
    /// Mean of the absolute differences.
    pub mean: f32,
    /// Largest absolute difference.
    pub max: f32,
}

/// Digests of a tensor in the checkpoints that a patch leads to (spec §11.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counterparts {
    /// Digest in the reference.
    pub reference: Digest,
    /// Digest in the result at alpha 1.
    pub result: Digest,
    /// Digest in the result of the inverse patch: the reference with the base's bits at the selected positions.
    pub inverse_result: Digest,
}

/// A block in the tensor table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockEntry {
    /// Index of the block in the tensor; its first element is `index << block_log2`.
    pub index: u64,
    /// Number of selected elements, at least 1.
    pub selected: u32,
    /// Offset in bytes from the start of the payload.
    pub offset: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// Digest of these bytes.
    pub digest: Digest,
}

/// The digests over the whole patch (spec §11.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roots {
    /// Digest over the base's values at the selected positions, tensor by tensor.
    pub selected: Digest,
    /// Digest over the digests of the patch's tensors in the reference.
    pub reference: Digest,
    /// Digest over the digests of the patch's tensors in the result at alpha 1.
    pub result: Digest,
}

/// The unpacked sections that [`TensorTable::read`] parses.
#[derive(Debug, Clone, Copy)]
pub struct TableSections<'a> {
    /// TABLE.
    pub table: &'a [u8],
    /// DIGESTS.
    pub digests: &'a [u8],
    /// STATISTICS, if the patch has it.
    pub statistics: Option<&'a [u8]>,
    /// COUNTERPARTS, if the patch has it.
    pub counterparts: Option<&'a [u8]>,
}

/// The content of the sections TABLE, DIGESTS, STATISTICS and COUNTERPARTS.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorTable {
    /// log2 of the number of elements in a block.
    pub block_log2: u32,
    /// Digests over the whole patch.
    pub roots: Roots,
    /// The tensors, ascending by the bytes of their names.
    pub tensors: Vec<TensorEntry>,
}

impl TensorTable {
    /// All blocks, each with its tensor, in the order of the payload.
    pub fn blocks(&self) -> impl Iterator<Item = (&TensorEntry, &BlockEntry)> {
        self.tensors.iter().flat_map(|tensor| tensor.blocks.iter().map(move |block| (tensor, block)))
    }

    /// The blocks of `entry` that begin within these `elements` of the tensor, ascending.
    pub fn blocks_in<'t>(&self, entry: &'t TensorEntry, elements: &Range<u64>) -> &'t [BlockEntry] {
        let at = |element: u64| entry.blocks.partition_point(|block| block.index << self.block_log2 < element);
        entry.blocks.get(at(elements.start)..at(elements.end)).unwrap_or_default()
    }

    /// The range of elements of a block in its tensor.
    pub fn elements_of(&self, tensor: &TensorEntry, block: &BlockEntry) -> Range<u64> {
        block_elements(self.block_log2, block.index, tensor.elements())
    }

    /// Serializes COUNTERPARTS, if all tensors have counterparts.
    pub fn write_counterparts(&self) -> Option<Vec<u8>> {
        let counterparts: Vec<Counterparts> = self.tensors.iter().map(|t| t.counterparts).collect::<Option<_>>()?;
        let mut out: Vec<u8> = counterparts.iter().flat_map(|c| c.reference.0).collect();
        let bases = self.tensors.iter().map(|tensor| tensor.base_digest);
        if counterparts.iter().zip(bases).any(|(c, base)| c.result != c.reference || c.inverse_result != base) {
            out.extend(counterparts.iter().flat_map(|c| c.result.0));
            out.extend(counterparts.iter().flat_map(|c| c.inverse_result.0));
        }
        (!out.is_empty()).then_some(out)
    }

    /// Serializes TABLE, DIGESTS, and STATISTICS.
    pub fn write(&self) -> [Vec<u8>; 3] {
        let (mut table, mut digests, mut statistics) = (Vec::new(), Vec::new(), Vec::new());
        table.push(self.block_log2 as u8);
        varint::write(&mut table, self.tensors.len() as u64);
        for root in [self.roots.selected, self.roots.reference, self.roots.result] {
            digests.extend(root.0);
        }
        for tensor in &self.tensors {
            varint::write(&mut table, tensor.name.len() as u64);
            table.extend(tensor.name.as_bytes());
            table.push(tensor.dtype.code());
            varint::write(&mut table, tensor.shape.len() as u64);
            tensor.shape.iter().for_each(|dim| varint::write(&mut table, *dim));
            digests.extend(tensor.base_digest.0);
            let Statistics { mean, max } = tensor.statistics.unwrap_or(Statistics { mean: f32::NAN, max: f32::NAN });
            for value in [mean, max] {
                statistics.extend(half::bf16::from_f32(value).to_le_bytes());
            }
        }
        for tensor in &self.tensors {
            let mut blocks = tensor.blocks.iter().peekable();
            for index in 0..tensor.elements().div_ceil(1 << self.block_log2) {
                match blocks.next_if(|block| block.index == index) {
                    Some(block) => {
                        varint::write(&mut table, block.selected.into());
                        varint::write(&mut table, block.bytes);
                        digests.extend(block.digest.0);
                    }
                    None => varint::write(&mut table, 0),
                }
            }
        }
        [table, digests, statistics]
    }

    /// Parses the sections of a patch whose payload has `payload_bytes` bytes.
    ///
    /// # Errors
    /// R11 to R17.
    pub fn read(sections: TableSections<'_>, payload_bytes: u64) -> Result<Self, Invalid> {
        let TableSections { table, digests, statistics, counterparts } = sections;
        let mut reader = Reader::new(table);
        let block_log2 = u64::from(reader.u8("block_log2").map_err(Invalid::Table)?);
        if !(BLOCK_LOG2_MIN..=BLOCK_LOG2_MAX).contains(&block_log2) {
            let (least, most) = (BLOCK_LOG2_MIN, BLOCK_LOG2_MAX);
            return Err(Invalid::Table(Corrupt::Range { field: "block_log2", found: block_log2, least, most }));
        }
        let block_log2 = block_log2 as u32;
        let count = reader.varint("tensors", 0, u64::MAX).map_err(Invalid::Table)?;
        // A tensor takes at least five bytes.
        let most = reader.rest().len() as u64 / 5;
        if count > most {
            return Err(Invalid::Table(Corrupt::Range { field: "tensors", found: count, least: 0, most }));
        }
        // Each tensor and block has a digest, so that the size of the file bounds how many of them are allocated below.
        let n_digests = digests.len() as u64 / 32;
        if n_digests < 3 + count {
            let (found, expected) = (digests.len() as u64, 32 * (3 + count));
            return Err(Invalid::SectionLength { kind: section::DIGESTS, found, expected });
        }
        let mut tensors: Vec<TensorEntry> = Vec::new();
        for index in 0..count as usize {
            let before = tensors.last().map(|before| &before.name[..]);
            let tensor = read_tensor(&mut reader, index, before)?;
            tensors.push(tensor);
        }
        let mut totals = BlockTotals { n_blocks: 0, bytes: 0, n_blocks_max: n_digests - 3 - count };
        for tensor in &mut tensors {
            read_blocks(&mut reader, block_log2, tensor, &mut totals)?;
        }
        reader.finish("the tensor table").map_err(Invalid::Table)?;
        if totals.bytes != payload_bytes {
            return Err(Invalid::Payload { found: totals.bytes, expected: payload_bytes });
        }

        expect_length(section::DIGESTS, digests, 32 * (3 + count + totals.n_blocks))?;
        let mut digests = each_digest(digests);
        let mut next = || digests.next().unwrap_or(Digest([0; 32]));
        let roots = Roots { selected: next(), reference: next(), result: next() };
        tensors.iter_mut().for_each(|tensor| tensor.base_digest = next());
        tensors.iter_mut().flat_map(|tensor| &mut tensor.blocks).for_each(|block| block.digest = next());

        if let Some(statistics) = statistics {
            expect_length(section::STATISTICS, statistics, 4 * count)?;
            for (tensor, [a, b, c, d]) in tensors.iter_mut().zip(statistics.as_chunks().0) {
                let [mean, max] = [[*a, *b], [*c, *d]].map(|bytes| half::bf16::from_le_bytes(bytes).to_f32());
                tensor.statistics = (mean >= 0.0 && max >= 0.0).then_some(Statistics { mean, max });
            }
        }
        if let Some(counterparts) = counterparts {
            read_counterparts(counterparts, &mut tensors)?;
        }
        Ok(Self { block_log2, roots, tensors })
    }
}

fn each_digest(bytes: &[u8]) -> impl Iterator<Item = Digest> {
    bytes.as_chunks().0.iter().map(|digest| Digest(*digest))
}

/// Parses COUNTERPARTS: one list of digests, if the result is the reference and the result of the inverse is the base; otherwise three.
fn read_counterparts(content: &[u8], tensors: &mut [TensorEntry]) -> Result<(), Invalid> {
    let list_bytes = 32 * tensors.len();
    if content.len() != list_bytes {
        expect_length(section::COUNTERPARTS, content, 3 * list_bytes as u64)?;
    }
    let lists: Vec<Vec<Digest>> = content.chunks(list_bytes.max(1)).map(|list| each_digest(list).collect()).collect();
    let counterparts: Vec<Counterparts> = match &lists[..] {
        [references] => {
            let both = references.iter().zip(&*tensors);
            both.map(|(reference, tensor)| Counterparts {
                reference: *reference,
                result: *reference,
                inverse_result: tensor.base_digest,
            })
            .collect()
        }
        [references, results, inverse_results] => {
            let all = references.iter().zip(results).zip(inverse_results);
            all.map(|((reference, result), inverse_result)| Counterparts {
                reference: *reference,
                result: *result,
                inverse_result: *inverse_result,
            })
            .collect()
        }
        _ => Vec::new(),
    };
    for (tensor, counterparts) in tensors.iter_mut().zip(counterparts) {
        tensor.counterparts = Some(counterparts);
    }
    Ok(())
}

/// Parses tensor number `index`; `before` is the name of the one before.
fn read_tensor(reader: &mut Reader<'_>, index: usize, before: Option<&str>) -> Result<TensorEntry, Invalid> {
    let name_bytes = reader.varint("name length", 1, NAME_BYTES_MAX).map_err(Invalid::Table)?;
    let name = reader.take(name_bytes, "name").map_err(Invalid::Table)?;
    let name = std::str::from_utf8(name).map_err(|_| Invalid::Name { index })?.to_owned();
    if before.is_some_and(|before| before.as_bytes() >= name.as_bytes()) {
        return Err(Invalid::Name { index });
    }
    let code = reader.u8("dtype").map_err(Invalid::Table)?;
    let dtype = Dtype::from_code(code).ok_or_else(|| Invalid::Dtype { name: name.clone(), code })?;
    let rank = reader.varint("rank", 0, RANK_MAX).map_err(Invalid::Table)?;
    let shape = (0..rank).map(|_| reader.varint("dimension", 0, u64::MAX)).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(Invalid::Table)?;
    if elements(dtype, &shape).unwrap_or(0) == 0 {
        return Err(Invalid::Shape { name });
    }
    Ok(TensorEntry {
        name,
        dtype,
        shape,
        // Set when the digests are parsed.
        base_digest: Digest::UNKNOWN,
        selected: 0,
        statistics: None,
        counterparts: None,
        blocks: Vec::new(),
    })
}

/// Running totals of the blocks in a table.
struct BlockTotals {
    n_blocks: u64,
    /// Size of all blocks so far: the offset of the next one.
    bytes: u64,
    /// Number of blocks for which the patch has digests.
    n_blocks_max: u64,
}

/// Parses the blocks of `tensor` and adds them to `totals`. Blocks beyond `n_blocks_max` are only counted, not allocated: the table is
/// rejected after its last byte, so that any other fault in it is reported first.
fn read_blocks(
    reader: &mut Reader<'_>,
    block_log2: u32,
    tensor: &mut TensorEntry,
    totals: &mut BlockTotals,
) -> Result<(), Invalid> {
    let elements = tensor.elements();
    for index in 0..elements.div_ceil(1 << block_log2) {
        let in_block = (elements - (index << block_log2)).min(1 << block_log2);
        let selected = reader.varint("selected in a block", 0, in_block).map_err(Invalid::Table)?;
        if selected == 0 {
            continue;
        }
        let bytes = reader.varint("bytes of a block", 1, 1 << 48).map_err(Invalid::Table)?;
        tensor.selected += selected;
        totals.n_blocks += 1;
        if totals.n_blocks <= totals.n_blocks_max {
            // The digest is set when the digests are parsed.
            let (offset, digest) = (totals.bytes, Digest::UNKNOWN);
            tensor.blocks.push(BlockEntry { index, selected: selected as u32, offset, bytes, digest });
        }
        totals.bytes = totals.bytes.saturating_add(bytes);
    }
    tensor.blocks.shrink_to_fit();
    if tensor.selected == 0 { Err(Invalid::Empty { name: tensor.name.clone() }) } else { Ok(()) }
}

fn expect_length(kind: u16, content: &[u8], expected: u64) -> Result<(), Invalid> {
    let found = content.len() as u64;
    if found == expected { Ok(()) } else { Err(Invalid::SectionLength { kind, found, expected }) }
}

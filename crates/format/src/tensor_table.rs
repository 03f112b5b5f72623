//! The tensor table and the digests that go with it (spec §7, §12).

use super::header::section;
use super::invalid::Invalid;
use super::limits::*;
use crate::block::block_elements;
use crate::codec::reader::Reader;
use crate::codec::{Corrupt, varint};
use crate::digest::{ContentHash, Digest};
use crate::dtype::Dtype;
use std::ops::Range;

/// A tensor that a patch changes.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorEntry {
    /// Its name in the base.
    pub name: String,
    /// Its element type in the base.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<u64>,
    /// SHA-256 of its bytes in the base.
    pub base_digest: Digest,
    /// How many of its elements are selected, at least 1.
    pub selected: u64,
    /// How far the deltas go, if the patch says.
    pub statistics: Option<Statistics>,
    /// Its digests on the other side, if the patch says.
    pub counterparts: Option<Counterparts>,
    /// Its blocks, in order; those without a selected element are left out.
    pub blocks: Vec<BlockEntry>,
}

impl TensorEntry {
    /// Elements, as [`Dtype::width`] counts them.
    pub fn elements(&self) -> u64 {
        elements(self.dtype, &self.shape).unwrap_or(0)
    }
}

/// Elements of a tensor, as [`Dtype::width`] counts them; none when it has more than 2^48 bytes.
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

/// SHA-256 of a tensor in the checkpoints that a patch leads to (spec §12.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counterparts {
    /// In the reference.
    pub reference: Digest,
    /// In the result at alpha 1.
    pub result: Digest,
    /// In the reference with the base's bits at the selected positions: the result of the inverse patch.
    pub inverse_result: Digest,
}

/// Where a block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockEntry {
    /// Its index in the tensor: it begins at element `index << block_log2`.
    pub index: u64,
    /// Selected elements, at least 1.
    pub selected: u32,
    /// First byte, from the start of the payload.
    pub offset: u64,
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 of these bytes.
    pub digest: Digest,
}

/// The digests of the whole patch (spec §12.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roots {
    /// What these, and the digests of tensors, are made with.
    pub hash: ContentHash,
    /// Over the base's values at the selected positions, tensor by tensor.
    pub selected: Digest,
    /// Over the reference's tensors.
    pub reference: Digest,
    /// Over the result's tensors at alpha 1.
    pub result: Digest,
}

/// The sections TABLE, DIGESTS, STATISTICS and COUNTERPARTS together.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorTable {
    /// log2 of the elements of a block.
    pub block_log2: u32,
    /// Digests of the whole patch.
    pub roots: Roots,
    /// The tensors, ascending by the bytes of their names.
    pub tensors: Vec<TensorEntry>,
}

impl TensorTable {
    /// The elements of a tensor that one of its blocks is about.
    pub fn elements_of(&self, tensor: &TensorEntry, block: &BlockEntry) -> Range<u64> {
        block_elements(self.block_log2, block.index, tensor.elements())
    }

    /// The content of COUNTERPARTS, if every tensor has them.
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

    /// The contents of TABLE, DIGESTS and STATISTICS.
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
            let s = tensor.statistics.unwrap_or(Statistics { mean: f32::NAN, max: f32::NAN });
            for value in [s.mean, s.max] {
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

    /// Reads the contents of TABLE, DIGESTS or TREE DIGESTS, depending on `hash`, and, if there, STATISTICS and COUNTERPARTS.
    ///
    /// # Errors
    /// R11 to R17.
    pub fn read(
        table: &[u8],
        (hash, digests): (ContentHash, &[u8]),
        [statistics, counterparts]: [Option<&[u8]>; 2],
        payload_bytes: u64,
    ) -> Result<Self, Invalid> {
        let mut reader = Reader::new(table);
        let block_log2 = u64::from(reader.u8("block_log2").map_err(Invalid::Table)?);
        if !(BLOCK_LOG2_MIN..=BLOCK_LOG2_MAX).contains(&block_log2) {
            let (least, most) = (BLOCK_LOG2_MIN, BLOCK_LOG2_MAX);
            return Err(Invalid::Table(Corrupt::Range { field: "block_log2", found: block_log2, least, most }));
        }
        let block_log2 = block_log2 as u32;
        // A tensor takes five bytes at least.
        let most = reader.rest().len() as u64 / 5;
        let count = reader.varint("tensors", 0, most).map_err(Invalid::Table)?;
        // So that what follows allocates for no more tensors and blocks than there are digests in the file.
        let n_digests = digests.len() as u64 / 32;
        if n_digests < 3 + count {
            let (found, expected) = (digests.len() as u64, 32 * (3 + count));
            return Err(Invalid::SectionLength { kind: digests_section(hash), found, expected });
        }
        let mut tensors: Vec<TensorEntry> = Vec::new();
        for index in 0..count as usize {
            let tensor = read_tensor(&mut reader, index)?;
            if tensors.last().is_some_and(|before| before.name.as_bytes() >= tensor.name.as_bytes()) {
                return Err(Invalid::Name { index });
            }
            tensors.push(tensor);
        }
        let mut offset = 0u64;
        let mut n_blocks = 0u64;
        for tensor in &mut tensors {
            read_blocks(&mut reader, block_log2, &mut offset, tensor, (&mut n_blocks, n_digests - 3 - count))?;
        }
        reader.finish("the tensor table").map_err(Invalid::Table)?;
        if offset != payload_bytes {
            return Err(Invalid::Payload { found: offset, expected: payload_bytes });
        }

        expect_length(digests_section(hash), digests, 32 * (3 + count + n_blocks))?;
        let mut digests = each_digest(digests);
        let mut next = || digests.next().unwrap_or(Digest([0; 32]));
        let roots = Roots { hash, selected: next(), reference: next(), result: next() };
        tensors.iter_mut().for_each(|tensor| tensor.base_digest = next());
        tensors.iter_mut().flat_map(|tensor| &mut tensor.blocks).for_each(|block| block.digest = next());

        if let Some(statistics) = statistics {
            expect_length(section::STATISTICS, statistics, 4 * count)?;
            for (tensor, values) in tensors.iter_mut().zip(statistics.chunks_exact(4)) {
                let value = |at: usize| half::bf16::from_le_bytes([values[at], values[at + 1]]).to_f32();
                let (mean, max) = (value(0), value(2));
                tensor.statistics = (mean >= 0.0 && max >= 0.0).then_some(Statistics { mean, max });
            }
        }
        if let Some(counterparts) = counterparts {
            read_counterparts(counterparts, &mut tensors)?;
        }
        Ok(Self { block_log2, roots, tensors })
    }
}

/// The section that holds digests made with `hash`.
pub(super) fn digests_section(hash: ContentHash) -> u16 {
    match hash {
        ContentHash::Sha256 => section::DIGESTS,
        ContentHash::Blake3 => section::TREE_DIGESTS,
    }
}

fn each_digest(bytes: &[u8]) -> impl Iterator<Item = Digest> {
    bytes.as_chunks().0.iter().map(|digest| Digest(*digest))
}

fn read_counterparts(content: &[u8], tensors: &mut [TensorEntry]) -> Result<(), Invalid> {
    let list = 32 * tensors.len();
    let whole = content.len() == list;
    if !whole {
        expect_length(section::COUNTERPARTS, content, 3 * list as u64)?;
    }
    let lists: Vec<Vec<Digest>> = content.chunks(list.max(1)).map(|list| each_digest(list).collect()).collect();
    for (at, tensor) in tensors.iter_mut().enumerate() {
        tensor.counterparts = match &lists[..] {
            [reference] => Some(Counterparts {
                reference: reference[at],
                result: reference[at],
                inverse_result: tensor.base_digest,
            }),
            [reference, result, inverse] => {
                Some(Counterparts { reference: reference[at], result: result[at], inverse_result: inverse[at] })
            }
            _ => None,
        };
    }
    Ok(())
}

fn read_tensor(reader: &mut Reader<'_>, index: usize) -> Result<TensorEntry, Invalid> {
    let name_bytes = reader.varint("name length", 1, NAME_BYTES_MAX).map_err(Invalid::Table)?;
    let name = reader.take(name_bytes, "name").map_err(Invalid::Table)?;
    let name = std::str::from_utf8(name).map_err(|_| Invalid::Name { index })?.to_owned();
    let code = reader.u8("dtype").map_err(Invalid::Table)?;
    let dtype = Dtype::from_code(code).ok_or_else(|| Invalid::Dtype { name: name.clone(), code })?;
    let rank = reader.varint("rank", 0, RANK_MAX).map_err(Invalid::Table)?;
    let shape = (0..rank).map(|_| reader.varint("dimension", 0, u64::MAX)).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(Invalid::Table)?;
    if elements(dtype, &shape).unwrap_or(0) == 0 {
        return Err(Invalid::Shape { name });
    }
    let base_digest = Digest([0; 32]);
    Ok(TensorEntry {
        name,
        dtype,
        shape,
        base_digest,
        selected: 0,
        statistics: None,
        counterparts: None,
        blocks: Vec::new(),
    })
}

/// Reads the blocks of `tensor` and counts them in `n_blocks`. Those beyond `digests` are counted only: such a table is refused at
/// its end, if nothing else is wrong with it.
fn read_blocks(
    reader: &mut Reader<'_>,
    block_log2: u32,
    offset: &mut u64,
    tensor: &mut TensorEntry,
    (n_blocks, digests): (&mut u64, u64),
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
        *n_blocks += 1;
        if *n_blocks <= digests {
            let digest = Digest([0; 32]);
            tensor.blocks.push(BlockEntry { index, selected: selected as u32, offset: *offset, bytes, digest });
        }
        *offset = offset.saturating_add(bytes);
    }
    tensor.blocks.shrink_to_fit();
    if tensor.selected == 0 { Err(Invalid::Empty { name: tensor.name.clone() }) } else { Ok(()) }
}

fn expect_length(kind: u16, content: &[u8], expected: u64) -> Result<(), Invalid> {
    let found = content.len() as u64;
    if found == expected { Ok(()) } else { Err(Invalid::SectionLength { kind, found, expected }) }
}

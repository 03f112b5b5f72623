//! Assembling a patch file from its parts (spec §4, §12.3). The same parts give the same bytes.

use super::header::{Packing, Preamble, section, write_section};
use super::invalid::Invalid;
use super::metadata::Metadata;
use super::tensor_table::{BlockEntry, Counterparts, Roots, Statistics, TensorEntry, TensorTable, digests_section};
use crate::digest::Digest;
use crate::dtype::Dtype;

/// A tensor to write.
#[derive(Debug, Clone)]
pub struct EncodedTensor {
    /// Its name in the base.
    pub name: String,
    /// Its element type in the base.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<u64>,
    /// SHA-256 of its bytes in the base.
    pub base_digest: Digest,
    /// How far the deltas go.
    pub statistics: Option<Statistics>,
    /// Its digests on the other side, for portable patches.
    pub counterparts: Option<Counterparts>,
    /// Its blocks that have a selected element, in order.
    pub blocks: Vec<EncodedBlock>,
}

/// A block to write.
#[derive(Debug, Clone)]
pub struct EncodedBlock {
    /// Its index in the tensor.
    pub index: u64,
    /// Selected elements, at least 1.
    pub selected: u32,
    /// Its streams, as [`super::block::Streams::write`] gives them.
    pub bytes: Vec<u8>,
}

/// The bytes of a patch file in blocks of `2^block_log2` elements. `tensors` ascend by name and have a block each.
///
/// # Errors
/// R10, when free metadata cannot be written as JSON.
pub fn assemble(
    metadata: &Metadata,
    roots: Roots,
    tensors: &[EncodedTensor],
    block_log2: u32,
) -> Result<Vec<u8>, Invalid> {
    let mut offset = 0;
    let entry = |tensor: &EncodedTensor| TensorEntry {
        name: tensor.name.clone(),
        dtype: tensor.dtype,
        shape: tensor.shape.clone(),
        base_digest: tensor.base_digest,
        selected: tensor.blocks.iter().map(|block| u64::from(block.selected)).sum(),
        statistics: tensor.statistics,
        counterparts: tensor.counterparts,
        blocks: tensor
            .blocks
            .iter()
            .map(|block| {
                let bytes = block.bytes.len() as u64;
                let digest = Digest::sha256(&block.bytes);
                let entry = BlockEntry { index: block.index, selected: block.selected, offset, bytes, digest };
                offset += bytes;
                entry
            })
            .collect(),
    };
    let tensors_with_blocks = tensors.iter().map(entry).collect();
    let table = TensorTable { block_log2, roots, tensors: tensors_with_blocks };
    let counterparts = table.write_counterparts();
    let [table, digests, statistics] = table.write();

    let mut sections = Vec::new();
    write_section(&mut sections, section::METADATA, &metadata.write()?, Packing::Zstd);
    write_section(&mut sections, section::TABLE, &table, Packing::Zstd);
    write_section(&mut sections, digests_section(roots.hash), &digests, Packing::Raw);
    write_section(&mut sections, section::STATISTICS, &statistics, Packing::Zstd);
    if let Some(counterparts) = counterparts {
        write_section(&mut sections, section::COUNTERPARTS, &counterparts, Packing::Raw);
    }
    let mut out = Preamble::write(&sections, offset);
    tensors.iter().flat_map(|tensor| &tensor.blocks).for_each(|block| out.extend_from_slice(&block.bytes));
    Ok(out)
}

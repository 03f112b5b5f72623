//! Coded blocks to the tensors of a patch.

use crate::block::Magnitude;
use crate::block::encode::CodedBlock;
use crate::digest::Digest;
use crate::dtype::Dtype;
use crate::tensor_table::Statistics;
use crate::write::{EncodedBlock, EncodedTensor};

/// The tensors that `blocks`, in order, are of, without digests. `describe` gives name, dtype and shape of the tensor at
/// a place.
pub fn by_tensor(
    blocks: Vec<CodedBlock>,
    describe: impl Fn(usize) -> (String, Dtype, Vec<u64>),
) -> Vec<(usize, EncodedTensor)> {
    let mut tensors: Vec<(usize, EncodedTensor)> = Vec::new();
    let mut magnitudes: Vec<Magnitude> = Vec::new();
    for block in blocks {
        if tensors.last().is_none_or(|(place, _)| *place != block.tensor) {
            let (name, dtype, shape) = describe(block.tensor);
            let base_digest = Digest::UNKNOWN;
            let tensor = EncodedTensor {
                name,
                dtype,
                shape,
                base_digest,
                statistics: None,
                counterparts: None,
                blocks: Vec::new(),
            };
            tensors.push((block.tensor, tensor));
            magnitudes.push(Magnitude::default());
        }
        if let (Some((_, tensor)), Some(magnitude)) = (tensors.last_mut(), magnitudes.last_mut()) {
            *magnitude = magnitude.and(block.magnitude);
            let bytes = block.streams.write();
            tensor.blocks.push(EncodedBlock { index: block.index, selected: block.selected, bytes });
        }
    }
    for ((_, tensor), magnitude) in tensors.iter_mut().zip(&magnitudes) {
        let selected: u64 = tensor.blocks.iter().map(|block| u64::from(block.selected)).sum();
        let mean = (magnitude.sum / selected as f64) as f32;
        tensor.statistics = tensor.dtype.float().map(|_| Statistics { mean, max: magnitude.max as f32 });
    }
    tensors
}

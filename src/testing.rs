//! Small checkpoints and patches in memory, for unit tests.

use crate::checkpoint::Checkpoint;
use crate::dtype::Dtype;

/// A tensor: its name, dtype and shape, and the bits of its elements.
pub type TensorBits = (String, Dtype, Vec<u64>, Vec<u64>);

/// A tensor of one dimension.
pub fn vector(name: &str, dtype: Dtype, bits: &[u64]) -> TensorBits {
    (name.to_owned(), dtype, vec![bits.len() as u64], bits.to_vec())
}

/// A checkpoint of one `.safetensors` file.
pub fn checkpoint(tensors: &[TensorBits]) -> Checkpoint {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, dtype, shape, bits) in tensors {
        let start = data.len();
        bits.iter().for_each(|bits| data.extend_from_slice(&bits.to_le_bytes()[..dtype.width().bytes()]));
        let info = serde_json::json!({
            "dtype": dtype.to_string(), "shape": shape, "data_offsets": [start, data.len()]
        });
        header.insert(name.clone(), info);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let file = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
    Checkpoint::from_bytes("model.safetensors".as_ref(), file).unwrap()
}

/// A checkpoint of 32-bit floats.
pub fn floats(tensors: &[(&str, &[f32])]) -> Checkpoint {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits().into()).collect::<Vec<u64>>();
    let vectors: Vec<_> = tensors.iter().map(|(name, values)| vector(name, Dtype::F32, &bits(values))).collect();
    checkpoint(&vectors)
}

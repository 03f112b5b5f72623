//! Writes the header of a `.safetensors` file whose tensors are written one after another. The safetensors library would need the data
//! of all tensors at once.

use lcepatch_format::dtype::Dtype;
use serde_json::{Map, Value, json};

/// The header, with its length, of a file of these tensors, each with its name, dtype and shape, whose bytes follow in this order.
/// `metadata` is for people.
pub fn header<'t>(
    tensors: impl IntoIterator<Item = (&'t str, Dtype, &'t [u64])>,
    metadata: &[(&str, &str)],
) -> Vec<u8> {
    let mut entries = Map::new();
    let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value)));
    entries.insert("__metadata__".to_owned(), Value::Object(metadata.collect()));
    let mut start = 0;
    for (name, dtype, shape) in tensors {
        let end = start + bytes(dtype, shape);
        let entry = json!({ "dtype": dtype.name(), "shape": shape, "data_offsets": [start, end] });
        entries.insert(name.to_owned(), entry);
        start = end;
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes(), &text[..]].concat()
}

/// Bytes that a tensor takes.
fn bytes(dtype: Dtype, shape: &[u64]) -> u64 {
    (shape.iter().product::<u64>() * dtype.storage_bits()).div_ceil(8)
}

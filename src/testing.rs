//! Small checkpoints and patches in memory, for unit tests.

use crate::apply::{Edit, Plan, PlanOptions};
use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::diff::{CandidateOptions, Params};
use crate::dtype::Dtype;
use crate::edit::Alpha;
use crate::error::Error;
use crate::patch::Patch;
use std::collections::BTreeMap;

// Modules above `diff` name these from here in their tests.
pub use crate::diff::{Amount, DiffOptions, Localize, Portability, diff};

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

/// The bits of every element, by the tensor's name.
pub fn contents(checkpoint: &Checkpoint) -> BTreeMap<String, Vec<u64>> {
    let bits = |tensor: crate::checkpoint::Tensor<'_>| {
        tensor.info.dtype.width().load_all(tensor.elements(0..tensor.info.elements()))
    };
    checkpoint.tensors().map(|tensor| (tensor.info.name.clone(), bits(tensor))).collect()
}

/// Options that consider every tensor, whatever its name.
pub fn all_tensors<'a>() -> DiffOptions<'a> {
    let candidates = CandidateOptions { params: Some(Params::All), ..CandidateOptions::default() };
    DiffOptions { candidates, ..DiffOptions::default() }
}

/// The patch of every difference between two checkpoints.
pub fn patch(base: &Checkpoint, reference: &Checkpoint, portability: Portability) -> Patch {
    let options = DiffOptions { portability, ..all_tensors() };
    diff(base, reference, &options, &Context::silent()).unwrap().patch
}

/// The portable patch of every difference, at `alpha`.
pub fn portable(base: &Checkpoint, reference: &Checkpoint, alpha: f64) -> Edit {
    Edit::at(patch(base, reference, Portability::Portable), Alpha::new(alpha).unwrap())
}

/// The result of edits, as a checkpoint in memory.
///
/// # Errors
/// As [`Plan::check`]; what keeps a weight from having a result.
pub fn apply(base: &Checkpoint, edits: &[Edit], options: &PlanOptions) -> Result<Checkpoint, Error> {
    let context = Context::silent();
    let plan = Plan::check(base, edits, options, &context)?;
    let mut tensors = Vec::new();
    for tensor in base.tensors() {
        let mut bytes = Vec::new();
        let mut sink = |_, part: &[u8]| {
            bytes.extend_from_slice(part);
            Ok(())
        };
        plan.edit_tensor(tensor, &mut sink, &context)?;
        let info = tensor.info;
        tensors.push((info.name.clone(), info.dtype, info.shape.clone(), info.dtype.width().load_all(&bytes)));
    }
    Ok(checkpoint(&tensors))
}

/// The bits of the result of edits on the base that they are for, by the tensor's name.
pub fn applied(base: &Checkpoint, edits: &[Edit]) -> BTreeMap<String, Vec<u64>> {
    contents(&apply(base, edits, &PlanOptions::default()).unwrap())
}

/// A source in memory that counts what it is asked for.
#[derive(Debug)]
pub struct Counting {
    content: Vec<u8>,
    reads: std::sync::Mutex<Vec<std::ops::Range<u64>>>,
}

impl Counting {
    pub fn new(content: Vec<u8>) -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self { content, reads: std::sync::Mutex::default() })
    }

    /// The ranges that were read since the last call, in order.
    pub fn take(&self) -> Vec<std::ops::Range<u64>> {
        std::mem::take(&mut self.reads.lock().unwrap())
    }
}

impl crate::format::patch::ReadAt for Counting {
    fn bytes(&self) -> u64 {
        self.content.len() as u64
    }

    fn read_at(&self, offset: u64, bytes: u64) -> std::io::Result<Vec<u8>> {
        self.reads.lock().unwrap().push(offset..offset + bytes);
        self.content.read_at(offset, bytes)
    }
}

//! Checkpoints: by name, or of arrays.

use crate::fault::Fault;
use crate::memory::Lent;
use crate::work::finish;
use lcepatch::checkpoint::file::{TensorInfo, WeightFile};
use lcepatch::checkpoint::map::FileBytes;
use lcepatch::checkpoint::{self, Layout};
use lcepatch::format::dtype::Dtype;
use lcepatch::format::tensor_table::elements;
use pyo3::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A named array: its name, the name of its dtype in safetensors files, its shape, and its bytes.
pub type Array<'py> = (String, String, Vec<u64>, Bound<'py, PyAny>);

/// Named tensors, in files or in memory.
#[pyclass(frozen, module = "lcepatch._native")]
pub struct Checkpoint {
    pub checkpoint: checkpoint::Checkpoint,
    /// The memory of each tensor, if it is of arrays.
    pub memory: BTreeMap<String, Arc<Lent>>,
}

#[pymethods]
impl Checkpoint {
    /// A checkpoint by any name that the command knows.
    #[staticmethod]
    fn open(py: Python<'_>, name: PathBuf) -> PyResult<Self> {
        let checkpoint = finish(py, |tools| Ok(tools.program.checkpoint(&name)?))?;
        Ok(Self { checkpoint, memory: BTreeMap::new() })
    }

    /// A checkpoint of arrays, which stay where they are.
    #[staticmethod]
    fn lent(py: Python<'_>, arrays: Vec<Array<'_>>) -> PyResult<Self> {
        let (mut files, mut memory) = (Vec::new(), BTreeMap::new());
        for (name, dtype, shape, array) in arrays {
            let lent = Arc::new(Lent::new(&array)?);
            let info = info(&name, &dtype, shape, lent.as_ref().as_ref().len()).map_err(|fault| fault.raise(py))?;
            let map = FileBytes::Lent(lent.clone());
            files.push(WeightFile::of_tensors(PathBuf::from(&name), vec![info], map));
            memory.insert(name, lent);
        }
        let checkpoint = checkpoint::Checkpoint::of_files(Path::new("the arrays"), Layout::File, files);
        let checkpoint = checkpoint.map_err(|error| Fault::from(error).raise(py))?;
        Ok(Self { checkpoint, memory })
    }

    /// A checkpoint of copies of arrays, with the bytes of the file that they would be saved as.
    #[staticmethod]
    fn copied(py: Python<'_>, arrays: Vec<Array<'_>>) -> PyResult<Self> {
        let mut tensors = Vec::new();
        for (name, dtype, shape, array) in arrays {
            let lent = Lent::new(&array)?;
            info(&name, &dtype, shape.clone(), lent.as_ref().len()).map_err(|fault| fault.raise(py))?;
            tensors.push((name, dtype, shape, lent));
        }
        let checkpoint = finish(py, move |_| {
            Ok(checkpoint::Checkpoint::from_bytes(Path::new("the arrays"), serialized(tensors)?)?)
        })?;
        Ok(Self { checkpoint, memory: BTreeMap::new() })
    }

    /// The names of its tensors.
    fn names(&self) -> Vec<&str> {
        self.checkpoint.tensors().map(|tensor| tensor.info.name.as_str()).collect()
    }
}

/// The description of an array.
fn info(name: &str, dtype: &str, shape: Vec<u64>, bytes: usize) -> Result<TensorInfo, Fault> {
    let fault = |message: String| Fault::Array {
        kind: "array.unsupported",
        message,
        help: "give contiguous arrays of one of the dtypes of safetensors files",
    };
    let dtype = Dtype::from_name(dtype).ok_or_else(|| fault(format!("{name:?}: no dtype {dtype:?} is known")))?;
    let expected = elements(dtype, &shape).and_then(|n| n.checked_mul(dtype.width().bytes() as u64));
    if expected != Some(bytes as u64) {
        return Err(fault(format!("{name:?}: {bytes} bytes are not an array of the shape {shape:?}")));
    }
    Ok(TensorInfo::new(name.to_owned(), dtype, shape, 0..bytes as u64))
}

/// The bytes of a safetensors file with these tensors: by the width of the elements, and then by name, as the library of safetensors
/// orders them.
fn serialized(mut tensors: Vec<(String, String, Vec<u64>, Lent)>) -> Result<Vec<u8>, Fault> {
    let width = |dtype: &str| Dtype::from_name(dtype).map_or(1, |dtype| dtype.width().bytes());
    tensors.sort_by(|a, b| width(&b.1).cmp(&width(&a.1)).then_with(|| a.0.cmp(&b.0)));
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, dtype, shape, lent) in &tensors {
        let start = end;
        end += lent.as_ref().len();
        let entry = serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] });
        header.insert(name.clone(), entry);
    }
    let mut json = serde_json::Value::from(header).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = Vec::with_capacity(8 + json.len() + end);
    bytes.extend_from_slice(&(json.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&json);
    tensors.iter().for_each(|(.., lent)| bytes.extend_from_slice(lent.as_ref()));
    Ok(bytes)
}

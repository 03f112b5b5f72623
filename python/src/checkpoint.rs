//! Checkpoints: by name, or of arrays.

use crate::extent::{Extent, Lending, Place};
use crate::fault::Fault;
use crate::memory::Lent;
use crate::text::Text;
use crate::work::finish;
use lcepatch::checkpoint::file::{TensorInfo, WeightFile};
use lcepatch::checkpoint::map::FileBytes;
use lcepatch::checkpoint::{self, Layout};
use lcepatch::format::dtype::Dtype;
use lcepatch::format::tensor_table::elements;
use pyo3::prelude::*;
use safetensors::tensor::TensorView;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A named array: its name, the name of its dtype in safetensors files, its shape, where it is, and its bytes, which may be those of a copy.
pub type Array<'py> = (Text<String>, String, Vec<u64>, Place, Bound<'py, PyAny>);

/// Named tensors, in files or in memory.
#[pyclass(frozen, module = "lcepatch._native")]
pub struct Checkpoint {
    pub checkpoint: checkpoint::Checkpoint,
    /// The array of each tensor, if it is of arrays.
    pub arrays: BTreeMap<String, Lending>,
}

#[pymethods]
impl Checkpoint {
    /// A checkpoint by any name that the command knows.
    #[staticmethod]
    fn open(py: Python<'_>, name: Text<PathBuf>) -> PyResult<Self> {
        let checkpoint = finish(py, |tools| Ok(tools.program.checkpoint(&name.0)?))?;
        Ok(Self { checkpoint, arrays: BTreeMap::new() })
    }

    /// A checkpoint of arrays, which stay where they are.
    #[staticmethod]
    fn lent(py: Python<'_>, arrays: Vec<Array<'_>>) -> PyResult<Self> {
        let (mut files, mut lent) = (Vec::new(), BTreeMap::new());
        for (Text(name), dtype, shape, place, array) in arrays {
            let memory = Arc::new(Lent::new(&array)?);
            let info = info(&name, &dtype, shape, memory.as_ref().as_ref().len()).map_err(|fault| fault.raise(py))?;
            let extent = Extent::new(place, &info.shape, info.dtype.width().bytes());
            let map = FileBytes::Lent(memory.clone());
            files.push(WeightFile::of_tensors(PathBuf::from(&name), vec![info], map));
            lent.insert(name, Lending { memory, extent });
        }
        let checkpoint = checkpoint::Checkpoint::of_files(Path::new("the arrays"), Layout::File, files);
        let checkpoint = checkpoint.map_err(|error| Fault::from(error).raise(py))?;
        Ok(Self { checkpoint, arrays: lent })
    }

    /// A checkpoint of copies of arrays, with the bytes of the file that they would be saved as.
    #[staticmethod]
    fn copied(py: Python<'_>, arrays: Vec<Array<'_>>) -> PyResult<Self> {
        let mut tensors = Vec::new();
        for (Text(name), dtype, shape, _, array) in arrays {
            let lent = Lent::new(&array)?;
            info(&name, &dtype, shape.clone(), lent.as_ref().len()).map_err(|fault| fault.raise(py))?;
            tensors.push((name, dtype, shape, lent));
        }
        let checkpoint = finish(py, move |_| {
            Ok(checkpoint::Checkpoint::from_bytes(Path::new("the arrays"), serialized(&tensors)?)?)
        })?;
        Ok(Self { checkpoint, arrays: BTreeMap::new() })
    }

    /// The files that its weights are in, an index before its shards.
    fn files(&self) -> Vec<&Path> {
        let index = match self.checkpoint.layout() {
            Layout::Index { index } | Layout::Directory { index: Some(index) } => Some(index.as_path()),
            Layout::File | Layout::Directory { index: None } => None,
        };
        index.into_iter().chain(self.checkpoint.files().iter().map(WeightFile::path)).collect()
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

/// The bytes of the safetensors file with these tensors, as the library of safetensors writes it.
fn serialized(tensors: &[(String, String, Vec<u64>, Lent)]) -> Result<Vec<u8>, Fault> {
    let fault = |error: &dyn Display| Fault::Array {
        kind: "array.unsupported",
        message: format!("the arrays are no checkpoint: {error}"),
        help: "give contiguous arrays of one of the dtypes of safetensors files",
    };
    let mut views = Vec::new();
    for (name, dtype, shape, lent) in tensors {
        let dtype = serde_json::from_value(dtype.as_str().into()).map_err(|error| fault(&error))?;
        let shape = shape.iter().map(|n| *n as usize).collect();
        views.push((name, TensorView::new(dtype, shape, lent.as_ref()).map_err(|error| fault(&error))?));
    }
    safetensors::serialize(views, None).map_err(|error| fault(&error))
}

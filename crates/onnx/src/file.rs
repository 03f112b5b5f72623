//! Opens an ONNX file: its inputs, its outputs, and the places of its weights' bytes.

use super::malformed::{Malformed, OpenError};
use super::message::{
    DataLocation, DataType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto,
};
use lcepatch_files::checkpoint::map::FileBytes;
use lcepatch_files::checkpoint::{Tensor, TensorInfo, WeightFile};
use lcepatch_files::durable::journal::refuse_unfinished;
use lcepatch_files::durable::{Access, open_locked};
use lcepatch_files::input::{self, Meant};
use lcepatch_format::dtype::Dtype;
use prost::Message;
use prost::bytes::Bytes;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

/// An ONNX file and the files of its external weights, memory-mapped.
#[derive(Debug)]
pub struct OnnxFile {
    path: PathBuf,
    opset_import: Vec<OperatorSetIdProto>,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
    initializers: Vec<Initializer>,
    /// The ONNX file, then the files of external weights. Each lists the initializers in it as its tensors.
    files: Vec<WeightFile>,
    /// The initializers whose bytes can be compared with a checkpoint's: the index of the file, and of the tensor in it.
    comparable: Vec<(usize, usize)>,
}

/// A named constant of an ONNX graph: a weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Initializer {
    /// Its name.
    pub name: String,
    /// Its element type. None of types that safetensors does not have.
    pub dtype: Option<Dtype>,
    /// Its shape.
    pub shape: Vec<u64>,
    /// Where its elements are.
    pub location: ElementLocation,
    /// The number of node inputs that read it.
    pub uses: usize,
}

/// The place of an initializer's elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ElementLocation {
    /// The bytes of the ONNX file.
    Embedded(Range<u64>),
    /// Bytes of another file in the folder of the ONNX file.
    External {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        range: Range<u64>,
    },
    /// A list of protobuf numbers, or a type that safetensors does not have. It cannot be bound.
    Unbindable,
}

/// The mapped file from which the message is decoded.
struct Decoded(FileBytes);

impl AsRef<[u8]> for Decoded {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes(0..self.0.size())
    }
}

impl OnnxFile {
    /// Maps the file, and decodes everything but the weights.
    ///
    /// # Errors
    /// I/O with the path; [`Malformed`] for what is no model, for weights whose bytes do not fit their shape, and for
    /// files that are not in the model's folder.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        // Mapped twice, since the decoder takes ownership of one map. That one is dropped when this function ends.
        let open = |path: &Path| map(path, |path| input::open(path, Meant::Onnx));
        let (decoded, map) = (open(path)?, open(path)?);
        let whole = Bytes::from_owner(Decoded(decoded));
        let graph = |model: ModelProto| {
            let changed = || Malformed::Protobuf { reason: "it changed while it was read".to_owned() };
            let graph = model.graph.ok_or(Malformed::NoGraph)?;
            if whole.len() as u64 == map.size() { Ok((graph, model.opset_import)) } else { Err(changed()) }
        };
        let model = ModelProto::decode(whole.clone());
        let model = model.map_err(|error| Malformed::Protobuf { reason: error.to_string() });
        let (graph, opset_import) = model.and_then(graph).map_err(|reason| OpenError::malformed(path, reason))?;
        let mut file = Self {
            path: path.to_owned(),
            opset_import,
            inputs: Vec::new(),
            outputs: Vec::new(),
            initializers: Vec::with_capacity(graph.initializer.len()),
            files: vec![WeightFile::of_tensors(path.to_owned(), Vec::new(), map)],
            comparable: Vec::new(),
        };
        file.list(graph, &whole)?;
        Ok(file)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The operator sets that it uses.
    pub fn opset_import(&self) -> &[OperatorSetIdProto] {
        &self.opset_import
    }

    /// The inputs that a caller gives. Initializers are not among them.
    pub fn inputs(&self) -> &[ValueInfoProto] {
        &self.inputs
    }

    /// The outputs.
    pub fn outputs(&self) -> &[ValueInfoProto] {
        &self.outputs
    }

    /// The initializers of the main graph, in its order, without sparse ones.
    pub fn initializers(&self) -> &[Initializer] {
        &self.initializers
    }

    /// The initializers whose bytes can be compared, as tensors, in the file's order.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'_>> {
        self.comparable.iter().map(|(file_index, index)| {
            let file = &self.files[*file_index];
            Tensor { file, file_index: *file_index, info: &file.tensors()[*index] }
        })
    }

    /// The file itself, then those that its weights are in.
    pub fn files(&self) -> &[WeightFile] {
        &self.files
    }

    fn list(&mut self, graph: GraphProto, whole: &Bytes) -> Result<(), OpenError> {
        let mut names = BTreeSet::new();
        let mut uses = HashMap::new();
        count_uses(&graph.node, &mut uses);
        for tensor in &graph.initializer {
            let mut initializer = self.initializer(tensor, whole)?;
            initializer.uses = uses.get(initializer.name.as_str()).copied().unwrap_or(0);
            if !names.insert(initializer.name.clone()) {
                return self.refuse(Malformed::Twice { initializer: initializer.name });
            }
            self.initializers.push(initializer);
        }
        // Before IR version 4, every initializer was listed as an input, too.
        self.inputs = graph.input.into_iter().filter(|input| !names.contains(&input.name)).collect();
        self.outputs = graph.output;
        Ok(())
    }

    fn initializer(&mut self, tensor: &TensorProto, whole: &Bytes) -> Result<Initializer, OpenError> {
        let name = tensor.name.clone();
        let impossible = || Malformed::Shape { initializer: tensor.name.clone(), shape: tensor.dims.clone() };
        let Some(shape) = shape(&tensor.dims) else { return self.refuse(impossible()) };
        let uses = 0;
        let dtype = DataType::try_from(tensor.data_type).ok().and_then(DataType::dtype);
        let Some(dtype) = dtype else {
            return Ok(Initializer { name, dtype, shape, location: ElementLocation::Unbindable, uses });
        };
        let Some(expected) = bytes(&shape, dtype) else { return self.refuse(impossible()) };
        let (file, range) = if tensor.data_location == DataLocation::External as i32 {
            self.external(tensor, expected)?
        } else if let Some(raw) = &tensor.raw_data {
            let found = raw.len() as u64;
            if found != expected {
                return self.refuse(Malformed::Length { initializer: name, found, expected });
            }
            // `raw` is a view of the file. An empty view may point anywhere.
            let start = if raw.is_empty() { 0 } else { (raw.as_ptr() as usize - whole.as_ptr() as usize) as u64 };
            (0, start..start + expected)
        } else {
            return Ok(Initializer { name, dtype: Some(dtype), shape, location: ElementLocation::Unbindable, uses });
        };
        let weights = &mut self.files[file];
        self.comparable.push((file, weights.tensors().len()));
        weights.push(TensorInfo::new(name.clone(), dtype, shape.clone(), range.clone()));
        let location = if file == 0 {
            ElementLocation::Embedded(range)
        } else {
            ElementLocation::External { path: weights.path().to_owned(), range }
        };
        Ok(Initializer { name, dtype: Some(dtype), shape, location, uses })
    }

    /// The index in [`Self::files`] of the file that a tensor names, and the tensor's bytes in it.
    fn external(&mut self, tensor: &TensorProto, expected: u64) -> Result<(usize, Range<u64>), OpenError> {
        let (location, offset) = match location(tensor, expected) {
            Ok(location) => location,
            Err(reason) => return self.refuse(reason),
        };
        let (initializer, location) = (tensor.name.clone(), location.to_owned());
        let Some(path) = self.beside(&location)? else {
            return self.refuse(Malformed::Outside { initializer, location });
        };
        // The first file is the ONNX file itself, which external data must not name.
        let index = match self.files.iter().skip(1).position(|file| file.path() == path) {
            Some(index) => index + 1,
            None => {
                let map = map(&path, input::open_any)?;
                self.files.push(WeightFile::of_tensors(path, Vec::new(), map));
                self.files.len() - 1
            }
        };
        let bytes = self.files[index].bytes();
        let end = offset.saturating_add(expected);
        if end > bytes {
            return self.refuse(Malformed::Beyond { initializer, location, end, bytes });
        }
        Ok((index, offset..end))
    }

    fn refuse<T>(&self, reason: Malformed) -> Result<T, OpenError> {
        Err(OpenError::malformed(&self.path, reason))
    }

    /// The path of the file `location` in the model's folder. None if it is outside, by its name or through a link.
    fn beside(&self, location: &str) -> Result<Option<PathBuf>, OpenError> {
        let is_relative =
            Path::new(location).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !is_relative {
            return Ok(None);
        }
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let path = folder.join(location);
        let real = |path: &Path| path.canonicalize().map_err(|e| OpenError::io("open", path, e));
        Ok(real(&path)?.starts_with(real(folder)?).then_some(path))
    }
}

/// Counts the node inputs that read each value, in inner graphs, too.
fn count_uses<'n>(nodes: &'n [NodeProto], uses: &mut HashMap<&'n str, usize>) {
    for node in nodes {
        node.input.iter().for_each(|input| *uses.entry(input).or_default() += 1);
        let inner = node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
        inner.for_each(|graph| count_uses(&graph.node, uses));
    }
}

/// Opens a file with `open`, and maps it.
fn map(path: &Path, open: impl Fn(&Path) -> std::io::Result<File>) -> Result<FileBytes, OpenError> {
    // External weights may be the files of a checkpoint, which another process may edit in place.
    let open = |path: &Path| open(path).map_err(|e| OpenError::io("open", path, e));
    let file = open_locked(path, Access::Read, open)?;
    refuse_unfinished(path)?;
    FileBytes::map(file).map_err(|e| OpenError::io("map", path, e))
}

/// The file name and the byte offset in the external data of a tensor, whose length must be `expected` bytes.
fn location(tensor: &TensorProto, expected: u64) -> Result<(&str, u64), Malformed> {
    let initializer = || tensor.name.clone();
    let entry = |key| tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str());
    let wrong = |key, value: &str| Malformed::External { initializer: initializer(), key, value: value.to_owned() };
    let number = |key, absent| match entry(key) {
        None => Ok(absent),
        Some(value) => value.parse::<u64>().map_err(|_| wrong(key, value)),
    };
    let location = entry("location").filter(|location| !location.is_empty());
    let location = location.ok_or_else(|| wrong("location", ""))?;
    let (offset, found) = (number("offset", 0)?, number("length", expected)?);
    if found != expected {
        return Err(Malformed::Length { initializer: initializer(), found, expected });
    }
    Ok((location, offset))
}

fn shape(dims: &[i64]) -> Option<Vec<u64>> {
    dims.iter().map(|dim| u64::try_from(*dim).ok()).collect()
}

/// The number of a tensor's bytes. None if it overflows.
fn bytes(shape: &[u64], dtype: Dtype) -> Option<u64> {
    let elements = shape.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim))?;
    Some(elements.checked_mul(dtype.storage_bits())?.div_ceil(8))
}

#[cfg(test)]
mod tests;

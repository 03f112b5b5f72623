//! One `.safetensors` file: its header, parsed once from an owned copy, and its mapped tensors.

use super::malformed::{Malformed, OpenError};
use super::map::FileBytes;
use crate::dtype::Dtype;
use crate::format::limits::{MAGIC, NAME_BYTES_MAX, RANK_MAX};
use safetensors::SafeTensors;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A mapped weight file.
#[derive(Debug)]
pub struct WeightFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its tensors, in the order of their bytes.
    pub tensors: Vec<TensorInfo>,
    /// Bytes before the first tensor: the length field, the JSON header and its padding.
    pub header_bytes: u64,
    pub(crate) map: FileBytes,
}

/// A tensor in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<u64>,
    /// Its bytes, from the start of the file.
    pub range: Range<u64>,
}

impl TensorInfo {
    /// Elements, as [`Dtype::width`] counts them.
    pub fn elements(&self) -> u64 {
        self.bytes() / self.dtype.width().bytes() as u64
    }

    /// Bytes.
    pub fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

impl WeightFile {
    /// Maps the file and parses its header.
    ///
    /// # Errors
    /// I/O; [`Malformed`] for a file that the safetensors library refuses, or with an unknown dtype.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let file = File::open(path).map_err(|e| OpenError::io("open", path, e))?;
        let bytes = file.metadata().map_err(|e| OpenError::io("open", path, e))?.len();
        if bytes < 8 {
            // An empty file can not be mapped on every system.
            return Err(OpenError::malformed(path, Malformed::Header { reason: format!("it has {bytes} bytes") }));
        }
        Self::parse(path, FileBytes::map(&file).map_err(|e| OpenError::io("map", path, e))?)
    }

    /// Takes a file that is in memory; `path` names it in errors.
    ///
    /// # Errors
    /// [`Malformed`], as [`WeightFile::open`].
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, OpenError> {
        Self::parse(path, FileBytes::Owned(bytes.into()))
    }

    fn parse(path: &Path, map: FileBytes) -> Result<Self, OpenError> {
        let bytes = map.len();
        if map.bytes(0..bytes.min(MAGIC.len() as u64)) == MAGIC {
            return Err(OpenError::malformed(path, Malformed::IsPatch));
        }
        let (header, metadata) = SafeTensors::read_metadata(map.bytes(0..bytes)).map_err(|e| {
            let hint = lfs_pointer_hint(map.bytes(0..bytes.min(64)));
            OpenError::malformed(path, Malformed::Header { reason: format!("{e}{hint}") })
        })?;
        let header_bytes = 8 + header as u64;
        let mut tensors = Vec::new();
        for name in metadata.offset_keys() {
            let Some(info) = metadata.info(&name) else { continue };
            let dtype = Dtype::from_name(&info.dtype.to_string());
            let dtype = dtype.ok_or_else(|| Malformed::Dtype { tensor: name.clone(), dtype: info.dtype.to_string() });
            let dtype = dtype.map_err(|reason| OpenError::malformed(path, reason))?;
            if name.is_empty() || name.len() as u64 > NAME_BYTES_MAX || info.shape.len() as u64 > RANK_MAX {
                return Err(OpenError::malformed(path, Malformed::Limits { tensor: name }));
            }
            let (start, end) = info.data_offsets;
            let range = header_bytes + start as u64..header_bytes + end as u64;
            let shape = info.shape.iter().map(|dim| *dim as u64).collect();
            tensors.push(TensorInfo { name, dtype, shape, range });
        }
        Ok(Self { path: path.to_owned(), tensors, header_bytes, map })
    }

    /// Bytes of the whole file.
    pub fn bytes(&self) -> u64 {
        self.map.len()
    }

    /// The file's name without folders.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Downloads that stopped at a pointer file are common enough to name them.
fn lfs_pointer_hint(front: &[u8]) -> &'static str {
    if front.starts_with(b"version https://git-lfs") {
        "; it is a Git LFS pointer, the weights themselves were not downloaded"
    } else {
        ""
    }
}

//! Checkpoints as named tensors, whatever the layout: one `.safetensors` file, shards with an index, or a model
//! directory.
//!
//! [`Checkpoint::open`] maps every weight file (`map` and `lost`, the only `unsafe` code here) and lists tensors by name.
//! [`names`] tells what a tensor is by its name; [`scan`] walks a
//! tensor's bytes in bounded windows.

pub mod file;
#[cfg(unix)]
mod lost;
pub mod malformed;
pub mod map;
pub mod names;
pub mod scan;
mod sharded;

pub use crate::durable::Access;
pub use file::{TensorInfo, WeightFile};
pub use malformed::{Malformed, OpenError};

use crate::durable::journal::refuse_unfinished;
use crate::durable::{Failed, is_at, open_locked};
use lcepatch_format::dtype::Dtype;
use sharded::Shards;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A file name that names a sharded checkpoint.
pub const INDEX_SUFFIX: &str = ".safetensors.index.json";

/// How a checkpoint lies on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// One file.
    File,
    /// Shards named by an index file.
    Index {
        /// The index file.
        index: PathBuf,
    },
    /// A model directory; its weights are one file or shards.
    Directory {
        /// The index file, for shards.
        index: Option<PathBuf>,
    },
}

/// Mapped weight files and where each tensor is.
#[derive(Debug)]
pub struct Checkpoint {
    /// What was opened.
    pub path: PathBuf,
    /// How it lies on disk.
    pub layout: Layout,
    /// The weight files, in the order of their names.
    pub files: Vec<WeightFile>,
    /// Tensors that its index lists where they are not: in another shard, or in none, where they are a head that is the embeddings.
    pub stale: Vec<String>,
    /// What it was opened for: its files are locked for that until it is dropped.
    access: Access,
    by_name: BTreeMap<String, (usize, usize)>,
}

/// One tensor of a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    /// The file it is in.
    pub file: &'a WeightFile,
    /// Its place in [`Checkpoint::files`].
    pub file_index: usize,
    /// Its name, dtype, shape and bytes.
    pub info: &'a TensorInfo,
}

impl Checkpoint {
    /// What it was opened for.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Opens a `.safetensors` file, an index of shards (`*.safetensors.index.json`) or a model directory, for reading. Other processes
    /// can read it meanwhile, and not edit it in place.
    ///
    /// Reads headers only: 8 bytes and the JSON of each file.
    ///
    /// # Errors
    /// I/O with the path; [`Malformed`] for what is not a checkpoint; [`OpenError::Unfinished`] for one that is being edited in
    /// place, or was when something interrupted it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_as(path.as_ref(), Access::Read)
    }

    /// Opens a checkpoint to edit it where it is. No other process can read or edit it meanwhile.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; [`Failed::NoLocks`] where files cannot be locked.
    pub fn open_for_edit(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_as(path.as_ref(), Access::Edit)
    }

    fn open_as(path: &Path, access: Access) -> Result<Self, OpenError> {
        let metadata = std::fs::metadata(path).map_err(|e| OpenError::io("open", path, e))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (layout, Shards { files, stale }) = if metadata.is_dir() {
            sharded::find_weights(path)?
        } else if name.ends_with(INDEX_SUFFIX) {
            (Layout::Index { index: path.to_owned() }, sharded::read_index(path)?)
        } else {
            (Layout::File, Shards { files: vec![path.to_owned()], stale: Vec::new() })
        };
        // Locks come first: what is read before them, another process may be changing.
        let open = |path: &PathBuf| {
            open_locked(path, access, |path| WeightFile::open_file(path, access)).map(|file| (path.clone(), file))
        };
        let locked = files.iter().map(open).collect::<Result<Vec<_>, OpenError>>()?;
        files.iter().try_for_each(|file| refuse_unfinished(file))?;
        let files =
            locked.into_iter().map(|(path, file)| WeightFile::map_open(&path, file)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { access, stale, ..Self::of_files(path, layout, files)? })
    }

    /// Opens a checkpoint of which the layout and the weight files are known, without locks.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_files(path: &Path, layout: Layout, files: &[PathBuf]) -> Result<Self, OpenError> {
        let files = files.iter().map(|file| WeightFile::open(file)).collect::<Result<Vec<_>, _>>()?;
        Self::of_files(path, layout, files)
    }

    /// A checkpoint of one `.safetensors` file that is in memory; `path` names it in errors.
    ///
    /// # Errors
    /// [`Malformed`], as [`Checkpoint::open`].
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, OpenError> {
        Self::of_files(path, Layout::File, vec![WeightFile::from_bytes(path, bytes)?])
    }

    /// A checkpoint of files that are known; they need not be `.safetensors` files.
    ///
    /// # Errors
    /// [`Malformed::TwoShards`].
    pub fn of_files(path: &Path, layout: Layout, files: Vec<WeightFile>) -> Result<Self, OpenError> {
        let mut by_name = BTreeMap::new();
        for (file_index, file) in files.iter().enumerate() {
            for (index, tensor) in file.tensors.iter().enumerate() {
                if by_name.insert(tensor.name.clone(), (file_index, index)).is_some() {
                    let reason = Malformed::TwoShards { tensor: tensor.name.clone() };
                    return Err(OpenError::malformed(path, reason));
                }
            }
        }
        Ok(Self { path: path.to_owned(), layout, files, stale: Vec::new(), access: Access::Read, by_name })
    }

    /// Compares every weight file with what it was when it was opened: what was read of it is of one state only if they are the
    /// same. To be called before anything that was made of a checkpoint counts.
    ///
    /// # Errors
    /// [`OpenError::Changed`] for the first that is not; I/O.
    pub fn unchanged(&self) -> Result<(), OpenError> {
        self.files.iter().try_for_each(WeightFile::unchanged)
    }

    /// What was `made` of this checkpoint, if it is still what it was when it was opened: what failed on files that changed failed
    /// because they did.
    ///
    /// # Errors
    /// As [`Checkpoint::unchanged`]; the error of what was made.
    pub fn settled<T, E: From<OpenError>>(&self, made: Result<T, E>) -> Result<T, E> {
        self.unchanged()?;
        made
    }

    /// Sees that every weight file is still what is at its path, and was not replaced since it was opened.
    ///
    /// # Errors
    /// [`Failed::Replaced`] for the first that is not.
    pub fn still_at_their_paths(&self) -> Result<(), Failed> {
        let replaced = |file: &&WeightFile| file.file().is_some_and(|open| !is_at(open, &file.path));
        match self.files.iter().find(replaced) {
            Some(file) => Err(Failed::Replaced { path: file.path.clone() }),
            None => Ok(()),
        }
    }

    /// The tensor named `name`.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        self.by_name.get(name).map(|(file_index, index)| self.at(*file_index, *index))
    }

    /// The pruning mask `X_mask` of weights `X_orig`, as `torch.nn.utils.prune` writes them (spec §11.6).
    pub fn companion_mask(&self, weights: &str) -> Option<Tensor<'_>> {
        let mask = self.tensor(&format!("{}_mask", weights.strip_suffix("_orig")?))?;
        let dtype = mask.info.dtype;
        let holds_a_mask = dtype.float().is_some() || [Dtype::Bool, Dtype::U8].contains(&dtype);
        (holds_a_mask && mask.info.shape == self.tensor(weights)?.info.shape).then_some(mask)
    }

    /// Whether a tensor is the pruning mask of another one.
    pub fn is_companion_mask(&self, name: &str) -> bool {
        let module = name.strip_suffix("_mask");
        module.is_some_and(|module| self.companion_mask(&format!("{module}_orig")).is_some())
    }

    /// All tensors, ascending by the bytes of their names.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'_>> {
        self.by_name.values().map(|(file_index, index)| self.at(*file_index, *index))
    }

    /// Whether it holds an adapter, such as LoRA's, which changes another model's weights.
    pub fn is_adapter(&self) -> bool {
        self.by_name.keys().any(|name| names::is_of_adapter(name))
    }

    /// Elements of all tensors.
    pub fn elements(&self) -> u64 {
        self.tensors().map(|tensor| tensor.info.elements()).sum()
    }

    /// Bytes of all weight files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(WeightFile::bytes).sum()
    }

    fn at(&self, file_index: usize, index: usize) -> Tensor<'_> {
        let file = &self.files[file_index];
        Tensor { file, file_index, info: &file.tensors[index] }
    }
}

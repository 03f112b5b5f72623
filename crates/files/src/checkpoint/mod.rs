//! Checkpoints as named tensors, whatever their layout: one `.safetensors` file, shards with an index, or a model directory.
//!
//! [`Checkpoint::open`] maps all weight files (`map` and `lost`, the only `unsafe` code) and indexes their tensors by name. [`names`]
//! derives architecture, layer and component from a tensor's name. [`scan`] reads a tensor in bounded windows.

pub mod file;
mod header;
#[cfg(unix)]
mod lost;
pub mod malformed;
pub mod map;
pub mod names;
pub mod scan;
mod sharded;

pub use crate::durable::Access;
pub use file::{TensorInfo, WeightFile};
pub use header::header;
pub use malformed::{Malformed, OpenError};

use crate::durable::journal::refuse_unfinished;
use crate::durable::{Failed, is_at, open_locked};
use lcepatch_format::dtype::Dtype;
use lcepatch_format::patch::ReadAt;
use sharded::{ShardIndex, Shards, Weights};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Suffix of the name of an index of shards.
pub const INDEX_SUFFIX: &str = ".safetensors.index.json";

/// The layout of a checkpoint on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// One file.
    File,
    /// Shards that an index file lists.
    Index {
        /// The index file.
        index: PathBuf,
    },
    /// A model directory whose weights are one file or shards.
    Directory {
        /// The index file, if there is one.
        index: Option<PathBuf>,
    },
}

/// Mapped weight files, with an index of their tensors.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    source: Option<String>,
    layout: Layout,
    files: Vec<WeightFile>,
    stale: Vec<String>,
    /// The access that the files are locked for until the checkpoint is dropped.
    access: Access,
    /// For each tensor, the index of its file in `files`, and its own index in the file.
    by_name: BTreeMap<String, (usize, usize)>,
}

/// The files of a checkpoint that are elsewhere.
#[derive(Debug)]
pub struct Sources<'a> {
    /// The name of the checkpoint in messages.
    pub path: &'a Path,
    /// The file that is meant, weights or an index, if it is not the folder of all.
    pub named: Option<&'a str>,
    /// The texts of the indexes in the folder, and that of its `config.json`, with their names. The configuration says whether a head that
    /// an index lists may be missing.
    pub texts: Vec<(String, Vec<u8>)>,
    /// The weight files in the folder, with their names.
    pub weights: Vec<(String, Arc<dyn ReadAt>)>,
}

/// Number of files elsewhere that are asked for something at a time.
pub const SOURCES_AT_A_TIME: usize = 16;

/// Calls `each` with several items at a time, since most of its time is spent waiting. The results are in the order of the items.
///
/// # Errors
/// The first one of `each`.
pub fn side_by_side<T: Sync, R: Send, E: Send>(
    items: &[T],
    each: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let mut done = Vec::new();
    for some in items.chunks(SOURCES_AT_A_TIME) {
        let each = &each;
        let results = std::thread::scope(|scope| {
            let threads: Vec<_> = some.iter().map(|item| scope.spawn(move || each(item))).collect();
            threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
        });
        for result in results {
            done.push(result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
    }
    Ok(done)
}

/// One tensor of a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    /// The file of the tensor.
    pub file: &'a WeightFile,
    /// Index of that file in [`Checkpoint::files`].
    pub file_index: usize,
    /// Name, dtype, shape and byte range.
    pub info: &'a TensorInfo,
}

impl Checkpoint {
    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it came from, with its commit, if it was fetched.
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// The same checkpoint, which came from `source`.
    pub fn with_source(self, source: Option<String>) -> Self {
        Self { source, ..self }
    }

    /// The layout on disk.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The weight files, in the order of their names.
    pub fn files(&self) -> &[WeightFile] {
        &self.files
    }

    /// Tensors for which the index of shards is wrong: they are in another shard than it says, or in none because they are a head that
    /// is tied to the embeddings.
    pub fn stale(&self) -> &[String] {
        &self.stale
    }

    /// The access that it was opened for.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Opens a `.safetensors` file, an index of shards (`*.safetensors.index.json`) or a model directory for reading. Meanwhile other
    /// processes can read it, but not edit it in place.
    ///
    /// Reads only the header of each file: 8 bytes and its JSON.
    ///
    /// # Errors
    /// I/O; [`Malformed`]; [`OpenError::Unfinished`] for a checkpoint that another process is editing in place, or whose edit in place was
    /// interrupted.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_as(path.as_ref(), Access::Read)
    }

    /// Opens a checkpoint to edit it in place. Meanwhile no other process can read or edit it.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; [`Failed::NoLocks`] if files cannot be locked.
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
        // All files are locked before anything is read, because another process may be changing them.
        let lock = |path: &PathBuf| open_locked(path, access, |path| WeightFile::open_file(path, access));
        let locked = files.iter().map(lock).collect::<Result<Vec<_>, OpenError>>()?;
        files.iter().try_for_each(|file| refuse_unfinished(file))?;
        let files = files.iter().zip(locked).map(|(path, file)| WeightFile::map_open(path, file));
        let files = files.collect::<Result<Vec<_>, _>>()?;
        Ok(Self { access, stale, ..Self::of_files(path, layout, files)? })
    }

    /// Opens a weight file for reading, locked as [`Checkpoint::open`] locks it.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_file(path: &Path) -> Result<WeightFile, OpenError> {
        let file = open_locked(path, Access::Read, |path| WeightFile::open_file(path, Access::Read))?;
        refuse_unfinished(path)?;
        WeightFile::map_open(path, file)
    }

    /// Opens a checkpoint with a known layout and known weight files, without locks.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_files(path: &Path, layout: Layout, files: &[PathBuf]) -> Result<Self, OpenError> {
        let files = files.iter().map(|file| WeightFile::open(file)).collect::<Result<Vec<_>, _>>()?;
        Self::of_files(path, layout, files)
    }

    /// A checkpoint whose files are elsewhere. Chooses among them as [`Checkpoint::open`] does, and reads the header of each, as
    /// [`WeightFile::from_source`]; the bytes of tensors are fetched when they are looked at, and [`Checkpoint::unchanged`] says if that
    /// failed.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn of_sources(sources: Sources<'_>) -> Result<Self, OpenError> {
        let Sources { path, named, texts, mut weights } = sources;
        let text = |wanted: &str| texts.iter().find(|(name, _)| name == wanted).map(|(_, text)| &text[..]);
        weights.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut names: Vec<String> = weights.iter().map(|(name, _)| name.clone()).collect();
        let chosen = match named {
            Some(index) if index.ends_with(INDEX_SUFFIX) => Weights::OfIndex(index.to_owned()),
            Some(file) => Weights::Files(vec![file.to_owned()]),
            None => {
                names.extend(texts.iter().map(|(name, _)| name.clone()));
                names.sort();
                sharded::choose(path, &names)?
            }
        };
        // A folder is named with a path of its own, and a file by it.
        let folder = if named.is_some() { path.parent().unwrap_or(Path::new("")) } else { path };
        let index_path = match &chosen {
            Weights::OfIndex(index) => Some(folder.join(index)),
            Weights::Files(_) => None,
        };
        let index = match (&chosen, &index_path) {
            (Weights::OfIndex(index), Some(path)) => Some(ShardIndex::parse(path, text(index).unwrap_or_default())?),
            _ => None,
        };
        match (&chosen, &index) {
            (Weights::Files(names), _) => weights.retain(|(name, _)| names.contains(name)),
            (Weights::OfIndex(_), Some(index)) => {
                weights.retain(|(name, _)| index.shards.contains_key(name));
                index.refuse_missing(|shard| weights.iter().any(|(name, _)| name == shard))?;
            }
            (Weights::OfIndex(_), None) => {}
        }
        let opened = side_by_side(&weights, |(name, source): &(String, Arc<dyn ReadAt>)| {
            WeightFile::from_source(&folder.join(name), source.clone())
        })?;
        let config = || sharded::ties_head(text("config.json").unwrap_or_default());
        let stale = index.map(|index| index.stale(&opened, config));
        let layout = match (index_path, named) {
            (Some(index), Some(_)) => Layout::Index { index },
            (None, Some(_)) => Layout::File,
            (index, None) => Layout::Directory { index },
        };
        Ok(Self { stale: stale.transpose()?.unwrap_or_default(), ..Self::of_files(path, layout, opened)? })
    }

    /// A checkpoint of one `.safetensors` file in memory. `path` names it in errors.
    ///
    /// # Errors
    /// [`Malformed`], as [`Checkpoint::open`].
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, OpenError> {
        Self::of_files(path, Layout::File, vec![WeightFile::from_bytes(path, bytes)?])
    }

    /// A checkpoint of open files, which need not be `.safetensors` files.
    ///
    /// # Errors
    /// [`Malformed::TwoShards`].
    pub fn of_files(path: &Path, layout: Layout, files: Vec<WeightFile>) -> Result<Self, OpenError> {
        let mut by_name = BTreeMap::new();
        for (file_index, file) in files.iter().enumerate() {
            for (index, tensor) in file.tensors().iter().enumerate() {
                if by_name.insert(tensor.name.clone(), (file_index, index)).is_some() {
                    let reason = Malformed::TwoShards { tensor: tensor.name.clone() };
                    return Err(OpenError::malformed(path, reason));
                }
            }
        }
        Ok(Self {
            path: path.to_owned(),
            source: None,
            layout,
            files,
            stale: Vec::new(),
            access: Access::Read,
            by_name,
        })
    }

    /// Checks that nobody has written to a weight file since it was opened, so that everything read is of the same state. Must be called
    /// before a result that was computed from the checkpoint is used.
    ///
    /// # Errors
    /// [`OpenError::Changed`] for the first file that changed; I/O.
    pub fn unchanged(&self) -> Result<(), OpenError> {
        self.files.iter().try_for_each(WeightFile::unchanged)
    }

    /// Returns the `result` of a computation on this checkpoint if the files are unchanged. Otherwise the change is the error, as it may be
    /// the reason why the computation failed.
    ///
    /// # Errors
    /// As [`Checkpoint::unchanged`]; the error in `result`.
    pub fn settled<T, E: From<OpenError>>(&self, result: Result<T, E>) -> Result<T, E> {
        self.unchanged()?;
        result
    }

    /// Checks that no weight file was replaced by another one at its path since it was opened.
    ///
    /// # Errors
    /// [`Failed::Replaced`] for the first file that was replaced.
    pub fn still_at_their_paths(&self) -> Result<(), Failed> {
        let replaced = |file: &&WeightFile| file.file().is_some_and(|open| !is_at(open, file.path()));
        match self.files.iter().find(replaced) {
            Some(file) => Err(Failed::Replaced { path: file.path().to_owned() }),
            None => Ok(()),
        }
    }

    /// The tensor named `name`.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        self.by_name.get(name).map(|(file_index, index)| self.at(*file_index, *index))
    }

    /// The pruning mask `X_mask` of weights that are named `X_orig`, as `torch.nn.utils.prune` names them (spec §A8).
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

    /// Whether it is an adapter, such as LoRA's, which changes the weights of another model.
    pub fn is_adapter(&self) -> bool {
        self.by_name.keys().any(|name| names::is_of_adapter(name))
    }

    /// Number of elements of all tensors.
    pub fn elements(&self) -> u64 {
        self.tensors().map(|tensor| tensor.info.elements()).sum()
    }

    /// Size of all weight files in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(WeightFile::bytes).sum()
    }

    fn at(&self, file_index: usize, index: usize) -> Tensor<'_> {
        let file = &self.files[file_index];
        Tensor { file, file_index, info: &file.tensors()[index] }
    }
}

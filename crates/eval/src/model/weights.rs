//! The paths of the weight files, which ONNX Runtime maps itself.

use super::ModelFault;
use super::graph::Location;
use lcepatch_files::checkpoint::{Checkpoint, WeightFile};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The weight files, with links resolved. The runtime reads files of one folder only. With links resolved this includes a hub's cache,
/// where every file of a model is a link into one folder.
pub(super) struct WeightFiles {
    pub folder: PathBuf,
    files: Vec<File>,
}

struct File {
    name: String,
    /// Whether it is in the folder.
    reachable: bool,
}

impl WeightFiles {
    pub fn of(checkpoint: &Checkpoint) -> Result<Self, ModelFault> {
        let real = |file: &WeightFile| {
            let io = |source| ModelFault::Io { operation: "find", path: file.path().to_owned(), source };
            file.path().canonicalize().map_err(io)
        };
        let paths = checkpoint.files().iter().map(real).collect::<Result<Vec<PathBuf>, ModelFault>>()?;
        let folder = paths.first().and_then(|path| path.parent()).unwrap_or(Path::new("")).to_owned();
        let file = |path: &PathBuf| {
            let name = path.file_name().and_then(OsStr::to_str);
            let reachable = name.is_some() && path.parent() == Some(&folder);
            File { name: name.unwrap_or("weights").to_owned(), reachable }
        };
        Ok(Self { files: paths.iter().map(file).collect(), folder })
    }

    pub fn location(&self, file: usize) -> Location {
        Location(self.files[file].name.clone())
    }

    /// Whether the runtime can read a file itself.
    pub fn is_reachable(&self, file: usize) -> bool {
        self.files[file].reachable
    }
}

//! What comes along into the directory of a result: all that makes it loadable, and nothing that holds the base's weights.

use crate::checkpoint::{Checkpoint, Layout, WeightFile};
use crate::durable::{Access, Failed, is_temporary, journal, lock};
use crate::error::Error;
use crate::{history, input};
use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};

/// What did not come along: paths in the base's directory, sorted.
#[derive(Debug, Default)]
pub(super) struct NotCarried {
    /// They hold the base's weights, which the result does not have any more.
    pub weights: Vec<String>,
    /// They could not be read: links that lead nowhere, files and folders that may not be read or are none.
    pub unreadable: Vec<String>,
}

/// Other formats of weights.
const FORMATS: [&str; 6] = [".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack"];

/// Formats of whole models, which are in folders of their own too.
const EXPORTS: [&str; 3] = [".onnx", ".onnx_data", ".gguf"];

/// What a training run leaves in formats of weights without being any.
const TRAINING: [&str; 5] = ["training_args", "optimizer", "scheduler", "scaler", "rng_state"];

/// Copies into the new directory `to` what is beside the weights of `base`: configuration, tokenizer, index, and folders with modules
/// and their own weights. Of a base that is an index alone, only the index comes along.
///
/// # Errors
/// [`Failed`] for what cannot be written, and for weights that are being edited in place or were when that was interrupted. What
/// cannot be read is listed.
pub(super) fn carry_along(base: &Checkpoint, to: &Path) -> Result<NotCarried, Error> {
    let mut walk = Walk { base, not: NotCarried::default() };
    match &base.layout {
        Layout::File => {}
        Layout::Index { index } => {
            let name = Path::new(index.file_name().unwrap_or_default());
            let metadata = std::fs::metadata(index).map_err(|e| Error::io("read", index, e))?;
            walk.copy(index, &to.join(name), name, &metadata)?;
        }
        Layout::Directory { .. } => walk.folder(&base.path, to, Path::new(""), 0)?,
    }
    let NotCarried { mut weights, mut unreadable } = walk.not;
    weights.sort();
    unreadable.sort();
    Ok(NotCarried { weights, unreadable })
}

struct Walk<'a> {
    base: &'a Checkpoint,
    not: NotCarried,
}

impl Walk<'_> {
    /// Copies the folder `from`, which is `inner` in the base's directory. Links are followed; hidden folders, such as version
    /// control's, stay behind.
    fn folder(&mut self, from: &Path, to: &Path, inner: &Path, depth: usize) -> Result<(), Error> {
        // A link may lead back to where it is.
        const DEPTH_MAX: usize = 8;
        let Ok(entries) = std::fs::read_dir(from) else { return self.unreadable(inner) };
        for name in entries.flatten().map(|entry| entry.file_name()) {
            let (source, target, inner) = (from.join(&name), to.join(&name), inner.join(&name));
            let text = name.to_string_lossy();
            if text == journal::FILE_NAME || is_temporary(&text) {
                continue;
            }
            let Ok(metadata) = std::fs::metadata(&source) else {
                self.unreadable(&inner)?;
                continue;
            };
            if metadata.is_dir() {
                if text.starts_with('.') {
                    continue;
                }
                if depth == DEPTH_MAX || std::fs::read_dir(&source).is_err() {
                    self.unreadable(&inner)?;
                } else if self.is_earlier_output(&source) {
                    self.not.weights.push(format!("{}/", shown(&inner)));
                } else {
                    std::fs::create_dir(&target).map_err(|e| Failed::io("create", &target, e))?;
                    self.folder(&source, &target, &inner, depth + 1)?;
                    // Where nothing came along, such as from a folder of exports; it fails for all others.
                    let _ = std::fs::remove_dir(&target);
                }
            } else if depth == 0 && self.base.files.iter().any(|file| file.name() == text) {
                // The result has its own.
            } else if self.holds_weights(&source, &text, depth == 0) {
                self.not.weights.push(shown(&inner));
            } else {
                self.copy(&source, &target, &inner, &metadata)?;
            }
        }
        Ok(())
    }

    fn copy(&mut self, source: &Path, target: &Path, inner: &Path, metadata: &Metadata) -> Result<(), Error> {
        let Ok(mut from) = input::open_any(source) else { return self.unreadable(inner) };
        if source.extension().is_some_and(|kind| kind == "safetensors") {
            // A module's own weights, which may be edited in place as any others.
            lock(&from, source, Access::Read)?;
            journal::refuse_unfinished(source)?;
        }
        let mut copy = || {
            let mut new = File::create_new(target)?;
            std::io::copy(&mut from, &mut new)?;
            new.set_permissions(metadata.permissions())?;
            new.sync_all()
        };
        copy().map_err(|e| Failed::io("write", target, e).into())
    }

    fn unreadable(&mut self, inner: &Path) -> Result<(), Error> {
        self.not.unreadable.push(shown(inner));
        Ok(())
    }

    /// Whether a file holds weights of the base in another format, or names files that do. Beside the weights (`top`) that is any file
    /// of weights; a folder has its own, such as a module's, and exports of the whole model.
    fn holds_weights(&self, path: &Path, name: &str, top: bool) -> bool {
        let name = name.strip_suffix(".index.json").unwrap_or(name);
        let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix));
        if ends(&EXPORTS) || name.starts_with("openvino_model") {
            return true;
        }
        if !top {
            return false;
        }
        let training = TRAINING.iter().any(|start| name.starts_with(start));
        let same_names = || {
            let other = WeightFile::open(path);
            other.is_ok_and(|other| other.tensors.iter().any(|tensor| self.base.tensor(&tensor.name).is_some()))
        };
        ends(&FORMATS) && !training || path.extension().is_some_and(|kind| kind == "safetensors") && same_names()
    }

    /// Whether a folder is what an earlier apply made of this base: it has a log, and the same tensors.
    fn is_earlier_output(&self, folder: &Path) -> bool {
        let same = |file: &WeightFile| {
            WeightFile::open(&folder.join(file.name())).is_ok_and(|other| other.tensors == file.tensors)
        };
        folder.join(history::FILE_NAME).is_file() && self.base.files.iter().all(same)
    }
}

/// A path in the base's directory, as it is on every system.
fn shown(inner: &Path) -> String {
    let parts: Vec<_> = inner.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

/// What to open in `directory` to get the result of a base that is not a single file.
pub(super) fn result_root(base: &Checkpoint, directory: &Path) -> PathBuf {
    match &base.layout {
        Layout::Index { index } => directory.join(index.file_name().unwrap_or_default()),
        _ => directory.to_owned(),
    }
}

//! Copies into the directory of a result the files that make it loadable, and none that holds the base's weights.

use crate::checkpoint::{Checkpoint, Layout, WeightFile};
use crate::durable::{Access, Failed, is_temporary, journal, lock};
use crate::error::Error;
use crate::{history, input};
use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};

/// The files and folders that were not copied: paths in the base's directory, sorted.
#[derive(Debug, Default)]
pub(super) struct NotCarried {
    /// Those that hold the base's weights, which are not the result's.
    pub weights: Vec<String>,
    /// Those that cannot be read: links to nothing, files and folders without permission, devices.
    pub unreadable: Vec<String>,
}

/// Suffixes of weight files in other formats.
const FORMATS: [&str; 6] = [".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack"];

/// Suffixes of exports of the whole model, which also stand in folders of their own.
const EXPORTS: [&str; 3] = [".onnx", ".onnx_data", ".gguf"];

/// How the names begin of files that a training run leaves, which have the suffixes of weights and hold none.
const TRAINING: [&str; 5] = ["training_args", "optimizer", "scheduler", "scaler", "rng_state"];

/// Copies into the new directory `to` the files beside the weights of `base`: configuration, tokenizer, index, and folders of modules with
/// weights of their own. Of a base that was opened by its index, only the index is copied. `beside` is the folder of these files, if it is
/// not the base's own.
///
/// # Errors
/// [`Failed`] for a file that cannot be written, and for a module's weights that are being edited in place, or whose edit was interrupted.
/// Files that cannot be read are no error: they are listed.
pub(super) fn carry_along(base: &Checkpoint, beside: Option<&Path>, to: &Path) -> Result<NotCarried, Error> {
    let mut walk = Walk { base, not: NotCarried::default() };
    match base.layout() {
        Layout::File => {}
        Layout::Index { index } => {
            let name = Path::new(index.file_name().unwrap_or_default());
            let index = beside.map_or_else(|| index.clone(), |folder| folder.join(name));
            let metadata = std::fs::metadata(&index).map_err(|e| Error::io("read", &index, e))?;
            walk.copy(&index, &to.join(name), name, &metadata)?;
        }
        Layout::Directory { .. } => walk.folder(beside.unwrap_or(base.path()), to, Path::new(""), 0)?,
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
        // Bounds the walk where a link leads back to a folder above it.
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
                    // Removes a folder from which nothing was copied, such as one of exports; any other is not empty and stays.
                    let _ = std::fs::remove_dir(&target);
                }
            } else if depth == 0 && self.base.files().iter().any(|file| file.name() == text) {
                // The result has weights of its own.
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
            // A module's weights may be edited in place, as any others.
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

    /// Notes that a path cannot be read.
    fn unreadable(&mut self, inner: &Path) -> Result<(), Error> {
        self.not.unreadable.push(shown(inner));
        Ok(())
    }

    /// Whether a file holds the base's weights in another format, or is the index of such files. In the base's own directory (`top`) any
    /// file of weights does; in a folder only an export of the whole model does, since other weights there are a module's.
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
            other.is_ok_and(|other| other.tensors().iter().any(|tensor| self.base.tensor(&tensor.name).is_some()))
        };
        ends(&FORMATS) && !training || path.extension().is_some_and(|kind| kind == "safetensors") && same_names()
    }

    /// Whether a folder is the result of an earlier apply to this base: it has a log, and the same tensors.
    fn is_earlier_output(&self, folder: &Path) -> bool {
        let same = |file: &WeightFile| {
            WeightFile::open(&folder.join(file.name())).is_ok_and(|other| other.tensors() == file.tensors())
        };
        folder.join(history::FILE_NAME).is_file() && self.base.files().iter().all(same)
    }
}

/// A path in the base's directory, with slashes on every system.
fn shown(inner: &Path) -> String {
    let parts: Vec<_> = inner.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

/// The path to open for the result in `directory`, for a base that is not a single file.
pub(super) fn result_root(base: &Checkpoint, directory: &Path) -> PathBuf {
    match base.layout() {
        Layout::Index { index } => directory.join(index.file_name().unwrap_or_default()),
        _ => directory.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::floats;

    #[test]
    fn weights_in_other_formats_stay_behind_and_what_loading_needs_does_not() {
        let base = floats(&[("w", &[1.0])]);
        let walk = Walk { base: &base, not: NotCarried::default() };
        let holds = |name: &str, top: bool| walk.holds_weights(Path::new(name), name, top);
        for name in ["pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "model.onnx", "model.gguf"] {
            assert!(holds(name, true), "{name}");
        }
        for name in ["config.json", "tokenizer.json", "training_args.bin", "optimizer.pt"] {
            assert!(!holds(name, true), "{name}");
        }
        // A folder has weights of its own, such as a pooling module's; an export is of the whole model anywhere.
        assert!(!holds("pytorch_model.bin", false) && holds("model.onnx", false));
    }

    #[test]
    fn a_path_in_the_base_is_shown_with_slashes() {
        assert_eq!(shown(&Path::new("1_Pooling").join("config.json")), "1_Pooling/config.json");
    }
}

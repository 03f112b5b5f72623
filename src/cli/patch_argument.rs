//! Opening what the arguments name.

use super::arguments;
use super::exit::Failure;
use lcepatch::diff::Part;
use lcepatch::edit::Alpha;
use lcepatch::error::Error;
use lcepatch::format::Patch;
use std::path::{Path, PathBuf};

/// Opens a patch, its path in the error.
pub fn open(path: &Path) -> Result<Patch, Failure> {
    Patch::open(path).map_err(|error| match Part::is_at(path) {
        true => {
            let message = format!("{}: this is a shard's part of a patch", path.display());
            Failure::usage(message, "join the parts of all shards with `lcepatch combine`")
        }
        false => Error::of_patch(path, error).into(),
    })
}

/// Whether a checkpoint is an ONNX file.
#[cfg(feature = "verify")]
pub fn is_onnx(checkpoint: &Path) -> bool {
    checkpoint.extension().is_some_and(|extension| extension == "onnx") && !checkpoint.is_dir()
}

/// `PATCH` or `PATCH:NUMBER`; a file whose name ends that way goes first.
pub fn with_number(text: &str) -> Result<(PathBuf, Option<Alpha>), Failure> {
    match text.rsplit_once(':') {
        Some((path, number)) if !Path::new(text).exists() => match arguments::alpha(number) {
            Ok(alpha) => Ok((path.into(), Some(alpha))),
            Err(why) => {
                let message = format!("{text:?}: alpha {number:?} is {why}");
                Err(Failure::usage(message, "write PATCH:ALPHA, as in debias.lcepatch:-2"))
            }
        },
        _ => Ok((text.into(), None)),
    }
}

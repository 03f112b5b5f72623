//! Opening what the arguments name.

use super::exit::Failure;
use lcepatch::error::Error;
use lcepatch::format::Patch;
use std::path::Path;

/// Opens a patch, its path in the error.
pub fn open(path: &Path) -> Result<Patch, Failure> {
    Patch::open(path).map_err(|error| Error::of_patch(path, error).into())
}

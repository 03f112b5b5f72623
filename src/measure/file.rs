//! Data files: their bytes and digest.

use super::BadData;
use crate::digest::Sha256Digest;
use std::path::{Path, PathBuf};

/// A data file in memory.
pub(super) struct DataFile {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
    pub(super) digest: Sha256Digest,
}

impl DataFile {
    pub(super) fn read(path: &Path) -> Result<Self, BadData> {
        let bytes = std::fs::read(path).map_err(|error| BadData::Io {
            operation: "reading",
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        let digest = Sha256Digest::of(&bytes);
        Ok(Self { path: path.to_owned(), bytes, digest })
    }
}

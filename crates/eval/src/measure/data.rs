//! Reads data files, with their digest.

use super::BadData;
use lcepatch_files::input::{Meant, Unexpected};
use lcepatch_format::digest::Digest;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A data file in memory.
#[derive(Debug, Clone)]
pub(crate) struct DataFile {
    /// Its path.
    pub path: PathBuf,
    /// Its content.
    pub bytes: Vec<u8>,
    /// SHA-256 of its content.
    pub digest: Digest,
}

impl DataFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`BadData::Io`], [`BadData::Unexpected`].
    pub fn read(path: &Path) -> Result<Self, BadData> {
        let bytes =
            lcepatch_files::json::read_file(path, Meant::Data).map_err(|error| match Unexpected::within(&error) {
                Some(unexpected) => BadData::Unexpected { path: path.to_owned(), unexpected: unexpected.clone() },
                None => BadData::Io { operation: "read", path: path.to_owned(), reason: error.to_string() },
            })?;
        Ok(Self { path: path.to_owned(), digest: Digest::sha256(&bytes), bytes })
    }

    /// The content without a UTF-8 byte order mark.
    pub fn without_byte_order_mark(&self) -> &[u8] {
        self.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.bytes)
    }

    /// Its digest by file name, for [`super::Outcome::data`].
    pub fn named_digest(&self) -> BTreeMap<String, Digest> {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        BTreeMap::from([(name.to_string_lossy().into_owned(), self.digest)])
    }

    /// An error about its content.
    pub fn malformed(&self, line: Option<u64>, reason: impl Into<String>) -> BadData {
        BadData::Malformed { path: self.path.clone(), line, reason: reason.into() }
    }
}

/// A file of the published data, for tests that are ignored without them.
#[cfg(test)]
pub fn published(name: &str) -> PathBuf {
    let folder = std::env::var_os("LCEPATCH_DATA").expect("LCEPATCH_DATA names the folder with the published data");
    PathBuf::from(folder).join(name)
}

/// A file of `fixtures`.
#[cfg(test)]
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_says_which() {
        let error = DataFile::read(Path::new("no/such/pairs.csv")).unwrap_err().to_string();
        assert!(error.starts_with("read no/such/pairs.csv: "), "{error}");
    }
}

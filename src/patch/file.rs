//! Patches in files.

use crate::durable::{self, Existing};
use crate::format::patch::{ReadAt, ReadError};
use crate::format::{self, Metadata};
use crate::input::{self, Meant};
use std::fs::File;
use std::io::Read;
use std::ops::Deref;
use std::path::Path;

/// A patch whose header is verified. Its blocks stay in the file until they are asked for.
#[derive(Debug, Clone)]
pub struct Patch(format::Patch);

impl Patch {
    /// Opens the file at `path` and verifies its header, at the cost that [`format::Patch::read`] states.
    ///
    /// # Errors
    /// I/O, R1 to R17, and R22.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Self::from_file(input::open(path, Meant::Patch)?)
    }

    /// As [`Patch::open`], of a file that is open already.
    ///
    /// # Errors
    /// I/O, R1 to R17, and R22.
    pub fn from_file(file: File) -> Result<Self, ReadError> {
        let bytes = file.metadata()?.len();
        format::Patch::read(PatchFile { file, bytes }).map(Self)
    }

    /// Reads a patch that is in memory.
    ///
    /// # Errors
    /// R1 to R17, R22.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ReadError> {
        format::Patch::read(bytes).map(Self)
    }

    /// The same patch with other metadata, and so with another id.
    ///
    /// # Errors
    /// I/O; R10, when free metadata cannot be written as JSON.
    pub fn with_metadata(&self, metadata: &Metadata) -> Result<Self, ReadError> {
        self.0.with_metadata(metadata).map(Self)
    }

    /// Writes the patch to a new file at `path`, all of it or nothing.
    ///
    /// # Errors
    /// [`durable::Failed`].
    pub fn save(&self, path: &Path, existing: Existing) -> Result<(), durable::Failed> {
        let bytes = self.to_bytes().map_err(|e| durable::Failed::io("read", path, e))?;
        durable::write_file(path, &bytes, existing)
    }
}

impl Deref for Patch {
    type Target = format::Patch;

    fn deref(&self) -> &format::Patch {
        &self.0
    }
}

/// The bytes of a patch in an open file, of the size that it had then.
#[derive(Debug)]
struct PatchFile {
    file: File,
    bytes: u64,
}

impl ReadAt for PatchFile {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, bytes: u64) -> std::io::Result<Vec<u8>> {
        let mut out = Vec::new();
        At { file: &self.file, offset }.take(bytes).read_to_end(&mut out)?;
        if out.len() as u64 != bytes {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(out)
    }
}

/// Reads from an offset without moving the file's own, so that threads do not disturb each other.
struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        #[cfg(unix)]
        let n = std::os::unix::fs::FileExt::read_at(self.file, out, self.offset)?;
        #[cfg(windows)]
        let n = std::os::windows::fs::FileExt::seek_read(self.file, out, self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }
}

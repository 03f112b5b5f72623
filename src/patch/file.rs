//! Patches in files.

use crate::digest::Digest;
use crate::durable::{self, Existing};
use crate::format::builder::NewPatch;
use crate::format::patch::{ReadAt, ReadError};
use crate::format::{self, Metadata};
use crate::input::{self, Meant};
use std::fs::File;
use std::io::Read;
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// What a patch is called that has no file yet.
pub(crate) const NEW: &str = "the new patch";

/// A patch whose header is verified, and the name that messages call it by. Its blocks stay in the file until they are asked for.
#[derive(Debug, Clone)]
pub struct Patch {
    name: PathBuf,
    content: format::Patch,
}

impl Patch {
    /// Opens the file at `path` and verifies its header, at the cost that [`format::Patch::read`] states.
    ///
    /// # Errors
    /// I/O, R1 to R17, and R22.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Self::from_file(path, input::open(path, Meant::Patch)?)
    }

    /// As [`Patch::open`], of a file that is open already.
    ///
    /// # Errors
    /// I/O, R1 to R17, and R22.
    pub fn from_file(path: &Path, file: File) -> Result<Self, ReadError> {
        let bytes = file.metadata()?.len();
        Ok(Self { name: path.to_owned(), content: format::Patch::read(PatchFile { file, bytes })? })
    }

    /// Reads a patch that is in memory; `name` is what messages call it.
    ///
    /// # Errors
    /// R1 to R17, R22.
    pub fn from_bytes(name: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self, ReadError> {
        Ok(Self { name: name.into(), content: format::Patch::read(bytes)? })
    }

    /// The patch that `new` becomes with these metadata and digests, which [`NewPatch::write`] explains. It has no file yet.
    ///
    /// # Errors
    /// R10, when free metadata cannot be written as JSON.
    pub fn written(new: &NewPatch, metadata: &Metadata, reference: Digest, result: Digest) -> Result<Self, ReadError> {
        Self::from_bytes(NEW, new.write(metadata, reference, result)?)
    }

    /// The path of its file, or whatever else it is called.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// The same patch under another name.
    pub fn named(self, name: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// The same patch with other metadata, and so with another id.
    ///
    /// # Errors
    /// I/O; R10, when free metadata cannot be written as JSON.
    pub fn with_metadata(&self, metadata: &Metadata) -> Result<Self, ReadError> {
        Ok(Self { name: self.name.clone(), content: self.content.with_metadata(metadata)? })
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
        &self.content
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

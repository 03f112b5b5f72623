//! Patches in files.

use super::Chosen;
use crate::digest::Digest;
use crate::durable::{self, Existing};
use crate::format::builder::NewPatch;
use crate::format::patch::{ReadAt, ReadError, RewriteError};
use crate::format::tensor_table::{BlockEntry, TensorEntry};
use crate::format::{self, Metadata};
use crate::input::{self, Meant};
use std::fs::File;
use std::io::Read;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name of a patch that has no file yet.
const NEW: &str = "the new patch";

/// A patch whose header is verified, and its name in messages. Its blocks stay in the file until they are read.
#[derive(Debug, Clone)]
pub struct Patch {
    name: PathBuf,
    /// Where it came from, if it was fetched.
    source: Option<String>,
    /// Whether its bytes are elsewhere, and each part that is read is fetched.
    remote: bool,
    /// How the tensors that are seen of it were chosen, if they are not all.
    chosen: Option<Chosen>,
    content: format::Patch,
}

/// A patch that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{}", patch.display())]
pub struct Unreadable {
    /// The patch's name.
    pub patch: Box<Path>,
    /// Why it could not be read.
    #[source]
    pub reason: ReadError,
}

/// A patch that could not be written with the metadata that it shall have.
#[derive(Debug, thiserror::Error)]
#[error("{}", patch.display())]
pub struct Unwritten {
    /// The patch's name.
    pub patch: Box<Path>,
    /// Why it could not be written.
    #[source]
    pub reason: RewriteError,
}

impl Patch {
    /// Opens the file at `path` and verifies its header, at the cost that [`format::Patch::read`] states.
    ///
    /// # Errors
    /// I/O, R1 to R17.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Unreadable> {
        let path = path.as_ref();
        let file = input::open(path, Meant::Patch).map_err(unreadable(path))?;
        Self::from_file(path, file)
    }

    /// As [`Patch::open`], for a file that is already open.
    ///
    /// # Errors
    /// I/O, R1 to R17.
    pub fn from_file(path: &Path, file: File) -> Result<Self, Unreadable> {
        Self::read(path, PatchFile::new(file).map_err(unreadable(path))?)
    }

    /// Reads a patch that is in memory; `name` is its name in messages.
    ///
    /// # Errors
    /// R1 to R17.
    pub fn from_bytes(name: impl AsRef<Path>, bytes: Vec<u8>) -> Result<Self, Unreadable> {
        Self::read(name.as_ref(), bytes)
    }

    /// Reads a patch that is elsewhere, in parts; `name` is its name in messages.
    ///
    /// # Errors
    /// I/O, R1 to R17.
    pub(crate) fn from_source(name: &Path, source: impl ReadAt + 'static) -> Result<Self, Unreadable> {
        Ok(Self { remote: true, ..Self::read(name, source)? })
    }

    fn read(name: &Path, source: impl ReadAt + 'static) -> Result<Self, Unreadable> {
        let content = format::Patch::read(source).map_err(unreadable(name))?;
        Ok(Self { name: name.to_owned(), source: None, remote: false, chosen: None, content })
    }

    /// Writes `new` in memory, with these metadata and digests (see [`NewPatch::write`]), and reads it as a patch. It has no file yet.
    ///
    /// # Errors
    /// Metadata that is larger than readers take.
    pub fn written(new: &NewPatch, metadata: &Metadata, reference: Digest, result: Digest) -> Result<Self, Unwritten> {
        let name = Path::new(NEW);
        let bytes = new.write(metadata, reference, result).map_err(unwritten(name))?;
        let content = format::Patch::read(bytes).map_err(unwritten(name))?;
        Ok(Self { name: name.to_owned(), source: None, remote: false, chosen: None, content })
    }

    /// Whether a new patch can have these metadata.
    ///
    /// # Errors
    /// Metadata that is larger than readers take.
    pub(crate) fn check_metadata(metadata: &Metadata) -> Result<(), Unwritten> {
        metadata.write().map(|_| ()).map_err(unwritten(Path::new(NEW)))
    }

    /// The path of its file, or the name that it was given.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// The same patch under another name.
    pub fn named(self, name: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Where it came from, with its commit, if it was fetched.
    pub(crate) fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// Whether its bytes are elsewhere, and each part that is read is fetched.
    pub(crate) fn is_remote(&self) -> bool {
        self.remote
    }

    /// The same patch, of which `content` is left.
    pub(super) fn of_part(self, content: format::Patch, chosen: Chosen) -> Self {
        Self { content, chosen: Some(chosen), ..self }
    }

    /// How its tensors were chosen, if they are not all that the patch changes.
    pub fn chosen(&self) -> Option<&Chosen> {
        self.chosen.as_ref()
    }

    /// The same patch, whose bytes are here, in `source`.
    pub(crate) fn fetched(self, source: impl ReadAt + 'static) -> Self {
        Self { remote: false, content: self.content.with_reader(Arc::new(source)), ..self }
    }

    /// The same patch, which came from `source`.
    pub(crate) fn with_source(self, source: Option<String>) -> Self {
        Self { source, ..self }
    }

    /// The same patch with other metadata, and so with another id.
    ///
    /// # Errors
    /// I/O; metadata that is larger than readers take.
    pub fn with_metadata(&self, metadata: &Metadata) -> Result<Self, Unwritten> {
        let content = self.content.with_metadata(metadata).map_err(unwritten(&self.name))?;
        Ok(Self { name: self.name.clone(), source: None, remote: false, chosen: None, content })
    }

    /// Whether a block begins as a dense one does ([`format::Patch::begins_dense`](crate::format::Patch::begins_dense)).
    ///
    /// # Errors
    /// I/O.
    pub(crate) fn begins_dense(&self, block: &BlockEntry) -> Result<bool, Unreadable> {
        self.content.begins_dense(block).map_err(unreadable(&self.name))
    }

    /// Reads the bytes of one block and compares them with its digest.
    ///
    /// # Errors
    /// I/O, and R18.
    pub fn block(&self, tensor: &TensorEntry, block: &BlockEntry) -> Result<Vec<u8>, Unreadable> {
        self.content.block(tensor, block).map_err(unreadable(&self.name))
    }

    /// All bytes of the patch file.
    ///
    /// # Errors
    /// I/O.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Unreadable> {
        self.content.to_bytes().map_err(unreadable(&self.name))
    }

    /// Writes the patch to a new file at `path`, which appears complete or not at all.
    ///
    /// # Errors
    /// [`durable::Failed`].
    pub fn save(&self, path: impl AsRef<Path>, existing: Existing) -> Result<(), durable::Failed> {
        let mut file = durable::NewFile::create(path.as_ref(), existing)?;
        // Piece by piece, since a patch in memory would be there twice otherwise.
        for piece in self.content.pieces() {
            file = file.with(&piece.map_err(|e| durable::Failed::io("read", &self.name, e))?)?;
        }
        file.commit()
    }
}

/// Adds the name of the patch to an error.
fn unreadable<E: Into<ReadError>>(patch: &Path) -> impl FnOnce(E) -> Unreadable {
    |reason| Unreadable { patch: patch.into(), reason: reason.into() }
}

/// As [`unreadable`], for a patch that is written.
fn unwritten<E: Into<RewriteError>>(patch: &Path) -> impl FnOnce(E) -> Unwritten {
    |reason| Unwritten { patch: patch.into(), reason: reason.into() }
}

impl Deref for Patch {
    type Target = format::Patch;

    fn deref(&self) -> &format::Patch {
        &self.content
    }
}

/// An open patch file. Its size is that at the time of opening.
#[derive(Debug)]
struct PatchFile {
    file: File,
    bytes: u64,
}

impl PatchFile {
    /// # Errors
    /// I/O.
    pub fn new(file: File) -> std::io::Result<Self> {
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes })
    }
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

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "the ranges that were read are compared with those expected")]
mod tests {
    use super::*;
    use crate::testing::{Counting, Portability, floats, patch};

    /// A source that is looked at after the patch has taken it.
    #[derive(Debug)]
    struct Reader(Arc<Counting>);

    impl ReadAt for Reader {
        fn bytes(&self) -> u64 {
            self.0.bytes()
        }

        fn read_at(&self, offset: u64, bytes: u64) -> std::io::Result<Vec<u8>> {
            self.0.read_at(offset, bytes)
        }
    }

    #[test]
    fn a_header_elsewhere_takes_one_read_and_a_long_one_two() {
        let (base, reference) = (floats(&[("w", &[1.0, 2.0])]), floats(&[("w", &[1.0, 3.0])]));
        let short = patch(&base, &reference, Portability::NeedsBase);
        let mut state = 1u32;
        let mut random = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(b'a' + (state >> 28) as u8)
        };
        let description = Some((0..200_000).map(&mut random).collect());
        let long = short.with_metadata(&Metadata { description, ..short.metadata().clone() }).unwrap();
        for patch in [short, long] {
            let bytes = patch.to_bytes().unwrap();
            let header = patch.header_bytes();
            let source = Counting::new(bytes.clone());
            let far = Patch::from_source("p".as_ref(), Reader(source.clone())).unwrap();
            let front = bytes.len().min(65_536) as u64;
            let rest = (header > front).then_some(front..header);
            assert_eq!(source.take(), [0..front].into_iter().chain(rest).collect::<Vec<_>>());
            assert_eq!((far.id(), far.to_bytes().unwrap()), (patch.id(), bytes));
        }
    }
}

//! Opening a patch: the header at once, blocks one by one, each checked against its digest (spec §4).

use super::header::{KNOWN, Packing, Preamble, Section, header_digest, read_sections, section, write_section};
use super::invalid::{Invalid, SectionFault};
use super::limits::{OPTIONAL_SECTION, PREAMBLE_BYTES, SELECTED_FREE, SELECTED_RATIO_MAX};
use super::metadata::Metadata;
use super::tensor_table::{BlockEntry, TensorEntry, TensorTable};
use crate::digest::{ContentHash, Digest};
use crate::durable::{self, Existing};
use crate::input::{self, Meant};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A patch whose header is verified. Blocks stay in the file until asked for.
#[derive(Debug)]
pub struct Patch {
    /// SHA-256 of the header, which holds the digest of every block: one name for all its content (spec §12.1).
    pub id: Digest,
    /// What the patch says about itself.
    pub metadata: Metadata,
    /// The tensors it changes, and where their blocks are.
    pub table: TensorTable,
    /// Bytes before the payload.
    pub header_bytes: u64,
    /// Bytes of the whole file.
    pub file_bytes: u64,
    source: Source,
}

#[derive(Debug)]
enum Source {
    File(File),
    Bytes(Vec<u8>),
}

/// Why a patch could not be read: the file, or what is in it.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system refused.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The content breaks a rule of the format.
    #[error("{0}")]
    Invalid(#[from] Invalid),
}

impl Patch {
    /// Opens the file at `path` and verifies its header.
    ///
    /// Allocates a small multiple of the sections' bytes and at most [`super::limits::SECTION_RAW_BYTES_MAX`] for each of
    /// the three that may be packed (spec §15).
    ///
    /// # Errors
    /// I/O, R1 to R17, and R22.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Self::from_file(input::open(path, Meant::Patch)?)
    }

    /// As [`Patch::open`], of a file that is open already.
    ///
    /// # Errors
    /// I/O, and R1 to R17.
    pub fn from_file(file: File) -> Result<Self, ReadError> {
        let file_bytes = file.metadata()?.len();
        Self::parse(Source::File(file), file_bytes)
    }

    /// Reads a patch that is in memory.
    ///
    /// # Errors
    /// R1 to R17, R22.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ReadError> {
        let file_bytes = bytes.len() as u64;
        Self::parse(Source::Bytes(bytes), file_bytes)
    }

    /// The same patch once more.
    ///
    /// # Errors
    /// I/O.
    pub fn try_clone(&self) -> Result<Self, ReadError> {
        let source = match &self.source {
            Source::File(file) => Source::File(file.try_clone()?),
            Source::Bytes(bytes) => Source::Bytes(bytes.clone()),
        };
        let (metadata, table) = (self.metadata.clone(), self.table.clone());
        Ok(Self { metadata, table, source, ..*self })
    }

    fn parse(source: Source, file_bytes: u64) -> Result<Self, ReadError> {
        let front = source.read_at(0, PREAMBLE_BYTES.min(file_bytes))?;
        let preamble = Preamble::read(&front, file_bytes)?;
        let sections = source.read_at(PREAMBLE_BYTES, preamble.sections_bytes.into())?;
        let (found, expected) = (header_digest(&front, &sections), preamble.digest);
        if found != expected {
            return Err(Invalid::HeaderDigest { found, expected }.into());
        }
        let sections = read_sections(&sections)?;
        let has = |wanted| sections.iter().any(|section| section.kind == wanted);
        if has(section::DIGESTS) && has(section::TREE_DIGESTS) {
            let (kind, reason) = (section::TREE_DIGESTS, SectionFault::Both(section::DIGESTS));
            return Err(Invalid::Section { kind, reason }.into());
        }
        let required = |section: &&Section<'_>| section.kind & OPTIONAL_SECTION == 0;
        if let Some(unknown) = sections.iter().filter(required).find(|section| !KNOWN.contains(&section.kind)) {
            return Err(Invalid::UnknownSection { kind: unknown.kind }.into());
        }
        let optional =
            |wanted| sections.iter().find(|section| section.kind == wanted).map(|section| &section.content[..]);
        let content = |kind| optional(kind).ok_or(Invalid::MissingSection { kind });
        let metadata = Metadata::read(content(section::METADATA)?)?;
        let informative = [section::STATISTICS, section::COUNTERPARTS].map(optional);
        let table = content(section::TABLE)?;
        let digests = match optional(section::TREE_DIGESTS) {
            Some(digests) => (ContentHash::Blake3, digests),
            None => (ContentHash::Sha256, content(section::DIGESTS)?),
        };
        let table = TensorTable::read(table, digests, informative, preamble.payload_bytes)?;
        let found = table.tensors.iter().map(|tensor| tensor.selected).sum();
        let most = SELECTED_FREE.saturating_add(SELECTED_RATIO_MAX.saturating_mul(file_bytes));
        if found > most {
            return Err(Invalid::Work { found, most, file_bytes }.into());
        }
        let header_bytes = PREAMBLE_BYTES + u64::from(preamble.sections_bytes);
        Ok(Self { id: preamble.digest, metadata, table, header_bytes, file_bytes, source })
    }

    /// Writes the patch to a new file at `path`, all of it or nothing.
    ///
    /// # Errors
    /// [`durable::Failed`].
    pub fn save(&self, path: &Path, existing: Existing) -> Result<(), durable::Failed> {
        let bytes = self.to_bytes().map_err(|e| durable::Failed::io("read", path, e))?;
        durable::write_file(path, &bytes, existing)
    }

    /// All bytes of the patch file.
    ///
    /// # Errors
    /// I/O.
    pub fn to_bytes(&self) -> std::io::Result<Vec<u8>> {
        self.source.read_at(0, self.file_bytes)
    }

    /// The same patch with other metadata, and so with another id.
    ///
    /// # Errors
    /// I/O; R10, when free metadata cannot be written as JSON.
    pub fn with_metadata(&self, metadata: &Metadata) -> Result<Self, ReadError> {
        let sections = self.source.read_at(PREAMBLE_BYTES, self.header_bytes - PREAMBLE_BYTES)?;
        let mut header = Vec::new();
        for section in read_sections(&sections)? {
            match section.kind {
                section::METADATA => write_section(&mut header, section.kind, &metadata.write()?, Packing::Zstd),
                _ => header.extend_from_slice(section.stored),
            }
        }
        let payload_bytes = self.file_bytes - self.header_bytes;
        let mut bytes = Preamble::write(&header, payload_bytes);
        bytes.extend(self.source.read_at(self.header_bytes, payload_bytes)?);
        Self::from_bytes(bytes)
    }

    /// The bytes of one block, once they match its digest.
    ///
    /// # Errors
    /// I/O, and R18.
    pub fn block(&self, tensor: &TensorEntry, block: &BlockEntry) -> Result<Vec<u8>, ReadError> {
        let bytes = self.source.read_at(self.header_bytes + block.offset, block.bytes)?;
        let (found, expected) = (Digest::sha256(&bytes), block.digest);
        if found != expected {
            return Err(
                Invalid::BlockDigest { tensor: tensor.name.clone(), block: block.index, found, expected }.into()
            );
        }
        Ok(bytes)
    }
}

impl Source {
    /// `bytes` bytes from `offset`, which the caller has compared with the file's size.
    fn read_at(&self, offset: u64, bytes: u64) -> std::io::Result<Vec<u8>> {
        match self {
            Source::Bytes(all) => {
                let start = offset as usize;
                all.get(start..start + bytes as usize)
                    .map(<[u8]>::to_vec)
                    .ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
            }
            Source::File(file) => {
                let mut out = Vec::new();
                At { file, offset }.take(bytes).read_to_end(&mut out)?;
                if out.len() as u64 != bytes {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                Ok(out)
            }
        }
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

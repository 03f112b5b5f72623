//! Opening a patch: the header at once, blocks one by one, each checked against its digest (spec §4).

use super::header::{KNOWN, Packing, Preamble, Section, header_digest, read_sections, section, write_section};
use super::invalid::{Invalid, SectionFault};
use super::limits::{OPTIONAL_SECTION, PREAMBLE_BYTES, SELECTED_FREE, SELECTED_RATIO_MAX};
use super::metadata::Metadata;
use super::tensor_table::{BlockEntry, TensorEntry, TensorTable};
use crate::digest::{ContentHash, Digest};
use crate::edit::{Alpha, AlphaSource};
use std::fmt::Debug;
use std::io;
use std::sync::Arc;

/// A patch whose header is verified. Blocks stay in the file until asked for.
#[derive(Debug, Clone)]
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
    source: Arc<dyn ReadAt>,
}

/// Where the bytes of a patch are: in memory, in a file, behind a network. It is read by several threads.
pub trait ReadAt: Debug + Send + Sync {
    /// How many bytes there are.
    fn bytes(&self) -> u64;

    /// `bytes` bytes from `offset` on.
    ///
    /// # Errors
    /// I/O; [`io::ErrorKind::UnexpectedEof`] where there are fewer.
    fn read_at(&self, offset: u64, bytes: u64) -> io::Result<Vec<u8>>;
}

impl ReadAt for Vec<u8> {
    fn bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
        let range = offset as usize..offset.saturating_add(bytes) as usize;
        self.get(range).map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// Why a patch could not be read: the file, or what is in it.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The content breaks a rule of the format.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

impl Patch {
    /// Reads the header of a patch, and verifies it.
    ///
    /// Allocates a small multiple of the sections' bytes and at most [`super::limits::SECTION_RAW_BYTES_MAX`] for each of
    /// the three that may be packed (spec §15).
    ///
    /// # Errors
    /// I/O, R1 to R17, and R22.
    pub fn read(source: impl ReadAt + 'static) -> Result<Self, ReadError> {
        Self::parse(Arc::new(source))
    }

    fn parse(source: Arc<dyn ReadAt>) -> Result<Self, ReadError> {
        let file_bytes = source.bytes();
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

    /// The alpha at which the patch is applied where nobody names one: the one that its author recommends, or else 1.
    pub fn default_alpha(&self) -> (Alpha, AlphaSource) {
        match self.metadata.recommended_alpha.and_then(Alpha::new) {
            Some(alpha) => (alpha, AlphaSource::Recommended),
            None => (Alpha::ONE, AlphaSource::Default),
        }
    }

    /// All bytes of the patch file.
    ///
    /// # Errors
    /// I/O.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
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
        Self::read(bytes)
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

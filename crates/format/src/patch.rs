//! Opens a patch (spec §4): the header is read and verified at once; blocks are read one by one, each verified by its digest.

// Reads untrusted bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::header::{KNOWN, Packing, Preamble, Section, header_digest, read_sections, section, write_section};
use super::invalid::Invalid;
use super::limits::{OPTIONAL_SECTION, PREAMBLE_BYTES, SELECTED_FREE, SELECTED_RATIO_MAX};
use super::metadata::{Ignored, Metadata, Unwritable};
use super::tensor_table::{BlockEntry, Counterparts, Roots, TableSections, TensorEntry, TensorTable};
use crate::block::DENSE_FRONT;
use crate::digest::Digest;
use crate::edit::{Alpha, AlphaSource};
use std::fmt::Debug;
use std::io;
use std::sync::Arc;

/// Size of the pieces in which a patch is copied, in bytes.
const PIECE_BYTES: u64 = 1 << 20;

/// Number of bytes that are read first, in one read: they hold the whole header of most patches.
const FRONT_BYTES: u64 = 64 << 10;

/// A patch whose header is verified. Blocks are read when they are needed.
#[derive(Debug, Clone)]
pub struct Patch {
    id: Digest,
    metadata: Metadata,
    ignored: Vec<Ignored>,
    table: TensorTable,
    header_bytes: u64,
    file_bytes: u64,
    source: Arc<dyn ReadAt>,
}

/// A source of a patch's bytes: memory, a file, or a network. Several threads may read from it at once.
pub trait ReadAt: Debug + Send + Sync {
    /// Total number of bytes.
    fn bytes(&self) -> u64;

    /// Reads `bytes` bytes at `offset`.
    ///
    /// # Errors
    /// I/O; [`io::ErrorKind::UnexpectedEof`] if the range is not within the source.
    fn read_at(&self, offset: u64, bytes: u64) -> io::Result<Vec<u8>>;
}

impl ReadAt for Vec<u8> {
    fn bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
        let range = usize::try_from(offset).ok().zip(offset.checked_add(bytes).and_then(|end| end.try_into().ok()));
        let part = range.and_then(|(start, end): (usize, usize)| self.get(start..end));
        part.map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl ReadAt for Box<dyn ReadAt> {
    fn bytes(&self) -> u64 {
        (**self).bytes()
    }

    fn read_at(&self, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
        (**self).read_at(offset, bytes)
    }
}

/// Why a patch could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The source could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The content breaks a rule of the format.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Why a patch could not be given other metadata.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// The patch could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Readers would ignore the metadata.
    #[error(transparent)]
    Metadata(#[from] Unwritable),
}

impl Patch {
    /// Reads and verifies the header of a patch.
    ///
    /// Allocates a small multiple of the size of the sections, and at most [`super::limits::SECTION_RAW_BYTES_MAX`] bytes for each of the
    /// three that may be packed (spec §13).
    ///
    /// # Errors
    /// I/O, and R1 to R17.
    pub fn read(source: impl ReadAt + 'static) -> Result<Self, ReadError> {
        Self::parse(Arc::new(source))
    }

    fn parse(source: Arc<dyn ReadAt>) -> Result<Self, ReadError> {
        let file_bytes = source.bytes();
        let mut front = source.read_at(0, FRONT_BYTES.min(file_bytes))?;
        let preamble = Preamble::read(&front, file_bytes)?;
        let header_bytes = PREAMBLE_BYTES + u64::from(preamble.sections_bytes);
        match header_bytes.checked_sub(front.len() as u64) {
            Some(rest) if rest > 0 => front.extend(source.read_at(front.len() as u64, rest)?),
            _ => front.truncate(header_bytes as usize),
        }
        let (start, sections) = front.split_at(PREAMBLE_BYTES as usize);
        let (found, expected) = (header_digest(start, sections), preamble.digest);
        if found != expected {
            return Err(Invalid::HeaderDigest { found, expected }.into());
        }
        let sections = read_sections(sections)?;
        let optional = |kind| find(&sections, kind);
        let required = |kind| find(&sections, kind).ok_or(Invalid::MissingSection { kind });
        let is_refused =
            |section: &&Section<'_>| section.kind & OPTIONAL_SECTION == 0 && !KNOWN.contains(&section.kind);
        if let Some(unknown) = sections.iter().find(is_refused) {
            return Err(Invalid::UnknownSection { kind: unknown.kind }.into());
        }
        let (metadata, ignored) = Metadata::read(required(section::METADATA)?);
        let contents = TableSections {
            table: required(section::TABLE)?,
            digests: required(section::DIGESTS)?,
            statistics: optional(section::STATISTICS),
            counterparts: optional(section::COUNTERPARTS),
        };
        let table = TensorTable::read(contents, preamble.payload_bytes)?;
        let found = table.tensors.iter().map(|tensor| tensor.selected).sum();
        let most = SELECTED_FREE.saturating_add(SELECTED_RATIO_MAX.saturating_mul(file_bytes));
        if found > most {
            return Err(Invalid::Work { found, most, file_bytes }.into());
        }
        Ok(Self { id: preamble.digest, metadata, ignored, table, header_bytes, file_bytes, source })
    }

    /// BLAKE3 of the header. As the header contains the digests of all blocks, the id identifies the whole content (spec §11.1).
    pub fn id(&self) -> Digest {
        self.id
    }

    /// The descriptive metadata, as far as it is what spec §6 says.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The parts of the metadata that are not what spec §6 says, and count as absent.
    pub fn ignored_metadata(&self) -> &[Ignored] {
        &self.ignored
    }

    /// The tensors that the patch changes, and the offsets of their blocks.
    pub fn table(&self) -> &TensorTable {
        &self.table
    }

    /// Size of everything before the payload, in bytes.
    pub fn header_bytes(&self) -> u64 {
        self.header_bytes
    }

    /// Size of the whole file in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// The alpha to apply the patch at if the user gives none: the one that the author recommends, otherwise 1.
    pub fn default_alpha(&self) -> (Alpha, AlphaSource) {
        match self.metadata.recommended_alpha.and_then(Alpha::new) {
            Some(alpha) => (alpha, AlphaSource::Recommended),
            None => (Alpha::ONE, AlphaSource::Default),
        }
    }

    /// The same patch, of which only the tensors that `keeps` accepts are in the table. Its id, its metadata and its bytes are those of
    /// all of it.
    ///
    /// The digests over the patch become those over the tensors that are left, where their counterparts (spec §11.4) are known; the one
    /// over selected values becomes unknown.
    #[must_use]
    pub fn part(&self, keeps: impl Fn(&TensorEntry) -> bool) -> Self {
        let tensors: Vec<TensorEntry> = self.table.tensors.iter().filter(|tensor| keeps(tensor)).cloned().collect();
        if tensors.len() == self.table.tensors.len() {
            return self.clone();
        }
        let root = |digest: fn(&Counterparts) -> Digest| {
            let of_tensor = |tensor: &TensorEntry| tensor.counterparts.as_ref().map(digest).filter(Digest::is_known);
            let digests: Option<Vec<Digest>> = tensors.iter().map(of_tensor).collect();
            digests.map_or(Digest::UNKNOWN, |digests| Digest::root(&digests))
        };
        let (reference, result) = (root(|tensor| tensor.reference), root(|tensor| tensor.result));
        let roots = Roots { selected: Digest::UNKNOWN, reference, result };
        Self { table: TensorTable { block_log2: self.table.block_log2, roots, tensors }, ..self.clone() }
    }

    /// Where the bytes are read from.
    pub fn reader(&self) -> &Arc<dyn ReadAt> {
        &self.source
    }

    /// The same patch, whose bytes are read from `reader`.
    #[must_use]
    pub fn with_reader(self, reader: Arc<dyn ReadAt>) -> Self {
        Self { source: reader, ..self }
    }

    /// Reads all bytes of the patch file.
    ///
    /// # Errors
    /// I/O.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        self.source.read_at(0, self.file_bytes)
    }

    /// All bytes of the patch file, in pieces of at most 1 MiB.
    ///
    /// # Errors
    /// I/O.
    pub fn pieces(&self) -> impl Iterator<Item = io::Result<Vec<u8>>> {
        let starts = (0..self.file_bytes).step_by(PIECE_BYTES as usize);
        starts.map(|start| self.source.read_at(start, PIECE_BYTES.min(self.file_bytes - start)))
    }

    /// The same patch with other metadata. This changes its id.
    ///
    /// # Errors
    /// I/O; [`Unwritable`] metadata.
    pub fn with_metadata(&self, metadata: &Metadata) -> Result<Self, RewriteError> {
        Ok(self.with_metadata_section(&metadata.write()?)?)
    }

    fn with_metadata_section(&self, metadata: &[u8]) -> Result<Self, ReadError> {
        let sections = self.source.read_at(PREAMBLE_BYTES, self.header_bytes - PREAMBLE_BYTES)?;
        let mut header = Vec::new();
        for section in read_sections(&sections)? {
            match section.kind {
                section::METADATA => write_section(&mut header, section.kind, metadata, Packing::Zstd),
                _ => header.extend_from_slice(section.stored),
            }
        }
        let payload_bytes = self.file_bytes - self.header_bytes;
        let mut bytes = Preamble::write(&header, payload_bytes);
        bytes.extend(self.source.read_at(self.header_bytes, payload_bytes)?);
        Self::read(bytes)
    }

    /// Whether a block begins as a dense one does. Reads nothing else, and verifies nothing.
    ///
    /// # Errors
    /// I/O.
    pub fn begins_dense(&self, block: &BlockEntry) -> Result<bool, ReadError> {
        let bytes = block.bytes.min(DENSE_FRONT.len() as u64);
        Ok(self.source.read_at(self.header_bytes.saturating_add(block.offset), bytes)? == DENSE_FRONT)
    }

    /// Reads one block and verifies its digest.
    ///
    /// # Errors
    /// I/O, and R18.
    pub fn block(&self, tensor: &TensorEntry, block: &BlockEntry) -> Result<Vec<u8>, ReadError> {
        let bytes = self.source.read_at(self.header_bytes.saturating_add(block.offset), block.bytes)?;
        let (found, expected) = (Digest::of(&bytes), block.digest);
        if found != expected {
            return Err(
                Invalid::BlockDigest { tensor: tensor.name.clone(), block: block.index, found, expected }.into()
            );
        }
        Ok(bytes)
    }
}

/// The content of the section of type `kind`, if there is one.
fn find<'a>(sections: &'a [Section<'_>], kind: u16) -> Option<&'a [u8]> {
    sections.iter().find(|section| section.kind == kind).map(|section| &section.content[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_past_the_end_of_memory_is_an_error() {
        let bytes = vec![1u8, 2, 3];
        assert_eq!(ReadAt::bytes(&bytes), 3);
        assert_eq!(bytes.read_at(1, 2).unwrap(), [2, 3]);
        assert!(bytes.read_at(3, 0).unwrap().is_empty());
        for (offset, length) in [(0, 4), (4, 0), (2, 2), (1, u64::MAX), (u64::MAX, 1), (u64::MAX, u64::MAX)] {
            let error = bytes.read_at(offset, length).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length} bytes at {offset}");
        }
    }
}

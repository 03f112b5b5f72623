//! The preamble and the sections at the front of a file (spec §5).

// Reads untrusted bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::invalid::{Invalid, SectionFault};
use super::limits::*;
use crate::codec::reader::Reader;
use crate::digest::{Digest, Hasher};
use crate::zstd_frame::{self, FrameFault};
use std::borrow::Cow;

/// Section types (spec §5.2).
pub mod section {
    /// Descriptive JSON (spec §6).
    pub const METADATA: u16 = 1;
    /// Tensors and blocks (spec §7).
    pub const TABLE: u16 = 2;
    /// Digests of tensors and blocks (spec §11).
    pub const DIGESTS: u16 = 3;
    /// Magnitudes of deltas, optional (spec §7.3).
    pub const STATISTICS: u16 = 0x8004;
    /// Digests that the inverse of a portable patch needs, optional (spec §11.4).
    pub const COUNTERPARTS: u16 = 0x8005;
}

/// zstd's compression level. It must not change: the same inputs must give the same bytes.
const ZSTD_LEVEL: i32 = 19;
/// The level for sections of more than [`LARGE_SECTION_BYTES`] bytes, such as tables of tens of thousands of tensors, for which level 19
/// would take longer than the rest of a diff.
const ZSTD_LEVEL_LARGE: i32 = 9;
const LARGE_SECTION_BYTES: usize = 1 << 18;
const RAW: u8 = 0;
const ZSTD: u8 = 1;

/// The fixed-size front of a file (spec §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preamble {
    /// Size of all sections in bytes.
    pub sections_bytes: u32,
    /// Size of all blocks in bytes.
    pub payload_bytes: u64,
    /// BLAKE3 of the first 32 bytes and all sections: the patch id.
    pub digest: Digest,
}

impl Preamble {
    /// Parses the first [`PREAMBLE_BYTES`] bytes of a file of `file_bytes` bytes.
    ///
    /// # Errors
    /// R1 to R5.
    pub fn read(front: &[u8], file_bytes: u64) -> Result<Self, Invalid> {
        check_magic(front)?;
        let too_short = Invalid::Length { found: file_bytes, expected: PREAMBLE_BYTES };
        if (front.len() as u64) < PREAMBLE_BYTES {
            return Err(too_short);
        }
        let short = |_| too_short.clone();
        let mut reader = Reader::new(front);
        reader.take(MAGIC.len() as u64, "magic").map_err(short)?;
        let version = reader.u16("version").map_err(short)?;
        if version != VERSION {
            return Err(Invalid::Version { found: version });
        }
        let reserved = reader.u16("reserved").map_err(short)?;
        let sections_bytes = reader.u32("sections length").map_err(short)?;
        let payload_bytes = reader.u64("payload length").map_err(short)?;
        let reserved_too = reader.u64("reserved").map_err(short)?;
        let digest = Digest(reader.array("header digest").map_err(short)?);
        if reserved != 0 || reserved_too != 0 {
            return Err(Invalid::Reserved { field: "of the preamble" });
        }
        let expected = (PREAMBLE_BYTES + u64::from(sections_bytes)).saturating_add(payload_bytes);
        if u64::from(sections_bytes) > SECTIONS_BYTES_MAX {
            return Err(Invalid::SectionsLength { found: sections_bytes.into(), most: SECTIONS_BYTES_MAX });
        }
        if expected != file_bytes {
            return Err(Invalid::Length { found: file_bytes, expected });
        }
        Ok(Self { sections_bytes, payload_bytes, digest })
    }

    /// The bytes of a file up to its payload: the preamble, including its digest, and `sections`.
    pub fn write(sections: &[u8], payload_bytes: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(PREAMBLE_BYTES as usize + sections.len());
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend([0; 2]);
        out.extend((sections.len() as u32).to_le_bytes());
        out.extend(payload_bytes.to_le_bytes());
        out.extend([0; 8]);
        let digest = header_digest(&out, sections);
        out.extend(digest.0);
        out.extend(sections);
        out
    }
}

/// The digest that the preamble must contain, which is the patch id (spec §11.1).
pub fn header_digest(preamble: &[u8], sections: &[u8]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(preamble.get(..PREAMBLE_DIGESTED_BYTES).unwrap_or(preamble));
    hasher.update(sections);
    hasher.finish()
}

fn check_magic(front: &[u8]) -> Result<(), Invalid> {
    if front.starts_with(&MAGIC) {
        return Ok(());
    }
    // Text mode converts CR LF to LF or LF to CR LF, and some readers stop at 1A (Ctrl-Z).
    let damaged: [&[u8]; 4] = [b"\x89LCP\n\x1a\n", b"\x89LCP\r\r\n", b"\x89LCP\r\n\x1a\r\n", b"\x89LCP\r\n\x1a\r"];
    if damaged.iter().any(|d| front.starts_with(d)) {
        return Err(Invalid::TextMode);
    }
    Err(Invalid::NotAPatch { found: front.iter().take(MAGIC.len()).copied().collect() })
}

/// Appends a section. With [`Packing::Zstd`] it is compressed, unless that makes it larger or exceeds the ratio that readers accept
/// (spec §5.2).
pub fn write_section(out: &mut Vec<u8>, kind: u16, content: &[u8], packing: Packing) {
    let level = if content.len() > LARGE_SECTION_BYTES { ZSTD_LEVEL_LARGE } else { ZSTD_LEVEL };
    let compressed = match packing {
        Packing::Zstd => zstd::bulk::compress(content, level).ok(),
        Packing::Raw => None,
    };
    let is_acceptable = |compressed: &&Vec<u8>| {
        compressed.len() < content.len() && content.len() as u64 <= raw_bytes_max(compressed.len() as u64)
    };
    let (encoding, stored) = match compressed.as_ref().filter(is_acceptable) {
        Some(compressed) => (ZSTD, &compressed[..]),
        None => (RAW, content),
    };
    out.extend(kind.to_le_bytes());
    out.extend([encoding, 0]);
    out.extend((stored.len() as u32).to_le_bytes());
    out.extend((content.len() as u32).to_le_bytes());
    out.extend(stored);
}

/// Whether a section is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Compressed with zstd if that helps: text and tables.
    Zstd,
    /// Never compressed: digests are random bytes.
    Raw,
}

/// A section of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section<'a> {
    /// The section type ([`section`]).
    pub kind: u16,
    /// Head and content as stored in the file.
    pub stored: &'a [u8],
    /// The unpacked content; empty for an unknown type, which is not unpacked.
    pub content: Cow<'a, [u8]>,
}

/// The section types that this reader knows.
pub const KNOWN: [u16; 5] =
    [section::METADATA, section::TABLE, section::DIGESTS, section::STATISTICS, section::COUNTERPARTS];

/// Parses all sections, in order, and unpacks those of known types.
///
/// Allocates memory for the unpacked METADATA, TABLE and STATISTICS, at most [`SECTION_RAW_BYTES_MAX`] bytes each.
///
/// # Errors
/// R5, R7.
pub fn read_sections(bytes: &[u8]) -> Result<Vec<Section<'_>>, Invalid> {
    let mut reader = Reader::new(bytes);
    let mut sections: Vec<Section<'_>> = Vec::new();
    while !reader.rest().is_empty() {
        let whole = reader.rest();
        let kind = match *whole {
            [low, high, ..] => u16::from_le_bytes([low, high]),
            _ => 0,
        };
        let fault = |reason| Invalid::Section { kind, reason };
        let mut head = Reader::new(reader.take(SECTION_HEAD_BYTES, "section head").map_err(|e| fault(e.into()))?);
        head.u16("type").map_err(|e| fault(e.into()))?;
        let encoding = head.u8("encoding").map_err(|e| fault(e.into()))?;
        let reserved = head.u8("reserved").map_err(|e| fault(e.into()))?;
        let stored_bytes = u64::from(head.u32("stored length").map_err(|e| fault(e.into()))?);
        let raw_bytes = u64::from(head.u32("raw length").map_err(|e| fault(e.into()))?);
        let stored = reader.take(stored_bytes, "section").map_err(|e| fault(e.into()))?;
        if reserved != 0 {
            return Err(Invalid::Reserved { field: "of a section head" });
        }
        if sections.last().is_some_and(|before| before.kind >= kind) {
            return Err(fault(SectionFault::Order));
        }
        let content = match KNOWN.contains(&kind) {
            true => unpack(kind, encoding, stored, raw_bytes).map_err(fault)?,
            // Unpacking unknown content would let a small file use memory for nothing.
            false => Cow::Borrowed(&[][..]),
        };
        let stored = whole.get(..SECTION_HEAD_BYTES as usize + stored.len()).unwrap_or(whole);
        sections.push(Section { kind, stored, content });
    }
    Ok(sections)
}

/// Unpacks a section. All limits are checked before memory is allocated (spec §5.2).
fn unpack(kind: u16, encoding: u8, stored: &[u8], raw_bytes: u64) -> Result<Cow<'_, [u8]>, SectionFault> {
    let stored_bytes = stored.len() as u64;
    match encoding {
        RAW if raw_bytes != stored_bytes => return Err(SectionFault::Unpack),
        // Digests are never packed, so that each tensor and block takes at least 32 bytes of the file: their number is bounded by its
        // size.
        ZSTD if matches!(kind, section::DIGESTS | section::COUNTERPARTS) => return Err(SectionFault::Packed),
        ZSTD if raw_bytes > raw_bytes_max(stored_bytes) => return Err(SectionFault::TooLarge(raw_bytes)),
        RAW | ZSTD => {}
        other => return Err(SectionFault::Encoding(other)),
    }
    if kind == section::METADATA && raw_bytes > METADATA_BYTES_MAX {
        return Err(SectionFault::Long { found: raw_bytes, most: METADATA_BYTES_MAX });
    }
    if encoding == RAW {
        return Ok(Cow::Borrowed(stored));
    }
    let content = zstd_frame::unpack(stored, raw_bytes as usize).map_err(|fault| match fault {
        FrameFault::NotOne => SectionFault::Frame,
        FrameFault::Window(bytes) => SectionFault::Window(bytes),
        FrameFault::Content => SectionFault::Unpack,
    })?;
    Ok(Cow::Owned(content))
}

/// The most bytes that a section of `stored_bytes` bytes may unpack to (spec §13).
fn raw_bytes_max(stored_bytes: u64) -> u64 {
    (SECTION_RAW_BYTES_FREE + SECTION_RATIO_MAX * stored_bytes).min(SECTION_RAW_BYTES_MAX)
}

impl From<crate::codec::Corrupt> for SectionFault {
    fn from(reason: crate::codec::Corrupt) -> Self {
        SectionFault::Bytes(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_mode_damage_and_other_formats_are_distinguished() {
        let read = |front: &[u8]| Preamble::read(front, front.len() as u64);
        assert_eq!(read(b"\x89LCP\n\x1a\nrest"), Err(Invalid::TextMode));
        assert_eq!(read(b"\x89LCP\r\r\n\x1a\r\n"), Err(Invalid::TextMode));
        assert_eq!(read(b"PK\x03\x04"), Err(Invalid::NotAPatch { found: b"PK\x03\x04".to_vec() }));
        assert_eq!(read(&MAGIC), Err(Invalid::Length { found: 8, expected: PREAMBLE_BYTES }));
    }

    #[test]
    fn a_section_that_unpacks_too_far_is_stored_raw_and_refused_when_packed() {
        let content = vec![0; 1 << 22];
        let mut out = Vec::new();
        write_section(&mut out, section::TABLE, &content, Packing::Zstd);
        assert_eq!(read_sections(&out).unwrap()[0].content, content);

        let bomb = zstd::bulk::compress(&content, 19).unwrap();
        let mut out = vec![section::TABLE as u8, 0, ZSTD, 0];
        out.extend((bomb.len() as u32).to_le_bytes());
        out.extend((content.len() as u32).to_le_bytes());
        out.extend(&bomb);
        let reason = SectionFault::TooLarge(1 << 22);
        assert_eq!(read_sections(&out), Err(Invalid::Section { kind: section::TABLE, reason }));
    }
}

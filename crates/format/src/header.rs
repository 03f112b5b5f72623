//! The preamble and the sections: all that one small read at the front of a file gives (spec §5).

use super::invalid::{Invalid, SectionFault};
use super::limits::*;
use crate::codec::reader::Reader;
use crate::digest::{Digest, Hasher};
use std::borrow::Cow;

/// Section types (spec §5.2).
pub mod section {
    /// JSON for people and tools (spec §6).
    pub const METADATA: u16 = 1;
    /// Tensors and blocks (spec §7).
    pub const TABLE: u16 = 2;
    /// Digests, of contents by SHA-256 (spec §12).
    pub const DIGESTS: u16 = 3;
    /// Digests, of contents by BLAKE3; in place of [`DIGESTS`].
    pub const TREE_DIGESTS: u16 = 4;
    /// Delta magnitudes, optional (spec §7.3).
    pub const STATISTICS: u16 = 0x8004;
    /// What the inverse of a portable patch needs, optional (spec §12.5).
    pub const COUNTERPARTS: u16 = 0x8005;
}

/// The effort of zstd, part of what makes the same inputs give the same bytes.
const ZSTD_LEVEL: i32 = 19;
/// The effort for sections of more than [`LARGE_SECTION_BYTES`], on which the highest takes longer than the rest of a diff: tables of
/// tens of thousands of tensors.
const ZSTD_LEVEL_LARGE: i32 = 9;
const LARGE_SECTION_BYTES: usize = 1 << 20;
const RAW: u8 = 0;
const ZSTD: u8 = 1;

/// The fixed-size front of a file (spec §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preamble {
    /// Bytes of all sections.
    pub sections_bytes: u32,
    /// Bytes of all blocks.
    pub payload_bytes: u64,
    /// Digest of the first 32 bytes and all sections: the patch id.
    pub digest: Digest,
}

impl Preamble {
    /// Reads the first [`PREAMBLE_BYTES`] of a file of `file_bytes` bytes.
    ///
    /// # Errors
    /// R1 to R5.
    pub fn read(front: &[u8], file_bytes: u64) -> Result<Self, Invalid> {
        check_magic(front)?;
        let short = |_| Invalid::Length { found: file_bytes, expected: PREAMBLE_BYTES };
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

    /// The bytes of a file up to its payload: this preamble, with its digest worked out, and `sections`.
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

/// The digest that the preamble must hold, which is the patch id (spec §12.1).
pub fn header_digest(preamble: &[u8], sections: &[u8]) -> Digest {
    let mut hasher = Hasher::sha256();
    hasher.update(&preamble[..PREAMBLE_DIGESTED_BYTES]);
    hasher.update(sections);
    hasher.finish()
}

fn check_magic(front: &[u8]) -> Result<(), Invalid> {
    if front.starts_with(&MAGIC) {
        return Ok(());
    }
    // CR LF may have become LF, LF may have become CR LF, and a text reader may have stopped at 1A.
    let damaged: [&[u8]; 4] = [b"\x89LCE\n\x1a\n", b"\x89LCE\r\r\n", b"\x89LCE\r\n\x1a\r\n", b"\x89LCE\r\n\x1a\r"];
    if damaged.iter().any(|d| front.starts_with(d)) {
        return Err(Invalid::TextMode);
    }
    Err(Invalid::NotAPatch { found: front[..front.len().min(MAGIC.len())].to_vec() })
}

/// Appends a section, packed where that is smaller and a reader may unpack it (spec §5.2).
pub fn write_section(out: &mut Vec<u8>, kind: u16, content: &[u8], packed: Packing) {
    let level = if content.len() > LARGE_SECTION_BYTES { ZSTD_LEVEL_LARGE } else { ZSTD_LEVEL };
    let zstd = match packed {
        Packing::Zstd => zstd::bulk::compress(content, level).ok(),
        Packing::Raw => None,
    };
    let fits = |z: &Vec<u8>| z.len() < content.len() && content.len() as u64 <= raw_bytes_max(z.len() as u64);
    let (encoding, stored) = match &zstd {
        Some(z) if fits(z) => (ZSTD, &z[..]),
        _ => (RAW, content),
    };
    out.extend(kind.to_le_bytes());
    out.extend([encoding, 0]);
    out.extend((stored.len() as u32).to_le_bytes());
    out.extend((content.len() as u32).to_le_bytes());
    out.extend(stored);
}

/// Whether packing a section may pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Text and tables.
    Zstd,
    /// Digests.
    Raw,
}

/// A section of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section<'a> {
    /// Its type.
    pub kind: u16,
    /// Its head and its content as the file has them.
    pub stored: &'a [u8],
    /// What it holds; empty for a type that this reader does not know, which is not unpacked.
    pub content: Cow<'a, [u8]>,
}

/// The types that this reader knows.
pub const KNOWN: [u16; 6] = [
    section::METADATA,
    section::TABLE,
    section::DIGESTS,
    section::TREE_DIGESTS,
    section::STATISTICS,
    section::COUNTERPARTS,
];

/// Finds all sections, in order, and unpacks those that are known.
///
/// Allocates for METADATA, TABLE and STATISTICS what they unpack to, at most [`SECTION_RAW_BYTES_MAX`] each.
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
            // Nobody needs it, so that nobody pays for what it unpacks to.
            false => Cow::Borrowed(&[][..]),
        };
        sections.push(Section { kind, stored: &whole[..SECTION_HEAD_BYTES as usize + stored.len()], content });
    }
    Ok(sections)
}

/// The content of a section. Every limit is checked before anything is allocated (spec §5.2).
fn unpack(kind: u16, encoding: u8, stored: &[u8], raw_bytes: u64) -> Result<Cow<'_, [u8]>, SectionFault> {
    let stored_bytes = stored.len() as u64;
    match encoding {
        RAW if raw_bytes != stored_bytes => return Err(SectionFault::Unpack),
        // Digests do not pack: a block and a tensor cost a file 32 bytes at least.
        ZSTD if matches!(kind, section::DIGESTS | section::TREE_DIGESTS | section::COUNTERPARTS) => {
            return Err(SectionFault::Packed);
        }
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
    check_frame(stored)?;
    let content = zstd::bulk::decompress(stored, raw_bytes as usize).map_err(|_| SectionFault::Unpack)?;
    if content.len() as u64 == raw_bytes { Ok(Cow::Owned(content)) } else { Err(SectionFault::Unpack) }
}

/// That `stored` is one zstd frame (RFC 8878, section 3.1.1) with a window of at most [`WINDOW_BYTES_MAX`]. Decoders differ in what
/// else they take: several frames, frames to skip, nothing at all.
fn check_frame(stored: &[u8]) -> Result<(), SectionFault> {
    let [0x28, 0xb5, 0x2f, 0xfd, descriptor, window, ..] = *stored else { return Err(SectionFault::Frame) };
    if zstd::zstd_safe::find_frame_compressed_size(stored) != Ok(stored.len()) {
        return Err(SectionFault::Frame);
    }
    // In a frame of a single segment the window is the content.
    if descriptor & 1 << 5 == 0 {
        let base = 1u64 << (10 + (window >> 3));
        let window = base + base / 8 * u64::from(window & 7);
        if window > WINDOW_BYTES_MAX {
            return Err(SectionFault::Window(window));
        }
    }
    Ok(())
}

/// What `stored_bytes` may unpack to (spec §15).
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
    fn text_mode_damage_is_told_from_another_format() {
        let read = |front: &[u8]| Preamble::read(front, front.len() as u64);
        assert_eq!(read(b"\x89LCE\n\x1a\nrest"), Err(Invalid::TextMode));
        assert_eq!(read(b"\x89LCE\r\r\n\x1a\r\n"), Err(Invalid::TextMode));
        assert_eq!(read(b"PK\x03\x04"), Err(Invalid::NotAPatch { found: b"PK\x03\x04".to_vec() }));
        assert_eq!(read(&MAGIC), Err(Invalid::Length { found: 8, expected: PREAMBLE_BYTES }));
    }

    #[test]
    fn a_section_that_unpacks_too_far_is_stored_raw_and_refused_when_packed() {
        let content = vec![0; 1 << 22];
        let mut out = Vec::new();
        write_section(&mut out, 1, &content, Packing::Zstd);
        assert_eq!(read_sections(&out).unwrap()[0].content, content);

        let bomb = zstd::bulk::compress(&content, 19).unwrap();
        let mut out = vec![1, 0, ZSTD, 0];
        out.extend((bomb.len() as u32).to_le_bytes());
        out.extend((content.len() as u32).to_le_bytes());
        out.extend(&bomb);
        let reason = SectionFault::TooLarge(1 << 22);
        assert_eq!(read_sections(&out), Err(Invalid::Section { kind: 1, reason }));
    }
}

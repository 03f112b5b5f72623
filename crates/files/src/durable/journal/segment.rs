//! Segments of an edit journal. A segment holds the changes in a range of a file; a unit is the smallest thing that changes (an element).
//!
//! | bytes | content |
//! | --- | --- |
//! | 8 | offset of the first changed unit in the file |
//! | 4 | length of the range, to the end of the last changed unit |
//! | 4 | index of the file |
//! | 2 | number of changed units, minus one |
//! | 2 | bytes of a unit: 1, 2, 4 or 8 |
//! | 2 each | indices of the changed units, counted from the first one, ascending |
//! | | the old bytes of all changed units; the new bytes of all changed units |
//!
//! **Invariant.** The segments of a journal ascend by file and offset, and do not overlap. Runs of neighbouring segments can therefore be
//! processed in parallel without touching the same byte. The writer refuses to break the invariant, and the reader checks it.

use super::super::{Failed, disk};
use super::damaged;
use lcepatch_format::dtype::Width;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

/// Most units in the range of a segment.
const SEGMENT_UNITS: u32 = 1 << 16;
/// Size of the fields before the indices.
const HEADER_BYTES: usize = 20;
/// Bytes of a file that are read, changed and written at once: more than the range of any segment.
pub(super) const WINDOW_BYTES: u64 = 1 << 20;

/// A position in the edited files: index of the file, and offset in it.
pub(super) type Place = (u32, u64);

/// Serialized segments, ascending.
#[derive(Debug, Default)]
pub struct Segments {
    pub(super) bytes: Vec<u8>,
    /// Start of the first segment's range, and end of the last one's.
    pub(super) span: Option<(Place, Place)>,
}

impl Segments {
    /// Adds changes of units of this `width` in file `file`. `before` is the content of the file at `offset`. Each of `changes` is the
    /// index of a unit in `before`, ascending, and its new bits. Units whose bits do not change are left out.
    ///
    /// # Panics
    /// If a unit is outside of `before`.
    pub fn add(&mut self, file: u32, offset: u64, width: Width, before: &[u8], changes: &[(u32, u64)]) {
        match width {
            Width::W1 => self.add_units::<1>(file, offset, before, changes),
            Width::W2 => self.add_units::<2>(file, offset, before, changes),
            Width::W4 => self.add_units::<4>(file, offset, before, changes),
            Width::W8 => self.add_units::<8>(file, offset, before, changes),
        }
    }

    fn add_units<const WIDTH: usize>(&mut self, file: u32, offset: u64, before: &[u8], changes: &[(u32, u64)]) {
        let before = before.as_chunks::<WIDTH>().0;
        let mut changed: Vec<(u32, [u8; WIDTH], [u8; WIDTH])> = Vec::new();
        for changes in changes.chunk_by(|a, b| a.0 / SEGMENT_UNITS == b.0 / SEGMENT_UNITS) {
            changed.clear();
            changed.extend(changes.iter().filter_map(|(unit, bits)| {
                let (old, mut new) = (before[*unit as usize], [0; WIDTH]);
                new.copy_from_slice(&bits.to_le_bytes()[..WIDTH]);
                (old != new).then_some((*unit, old, new))
            }));
            let (Some((first, ..)), Some((last, ..))) = (changed.first(), changed.last()) else { continue };
            let start = offset + u64::from(*first) * WIDTH as u64;
            let covered = (last - first + 1) * WIDTH as u32;
            self.bytes.extend(start.to_le_bytes());
            self.bytes.extend(covered.to_le_bytes());
            self.bytes.extend(file.to_le_bytes());
            self.bytes.extend(((changed.len() - 1) as u16).to_le_bytes());
            self.bytes.extend((WIDTH as u16).to_le_bytes());
            changed.iter().for_each(|(unit, ..)| self.bytes.extend(((unit - first) as u16).to_le_bytes()));
            changed.iter().for_each(|(_, old, _)| self.bytes.extend(old));
            changed.iter().for_each(|(.., new)| self.bytes.extend(new));
            let (start, end) = ((file, start), (file, start + u64::from(covered)));
            debug_assert!(self.span.is_none_or(|(_, last)| last <= start), "segments ascend");
            self.span = Some((self.span.map_or(start, |(first, _)| first), end));
        }
    }
}

/// A segment of a journal, without its changes.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    /// Index of the file.
    pub file: u32,
    /// The range in the file, from the first to the last changed unit.
    pub place: Range<u64>,
    /// Number of changed units.
    pub changes: usize,
    /// Bytes of a unit.
    pub width: usize,
    /// Offset in the journal of the indices, which follow the header.
    pub at: u64,
}

impl Segment {
    /// Parses the header at offset `at` of the `journal` at `path`, whose segments end at `end`. The segment's range must not begin before
    /// `last`.
    pub fn read(journal: &File, path: &Path, at: u64, end: u64, last: Place) -> Result<Self, Failed> {
        let mut header = [0; HEADER_BYTES];
        read_part(journal, path, &mut header, at, end)?;
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t] = header;
        let start = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let covered = u32::from_le_bytes([i, j, k, l]);
        let segment = Self {
            file: u32::from_le_bytes([m, n, o, p]),
            place: start..start.saturating_add(u64::from(covered)),
            changes: usize::from(u16::from_le_bytes([q, r])) + 1,
            width: usize::from(u16::from_le_bytes([s, t])),
            at: at + HEADER_BYTES as u64,
        };
        let sizes = matches!(segment.width, 1 | 2 | 4 | 8)
            && u64::from(covered) <= u64::from(SEGMENT_UNITS) * segment.width as u64
            && segment.changes * segment.width <= covered as usize;
        if !sizes || (segment.file, segment.place.start) < last {
            return Err(damaged(path, "its segments are not in order"));
        }
        Ok(segment)
    }

    /// Size of the changes, which follow the header, in bytes.
    pub fn bytes(&self) -> usize {
        self.changes * (2 + 2 * self.width)
    }

    /// Offset in the journal of the next segment.
    pub fn end(&self) -> u64 {
        self.at + self.bytes() as u64
    }

    /// Whether this segment fits into a window that begins with segment `first`.
    pub fn is_near(&self, first: &Self) -> bool {
        self.file == first.file && self.place.end - first.place.start <= WINDOW_BYTES
    }

    /// Applies `pass` to `range`, the bytes of the segment's range in the file. `changes` are the bytes after the segment's header.
    pub fn change(&self, range: &mut [u8], changes: &[u8], pass: Pass) -> Change {
        match self.width {
            1 => self.change_units::<1>(range, changes, pass),
            2 => self.change_units::<2>(range, changes, pass),
            4 => self.change_units::<4>(range, changes, pass),
            _ => self.change_units::<8>(range, changes, pass),
        }
    }

    fn change_units<const WIDTH: usize>(&self, range: &mut [u8], changes: &[u8], pass: Pass) -> Change {
        let (indices, values) = changes.split_at(2 * self.changes);
        let (old, new) = values.split_at(self.changes * WIDTH);
        let units = range.as_chunks_mut::<WIDTH>().0;
        let values = old.as_chunks::<WIDTH>().0.iter().zip(new.as_chunks::<WIDTH>().0);
        for (index, (old, new)) in indices.as_chunks::<2>().0.iter().zip(values) {
            let Some(unit) = units.get_mut(usize::from(u16::from_le_bytes(*index))) else { return Change::Outside };
            let is_expected = match pass {
                Pass::Edit | Pass::IsOld => unit == old,
                // After a crash, a unit may have some of its old and some of its new bytes.
                Pass::IsEither | Pass::PutBack => {
                    unit.iter().zip(old).zip(new).all(|((byte, old), new)| byte == old || byte == new)
                }
            };
            match pass {
                // `Pass::IsOld`, which follows, reports it.
                Pass::PutBack if !is_expected => {}
                _ if !is_expected => return Change::OtherBytes,
                Pass::Edit => *unit = *new,
                Pass::PutBack => *unit = *old,
                Pass::IsOld | Pass::IsEither => {}
            }
        }
        Change::Made
    }
}

/// What is done with the units of all segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Replaces the old bytes by the new ones.
    Edit,
    /// Replaces the new bytes by the old ones.
    PutBack,
    /// Checks that each byte is the old or the new one.
    IsEither,
    /// Checks that each byte is the old one.
    IsOld,
}

impl Pass {
    pub fn writes(self) -> bool {
        matches!(self, Pass::Edit | Pass::PutBack)
    }
}

/// The result of a pass over a segment.
pub(super) enum Change {
    Made,
    /// A unit is outside of the segment's range.
    Outside,
    /// The file contains bytes that the journal does not expect.
    OtherBytes,
}

/// Reads a part of a journal whose content ends at `end`.
pub(super) fn read_part(journal: &File, path: &Path, part: &mut [u8], at: u64, end: u64) -> Result<(), Failed> {
    if at.checked_add(part.len() as u64).is_none_or(|part_end| part_end > end) {
        return Err(damaged(path, "it ends too early"));
    }
    disk::read_at(journal, part, at).map_err(|e| Failed::io("read", path, e))
}

//! Segments of an edit journal: the changes of a stretch of a file.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | where the first changed unit is in the file |
//! | 4 | bytes from there to the end of the last changed unit |
//! | 4 | which file |
//! | 2 | number of changed units, less one |
//! | 2 | bytes of a unit: 1, 2, 4 or 8 |
//! | 2 each | the units, counted from the first changed one, ascending |
//! | | their old bytes; their new bytes |
//!
//! **Invariant.** The segments of a journal ascend by file and place, and none overlaps the one before. So whatever neighbouring segments
//! are worked on together, no two pieces of work touch the same byte. The writer refuses to break it, and the reader checks it.

use super::super::{Failed, disk};
use super::damaged;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

const SEGMENT_UNITS: u32 = 1 << 16;
const HEADER_BYTES: usize = 20;
/// Bytes of a file that are read, changed and written at once: more than a segment spans.
pub(super) const WINDOW_BYTES: u64 = 1 << 20;

/// The end of what has been written or read: which file, and where in it.
pub(super) type Place = (u32, u64);

/// Segments in the making, of consecutive places.
#[derive(Debug, Default)]
pub struct Segments {
    pub(super) bytes: Vec<u8>,
    /// Where the first begins and the last ends.
    pub(super) span: Option<(Place, Place)>,
}

impl Segments {
    /// Adds that units of `width` bytes at `offset` of file `file` will change: `before` is what they all hold, and each of `changes` is a
    /// unit of them, ascending, and its new bits. Units that stay as they are are left out.
    ///
    /// # Panics
    /// When `width` is not 1, 2, 4 or 8, or a unit lies outside `before`.
    pub fn add(&mut self, file: u32, offset: u64, width: usize, before: &[u8], changes: &[(u32, u64)]) {
        match width {
            1 => self.add_units::<1>(file, offset, before, changes),
            2 => self.add_units::<2>(file, offset, before, changes),
            4 => self.add_units::<4>(file, offset, before, changes),
            8 => self.add_units::<8>(file, offset, before, changes),
            _ => panic!("units of {width} bytes"),
        }
    }

    fn add_units<const WIDTH: usize>(&mut self, file: u32, offset: u64, before: &[u8], changes: &[(u32, u64)]) {
        let before = before.as_chunks::<WIDTH>().0;
        let mut real: Vec<(u32, [u8; WIDTH], [u8; WIDTH])> = Vec::new();
        for changes in changes.chunk_by(|a, b| a.0 / SEGMENT_UNITS == b.0 / SEGMENT_UNITS) {
            real.clear();
            real.extend(changes.iter().filter_map(|(unit, bits)| {
                let (old, mut new) = (before[*unit as usize], [0; WIDTH]);
                new.copy_from_slice(&bits.to_le_bytes()[..WIDTH]);
                (old != new).then_some((*unit, old, new))
            }));
            let (Some((first, ..)), Some((last, ..))) = (real.first(), real.last()) else { continue };
            let start = offset + u64::from(*first) * WIDTH as u64;
            let covered = (last - first + 1) * WIDTH as u32;
            self.bytes.extend(start.to_le_bytes());
            self.bytes.extend(covered.to_le_bytes());
            self.bytes.extend(file.to_le_bytes());
            self.bytes.extend(((real.len() - 1) as u16).to_le_bytes());
            self.bytes.extend((WIDTH as u16).to_le_bytes());
            real.iter().for_each(|(unit, ..)| self.bytes.extend(((unit - first) as u16).to_le_bytes()));
            real.iter().for_each(|(_, old, _)| self.bytes.extend(old));
            real.iter().for_each(|(.., new)| self.bytes.extend(new));
            let (start, end) = ((file, start), (file, start + u64::from(covered)));
            debug_assert!(self.span.is_none_or(|(_, last)| last <= start), "segments ascend");
            self.span = Some((self.span.map_or(start, |(first, _)| first), end));
        }
    }
}

/// One segment of a journal that is read.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub file: u32,
    /// The bytes of the file from the first to the last changed unit.
    pub place: Range<u64>,
    pub changes: usize,
    pub width: usize,
    /// Where in the journal what follows its header is.
    pub at: u64,
}

impl Segment {
    /// The segment at `at` of the `journal` at `path`, whose segments end at `end`. It must not lie before `last` in its file.
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

    /// Bytes that follow the header.
    pub fn bytes(&self) -> usize {
        self.changes * (2 + 2 * self.width)
    }

    /// Where the next one begins.
    pub fn end(&self) -> u64 {
        self.at + self.bytes() as u64
    }

    /// Whether this one can be worked on together with those from `first` on.
    pub fn is_near(&self, first: &Self) -> bool {
        self.file == first.file && self.place.end - first.place.start <= WINDOW_BYTES
    }

    /// Does what `pass` says in the bytes of the segment's place; `notes` is what follows its header.
    pub fn change(&self, place: &mut [u8], notes: &[u8], pass: Pass) -> Change {
        match self.width {
            1 => self.change_units::<1>(place, notes, pass),
            2 => self.change_units::<2>(place, notes, pass),
            4 => self.change_units::<4>(place, notes, pass),
            _ => self.change_units::<8>(place, notes, pass),
        }
    }

    fn change_units<const WIDTH: usize>(&self, place: &mut [u8], notes: &[u8], pass: Pass) -> Change {
        let (units, values) = notes.split_at(2 * self.changes);
        let (old, new) = values.split_at(self.changes * WIDTH);
        let place = place.as_chunks_mut::<WIDTH>().0;
        let values = old.as_chunks::<WIDTH>().0.iter().zip(new.as_chunks::<WIDTH>().0);
        for (unit, (old, new)) in units.as_chunks::<2>().0.iter().zip(values) {
            let Some(here) = place.get_mut(usize::from(u16::from_le_bytes(*unit))) else { return Change::Outside };
            let as_noted = match pass {
                Pass::Edit | Pass::IsOld => here == old,
                // A disk may have written some of the bytes of a unit.
                Pass::IsEither | Pass::PutBack => {
                    here.iter().zip(old).zip(new).all(|((here, old), new)| here == old || here == new)
                }
            };
            match pass {
                // The pass that follows finds it.
                Pass::PutBack if !as_noted => {}
                _ if !as_noted => return Change::OtherBytes,
                Pass::Edit => *here = *new,
                Pass::PutBack => *here = *old,
                Pass::IsOld | Pass::IsEither => {}
            }
        }
        Change::Made
    }
}

/// What is done at the places of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// The new bytes take the place of the old ones.
    Edit,
    /// The old bytes are put back, where the new ones are.
    PutBack,
    /// Nothing; whether every byte is an old or a new one.
    IsEither,
    /// Nothing; whether every byte is an old one.
    IsOld,
}

impl Pass {
    pub fn writes(self) -> bool {
        matches!(self, Pass::Edit | Pass::PutBack)
    }
}

/// How it went at the place of a segment.
pub(super) enum Change {
    Made,
    /// A unit is not within the place.
    Outside,
    /// The file holds something else than the journal says.
    OtherBytes,
}

/// Reads a part of a journal of which the content ends at `end`.
pub(super) fn read_part(journal: &File, path: &Path, part: &mut [u8], at: u64, end: u64) -> Result<(), Failed> {
    if at.checked_add(part.len() as u64).is_none_or(|part_end| part_end > end) {
        return Err(damaged(path, "it ends too early"));
    }
    disk::read_at(journal, part, at).map_err(|e| Failed::io("read", path, e))
}

//! Files that are elsewhere: what is needed of them is fetched into a temporary file of the same length, which has holes for the rest.

use crate::durable::{read_at, write_at};
use lcepatch_format::patch::ReadAt;
use std::fs::File;
use std::io::{ErrorKind, Result};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Most bytes that are fetched at once: enough that the time of a request does not count, and little memory for a thread.
pub const PIECE_BYTES: u64 = 4 << 20;

/// A file elsewhere, of which pieces are fetched once, when they are first needed. The temporary file has no name: it is gone when the
/// value is dropped, or the process ends.
#[derive(Debug)]
pub struct Fetched {
    source: Arc<dyn ReadAt>,
    file: Arc<File>,
    /// Ascending and disjoint.
    pieces: Vec<Piece>,
}

#[derive(Debug)]
struct Piece {
    range: Range<u64>,
    is_here: Mutex<bool>,
}

impl Fetched {
    /// A file of which the `pieces`, ascending and disjoint, can be fetched.
    ///
    /// # Errors
    /// I/O on the temporary file.
    pub fn new(source: Arc<dyn ReadAt>, pieces: impl IntoIterator<Item = Range<u64>>) -> Result<Self> {
        let file = tempfile::tempfile()?;
        file.set_len(source.bytes())?;
        let pieces = pieces.into_iter().map(|range| Piece { range, is_here: Mutex::new(false) }).collect();
        Ok(Self { source, file: Arc::new(file), pieces })
    }

    /// The temporary file, which holds the pieces that were fetched, each at its place.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Where the file is.
    pub fn source(&self) -> &dyn ReadAt {
        &*self.source
    }

    /// Fetches the pieces that overlap `range`, unless they are here. Others that need the same piece wait for it.
    ///
    /// # Errors
    /// Those of the source; I/O on the temporary file, such as a full disk. The piece is tried again when it is needed again.
    pub fn fetch(&self, range: &Range<u64>) -> Result<()> {
        let first = self.pieces.partition_point(|piece| piece.range.end <= range.start);
        let overlap = self.pieces.iter().skip(first).take_while(|piece| piece.range.start < range.end);
        for Piece { range, is_here } in overlap {
            let mut is_here = is_here.lock().unwrap_or_else(PoisonError::into_inner);
            if !*is_here {
                let length = range.end - range.start;
                let bytes = self.source.read_at(range.start, length)?;
                if bytes.len() as u64 != length {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                write_at(&self.file, &bytes, range.start).map_err(not_kept)?;
                *is_here = true;
            }
        }
        Ok(())
    }
}

/// What was fetched could not be written to the temporary file.
fn not_kept(error: std::io::Error) -> std::io::Error {
    let folder = std::env::temp_dir();
    std::io::Error::new(error.kind(), format!("what was fetched is kept in {}: {error}", folder.display()))
}

/// What is in one piece is read from the temporary file, and anything else from where the file is.
impl ReadAt for Fetched {
    fn bytes(&self) -> u64 {
        self.source.bytes()
    }

    fn read_at(&self, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        let range = offset..offset.saturating_add(bytes);
        let first = self.pieces.partition_point(|piece| piece.range.end <= range.start);
        let is_here = |piece: &Piece| piece.range.start <= range.start && range.end <= piece.range.end;
        if !self.pieces.get(first).is_some_and(is_here) {
            return self.source.read_at(offset, bytes);
        }
        self.fetch(&range)?;
        let mut read = vec![0; bytes as usize];
        read_at(&self.file, &mut read, offset)?;
        Ok(read)
    }
}

/// What a test's source was asked for.
#[cfg(test)]
#[derive(Debug)]
pub struct Counting {
    /// The whole content.
    pub content: Vec<u8>,
    /// Every range that was read, in order.
    pub reads: Mutex<Vec<Range<u64>>>,
    /// Reads that begin at this byte or later fail.
    pub fails_from: u64,
}

#[cfg(test)]
impl Counting {
    /// A source that never fails.
    pub fn new(content: Vec<u8>) -> Arc<Self> {
        Self::failing(content, u64::MAX)
    }

    /// A source of which reads that begin at byte `fails_from` or later fail.
    pub fn failing(content: Vec<u8>, fails_from: u64) -> Arc<Self> {
        Arc::new(Self { content, reads: Mutex::default(), fails_from })
    }

    /// What was read since the last call.
    pub fn take(&self) -> Vec<Range<u64>> {
        std::mem::take(&mut self.reads.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
impl ReadAt for Counting {
    fn bytes(&self) -> u64 {
        self.content.len() as u64
    }

    fn read_at(&self, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).push(offset..offset + bytes);
        if offset >= self.fails_from {
            return Err(std::io::Error::new(ErrorKind::ConnectionReset, "the source is gone"));
        }
        self.content.read_at(offset, bytes)
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "the ranges that were read are compared with those expected")]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_fetched_once_and_others_stay_holes() {
        let source = Counting::new((0..100).collect());
        let fetched = Fetched::new(source.clone(), [10..20, 20..40]).unwrap();
        fetched.fetch(&(12..15)).unwrap();
        fetched.fetch(&(10..20)).unwrap();
        fetched.fetch(&(0..10)).unwrap();
        assert_eq!(source.take(), [10..20]);
        fetched.fetch(&(19..21)).unwrap();
        assert_eq!(source.take(), [20..40]);
        let mut here = vec![9; 100];
        read_at(fetched.file(), &mut here, 0).unwrap();
        let expected: Vec<u8> = (0..100).map(|at| if (10..40).contains(&at) { at } else { 0 }).collect();
        assert_eq!(here, expected);
        assert_eq!(fetched.read_at(12, 20).unwrap(), (12..32).collect::<Vec<u8>>());
        assert_eq!(source.take(), [12..32], "what is in two pieces");
        assert_eq!(
            (fetched.read_at(22, 18).unwrap(), fetched.read_at(5, 9).unwrap()),
            ((22..40).collect(), (5..14).collect())
        );
        assert_eq!(source.take(), [5..14], "what is in one is here");
    }

    #[test]
    fn a_piece_that_could_not_be_fetched_is_tried_again() {
        let source = Counting::failing(vec![7; 100], 50);
        let fetched = Fetched::new(source.clone(), [0..50, 50..100]).unwrap();
        assert_eq!(fetched.fetch(&(60..61)).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(fetched.fetch(&(60..61)).unwrap_err().kind(), ErrorKind::ConnectionReset);
        fetched.fetch(&(0..1)).unwrap();
        assert_eq!(source.take(), [50..100, 50..100, 0..50]);
    }
}

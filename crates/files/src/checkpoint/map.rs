//! Mapped files. This module and `lost`, which survives reads beyond the end of a truncated file, contain the only `unsafe` code of the
//! crate.
//!
//! # Contract
//! Other programs can change a mapped file. Reads then give old or new bytes, or zeros if the file became shorter (`lost`; on Windows, a
//! mapped file cannot become shorter). Rust does not allow bytes behind a reference to change. This is kept harmless as follows: mapped
//! bytes are only read as plain integers; headers are copied to memory before they are parsed; no bound is derived from mapped bytes
//! twice; and no slice of a mapping leaves the crates of lcepatch. Before a result counts, the file is checked to be unchanged since it
//! was opened (`Checkpoint::unchanged`). Outputs are new files, with one exception: `apply::in_place` writes to files that it has mapped,
//! with system calls and after the last use of any slice of the mapping; later reads of the base give the result.
//!
//! What is read once from front to back is read to buffers (`FileBytes::read_to`); the mapping serves what is looked at here and there.
//!
//! Of a file that is elsewhere, a temporary file with holes is mapped, and what is looked at is fetched into it before. Where that fails,
//! the read gives zeros and nothing more is fetched; the check before a result counts then returns the reason.
#![allow(unsafe_code)]

use crate::durable::{read_at, write_at};
use crate::fetched::{Fetched, PIECE_BYTES};
use crate::input::Identity;
use lcepatch_format::patch::ReadAt;
use memmap2::{Advice, Mmap, MmapOptions, UncheckedAdvice};
use std::fs::File;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Memory is released in regions of this many bytes.
const REGION: usize = 1 << 20;

/// The bytes of a file: mapped, in memory, or elsewhere. Clones share them.
#[derive(Debug, Clone)]
pub enum FileBytes {
    /// A mapped file.
    Mapped(Arc<Mapped>),
    /// Bytes in memory.
    Owned(Arc<Vec<u8>>),
    /// Bytes in memory that belong to somebody else.
    Lent(Arc<dyn Memory>),
    /// A file that is elsewhere.
    Elsewhere(Arc<Elsewhere>),
}

/// A file that is elsewhere: what was fetched of it, mapped.
#[derive(Debug)]
pub struct Elsewhere {
    fetched: Fetched,
    mapped: Mapped,
    /// Why bytes could not be fetched first.
    failed: Mutex<Option<std::io::Error>>,
}

impl Elsewhere {
    /// Fetches `range`, unless something could not be fetched before: a result that needs it would not count. Why it failed is kept for
    /// [`Elsewhere::failed`].
    fn fetch(&self, range: &Range<u64>) {
        let failed = || self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let has_failed = failed().is_some();
        if has_failed {
            return;
        }
        if let Err(error) = self.fetched.fetch(range) {
            failed().get_or_insert(error);
        }
    }

    /// Why bytes could not be fetched. The first caller gets the error as the source gave it, and every later one its kind and message.
    fn failed(&self) -> std::io::Result<()> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let again = failed.as_ref().map(|error| std::io::Error::new(error.kind(), error.to_string()));
        std::mem::replace(&mut *failed, again).map_or(Ok(()), Err)
    }
}

/// Memory of another program's array. Whoever lends it may change the bytes where a file could be changed: by the module's contract, they
/// are only read as integers. It must not do so while a result is computed from them, which would be a mixture.
pub trait Memory: AsRef<[u8]> + std::fmt::Debug + Send + Sync {}

impl<T: AsRef<[u8]> + std::fmt::Debug + Send + Sync> Memory for T {}

/// A mapping, the open file, and its identity when it was mapped.
#[derive(Debug)]
pub struct Mapped {
    #[cfg(unix)]
    region: super::lost::Region,
    map: Mmap,
    file: Arc<File>,
    identity: Identity,
}

impl Mapped {
    /// Maps the file; `None` if it is empty.
    fn new(file: Arc<File>) -> std::io::Result<Option<Self>> {
        let identity = Identity::of(&file)?;
        if identity.length == 0 {
            return Ok(None);
        }
        // SAFETY: by the module's contract, a change of the file while slices of the map live changes nothing but values of integers.
        let map = unsafe { MmapOptions::new().len(identity.length as usize).map(&*file)? };
        // Tensors are read from front to back. A failure only costs speed.
        let _ = map.advise(Advice::Sequential);
        #[cfg(unix)]
        let region = super::lost::Region::watch(map.as_ptr(), map.len());
        Ok(Some(Self {
            #[cfg(unix)]
            region,
            map,
            file,
            identity,
        }))
    }
}

impl FileBytes {
    /// Maps the file, and keeps it open. An empty file is not mapped, because not every system supports that.
    pub fn map(file: File) -> std::io::Result<Self> {
        Ok(Mapped::new(Arc::new(file))?
            .map_or_else(|| Self::Owned(Arc::default()), |mapped| Self::Mapped(Arc::new(mapped))))
    }

    /// A file that is elsewhere, of which the bytes at the `front` are known already. The rest is fetched in pieces of [`PIECE_BYTES`] when
    /// it is looked at.
    ///
    /// # Errors
    /// I/O on the temporary file.
    pub fn elsewhere(source: Arc<dyn ReadAt>, front: &[u8]) -> std::io::Result<Self> {
        let (known, total) = (front.len() as u64, source.bytes());
        let starts = (known..total).step_by(PIECE_BYTES as usize);
        let fetched = Fetched::new(source, starts.map(|start| start..total.min(start + PIECE_BYTES)))?;
        write_at(fetched.file(), front, 0)?;
        let Some(mapped) = Mapped::new(fetched.file().clone())? else { return Ok(Self::Owned(Arc::default())) };
        Ok(Self::Elsewhere(Arc::new(Elsewhere { fetched, mapped, failed: Mutex::default() })))
    }

    /// The mapped file, and its identity when it was mapped; `None` for bytes in memory, and for a file that is elsewhere.
    pub fn file(&self) -> Option<(&File, &Identity)> {
        match self {
            Self::Mapped(mapped) => Some((&mapped.file, &mapped.identity)),
            Self::Owned(_) | Self::Lent(_) | Self::Elsewhere(_) => None,
        }
    }

    /// Checks that all bytes of a file elsewhere that were looked at could be fetched: otherwise they were zeros.
    ///
    /// # Errors
    /// That of the first read that failed.
    pub fn fetched(&self) -> std::io::Result<()> {
        let Self::Elsewhere(elsewhere) = self else { return Ok(()) };
        // What could not be fetched for want of space is lost in the map, too.
        elsewhere.failed()?;
        match self.lost() {
            true => Err(std::io::Error::other("some of its bytes could not be read")),
            false => Ok(()),
        }
    }

    /// Asks a file elsewhere for nothing, so that it is known to be there. Other files are.
    ///
    /// # Errors
    /// Those of the source.
    pub fn reach(&self) -> std::io::Result<()> {
        match self {
            Self::Elsewhere(elsewhere) => elsewhere.fetched.source().read_at(0, 0).map(drop),
            _ => Ok(()),
        }
    }

    /// Whether bytes were replaced by zeros because the file no longer has them or they could not be read.
    pub fn lost(&self) -> bool {
        match self {
            #[cfg(unix)]
            Self::Mapped(mapped) => mapped.region.lost(),
            #[cfg(unix)]
            Self::Elsewhere(elsewhere) => elsewhere.mapped.region.lost(),
            _ => false,
        }
    }

    /// A copy of `range`, read from the file and not from the map.
    pub fn read(&self, range: Range<u64>) -> std::io::Result<Vec<u8>> {
        let mapped = match self {
            Self::Mapped(mapped) => mapped,
            Self::Elsewhere(elsewhere) => {
                elsewhere.fetch(&range);
                elsewhere.failed()?;
                &elsewhere.mapped
            }
            Self::Owned(_) | Self::Lent(_) => {
                return Ok(self.all()[range.start as usize..range.end as usize].to_vec());
            }
        };
        let mut bytes = vec![0; (range.end - range.start) as usize];
        read_at(&mapped.file, &mut bytes, range.start)?;
        Ok(bytes)
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.all().len() as u64
    }

    /// The bytes in `range`.
    ///
    /// # Panics
    /// If `range` is outside of the file.
    pub fn bytes(&self, range: Range<u64>) -> &[u8] {
        if let Self::Elsewhere(elsewhere) = self {
            elsewhere.fetch(&range);
        }
        &self.all()[range.start as usize..range.end as usize]
    }

    /// The bytes in `range`, which are read to `buffer` if the file is mapped. Where many bytes are needed once, this takes less time than
    /// mapping their pages, and threads do not wait for one another.
    ///
    /// # Panics
    /// If `range` is outside of the file.
    pub fn read_to<'a>(&'a self, range: Range<u64>, buffer: &'a mut Vec<u8>) -> &'a [u8] {
        if self.is_read(&range, buffer) { buffer } else { self.bytes(range) }
    }

    /// Replaces the content of `buffer` by the bytes in `range`.
    ///
    /// # Panics
    /// If `range` is outside of the file.
    pub fn copy_to(&self, range: Range<u64>, buffer: &mut Vec<u8>) {
        if !self.is_read(&range, buffer) {
            buffer.clear();
            buffer.extend_from_slice(self.bytes(range));
        }
    }

    /// Whether `buffer` now holds the bytes in `range`, because the file is mapped and can be read. What cannot be read is lost in the map,
    /// too, which tells so.
    fn is_read(&self, range: &Range<u64>, buffer: &mut Vec<u8>) -> bool {
        let Self::Mapped(mapped) = self else { return false };
        buffer.resize((range.end - range.start) as usize, 0);
        read_at(&mapped.file, buffer, range.start).is_ok()
    }

    /// Releases the memory of `range`; a later read loads it from the file again.
    ///
    /// A range smaller than a region is only released when it reaches the end of its region, and then together with the whole region: a
    /// system call for each of many small tensors would take longer than reading them.
    pub fn release(&self, range: Range<u64>) {
        let map = match self {
            Self::Mapped(mapped) => &mapped.map,
            Self::Elsewhere(elsewhere) => &elsewhere.mapped.map,
            Self::Owned(_) | Self::Lent(_) => return,
        };
        let (mut start, mut end) = (range.start as usize, (range.end as usize).min(map.len()));
        if end.saturating_sub(start) < REGION {
            start -= start % REGION;
            end -= if end == map.len() { 0 } else { end % REGION };
        }
        if start < end {
            // SAFETY: `DontNeed` discards changes of private mappings. This map is only read, so the system loads dropped pages with the
            // same bytes of the file again, also those that were written to it when they were fetched.
            let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start) };
        }
    }

    fn all(&self) -> &[u8] {
        match self {
            Self::Mapped(mapped) => &mapped.map,
            Self::Elsewhere(elsewhere) => &elsewhere.mapped.map,
            Self::Owned(bytes) => bytes,
            Self::Lent(memory) => (**memory).as_ref(),
        }
    }
}

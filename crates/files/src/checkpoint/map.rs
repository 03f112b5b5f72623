//! Mapped files. This and `lost`, which catches reads of what a file no longer has, are the only `unsafe` code of the crate.
//!
//! # Contract
//! Other programs can change a mapped file. Reads then give old or new bytes, or zeros where the file became shorter (`lost`; not on
//! Windows, where a mapped file cannot become shorter). Rust's rules do not allow bytes behind a reference to change; what keeps this
//! harmless is that mapped bytes are only ever read as plain integers, headers are read into memory before they are parsed, no bounds are
//! derived from mapped bytes twice, and no slice of a mapping leaves the crate. That the file is what it was when it was opened is
//! compared before anything made of it counts (`Checkpoint::unchanged`). Outputs are new files beside the old ones, with one exception:
//! `apply::in_place` writes to files that it has mapped, with the operating system's calls, after the last slice of the
//! mapping is gone; who reads the base after that reads the result.
#![allow(unsafe_code)]

use crate::durable::read_at;
use crate::input::Identity;
use memmap2::{Advice, Mmap, MmapOptions, UncheckedAdvice};
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of memory to let go of at once, at least.
const REGION: usize = 1 << 20;

/// A file's bytes: mapped, or held in memory. Clones share them.
#[derive(Debug, Clone)]
pub enum FileBytes {
    /// A file, mapped.
    Mapped(Arc<Mapped>),
    /// Bytes in memory.
    Owned(Arc<Vec<u8>>),
}

/// A map, and the file as it was when it was mapped.
#[derive(Debug)]
pub struct Mapped {
    #[cfg(unix)]
    region: super::lost::Region,
    map: Mmap,
    file: File,
    identity: Identity,
}

impl FileBytes {
    /// Maps the file, and keeps it open. An empty one is not mapped, since not every system can.
    pub fn map(file: File) -> std::io::Result<Self> {
        let identity = Identity::of(&file)?;
        if identity.length == 0 {
            return Ok(Self::Owned(Arc::default()));
        }
        // SAFETY: the module's contract: if the file is changed while slices of the map live, only integer values differ.
        let map = unsafe { MmapOptions::new().len(identity.length as usize).map(&file)? };
        // Tensors are walked from front to back; a refusal only costs speed.
        let _ = map.advise(Advice::Sequential);
        #[cfg(unix)]
        let region = super::lost::Region::watch(map.as_ptr(), map.len());
        Ok(Self::Mapped(Arc::new(Mapped {
            #[cfg(unix)]
            region,
            map,
            file,
            identity,
        })))
    }

    /// The file that is mapped, and what it was when it was opened; none for bytes in memory.
    pub fn file(&self) -> Option<(&File, &Identity)> {
        match self {
            Self::Mapped(mapped) => Some((&mapped.file, &mapped.identity)),
            Self::Owned(_) => None,
        }
    }

    /// Whether zeros were read in the place of bytes that the file no longer has, or that could not be read.
    pub fn lost(&self) -> bool {
        match self {
            #[cfg(unix)]
            Self::Mapped(mapped) => mapped.region.lost(),
            _ => false,
        }
    }

    /// A copy of `range`, read from the file as it is now, not from the map.
    pub fn read(&self, range: Range<u64>) -> std::io::Result<Vec<u8>> {
        let Self::Mapped(mapped) = self else { return Ok(self.bytes(range).to_vec()) };
        let mut bytes = vec![0; (range.end - range.start) as usize];
        read_at(&mapped.file, &mut bytes, range.start)?;
        Ok(bytes)
    }

    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        self.all().len() as u64
    }

    /// Those in `range`.
    ///
    /// # Panics
    /// When `range` lies outside the file.
    pub fn bytes(&self, range: Range<u64>) -> &[u8] {
        &self.all()[range.start as usize..range.end as usize]
    }

    /// Lets go of the memory that holds `range`; a later read brings it back from the file.
    ///
    /// Of less than a [`REGION`] nothing, until the end of a region is reached: then of all of the region. A call for each of many
    /// small tensors would take longer than reading them.
    pub fn release(&self, range: Range<u64>) {
        let Self::Mapped(mapped) = self else { return };
        let map = &mapped.map;
        let (mut start, mut end) = (range.start as usize, (range.end as usize).min(map.len()));
        if end.saturating_sub(start) < REGION {
            start -= start % REGION;
            end -= if end == map.len() { 0 } else { end % REGION };
        }
        if start < end {
            // SAFETY: the map is shared with the file and only ever read, so dropped pages come back with the file's
            // bytes; there are no changes to lose, which is the danger of `DontNeed`.
            let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start) };
        }
    }

    fn all(&self) -> &[u8] {
        match self {
            Self::Mapped(mapped) => &mapped.map,
            Self::Owned(bytes) => bytes,
        }
    }
}

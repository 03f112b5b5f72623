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
#![allow(unsafe_code)]

use crate::durable::read_at;
use crate::input::Identity;
use memmap2::{Advice, Mmap, MmapOptions, UncheckedAdvice};
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

/// Memory is released in regions of this many bytes.
const REGION: usize = 1 << 20;

/// The bytes of a file, mapped or in memory. Clones share them.
#[derive(Debug, Clone)]
pub enum FileBytes {
    /// A mapped file.
    Mapped(Arc<Mapped>),
    /// Bytes in memory.
    Owned(Arc<Vec<u8>>),
    /// Bytes in memory that belong to somebody else.
    Lent(Arc<dyn Memory>),
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
    file: File,
    identity: Identity,
}

impl FileBytes {
    /// Maps the file, and keeps it open. An empty file is not mapped, because not every system supports that.
    pub fn map(file: File) -> std::io::Result<Self> {
        let identity = Identity::of(&file)?;
        if identity.length == 0 {
            return Ok(Self::Owned(Arc::default()));
        }
        // SAFETY: by the module's contract, a change of the file while slices of the map live changes nothing but values of integers.
        let map = unsafe { MmapOptions::new().len(identity.length as usize).map(&file)? };
        // Tensors are read from front to back. A failure only costs speed.
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

    /// The mapped file, and its identity when it was mapped; `None` for bytes in memory.
    pub fn file(&self) -> Option<(&File, &Identity)> {
        match self {
            Self::Mapped(mapped) => Some((&mapped.file, &mapped.identity)),
            Self::Owned(_) | Self::Lent(_) => None,
        }
    }

    /// Whether bytes were replaced by zeros because the file no longer has them or they could not be read.
    pub fn lost(&self) -> bool {
        match self {
            #[cfg(unix)]
            Self::Mapped(mapped) => mapped.region.lost(),
            _ => false,
        }
    }

    /// A copy of `range`, read from the file and not from the map.
    pub fn read(&self, range: Range<u64>) -> std::io::Result<Vec<u8>> {
        let Self::Mapped(mapped) = self else { return Ok(self.bytes(range).to_vec()) };
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
        &self.all()[range.start as usize..range.end as usize]
    }

    /// Releases the memory of `range`; a later read loads it from the file again.
    ///
    /// A range smaller than a region is only released when it reaches the end of its region, and then together with the whole region: a
    /// system call for each of many small tensors would take longer than reading them.
    pub fn release(&self, range: Range<u64>) {
        let Self::Mapped(mapped) = self else { return };
        let map = &mapped.map;
        let (mut start, mut end) = (range.start as usize, (range.end as usize).min(map.len()));
        if end.saturating_sub(start) < REGION {
            start -= start % REGION;
            end -= if end == map.len() { 0 } else { end % REGION };
        }
        if start < end {
            // SAFETY: `DontNeed` discards changes of private mappings. This map is only read, so the system loads dropped pages with the
            // same bytes of the file again.
            let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start) };
        }
    }

    fn all(&self) -> &[u8] {
        match self {
            Self::Mapped(mapped) => &mapped.map,
            Self::Owned(bytes) => bytes,
            Self::Lent(memory) => (**memory).as_ref(),
        }
    }
}

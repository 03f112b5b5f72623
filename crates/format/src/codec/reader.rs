//! The bounds-checked cursor through which all untrusted bytes are read.

// Reads untrusted bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::Corrupt;

/// Reads fields off the front of a slice, never past its end.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes not yet read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads the next `n` bytes. `field` names them in errors.
    ///
    /// # Errors
    /// [`Corrupt::Truncated`].
    pub fn take(&mut self, n: u64, field: &'static str) -> Result<&'a [u8], Corrupt> {
        let truncated = Corrupt::Truncated { field, needed: n, found: self.rest.len() as u64 };
        let n = usize::try_from(n).map_err(|_| truncated)?;
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Reads the next `N` bytes as an array.
    ///
    /// # Errors
    /// [`Corrupt::Truncated`].
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Corrupt> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64, field)?);
        Ok(out)
    }

    /// Reads one byte.
    ///
    /// # Errors
    /// [`Corrupt::Truncated`].
    pub fn u8(&mut self, field: &'static str) -> Result<u8, Corrupt> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    /// Reads a little-endian `u16`.
    ///
    /// # Errors
    /// [`Corrupt::Truncated`].
    pub fn u16(&mut self, field: &'static str) -> Result<u16, Corrupt> {
        self.array(field).map(u16::from_le_bytes)
    }

    /// Reads a little-endian `u32`.
    ///
    /// # Errors
    /// [`Corrupt::Truncated`].
    pub fn u32(&mut self, field: &'static str) -> Result<u32, Corrupt> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// Reads a little-endian `u64`.
    ///
    /// # Errors
    /// [`Corrupt::Truncated`].
    pub fn u64(&mut self, field: &'static str) -> Result<u64, Corrupt> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// Reads a varint from `least` to `most` inclusive.
    ///
    /// # Errors
    /// [`Corrupt::Truncated`], [`Corrupt::Varint`], [`Corrupt::Range`].
    pub fn varint(&mut self, field: &'static str, least: u64, most: u64) -> Result<u64, Corrupt> {
        let found = super::varint::read(self, field)?;
        if (least..=most).contains(&found) { Ok(found) } else { Err(Corrupt::Range { field, found, least, most }) }
    }

    /// Checks that `field` was the last one: no bytes may be left.
    ///
    /// # Errors
    /// [`Corrupt::Trailing`].
    pub fn finish(self, field: &'static str) -> Result<(), Corrupt> {
        if self.rest.is_empty() { Ok(()) } else { Err(Corrupt::Trailing { field, found: self.rest.len() as u64 }) }
    }
}

//! The memory of arrays, read and written where it is. The only unsafe code of the module.
#![allow(unsafe_code)]

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;

/// The bytes of an array, whose owner keeps them as long as this is there.
#[derive(Debug)]
pub struct Lent {
    start: *mut u8,
    bytes: usize,
    read_only: bool,
    /// Holds the array.
    _buffer: PyUntypedBuffer,
}

// SAFETY: the pointer is that of memory which the buffer keeps where it is. Reading and writing it needs no lock of the interpreter; who may
// do so, and when, is said at the methods.
unsafe impl Send for Lent {}
// SAFETY: as above.
unsafe impl Sync for Lent {}

impl Lent {
    /// Takes the buffer of a contiguous array.
    pub fn new(array: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyUntypedBuffer::get(array)?;
        if !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err("the array is not contiguous"));
        }
        let (start, bytes, read_only) = (buffer.buf_ptr().cast(), buffer.len_bytes(), buffer.readonly());
        Ok(Self { start, bytes, read_only, _buffer: buffer })
    }

    /// Where the memory begins, and how long it is.
    pub fn place(&self) -> (usize, usize) {
        (self.start as usize, self.bytes)
    }

    /// Whether the owner forbids to write to it.
    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// Calls `write` with the memory. The caller must hold no slice of it, nor may another thread that it has started.
    pub fn write<T>(&self, write: impl FnOnce(&mut [u8]) -> T) -> T {
        if self.bytes == 0 || self.read_only {
            return write(&mut []);
        }
        // SAFETY: the buffer is writable, contiguous and as long as it says, and kept by `_buffer`. No other slice of it is alive: this
        // crate makes slices only while it computes, and all computing has ended before anything is written. Code in other languages
        // may read or write it meanwhile, as it may while any function of an array library works on it without the interpreter's lock;
        // bytes that change then are integers of which any value is valid.
        write(unsafe { std::slice::from_raw_parts_mut(self.start, self.bytes) })
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        if self.bytes == 0 {
            return &[];
        }
        // SAFETY: as in `write`; nothing writes to the memory while slices of it are used, but for other languages' code, by the contract of
        // `lcepatch_files::checkpoint::map`.
        unsafe { std::slice::from_raw_parts(self.start, self.bytes) }
    }
}

//! Reads untrusted JSON files with bounds on memory.

// Reads untrusted bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use crate::input::{self, Meant};
use lcepatch_format::json::Structure;
use std::fs::File;
use std::io::{Error, ErrorKind, Read};
use std::path::Path;

/// Largest file that is read into memory as a whole: settings, logs, results, lists of sentences.
pub const FILE_BYTES_MAX: u64 = 1 << 28;

/// Reads the file at `path`, which must have at most [`FILE_BYTES_MAX`] bytes and is `meant` to be of this kind.
///
/// # Errors
/// I/O; inside of the [`Error`]: [`input::Unexpected`] for a file of another kind. [`ErrorKind::FileTooLarge`].
pub fn read_file(path: &Path, meant: Meant) -> std::io::Result<Vec<u8>> {
    read(&input::open(path, meant)?)
}

/// Reads an open file from its current position to its end, which must be at most [`FILE_BYTES_MAX`] bytes.
///
/// # Errors
/// As [`read_file`].
pub fn read(file: &File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let reason = format!("it has more than the {FILE_BYTES_MAX} bytes that are read of such a file");
        return Err(Error::new(ErrorKind::FileTooLarge, reason));
    }
    Ok(bytes)
}

/// Number of marks ([`Structure::marks`]) that a text of any size may have.
const MARKS_FREE: u64 = 1 << 16;
/// A text may have one more mark per this many bytes. Text and numbers with a meaning are longer.
const BYTES_PER_MARK: u64 = 8;

/// Refuses a text that would take much more memory when parsed than it has bytes.
///
/// # Errors
/// A message with the number of values and keys, and the limit.
pub fn check(text: &[u8]) -> Result<(), String> {
    let found = Structure::of(text).marks;
    let most = MARKS_FREE + text.len() as u64 / BYTES_PER_MARK;
    let bytes = text.len();
    if found <= most {
        return Ok(());
    }
    Err(format!("{found} values and keys in {bytes} bytes of JSON, more than the {most} that are read from so many"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dense_texts_are_refused() {
        assert!(check("[0]".as_bytes()).is_ok());
        let dense = [b"[", &b"0,".repeat(100_000)[..], b"0]"].concat();
        let error = check(&dense).unwrap_err();
        assert!(error.contains("100001 values"), "{error}");
        assert!(check(&b"{\"sentence\": \"a b c d e\"},".repeat(100_000)).is_ok());
    }
}

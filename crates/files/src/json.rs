//! Files of JSON, read and parsed at a cost that their size justifies.

use crate::input::{self, Meant};
use lcepatch_format::json::Structure;
use std::fs::File;
use std::io::{Error, ErrorKind, Read};
use std::path::Path;

/// The most that is read of a file that is parsed whole: settings, logs, results, lists of sentences.
pub const FILE_BYTES_MAX: u64 = 1 << 28;

/// All of the file at `path`, which is meant to be one of a kind, if it has at most [`FILE_BYTES_MAX`] bytes.
///
/// # Errors
/// I/O, with what is found instead; [`ErrorKind::FileTooLarge`].
pub fn read_file(path: &Path, meant: Meant) -> std::io::Result<Vec<u8>> {
    read(&input::open(path, meant)?)
}

/// All of an open file from where it is read on, if that is at most [`FILE_BYTES_MAX`] bytes.
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

/// Marks that a text of any size may have. More must be justified by its size.
const MARKS_FREE: u64 = 1 << 16;
/// Bytes for each mark beyond these. Text and numbers that mean something take more.
const BYTES_A_MARK: u64 = 8;

/// Refuses a text that would take much more memory parsed than it has bytes.
///
/// # Errors
/// Says what was found, and what is the most.
pub fn check(text: &[u8]) -> Result<(), String> {
    let found = Structure::of(text).marks;
    let most = MARKS_FREE + text.len() as u64 / BYTES_A_MARK;
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

//! A file of lines that grows. A line is there whole or not at all, whatever interrupts the writer.

use super::{Access, Failed, disk};
use crate::{input, json};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// An open file of lines. No other process can write to it meanwhile.
#[derive(Debug)]
pub struct Lines {
    file: File,
    path: PathBuf,
    /// Bytes of whole lines. What comes after them is a line that was not finished.
    whole: u64,
}

/// What is in a file of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its lines.
    pub lines: Vec<String>,
    /// A last line without an end.
    pub unfinished: String,
}

impl Lines {
    /// Opens the file at `path`, or makes an empty one; returns what is in it. Nothing in it is changed before something is appended: only
    /// then a last line without an end is dropped.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn open(path: &Path) -> Result<(Self, Found), Failed> {
        let failed = |operation: &'static str| move |source| Failed::io(operation, path, source);
        let mut options = OpenOptions::new();
        let file = match path.exists() {
            true => input::open_for_writing(path),
            false => options.read(true).write(true).create(true).truncate(false).open(path),
        }
        .map_err(failed("open"))?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Failed::InUse { path: path.to_owned(), access: Access::Read },
            TryLockError::Error(source) => Failed::io("lock", path, source),
        })?;
        let mut bytes = json::read(&file).map_err(failed("read"))?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let unfinished = String::from_utf8_lossy(&bytes.split_off(whole)).into_owned();
        let lines = String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect();
        Ok((Self { file, path: path.to_owned(), whole: whole as u64 }, Found { lines, unfinished }))
    }

    /// Appends a line, which is on the disk then.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn append(&mut self, line: &str) -> Result<(), Failed> {
        let line = format!("{line}\n");
        let mut write = || {
            disk::set_len(&self.file, self.whole)?;
            self.file.seek(SeekFrom::Start(self.whole))?;
            disk::append(&self.file, line.as_bytes())?;
            disk::sync_data(&self.file)
        };
        write().map_err(|source| Failed::io("write", &self.path, source))?;
        self.whole += line.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_not_finished_is_dropped_when_the_next_one_comes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        std::fs::write(&path, "one\ntwo\nthr").unwrap();
        let (mut lines, found) = Lines::open(&path).unwrap();
        assert_eq!((found.lines, found.unfinished), (vec!["one".to_owned(), "two".to_owned()], "thr".to_owned()));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\nthr");
        lines.append("3").unwrap();
        lines.append("4").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n3\n4\n");
    }

    #[test]
    fn one_process_writes_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let first = Lines::open(&path).unwrap();
        assert!(matches!(Lines::open(&path), Err(Failed::InUse { .. })));
        drop(first);
        Lines::open(&path).unwrap();
    }
}

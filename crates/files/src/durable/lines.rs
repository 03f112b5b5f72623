//! A file that grows by lines. Each line is written completely or not at all, whatever interrupts the writer.

use super::{Access, Failed, disk};
use crate::{input, json};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A file of lines, open for appending. It is locked, so that no other process can append.
#[derive(Debug)]
pub struct Lines {
    file: File,
    path: PathBuf,
    /// Size of all complete lines in bytes. An incomplete line may follow.
    complete_bytes: u64,
}

/// The content of a file of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The complete lines.
    pub lines: Vec<String>,
    /// A last line without a line break; empty if there is none.
    pub unfinished: String,
}

impl Lines {
    /// Opens the file at `path`, or creates an empty one, and returns its content. The file only changes when a line is appended; then an
    /// incomplete last line is dropped.
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
        let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let unfinished = String::from_utf8_lossy(&bytes.split_off(complete)).into_owned();
        let lines = String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect();
        Ok((Self { file, path: path.to_owned(), complete_bytes: complete as u64 }, Found { lines, unfinished }))
    }

    /// Appends a line and syncs it to the disk.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn append(&mut self, line: &str) -> Result<(), Failed> {
        let line = format!("{line}\n");
        let mut write = || {
            disk::set_len(&self.file, self.complete_bytes)?;
            self.file.seek(SeekFrom::Start(self.complete_bytes))?;
            disk::append(&self.file, line.as_bytes())?;
            disk::sync_data(&self.file)
        };
        write().map_err(|source| Failed::io("write", &self.path, source))?;
        self.complete_bytes += line.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_line_is_dropped_when_the_next_one_is_appended() {
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
    fn a_second_writer_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let first = Lines::open(&path).unwrap();
        assert!(matches!(Lines::open(&path), Err(Failed::InUse { .. })));
        drop(first);
        Lines::open(&path).unwrap();
    }
}

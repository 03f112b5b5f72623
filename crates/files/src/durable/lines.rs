//! A file that grows by lines. Each line is written completely or not at all, whatever interrupts the writer.

use super::place::refuse_directory;
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
    /// Whether the file was created here, rather than found.
    is_new: bool,
}

/// A new file without a line is removed: the disk was full, or there was nothing to write.
impl Drop for Lines {
    fn drop(&mut self) {
        if self.is_new && self.complete_bytes == 0 {
            let _ = disk::remove_file(&self.path);
        }
    }
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
    /// Opens the file at `path`, or creates an empty one and its folder, and returns its content. The file only changes when a line is
    /// appended; then an incomplete last line is dropped. A file that was created here and got no line is removed in the end.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn open(path: &Path) -> Result<(Self, Found), Failed> {
        let failed = |operation: &'static str| move |source| Failed::io(operation, path, source);
        let in_use = || Failed::InUse { path: path.to_owned(), access: Access::Read };
        refuse_directory(path)?;
        let is_new = !path.exists();
        let file = if is_new {
            disk::create_folder(path)?;
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
        } else {
            input::open_for_writing(path)
        };
        let file = file.map_err(failed("open"))?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => in_use(),
            TryLockError::Error(source) => Failed::io("lock", path, source),
        })?;
        // Another process may have removed its own new file before this one locked it.
        if !disk::is_at(&file, path) {
            return Err(in_use());
        }
        let mut bytes = json::read(&file).map_err(failed("read"))?;
        // A blank last line, as editors leave it, is dropped like an incomplete one.
        if bytes == b"\n" || bytes.ends_with(b"\n\n") {
            bytes.pop();
        }
        let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let unfinished = String::from_utf8_lossy(&bytes.split_off(complete)).into_owned();
        let lines = String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect();
        let lines_of_file = Self { file, path: path.to_owned(), complete_bytes: complete as u64, is_new };
        Ok((lines_of_file, Found { lines, unfinished }))
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
    fn a_blank_last_line_is_dropped_when_the_next_one_is_appended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        for (before, lines, after) in [("one\n\n", 1, "one\n2\n"), ("\n", 0, "2\n"), ("\n\n", 1, "\n2\n")] {
            std::fs::write(&path, before).unwrap();
            let (mut open, found) = Lines::open(&path).unwrap();
            assert_eq!((found.lines.len(), found.unfinished.as_str()), (lines, ""), "{before:?}");
            open.append("2").unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
        }
    }

    #[test]
    fn a_new_file_without_a_line_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/lines");
        drop(Lines::open(&path).unwrap());
        assert!(!path.exists());
        let (mut lines, _) = Lines::open(&path).unwrap();
        lines.append("1").unwrap();
        drop(lines);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n");
        std::fs::write(&path, "").unwrap();
        drop(Lines::open(&path).unwrap());
        assert!(path.exists(), "an empty file that was there stays");
        assert!(matches!(Lines::open(folder.path()), Err(Failed::Directory { .. })));
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

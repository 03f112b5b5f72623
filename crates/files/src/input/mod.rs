//! Opens input files. Only regular files are accepted, so that nothing waits for a pipe or reads a device. Files of another kind than was
//! meant are recognized ([`Found`]), and changes of open files are detected ([`Identity`]).

// Reads untrusted bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod folder;
mod found;

pub use folder::Folder;
pub use found::{Found, Meant, PART_MAGIC, PLAN_MAGIC, Unexpected};

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{Read, Seek};
use std::path::Path;
use std::time::SystemTime;

/// Opens the file at `path`, which is `meant` to be of a kind, for reading. All inputs are opened here except for weights, whose reader
/// also accepts bytes in memory and makes the same check itself.
///
/// # Errors
/// I/O; inside of the [`std::io::Error`]: [`Unexpected`] for a file of another kind, `NotAFile` for pipes, sockets and devices, without
/// waiting for them.
pub fn open(path: &Path, meant: Meant) -> std::io::Result<File> {
    let file = open_any(path).map_err(|error| match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(NotAFile::Directory) => Unexpected::directory(path, meant).into(),
        _ => error,
    })?;
    let mut front = Vec::new();
    (&file).take(Found::FRONT_BYTES).read_to_end(&mut front)?;
    (&file).rewind()?;
    meant.check(&front)?;
    Ok(file)
}

/// Opens the file at `path` for reading, whatever its content.
///
/// # Errors
/// I/O; inside of the [`std::io::Error`]: `NotAFile` for everything but regular files.
pub fn open_any(path: &Path) -> std::io::Result<File> {
    open_with(path, File::options().read(true))
}

/// Whether the file at `path` is recognized as this kind.
pub fn is(path: &Path, found: Found) -> bool {
    let mut front = Vec::new();
    let read = open_any(path).and_then(|file| file.take(Found::FRONT_BYTES).read_to_end(&mut front));
    read.is_ok() && Found::of(&front) == Some(found)
}

/// Opens the file at `path` for reading and writing.
///
/// # Errors
/// As [`open_any`].
pub(crate) fn open_for_writing(path: &Path) -> std::io::Result<File> {
    open_with(path, File::options().read(true).write(true))
}

fn open_with(path: &Path, options: &mut OpenOptions) -> std::io::Result<File> {
    // Checked before opening, because opening a device can have side effects.
    regular(&std::fs::metadata(path)?)?;
    // The file may have been replaced by a pipe since; opening that must not wait.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = options.open(path)?;
    regular(&file.metadata()?)?;
    Ok(file)
}

/// Refuses everything but regular files.
fn regular(metadata: &Metadata) -> Result<(), NotAFile> {
    if metadata.is_file() { Ok(()) } else { Err(NotAFile::of(metadata.file_type())) }
}

/// What a path leads to, if not to a regular file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAFile {
    #[error("it is a directory, not a file")]
    Directory,
    #[error("it is a named pipe, not a regular file")]
    Pipe,
    #[error("it is a socket, not a regular file")]
    Socket,
    #[error("it is a device, not a regular file")]
    Device,
}

impl NotAFile {
    fn of(kind: FileType) -> Self {
        #[cfg(unix)]
        {
            use std::os::unix::fs::FileTypeExt;
            if kind.is_fifo() {
                return Self::Pipe;
            }
            if kind.is_socket() {
                return Self::Socket;
            }
        }
        if kind.is_dir() { Self::Directory } else { Self::Device }
    }
}

impl From<NotAFile> for std::io::Error {
    fn from(not: NotAFile) -> Self {
        let kind = match not {
            NotAFile::Directory => std::io::ErrorKind::IsADirectory,
            _ => std::io::ErrorKind::InvalidInput,
        };
        Self::new(kind, not)
    }
}

/// The file system's metadata of an open file, to detect changes: it stays equal as long as nobody writes to the file.
///
/// Two kinds of writes are not detected: those within the same tick of the file system's clock, and those through a shared mapping that
/// has been written to before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Device and inode number, on systems that have them.
    pub place: Option<(u64, u64)>,
    /// Length in bytes.
    pub length: u64,
    /// Time of the last write, with the file system's resolution.
    pub modified: Option<SystemTime>,
}

impl Identity {
    /// The identity of an open file.
    ///
    /// # Errors
    /// I/O.
    pub fn of(file: &File) -> std::io::Result<Self> {
        let metadata = file.metadata()?;
        #[cfg(unix)]
        let place = {
            use std::os::unix::fs::MetadataExt;
            Some((metadata.dev(), metadata.ino()))
        };
        #[cfg(not(unix))]
        let place = None;
        Ok(Self { place, length: metadata.len(), modified: metadata.modified().ok() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_shows_in_the_identity() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"one").unwrap();
        let file = open_any(&path).unwrap();
        let before = Identity::of(&file).unwrap();
        assert_eq!(Identity::of(&open_any(&path).unwrap()).unwrap(), before);
        std::fs::write(&path, b"longer").unwrap();
        assert_ne!(Identity::of(&file).unwrap(), before);
        let longer = Identity::of(&file).unwrap();
        let writer = File::options().write(true).open(&path).unwrap();
        writer.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_ne!(Identity::of(&file).unwrap(), longer);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, b"longer").unwrap();
        assert_ne!(Identity::of(&open_any(&path).unwrap()).unwrap(), longer);
    }

    #[test]
    #[cfg(unix)]
    fn special_files_are_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, socket) = (folder.path().join("pipe"), folder.path().join("socket"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let refused = |path: &Path| {
            let error = open_any(path).unwrap_err();
            *error.get_ref().unwrap().downcast_ref::<NotAFile>().unwrap()
        };
        assert_eq!(refused(&pipe), NotAFile::Pipe);
        assert_eq!(refused(&socket), NotAFile::Socket);
        assert_eq!(refused(Path::new("/dev/null")), NotAFile::Device);
        assert_eq!(refused(folder.path()), NotAFile::Directory);
        assert_eq!(open_any(&folder.path().join("no")).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    }
}

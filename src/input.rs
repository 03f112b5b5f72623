//! Opening what others wrote: regular files only, so that nothing waits for a pipe or reads a device, and known again by what
//! the file system says of them.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

/// Opens the file at `path` for reading. Every input is opened here.
///
/// # Errors
/// I/O; [`NotAFile`], inside of a [`std::io::Error`], for directories, pipes, sockets and devices, without waiting for any.
pub(crate) fn open(path: &Path) -> std::io::Result<File> {
    open_with(path, File::options().read(true))
}

/// Opens the file at `path` for reading and writing.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_for_writing(path: &Path) -> std::io::Result<File> {
    open_with(path, File::options().read(true).write(true))
}

fn open_with(path: &Path, options: &mut OpenOptions) -> std::io::Result<File> {
    // Opening a device can have effects of its own, so it is looked at first.
    regular(&std::fs::metadata(path)?)?;
    // Between the two calls it can have become a pipe, which must not be waited for.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = options.open(path)?;
    regular(&file.metadata()?)?;
    Ok(file)
}

/// All bytes of the file at `path`.
///
/// # Errors
/// As [`open`].
pub(crate) fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = open(path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn regular(metadata: &Metadata) -> Result<(), NotAFile> {
    if metadata.is_file() { Ok(()) } else { Err(NotAFile::of(metadata.file_type())) }
}

/// Something that is no regular file, and so no input.
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

/// What the file system says of an open file, by which a change is seen: two are equal while nobody writes to it.
///
/// A write within the same tick of the file system's clock, or through a shared mapping that was written to before, changes
/// nothing here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The device and the number of the file on it, where the system has such numbers.
    pub place: Option<(u64, u64)>,
    /// Bytes.
    pub length: u64,
    /// When it was last written to, as exactly as the file system knows.
    pub modified: Option<SystemTime>,
}

impl Identity {
    /// Of an open file.
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
        let file = open(&path).unwrap();
        let before = Identity::of(&file).unwrap();
        assert_eq!(Identity::of(&open(&path).unwrap()).unwrap(), before);
        std::fs::write(&path, b"longer").unwrap();
        assert_ne!(Identity::of(&file).unwrap(), before);
        let longer = Identity::of(&file).unwrap();
        let writer = File::options().write(true).open(&path).unwrap();
        writer.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_ne!(Identity::of(&file).unwrap(), longer);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, b"longer").unwrap();
        assert_ne!(Identity::of(&open(&path).unwrap()).unwrap(), longer);
    }

    #[test]
    #[cfg(unix)]
    fn what_is_not_a_regular_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, socket) = (folder.path().join("pipe"), folder.path().join("socket"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let refused = |path: &Path| {
            let error = read(path).unwrap_err();
            *error.get_ref().unwrap().downcast_ref::<NotAFile>().unwrap()
        };
        assert_eq!(refused(&pipe), NotAFile::Pipe);
        assert_eq!(refused(&socket), NotAFile::Socket);
        assert_eq!(refused(Path::new("/dev/null")), NotAFile::Device);
        assert_eq!(refused(folder.path()), NotAFile::Directory);
        assert_eq!(read(&folder.path().join("no")).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    }
}

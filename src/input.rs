//! Opening what others wrote: regular files only, so that nothing waits for a pipe or reads a device, and known again by what
//! the file system says of them.

use std::fs::{File, FileType, Metadata, OpenOptions};
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

/// What a file is that was taken for something else, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// A Git LFS pointer, and how long the file is that it stands for.
    #[error("this is a Git LFS pointer, the file itself was not downloaded{}", size.map_or(String::new(), |size| format!(" ({size} bytes)")))]
    LfsPointer {
        /// Bytes of the file.
        size: Option<u64>,
    },
    /// A page for browsers.
    #[error("this is a page for browsers (HTML), not the file")]
    Html,
    /// A zip archive, as PyTorch writes.
    #[error("this is a zip archive, as PyTorch writes its weights (.bin, .pt), not safetensors")]
    Zip,
    /// A pickle, as old versions of PyTorch write.
    #[error("this is a Python pickle, as PyTorch writes its weights (.bin, .pt), not safetensors")]
    Pickle,
    /// A model of llama.cpp.
    #[error("this is a GGUF file, not safetensors")]
    Gguf,
    /// Nothing.
    #[error("the file is empty")]
    Empty,
}

impl Foreign {
    /// As many first bytes as are looked at.
    pub(crate) const FRONT_BYTES: u64 = 512;

    /// What begins with these bytes, if it is known.
    pub(crate) fn of(front: &[u8]) -> Option<Self> {
        let text = front.trim_ascii_start();
        let page = |start: &[u8]| text.get(..start.len()).is_some_and(|front| front.eq_ignore_ascii_case(start));
        if front.is_empty() {
            Some(Self::Empty)
        } else if front.starts_with(b"version https://git-lfs") {
            let text = String::from_utf8_lossy(front);
            let size = text.lines().find_map(|line| line.strip_prefix("size ")?.trim().parse().ok());
            Some(Self::LfsPointer { size })
        } else if page(b"<!doctype") || page(b"<html") {
            Some(Self::Html)
        } else if front.starts_with(b"PK\x03\x04") {
            Some(Self::Zip)
        } else if front.starts_with(b"\x80\x02") && front.get(8) != Some(&b'{') {
            Some(Self::Pickle)
        } else if front.starts_with(b"GGUF") {
            Some(Self::Gguf)
        } else {
            None
        }
    }

    /// One thing to do about it.
    pub(crate) fn help(self) -> &'static str {
        match self {
            Self::LfsPointer { .. } => {
                "`git lfs pull` in its repository downloads the file, or download it again from where it is published"
            }
            Self::Html => "download the file itself: the address was that of a page about it, or of an error",
            Self::Zip | Self::Pickle | Self::Gguf => {
                "save the model as safetensors, with `save_pretrained(..., safe_serialization=True)`"
            }
            Self::Empty => "download the file again: it did not begin to arrive",
        }
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
            let error = open(path).unwrap_err();
            *error.get_ref().unwrap().downcast_ref::<NotAFile>().unwrap()
        };
        assert_eq!(refused(&pipe), NotAFile::Pipe);
        assert_eq!(refused(&socket), NotAFile::Socket);
        assert_eq!(refused(Path::new("/dev/null")), NotAFile::Device);
        assert_eq!(refused(folder.path()), NotAFile::Directory);
        assert_eq!(open(&folder.path().join("no")).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    }
}

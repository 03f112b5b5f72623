//! The calls that change what is on a disk, and reading at a place of a file. Everything that must survive a crash goes through here,
//! so that tests can make any of these calls fail, or end the process in front of it.

use super::Failed;
use super::fault::{Call, point};
use std::fs::{File, Permissions};
use std::io::{Result, Write};
use std::path::Path;
use tempfile::TempPath;

/// Writes all of `bytes` at `offset`; may be called from many threads.
pub fn write_at(file: &File, bytes: &[u8], offset: u64) -> Result<()> {
    point(Call::Write)?;
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::write_all_at(file, bytes, offset);
    #[cfg(windows)]
    {
        let (mut bytes, mut offset) = (bytes, offset);
        while !bytes.is_empty() {
            let n = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
            (bytes, offset) = (&bytes[n..], offset + n as u64);
        }
        Ok(())
    }
}

/// Fills `bytes` with what is at `offset`. A file that ends before is an error.
pub fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> Result<()> {
    point(Call::Read)?;
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset);
    #[cfg(windows)]
    {
        let (mut bytes, mut offset) = (bytes, offset);
        while !bytes.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(file, bytes, offset)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                n => (bytes, offset) = (&mut bytes[n..], offset + n as u64),
            }
        }
        Ok(())
    }
}

/// Appends all of `bytes`.
pub(super) fn append(mut file: &File, bytes: &[u8]) -> Result<()> {
    point(Call::Write)?;
    file.write_all(bytes)
}

/// Makes the file as long as `bytes`.
pub fn set_len(file: &File, bytes: u64) -> Result<()> {
    point(Call::Truncate)?;
    file.set_len(bytes)
}

/// Returns once the file's content is on the disk.
pub(super) fn sync_data(file: &File) -> Result<()> {
    point(Call::Sync)?;
    file.sync_data()
}

/// Returns once the file's content and attributes are on the disk.
pub(super) fn sync_all(file: &File) -> Result<()> {
    point(Call::Sync)?;
    file.sync_all()
}

pub(super) fn set_permissions(file: &File, permissions: Permissions) -> Result<()> {
    point(Call::Permissions)?;
    file.set_permissions(permissions)
}

/// What both allow, and what whoever owns a file needs to read and write it.
pub(super) fn stricter(a: Permissions, b: Permissions) -> Permissions {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        Permissions::from_mode(a.mode() & b.mode() | 0o600)
    }
    #[cfg(not(unix))]
    {
        let _ = b;
        a
    }
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    point(Call::Rename)?;
    std::fs::rename(from, to)
}

/// Renames a temporary file to a name that nothing has.
pub(super) fn rename_new(from: TempPath, to: &Path) -> std::result::Result<(), tempfile::PathPersistError> {
    match point(Call::Rename) {
        Ok(()) => from.persist_noclobber(to),
        Err(error) => Err(tempfile::PathPersistError { error, path: from }),
    }
}

pub(super) fn remove_file(path: &Path) -> Result<()> {
    point(Call::Unlink)?;
    std::fs::remove_file(path)
}

/// The folder that `path` is in.
pub(super) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes a rename or a removal in the folder of `path` last through a crash, where folders can be synced.
pub(super) fn sync_folder(path: &Path) -> std::result::Result<(), Failed> {
    if cfg!(unix) {
        let sync = point(Call::Sync).and_then(|()| File::open(folder(path))).and_then(|folder| folder.sync_all());
        sync.map_err(|e| Failed::io("sync the folder of", path, e))?;
    }
    Ok(())
}

/// Makes the folder that `path` shall be in, and those around it.
pub(super) fn create_folder(path: &Path) -> std::result::Result<(), Failed> {
    let folder = folder(path);
    let made = point(Call::Create).and_then(|()| std::fs::create_dir_all(folder));
    made.map_err(|e| Failed::io("create the folder", folder, e))
}

/// Whether the open `file` is what is at `path`, and not something that was removed or replaced meanwhile.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    matches!((file.metadata(), path.metadata()), (Ok(open), Ok(here)) if same(&open, &here))
}

/// What the file system calls the file at `path`, if that is on the file system of `beside`.
pub(super) fn inode_beside(path: &Path, beside: &File) -> Option<u64> {
    let (here, beside) = (path.metadata().ok()?, beside.metadata().ok()?);
    (cfg!(unix) && device(&here) == device(&beside)).then(|| inode(&here))
}

/// Whether two handles are of one file.
pub fn is_same(a: &File, b: &File) -> bool {
    matches!((a.metadata(), b.metadata()), (Ok(a), Ok(b)) if same(&a, &b))
}

fn same(a: &std::fs::Metadata, b: &std::fs::Metadata) -> bool {
    inode(a) == inode(b) && device(a) == device(b)
}

/// What the file system calls a file, whatever its name; 0 where that is not known.
pub(super) fn inode(metadata: &std::fs::Metadata) -> u64 {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::ino(metadata);
    #[cfg(not(unix))]
    {
        let _ = metadata;
        0
    }
}

fn device(metadata: &std::fs::Metadata) -> u64 {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::dev(metadata);
    #[cfg(not(unix))]
    {
        let _ = metadata;
        0
    }
}

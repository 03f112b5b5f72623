//! The system calls that change files, and reads at an offset. Everything that must survive a crash goes through this module, so that
//! tests can make any of these calls fail, or end the process just before it.

use super::Failed;
use super::fault::{Call, point};
use std::fs::{File, Permissions};
use std::io::{Result, Write};
use std::path::Path;
use tempfile::TempPath;

/// Writes all of `bytes` at `offset`. Several threads may write to the same file.
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

/// Fills `bytes` from `offset` on. Fails if the file ends earlier.
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

/// Writes all of `bytes` at the current position.
pub(super) fn append(mut file: &File, bytes: &[u8]) -> Result<()> {
    point(Call::Write)?;
    file.write_all(bytes)
}

/// Truncates or extends the file to `bytes` bytes.
pub fn set_len(file: &File, bytes: u64) -> Result<()> {
    point(Call::Truncate)?;
    file.set_len(bytes)
}

/// Waits until the file's content is on the disk.
pub(super) fn sync_data(file: &File) -> Result<()> {
    point(Call::Sync)?;
    file.sync_data()
}

/// Waits until the file's content and metadata are on the disk.
pub(super) fn sync_all(file: &File) -> Result<()> {
    point(Call::Sync)?;
    file.sync_all()
}

pub(super) fn set_permissions(file: &File, permissions: Permissions) -> Result<()> {
    point(Call::Permissions)?;
    file.set_permissions(permissions)
}

/// Permissions that both `a` and `b` grant, and in any case reading and writing by the owner.
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

/// Renames a temporary file; fails if `to` exists.
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

/// Makes a rename or removal in the folder of `path` durable, on systems where folders can be synced.
pub(super) fn sync_folder(path: &Path) -> std::result::Result<(), Failed> {
    if cfg!(unix) {
        let sync = point(Call::Sync).and_then(|()| File::open(folder(path))).and_then(|folder| folder.sync_all());
        sync.map_err(|e| Failed::io("sync the folder of", path, e))?;
    }
    Ok(())
}

/// Creates the folder of `path` and its parents.
pub(super) fn create_folder(path: &Path) -> std::result::Result<(), Failed> {
    let folder = folder(path);
    let created = point(Call::Create).and_then(|()| std::fs::create_dir_all(folder));
    created.map_err(|e| Failed::io("create the folder", folder, e))
}

/// Whether `path` still leads to the open `file`, which could have been removed or replaced since it was opened.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    matches!((file.metadata(), path.metadata()), (Ok(open), Ok(here)) if same(&open, &here))
}

/// The inode of the file at `path`, if it is on the same file system as `beside`.
pub(super) fn inode_beside(path: &Path, beside: &File) -> Option<u64> {
    let (here, beside) = (path.metadata().ok()?, beside.metadata().ok()?);
    (cfg!(unix) && device(&here) == device(&beside)).then(|| inode(&here))
}

/// Whether two handles refer to the same file.
pub fn is_same(a: &File, b: &File) -> bool {
    matches!((a.metadata(), b.metadata()), (Ok(a), Ok(b)) if same(&a, &b))
}

fn same(a: &std::fs::Metadata, b: &std::fs::Metadata) -> bool {
    inode(a) == inode(b) && device(a) == device(b)
}

/// The inode number, which identifies a file whatever its name; 0 on systems without inodes.
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

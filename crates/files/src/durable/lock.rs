//! Advisory locks of weight files. Readers hold a shared lock and editors in place an exclusive one, from before the first byte is read
//! until the end. The lock belongs to the file itself, whatever path or link leads to it.

use super::Failed;
use super::disk::is_at;
use super::fault::{Call, point};
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading; other processes may read it too.
    Read,
    /// Editing in place; no other process may use it.
    Edit,
}

/// How many times a file is opened if it is replaced between opening and locking.
pub(super) const TRIES: usize = 8;

/// Opens the file at `path` with `open`, and locks it. The lock is released when the file is closed.
///
/// On file systems without locks, a file can be read without a lock but not edited in place.
///
/// # Errors
/// Those of `open`; [`Failed::InUse`], [`Failed::NoLocks`].
pub fn open_locked<E: From<Failed>>(
    path: &Path,
    access: Access,
    open: impl Fn(&Path) -> Result<File, E>,
) -> Result<File, E> {
    for _ in 0..TRIES {
        let file = open(path)?;
        lock(&file, path, access)?;
        if is_at(&file, path) {
            return Ok(file);
        }
    }
    Err(Failed::InUse { path: path.to_owned(), access }.into())
}

/// Refuses to replace a checkpoint that this process or another one has open: an edit of it would be lost, and replacing an input of the
/// same command is almost certainly a mistake.
///
/// # Errors
/// [`Failed::Busy`].
pub(super) fn refuse_in_use(path: &Path) -> Result<(), Failed> {
    // Replacing a symbolic link does not change the file that it leads to.
    let is_file = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    let locked = is_file.then(|| File::open(path).ok()).flatten().map(|file| file.try_lock());
    match locked {
        Some(Err(TryLockError::WouldBlock)) => Err(Failed::Busy { path: path.to_owned() }),
        _ => Ok(()),
    }
}

/// Locks an open file.
///
/// # Errors
/// [`Failed::InUse`], [`Failed::NoLocks`].
pub fn lock(file: &File, path: &Path, access: Access) -> Result<(), Failed> {
    let locked = point(Call::Lock).map_err(TryLockError::Error).and_then(|()| match access {
        Access::Read => file.try_lock_shared(),
        Access::Edit => file.try_lock(),
    });
    match (locked, access) {
        (Ok(()), _) => Ok(()),
        (Err(TryLockError::WouldBlock), _) => Err(Failed::InUse { path: path.to_owned(), access }),
        (Err(TryLockError::Error(e)), Access::Read) if e.kind() != ErrorKind::Interrupted => Ok(()),
        (Err(TryLockError::Error(source)), _) => Err(Failed::NoLocks { path: path.to_owned(), source }),
    }
}

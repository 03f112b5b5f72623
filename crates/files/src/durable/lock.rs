//! Advisory locks of weight files. Who reads a file holds a shared lock on it, who edits it in place an exclusive one, from before its
//! first byte is read until the end. The lock belongs to the file itself, by whatever path or link it is reached.

use super::Failed;
use super::disk::is_at;
use super::fault::{Call, point};
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading; others may read it too.
    Read,
    /// Editing it where it is.
    Edit,
}

/// How often a file is opened anew that was replaced between opening and locking.
pub(super) const TRIES: usize = 8;

/// Opens the file at `path` with `open`, and locks it; the lock ends when the file is closed.
///
/// Where a file system has no locks, a file is read without one, and is not edited in place.
///
/// # Errors
/// What `open` returns; [`Failed::InUse`], [`Failed::NoLocks`].
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

/// Refuses to replace a checkpoint that this process or another one has open: it would be lost to who edits it, and a slip where it is an
/// input of its own.
///
/// # Errors
/// [`Failed::Busy`].
pub(super) fn refuse_in_use(path: &Path) -> Result<(), Failed> {
    // Of a link, only the link is replaced.
    let is_file = path.symlink_metadata().is_ok_and(|there| there.is_file());
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

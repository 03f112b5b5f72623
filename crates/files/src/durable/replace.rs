//! A new file or directory that appears at once.

use super::background::while_syncing;
use super::disk::{self, create_folder, folder, is_at, sync_folder};
use super::fault::{Call, point};
use super::lock::refuse_in_use;
use super::place::{Place, place, refuse_reserved};
use super::temporary::{PREFIX, SUFFIX, remove_abandoned};
use super::{Existing, Failed};
use std::fs::{File, Permissions};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::{TempDir, TempPath};

/// See [`output_was_printed`].
static OUTPUT_WAS_PRINTED: AtomicBool = AtomicBool::new(false);

/// Whether an output named `-` went to standard output, so that nothing else may be printed there.
pub fn output_was_printed() -> bool {
    OUTPUT_WAS_PRINTED.load(Ordering::Relaxed)
}

/// A file in the making. Dropped before [`NewFile::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    temporary: TempPath,
    path: PathBuf,
    existing: Existing,
    place: Place,
    /// Those of the file that it replaces or is like.
    permissions: Option<Permissions>,
}

impl NewFile {
    /// Begins a file that will be at `path`, in a folder that is made if it is not there. Removes temporary files that processes left
    /// in that folder when they were killed. The name `-`, a pipe and a character device get the content when it is complete.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn create(path: &Path, existing: Existing) -> Result<Self, Failed> {
        refuse_reserved(path)?;
        refuse_in_use(path)?;
        Self::create_like(path, existing, None)
    }

    /// Begins a file that will take the place of one that this process has locked.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn create_in_place(path: &Path) -> Result<Self, Failed> {
        Self::create_like(path, Existing::Replace, None)
    }

    /// As [`NewFile::create`], also of a name that is kept for files of this program; with the permissions of a file whose content it
    /// will have, where none is replaced.
    pub(super) fn create_like(path: &Path, existing: Existing, like: Option<Permissions>) -> Result<Self, Failed> {
        let place = place(path, existing)?;
        let beside = match place {
            Place::File => {
                create_folder(path)?;
                remove_abandoned(folder(path));
                folder(path).to_owned()
            }
            Place::Stream | Place::StandardOutput => std::env::temp_dir(),
        };
        let failed = |e| Failed::io("create", path, e);
        let replaced = std::fs::metadata(path).ok().filter(|_| place == Place::File).map(|file| file.permissions());
        let permissions = replaced.or(like);
        let (file, temporary) = temporary_file(&beside, permissions.as_ref()).map_err(failed)?;
        Ok(Self { file, temporary, path: path.to_owned(), existing, place, permissions })
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`Failed::Io`].
    pub(super) fn with(self, bytes: &[u8]) -> Result<Self, Failed> {
        disk::append(&self.file, bytes).map_err(|e| Failed::io("write", &self.path, e))?;
        Ok(self)
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is being written.
    pub fn temporary_path(&self) -> &Path {
        &self.temporary
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Does `work`, which writes to the file, and meanwhile lets the disk take what is written, so that a sync at the end has little
    /// left to wait for.
    ///
    /// # Errors
    /// What `work` returns; [`Failed`].
    pub fn while_writing<T, E: From<Failed>>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        while_syncing(|| disk::sync_data(&self.file).map_err(|e| Failed::io("write", &self.path, e)), work)
    }

    /// Gives the file the permissions of the one that it replaces or is like, and syncs it, so that only the rename is left to do.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn sync(&self) -> Result<(), Failed> {
        if let Some(permissions) = &self.permissions {
            let set = disk::set_permissions(&self.file, permissions.clone());
            set.map_err(|e| Failed::io("set the permissions of", &self.path, e))?;
        }
        disk::sync_all(&self.file).map_err(|e| Failed::io("sync", &self.path, e))
    }

    /// Syncs the file and puts it in its place.
    ///
    /// # Errors
    /// [`Failed`]; then the place holds what it held before, unless the error is [`Failed::Unsynced`].
    pub fn commit(self) -> Result<(), Failed> {
        let Self { ref path, place, existing, .. } = self;
        if place != Place::File {
            return self.send();
        }
        self.sync()?;
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Failed::Exists { path: path.clone() },
            _ => Failed::io("rename to", path, error),
        };
        match existing {
            Existing::Replace => {
                disk::rename(&self.temporary, path).map_err(failed)?;
                // It has moved: there is nothing left to remove.
                let _ = self.temporary.keep();
            }
            Existing::Keep => disk::rename_new(self.temporary, path).map_err(|e| failed(e.error))?,
        }
        sync_folder(path).map_err(|failed| failed.after_rename(path))
    }

    /// Gives the content to a pipe, a character device or standard output.
    fn send(mut self) -> Result<(), Failed> {
        let mut send = || {
            self.file.rewind()?;
            match self.place {
                Place::StandardOutput => {
                    OUTPUT_WAS_PRINTED.store(true, Ordering::Relaxed);
                    let mut out = std::io::stdout().lock();
                    std::io::copy(&mut self.file, &mut out)?;
                    out.flush()
                }
                _ => {
                    let mut out = std::fs::OpenOptions::new().write(true).open(&self.path)?;
                    std::io::copy(&mut self.file, &mut out).map(drop)
                }
            }
        };
        send().map_err(|e| Failed::io("write", &self.path, e))
    }

    /// The parts of a synced file: itself, its temporary path, and its path. Nothing removes the file any more if the temporary path is
    /// kept.
    pub(super) fn into_parts(self) -> (File, TempPath, PathBuf) {
        (self.file, self.temporary, self.path)
    }
}

/// How often another name is tried where someone removed the new file as abandoned before it was locked.
const TRIES: usize = 8;
const REMOVED_AT_ONCE: &str = "new temporary files are removed at once";

/// A new file in `folder`, locked, so that nobody takes it for one that was left behind. No one can read it who cannot read a file of
/// the `permissions` that it will have.
fn temporary_file(folder: &Path, permissions: Option<&Permissions>) -> std::io::Result<(File, TempPath)> {
    let mut builder = tempfile::Builder::new();
    let prefix = PREFIX.as_str();
    builder.prefix(prefix).suffix(SUFFIX);
    #[cfg(unix)]
    {
        // As any program creates files: what the umask leaves of read and write for all.
        use std::os::unix::fs::PermissionsExt;
        let mode = permissions.map_or(0o666, |permissions| permissions.mode() & 0o666 | 0o600);
        builder.permissions(Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = permissions;
    for _ in 0..TRIES {
        point(Call::Create)?;
        let (file, path) = builder.tempfile_in(folder)?.into_parts();
        // Not every file system has locks; where there are none, nothing is taken for abandoned.
        let locked = file.try_lock();
        if !matches!(locked, Err(std::fs::TryLockError::WouldBlock)) && is_at(&file, &path) {
            return Ok((file, path));
        }
    }
    Err(std::io::Error::other(REMOVED_AT_ONCE))
}

/// Writes `bytes` to a new file at `path`.
///
/// # Errors
/// [`Failed`].
pub fn write_file(path: &Path, bytes: &[u8], existing: Existing) -> Result<(), Failed> {
    new_file(path, bytes, existing)?.commit()
}

/// A file with this content that is not yet at `path`.
///
/// # Errors
/// [`Failed`].
pub(super) fn new_file(path: &Path, bytes: &[u8], existing: Existing) -> Result<NewFile, Failed> {
    NewFile::create(path, existing)?.with(bytes)
}

/// A directory in the making. Dropped before [`NewDirectory::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct NewDirectory {
    temporary: TempDir,
    path: PathBuf,
    /// Keeps the lock that says that the temporary directory is in use.
    _lock: Option<File>,
}

impl NewDirectory {
    /// Begins a directory that will be at `path`, where nothing or an empty directory is, in a folder that is made if it is not there.
    /// Removes temporary files as [`NewFile::create`] does.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn create(path: &Path) -> Result<Self, Failed> {
        refuse_reserved(path)?;
        let empty = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
        if !empty {
            match place(path, Existing::Keep)? {
                Place::File => {}
                Place::Stream | Place::StandardOutput => {
                    return Err(Failed::NotAFile { path: path.to_owned() });
                }
            }
        }
        create_folder(path)?;
        remove_abandoned(folder(path));
        let mut builder = tempfile::Builder::new();
        let prefix = PREFIX.as_str();
        builder.prefix(prefix).suffix(SUFFIX);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(Permissions::from_mode(0o777));
        }
        let failed = |e| Failed::io("create", path, e);
        for _ in 0..TRIES {
            point(Call::Create).map_err(failed)?;
            let temporary = builder.tempdir_in(folder(path)).map_err(failed)?;
            // As for files; not every system opens a directory.
            let Ok(lock) = File::open(temporary.path()) else {
                if temporary.path().is_dir() {
                    return Ok(Self { temporary, path: path.to_owned(), _lock: None });
                }
                continue;
            };
            let locked = lock.try_lock();
            if !matches!(locked, Err(std::fs::TryLockError::WouldBlock)) && is_at(&lock, temporary.path()) {
                return Ok(Self { temporary, path: path.to_owned(), _lock: Some(lock) });
            }
        }
        Err(failed(std::io::Error::other(REMOVED_AT_ONCE)))
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is being written.
    pub fn temporary_path(&self) -> &Path {
        self.temporary.path()
    }

    /// Puts the directory in its place. Its files have been synced.
    ///
    /// # Errors
    /// [`Failed`]; then there is what was there before, unless the error is [`Failed::Unsynced`].
    pub fn commit(self) -> Result<(), Failed> {
        let sync = File::open(self.temporary.path()).and_then(|directory| disk::sync_all(&directory));
        sync.map_err(|e| Failed::io("sync", &self.path, e))?;
        disk::rename(self.temporary.path(), &self.path).map_err(|e| Failed::io("rename to", &self.path, e))?;
        // It has moved: there is nothing left to remove.
        let _ = self.temporary.keep();
        sync_folder(&self.path).map_err(|failed| failed.after_rename(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/here/out");
        let new = NewFile::create(&path, Existing::Keep).unwrap();
        new.file().write_all(b"half").unwrap();
        assert!(!path.exists());
        drop(new);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);

        write_file(&path, b"one", Existing::Keep).unwrap();
        assert!(matches!(write_file(&path, b"two", Existing::Keep), Err(Failed::Exists { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        write_file(&path, b"two", Existing::Replace).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_takes_the_place_of_nothing_or_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        std::fs::create_dir(&path).unwrap();
        let new = NewDirectory::create(&path).unwrap();
        std::fs::write(new.temporary_path().join("file"), b"x").unwrap();
        new.commit().unwrap();
        assert_eq!(std::fs::read(path.join("file")).unwrap(), b"x");
        assert!(matches!(NewDirectory::create(&path), Err(Failed::Exists { .. })));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_read_only_file_is_replaced_and_stays_read_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        write_file(&path, b"one", Existing::Keep).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
        write_file(&path, b"two", Existing::Replace).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o444);
    }
}

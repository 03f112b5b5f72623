//! New files and directories, which are created or replaced atomically by a rename.

use super::background::while_syncing;
use super::disk::{self, create_folder, folder, is_at, sync_folder};
use super::fault::{Call, point};
use super::lock::refuse_in_use;
use super::place::{Place, check_new_directory, place, refuse_reserved};
use super::temporary::{PREFIX, SUFFIX, remove_abandoned};
use super::{Existing, Failed};
use std::fs::{File, Permissions};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::{TempDir, TempPath};

/// See [`output_was_printed`].
static OUTPUT_WAS_PRINTED: AtomicBool = AtomicBool::new(false);

/// Whether an output named `-` was written to standard output. Then nothing else may be printed there.
pub fn output_was_printed() -> bool {
    OUTPUT_WAS_PRINTED.load(Ordering::Relaxed)
}

/// A file that is being written. If it is dropped before [`NewFile::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    temporary: TempPath,
    path: PathBuf,
    existing: Existing,
    place: Place,
    /// The permissions of the file that it replaces, or that were requested.
    permissions: Option<Permissions>,
}

impl NewFile {
    /// Begins a file that will be at `path`. Creates its folder if necessary, and removes temporary files that killed processes left in
    /// it. If `path` is `-`, a pipe or a character device, the content is written there when it is complete.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn create(path: &Path, existing: Existing) -> Result<Self, Failed> {
        refuse_reserved(path)?;
        refuse_in_use(path)?;
        Self::create_like(path, existing, None)
    }

    /// Begins a file that will replace one that this process has locked.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn create_in_place(path: &Path) -> Result<Self, Failed> {
        Self::create_like(path, Existing::Replace, None)
    }

    /// As [`NewFile::create`], but also for reserved names and files that are in use. If no file is replaced, the new one gets
    /// `permissions`.
    pub(super) fn create_like(
        path: &Path,
        existing: Existing,
        permissions: Option<Permissions>,
    ) -> Result<Self, Failed> {
        let place = place(path, existing)?;
        let temporary_folder = match place {
            Place::File => {
                create_folder(path)?;
                remove_abandoned(folder(path));
                folder(path).to_owned()
            }
            Place::Stream | Place::StandardOutput => std::env::temp_dir(),
        };
        let replaced = std::fs::metadata(path).ok().filter(|_| place == Place::File).map(|file| file.permissions());
        let permissions = replaced.or(permissions);
        let (file, temporary) =
            temporary_file(&temporary_folder, permissions.as_ref()).map_err(|e| Failed::io("create", path, e))?;
        Ok(Self { file, temporary, path: path.to_owned(), existing, place, permissions })
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`Failed::Io`].
    pub fn with(self, bytes: &[u8]) -> Result<Self, Failed> {
        disk::append(&self.file, bytes).map_err(|e| Failed::io("write", &self.path, e))?;
        Ok(self)
    }

    /// The path that the file will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the temporary file.
    pub fn temporary_path(&self) -> &Path {
        &self.temporary
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Runs `work`, which writes to the file, and syncs in the background, so that little is left for the final sync.
    ///
    /// # Errors
    /// Those of `work`; [`Failed`].
    pub fn while_writing<T, E: From<Failed>>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        while_syncing(|| disk::sync_data(&self.file).map_err(|e| Failed::io("write", &self.path, e)), work)
    }

    /// Sets the permissions and syncs the file to the disk, so that only the rename is left to do.
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

    /// Syncs the file and renames it to its path.
    ///
    /// # Errors
    /// [`Failed`]. Then the path is unchanged, unless the error is [`Failed::Unsynced`].
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
                // The temporary path does not exist any more, so there is nothing to remove.
                let _ = self.temporary.keep();
            }
            Existing::Keep => disk::rename_new(self.temporary, path).map_err(|e| failed(e.error))?,
        }
        sync_folder(path).map_err(|failed| failed.after_rename(path))
    }

    /// Writes the content to a pipe, a character device or standard output.
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

    /// The parts of a synced file: the open file, its temporary path and its final path. Dropping the temporary path removes the file,
    /// unless its cleanup is disabled.
    pub(super) fn into_parts(self) -> (File, TempPath, PathBuf) {
        (self.file, self.temporary, self.path)
    }
}

/// How many names are tried if another process removes the new file as abandoned before it is locked.
const TRIES: usize = 8;
const REMOVED_AT_ONCE: &str = "new temporary files are removed at once";

/// Creates a temporary file in `folder`. It is locked, so that no process takes it for an abandoned one. It grants no more access than
/// the `permissions` that it will get at the end.
fn temporary_file(folder: &Path, permissions: Option<&Permissions>) -> std::io::Result<(File, TempPath)> {
    let mut builder = tempfile::Builder::new();
    let prefix = PREFIX.as_str();
    builder.prefix(prefix).suffix(SUFFIX);
    #[cfg(unix)]
    {
        // As usual for new files: read and write for all, minus the umask.
        use std::os::unix::fs::PermissionsExt;
        let mode = permissions.map_or(0o666, |permissions| permissions.mode() & 0o666 | 0o600);
        builder.permissions(Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = permissions;
    for _ in 0..TRIES {
        point(Call::Create)?;
        let (file, path) = builder.tempfile_in(folder)?.into_parts();
        // On file systems without locks, no file is taken for abandoned.
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

/// Begins a file at `path` and writes its content. The caller commits it.
///
/// # Errors
/// [`Failed`].
pub(super) fn new_file(path: &Path, bytes: &[u8], existing: Existing) -> Result<NewFile, Failed> {
    NewFile::create(path, existing)?.with(bytes)
}

/// A directory that is being written. If it is dropped before [`NewDirectory::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct NewDirectory {
    temporary: TempDir,
    path: PathBuf,
    /// Holds the lock that marks the temporary directory as in use.
    _lock: Option<File>,
}

impl NewDirectory {
    /// Begins a directory that will be at `path`, which must not exist or be an empty directory. Creates its parent if necessary, and
    /// removes temporary files that killed processes left there.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn create(path: &Path) -> Result<Self, Failed> {
        check_new_directory(path)?;
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
            // Locked for the same reason as temporary files. Not every system can open a directory.
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

    /// The path that the directory will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the temporary directory.
    pub fn temporary_path(&self) -> &Path {
        self.temporary.path()
    }

    /// Renames the directory to its path. The caller has synced its files.
    ///
    /// # Errors
    /// [`Failed`]. Then the path is unchanged, unless the error is [`Failed::Unsynced`].
    pub fn commit(self) -> Result<(), Failed> {
        let sync = File::open(self.temporary.path()).and_then(|directory| disk::sync_all(&directory));
        sync.map_err(|e| Failed::io("sync", &self.path, e))?;
        disk::rename(self.temporary.path(), &self.path).map_err(|error| match error.kind() {
            // Another program made it meanwhile.
            std::io::ErrorKind::DirectoryNotEmpty | std::io::ErrorKind::AlreadyExists => {
                Failed::Exists { path: self.path.clone() }
            }
            _ => Failed::io("rename to", &self.path, error),
        })?;
        // The temporary path does not exist any more, so there is nothing to remove.
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
    fn of_two_directories_with_one_path_the_later_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        let both = [1, 2].map(|_| NewDirectory::create(&path).unwrap());
        let [first, second] = both.map(|new| {
            std::fs::write(new.temporary_path().join("file"), b"x").unwrap();
            new.commit()
        });
        assert!(first.is_ok() && matches!(second, Err(Failed::Exists { .. })), "{second:?}");
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

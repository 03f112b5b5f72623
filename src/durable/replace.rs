//! A new file or directory that appears at once.

use super::behind::while_syncing;
use super::{Existing, Failed};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::{NamedTempFile, TempDir};

/// A file in the making. Dropped before [`NewFile::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct NewFile {
    temporary: NamedTempFile,
    path: PathBuf,
    existing: Existing,
}

impl NewFile {
    /// Begins a file that will be at `path`.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn create(path: &Path, existing: Existing) -> Result<Self, Failed> {
        if existing == Existing::Keep && path.symlink_metadata().is_ok() || path.is_dir() {
            return Err(Failed::Exists { path: path.to_owned() });
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".lcepatch-").suffix(".tmp");
        #[cfg(unix)]
        {
            // As any program creates files: what the umask leaves of read and write for all.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let temporary = builder.tempfile_in(folder(path)).map_err(|e| Failed::io("create", path, e))?;
        if let Ok(before) = std::fs::metadata(path) {
            let permissions = temporary.as_file().set_permissions(before.permissions());
            permissions.map_err(|e| Failed::io("set the permissions of", path, e))?;
        }
        Ok(Self { temporary, path: path.to_owned(), existing })
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is being written.
    pub fn temporary_path(&self) -> &Path {
        self.temporary.path()
    }

    /// The open file.
    pub fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// Does `work`, which writes to the file, and meanwhile lets the disk take what is written, so that a sync at the end has little
    /// left to wait for.
    ///
    /// # Errors
    /// What `work` returns; [`Failed`].
    pub fn while_writing<T, E: From<Failed>>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        while_syncing(|| self.file().sync_data().map_err(|e| Failed::io("write", &self.path, e)), work)
    }

    /// Syncs the content, so that only the rename is left to do.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn sync(&self) -> Result<(), Failed> {
        self.file().sync_all().map_err(|e| Failed::io("sync", &self.path, e))
    }

    /// Syncs the file and puts it in its place.
    ///
    /// # Errors
    /// [`Failed`]; then the place holds what it held before.
    pub fn commit(self) -> Result<(), Failed> {
        self.sync()?;
        let persisted = match self.existing {
            Existing::Replace => self.temporary.persist(&self.path),
            Existing::Keep => self.temporary.persist_noclobber(&self.path),
        };
        persisted.map_err(|e| match e.error.kind() {
            std::io::ErrorKind::AlreadyExists => Failed::Exists { path: self.path.clone() },
            _ => Failed::io("rename to", &self.path, e.error),
        })?;
        sync_folder(&self.path)
    }
}

/// Writes `bytes` to a new file at `path`.
///
/// # Errors
/// [`Failed`].
pub fn write_file(path: &Path, bytes: &[u8], existing: Existing) -> Result<(), Failed> {
    let new = NewFile::create(path, existing)?;
    new.file().write_all(bytes).map_err(|e| Failed::io("write", path, e))?;
    new.commit()
}

/// A directory in the making. Dropped before [`NewDirectory::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct NewDirectory {
    temporary: TempDir,
    path: PathBuf,
}

impl NewDirectory {
    /// Begins a directory that will be at `path`, where nothing or an empty directory is.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn create(path: &Path) -> Result<Self, Failed> {
        let empty = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
        if path.symlink_metadata().is_ok() && !empty {
            return Err(Failed::Exists { path: path.to_owned() });
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".lcepatch-").suffix(".tmp");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o777));
        }
        let temporary = builder.tempdir_in(folder(path)).map_err(|e| Failed::io("create", path, e))?;
        Ok(Self { temporary, path: path.to_owned() })
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
    /// [`Failed`].
    pub fn commit(self) -> Result<(), Failed> {
        let sync = File::open(self.temporary.path()).and_then(|directory| directory.sync_all());
        sync.map_err(|e| Failed::io("sync", &self.path, e))?;
        std::fs::rename(self.temporary.path(), &self.path).map_err(|e| Failed::io("rename to", &self.path, e))?;
        // It has moved: there is nothing left to remove.
        let _ = self.temporary.keep();
        sync_folder(&self.path)
    }
}

/// The folder that `path` is in.
pub(super) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes a rename or a removal last through a crash, where folders can be synced.
pub(super) fn sync_folder(path: &Path) -> Result<(), Failed> {
    if cfg!(unix) {
        let sync = File::open(folder(path)).and_then(|folder| folder.sync_all());
        sync.map_err(|e| Failed::io("sync the folder of", path, e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let new = NewFile::create(&path, Existing::Keep).unwrap();
        new.file().write_all(b"half").unwrap();
        assert!(!path.exists());
        drop(new);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

        write_file(&path, b"one", Existing::Keep).unwrap();
        assert!(matches!(write_file(&path, b"two", Existing::Keep), Err(Failed::Exists { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        write_file(&path, b"two", Existing::Replace).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
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
}

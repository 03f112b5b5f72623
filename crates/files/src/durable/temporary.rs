//! Names of temporary files and directories, and removal of those that killed processes left behind.

use super::journal;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Prefix of the names of temporary files of this machine. On a shared file system, locks may not be visible to other machines, so that
/// only files of this machine can be recognized as abandoned.
pub(super) static PREFIX: LazyLock<String> = LazyLock::new(|| {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let host = host.or_else(|_| std::env::var("HOSTNAME")).or_else(|_| std::env::var("COMPUTERNAME"));
    let digest = blake3::hash(host.unwrap_or_default().trim().as_bytes());
    format!("{ANY_PREFIX}{}-", &digest.to_hex()[..6])
});

/// Prefix of the names of temporary files of all machines.
pub(super) const ANY_PREFIX: &str = ".lcepatch-";
pub(super) const SUFFIX: &str = ".tmp";

/// Whether a name is reserved for temporary files and journals, which lcepatch removes and replaces.
pub(super) fn is_reserved(name: &str) -> bool {
    name == journal::FILE_NAME || is_temporary(name)
}

/// Whether this is the name of a temporary file of any machine.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with(ANY_PREFIX) && name.ends_with(SUFFIX)
}

/// Temporary files and directories in `folder` whose process was killed: they were made by this machine, are not locked, and no journal
/// needs them.
pub fn abandoned(folder: &Path) -> Vec<PathBuf> {
    let locked = abandoned_and_locked(folder);
    locked.into_iter().map(|(path, _)| path).collect()
}

/// Removes abandoned temporary files and directories. Those that cannot be removed are left.
pub(super) fn remove_abandoned(folder: &Path) {
    for (path, _lock) in abandoned_and_locked(folder) {
        let _ = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
    }
}

fn abandoned_and_locked(folder: &Path) -> Vec<(PathBuf, File)> {
    let mut found: Vec<(PathBuf, File)> = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(|name| name.starts_with(PREFIX.as_str()) && name.ends_with(SUFFIX));
        // Other types are not opened: opening a pipe would wait for a writer.
        let is_plain = entry.file_type().is_ok_and(|kind| kind.is_file() || kind.is_dir());
        if is_ours
            && is_plain
            && let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            found.push((entry.path(), file));
        }
    }
    // The journal of a killed process may need its temporary files, so nothing is abandoned before `recover` has run. This is checked
    // after the locks: a file that was unlocked above belongs to a killed process, which had written its journal by then, if any.
    if folder.join(journal::FILE_NAME).symlink_metadata().is_ok() {
        return Vec::new();
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

#[cfg(test)]
mod tests {
    use super::super::{Existing, NewDirectory, NewFile};
    use super::*;

    #[test]
    fn files_of_killed_processes_are_removed_and_those_of_live_ones_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (dead, foreign) = (format!("{}dead.tmp", *PREFIX), ".lcepatch-0-elsewhere.tmp");
        std::fs::create_dir(folder.path().join(&dead)).unwrap();
        std::fs::write(folder.path().join(&dead).join("inner"), b"x").unwrap();
        std::fs::write(folder.path().join(foreign), b"x").unwrap();
        let live = NewFile::create(&folder.path().join("out"), Existing::Keep);
        assert!(!folder.path().join(&dead).exists());
        let live = live.unwrap();
        let directory = NewDirectory::create(&folder.path().join("directory")).unwrap();
        assert_eq!(abandoned(folder.path()), Vec::<PathBuf>::new());
        assert!(live.temporary_path().exists() && directory.temporary_path().exists());
        live.commit().unwrap();
        assert!(folder.path().join(foreign).exists(), "it may belong to another machine");
    }
}

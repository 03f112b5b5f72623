//! Temporary files and directories: their names, and those that killed processes left behind.

use super::journal;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// How the names of temporary files of this machine begin. Locks of a shared file system may be known to one machine alone, so that only
/// a file of this machine can be known to be abandoned.
pub(super) static PREFIX: LazyLock<String> = LazyLock::new(|| {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let host = host.or_else(|_| std::env::var("HOSTNAME")).or_else(|_| std::env::var("COMPUTERNAME"));
    let digest = blake3::hash(host.unwrap_or_default().trim().as_bytes());
    format!("{ANY_PREFIX}{}-", &digest.to_hex()[..6])
});

/// How the names of all temporary files begin, whichever machine made them.
pub(super) const ANY_PREFIX: &str = ".lcepatch-";
pub(super) const SUFFIX: &str = ".tmp";

/// Whether a name is kept for files that lcepatch makes for itself: it removes and replaces them.
pub(super) fn is_reserved(name: &str) -> bool {
    name == journal::FILE_NAME || is_temporary(name)
}

/// Whether a file of this name is a temporary one, of any machine.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with(ANY_PREFIX) && name.ends_with(SUFFIX)
}

/// Temporary files and directories in `folder` whose process was killed: this machine made them, nobody holds their locks, and no
/// journal has a use for them.
pub fn abandoned(folder: &Path) -> Vec<PathBuf> {
    let locked = abandoned_and_locked(folder);
    locked.into_iter().map(|(path, _)| path).collect()
}

/// Removes them; that one cannot be removed is no reason to fail.
pub(super) fn remove_abandoned(folder: &Path) {
    for (path, _lock) in abandoned_and_locked(folder) {
        let _ = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
    }
}

fn abandoned_and_locked(folder: &Path) -> Vec<(PathBuf, File)> {
    let mut found: Vec<(PathBuf, File)> = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|name| name.starts_with(PREFIX.as_str()) && name.ends_with(SUFFIX));
        let plain = entry.file_type().is_ok_and(|kind| kind.is_file() || kind.is_dir());
        // Nothing else is opened: a pipe would be waited for.
        if ours
            && plain
            && let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            found.push((entry.path(), file));
        }
    }
    // Of what has no lock, a process that lived would have had one: what it needs to be finished, its journal says by now. Nothing is
    // abandoned before `recover` has been here.
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
    fn what_a_dead_process_left_is_removed_by_the_next_write_and_what_a_live_one_has_is_not() {
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
        assert!(folder.path().join(foreign).exists(), "it may be another machine's");
    }
}

//! Journals, which make a change of several files atomic.
//!
//! A journal is in the folder of the files, under a fixed name, so that a folder has at most one. It is created by a rename and is
//! therefore always complete. There are two kinds, distinguished by their first bytes:
//!
//! - [`EditJournal`], for weight files that are edited in place. It contains the old bytes; after a crash they are restored.
//! - [`Commit`], for new files that replace old ones together. All new files are on the disk before the journal; after a crash the
//!   remaining renames are made.
//!
//! An edit in place uses both: at the point of no return, the edit journal is replaced by the journal of the files that go with the edit
//! (log and undo patch). A process that changes files holds exclusive locks on all of them (`durable::lock`). If no process has locked
//! the files of a journal, the process that made it was killed.

mod commit;
mod edit;
mod segment;

pub use commit::{Commit, UnfinishedCommit};
pub use commit::{is_undo_patch, undo_name};
pub use edit::{EditJournal, Editable, NewEditJournal};
pub use segment::Segments;

use super::Failed;
use super::disk::{folder, inode, inode_beside, is_at, read_at};
use super::lock::{Access, TRIES};
use std::fs::File;
use std::path::{Component, Path, PathBuf};

/// The file name of a journal.
pub const FILE_NAME: &str = ".lcepatch-journal";

/// A change that was interrupted.
#[derive(Debug)]
pub enum Unfinished {
    /// An edit in place, to be undone.
    Edit(EditJournal),
    /// A commit, to be finished.
    Commit(UnfinishedCommit),
}

impl Unfinished {
    /// Finds an interrupted change in `folder`, and locks its files. If the folder was copied, the inodes in the journal are those of the
    /// original files; `copied` disables that check.
    ///
    /// # Errors
    /// [`Failed::InUse`] for a change that another process is making; [`Failed::Damaged`], [`Failed::OtherFile`], [`Failed::Io`].
    pub fn find(folder: &Path, copied: bool) -> Result<Option<Self>, Failed> {
        let path = folder.join(FILE_NAME);
        for _ in 0..TRIES {
            let Some(file) = open(&path)? else { return Ok(None) };
            let opened = file.try_clone().map_err(|e| Failed::io("open", &path, e))?;
            let found = kind(&file, &path).and_then(|kind| match kind {
                Kind::Edit => EditJournal::read(file, path.clone(), copied).map(Self::Edit),
                Kind::Commit => UnfinishedCommit::read(file, path.clone(), copied).map(Self::Commit),
            });
            if is_at(&opened, &path) {
                return found.map(Some);
            }
            // The process that makes the change has finished it meanwhile, or replaced its journal.
        }
        Err(Failed::InUse { path, access: Access::Edit })
    }
}

/// Refuses a file that an interrupted change left in an intermediate state. The caller has locked the file, so that no other process is
/// making that change.
///
/// # Errors
/// [`Failed::Interrupted`].
pub fn refuse_unfinished(file: &Path) -> Result<(), Failed> {
    // The journal is in the folder of the path or, if that is a link, in the folder of the file itself. The file may have been renamed
    // since.
    let real = file.canonicalize();
    for file in [Some(file), real.as_deref().ok()].into_iter().flatten() {
        if may_be_unfinished(file) {
            return Err(Failed::Interrupted { path: file.to_owned() });
        }
    }
    Ok(())
}

/// Whether the journal in the folder of `file` describes the file, or cannot be read and so may describe it.
fn may_be_unfinished(file: &Path) -> bool {
    let path = folder(file).join(FILE_NAME);
    let journal = match open(&path) {
        Ok(Some(journal)) => journal,
        // Not a regular file, so lcepatch did not write it.
        Ok(None) | Err(Failed::Damaged { .. }) => return false,
        Err(_) => return true,
    };
    let described = match kind(&journal, &path) {
        Ok(Kind::Edit) => edit::described_files(&journal, &path),
        Ok(Kind::Commit) => commit::described_files(&journal, &path),
        Err(failed) => Err(failed),
    };
    let Ok(described) = described else { return true };
    let inode = inode_beside(file, &journal);
    let is_file =
        |described: &DescribedFile| file.file_name() == Some(described.name.as_ref()) || inode == Some(described.inode);
    described.iter().any(is_file)
}

/// A file that a journal describes.
struct DescribedFile {
    name: String,
    /// 0 if the journal does not contain it.
    inode: u64,
}

/// Opens a journal, if there is one.
fn open(path: &Path) -> Result<Option<File>, Failed> {
    match path.symlink_metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Failed::io("open", path, e)),
        // Opening a pipe would wait for a writer.
        Ok(metadata) if !metadata.is_file() => Err(damaged(path, "it is not a regular file")),
        Ok(_) => match File::open(path) {
            Ok(file) => Ok(Some(file)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Failed::io("open", path, e)),
        },
    }
}

enum Kind {
    Edit,
    Commit,
}

fn kind(journal: &File, path: &Path) -> Result<Kind, Failed> {
    let mut magic = [0; 8];
    match read_at(journal, &mut magic, 0) {
        Ok(()) if magic == *edit::MAGIC => Ok(Kind::Edit),
        Ok(()) if magic == *commit::MAGIC => Ok(Kind::Commit),
        Err(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => Err(Failed::io("read", path, e)),
        _ => Err(damaged(path, "this version of lcepatch does not know its format")),
    }
}

/// Explains the failure to create the journal at `path`: an existing journal means that another change of this folder is unfinished.
fn explain_existing(failed: Failed, path: &Path) -> Failed {
    if !matches!(failed, Failed::Exists { .. }) {
        return failed;
    }
    match Unfinished::find(folder(path), false) {
        Ok(Some(_)) => Failed::Interrupted { path: folder(path).to_owned() },
        Ok(None) => Failed::InUse { path: path.to_owned(), access: Access::Edit },
        Err(failed) => failed,
    }
}

/// Whether `name` is a plain file name, and not that of the journal. Names in a journal are untrusted and must not lead to other folders.
fn is_plain(name: &str) -> bool {
    Path::new(name).components().eq([Component::Normal(name.as_ref())]) && name != FILE_NAME
}

/// Refuses a file whose inode is not the one in the journal.
fn same_file(path: &Path, expected: u64, journal: &Path, copied: bool) -> Result<(), Failed> {
    match path.symlink_metadata() {
        Ok(here) if copied || inode(&here) == expected => Ok(()),
        Ok(_) => Err(other_file(path.to_owned(), journal)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(Failed::Gone { path: path.to_owned(), journal: journal.to_owned() })
        }
        Err(e) => Err(Failed::io("open", path, e)),
    }
}

fn other_file(path: PathBuf, journal: &Path) -> Failed {
    Failed::OtherFile { path, journal: journal.to_owned() }
}

fn damaged(path: &Path, reason: &'static str) -> Failed {
    Failed::Damaged { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests;

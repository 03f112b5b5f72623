//! Journals: what makes a change of several files happen whole or not at all.
//!
//! A journal lies beside the files, under one name for each folder. It appears by a rename, so one that is there is whole. There are two
//! kinds, told apart by their first bytes:
//!
//! - [`EditJournal`]: weight files are edited where they are. The journal holds the old bytes; after a crash they are put back.
//! - [`Commit`]: new files take their places together. All of them are on the disk before the journal is; after a crash the renames that
//!   are left are made.
//!
//! An edit in place goes through both: the edit journal, replaced at the point of no return by that of the files that go with it. Whoever
//! changes files holds exclusive locks on all of them (`durable::lock`). A journal whose files nobody has locked is one of a process that
//! was killed.

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

/// The name of a journal, in the folder of the files that it is about.
pub const FILE_NAME: &str = ".lcepatch-journal";

/// A change that was interrupted.
#[derive(Debug)]
pub enum Unfinished {
    /// To be taken back.
    Edit(EditJournal),
    /// To be finished.
    Commit(UnfinishedCommit),
}

impl Unfinished {
    /// What was interrupted in `folder`, if anything was. Its files are locked then. A journal that was copied here with its files names
    /// other files of theirs; with `copied` it is believed all the same.
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
            // Whoever made the change has finished it meanwhile, or gone on to the next journal.
        }
        Err(Failed::InUse { path, access: Access::Edit })
    }
}

/// Refuses a file that an interrupted change left as it may not stay. The file is locked by the caller, so that no other process is
/// making that change.
///
/// # Errors
/// [`Failed::Interrupted`].
pub fn refuse_unfinished(file: &Path) -> Result<(), Failed> {
    // The folder of the file's name, and where it really is: either may be the one that was edited. The file itself may have got
    // another name since.
    let real = file.canonicalize();
    for file in [Some(file), real.as_deref().ok()].into_iter().flatten() {
        let path = folder(file).join(FILE_NAME);
        let journal = match open(&path) {
            Ok(Some(journal)) => Some(journal),
            // What is no file was not written by this program.
            Ok(None) | Err(Failed::Damaged { .. }) => continue,
            Err(_) => None,
        };
        // One that cannot be read may be about this file.
        let names = journal.and_then(|journal| {
            let names = match kind(&journal, &path) {
                Ok(Kind::Edit) => edit::names(&journal, &path).ok(),
                Ok(Kind::Commit) => commit::names(&journal, &path).ok(),
                Err(_) => None,
            };
            Some((names?, inode_beside(file, &journal)))
        });
        let is_here = |(names, here): (Vec<(String, u64)>, Option<u64>)| {
            names.iter().any(|(name, inode)| file.file_name() == Some(name.as_ref()) || here == Some(*inode))
        };
        if names.is_none_or(is_here) {
            return Err(Failed::Interrupted { path: file.to_owned() });
        }
    }
    Ok(())
}

/// Opens a journal, if there is one.
fn open(path: &Path) -> Result<Option<File>, Failed> {
    match path.symlink_metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Failed::io("open", path, e)),
        // Opening a pipe would wait for whoever writes to it.
        Ok(there) if !there.is_file() => Err(damaged(path, "it is not a regular file")),
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
        _ => Err(damaged(path, "it is none of this version")),
    }
}

/// The failure to make the journal at `path`: where one is already, it is about other files of the folder.
fn there(failed: Failed, path: &Path) -> Failed {
    if !matches!(failed, Failed::Exists { .. }) {
        return failed;
    }
    match Unfinished::find(folder(path), false) {
        Ok(Some(_)) => Failed::Interrupted { path: folder(path).to_owned() },
        Ok(None) => Failed::InUse { path: path.to_owned(), access: Access::Edit },
        Err(failed) => failed,
    }
}

/// Whether `name` names a file in the journal's own folder, which is not the journal itself.
fn is_plain(name: &str) -> bool {
    Path::new(name).components().eq([Component::Normal(name.as_ref())]) && name != FILE_NAME
}

/// Refuses a file that is not the one that the journal was written for.
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

//! Atomic replacement of several files of one folder.
//!
//! The journal contains `lcejcmt1` and a JSON object: the temporary file of each new file with its final name, and the files to remove. It
//! is created when all new files are on the disk. That is the point of no return: after a crash, [`UnfinishedCommit::finish`] does what
//! is left.

// Reads untrusted bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::super::disk::{self, inode, is_at, sync_folder};
use super::super::lock::{Access, lock};
use super::super::replace::new_file;
use super::super::temporary::is_temporary;
use super::super::{Existing, Failed, NewFile};
use super::edit::EditJournal;
use super::{DescribedFile, FILE_NAME, damaged, explain_existing, is_plain, same_file};
use crate::input;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use tempfile::TempPath;

pub(super) const MAGIC: &[u8; 8] = b"lcejcmt1";
/// Largest journal: enough for the names of 65,536 files.
const JOURNAL_BYTES_MAX: u64 = 48 << 20;

/// The content of the journal: what the commit does in its folder.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Steps {
    rename: Vec<Rename>,
    remove: Vec<String>,
    /// Files that were edited in place and have their final content.
    edited: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Rename {
    from: String,
    to: String,
    /// The new file's inode, which the rename does not change.
    inode: u64,
}

/// New files that will be put in place together. If it is dropped before [`Commit::run`], it leaves nothing behind.
#[derive(Debug)]
pub struct Commit {
    folder: PathBuf,
    files: Vec<NewFile>,
    remove: Vec<String>,
}

impl Commit {
    /// An empty commit in `folder`.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), files: Vec::new(), remove: Vec::new() }
    }

    /// Adds a file whose content has been written.
    pub fn add(&mut self, file: NewFile) {
        self.files.push(file);
    }

    /// Adds a new file with this name and content, which may replace an existing one.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), Failed> {
        self.files.push(new_file(&self.folder.join(name), bytes, Existing::Replace)?);
        Ok(())
    }

    /// Adds the removal of the undo patch with this name, if it exists.
    pub fn remove(&mut self, name: String) {
        self.remove.push(name);
    }

    /// Puts all files in place. If `edit` is given, this also makes that edit in place final.
    ///
    /// # Errors
    /// [`Failed`]. If it [is in place](Failed::is_in_place), all files are in place or [`UnfinishedCommit::finish`] can put them there.
    /// Otherwise nothing has changed, and `edit` must be undone.
    pub fn run(mut self, edit: Option<&EditJournal>) -> Result<(), Failed> {
        self.files.iter().try_for_each(NewFile::sync)?;
        match (self.files.len(), self.remove.is_empty(), edit) {
            (0, true, None) => return Ok(()),
            (0, true, Some(edit)) => return edit.remove(),
            (1, true, None) => return self.files.pop().map_or(Ok(()), NewFile::commit),
            _ => {}
        }
        let path = self.folder.join(FILE_NAME);
        let steps = self.steps(edit)?;
        let mut content = MAGIC.to_vec();
        serde_json::to_writer(&mut content, &steps).map_err(|e| Failed::io("write", &path, e.into()))?;
        match edit {
            // Both journals have the same name: this rename removes the edit journal, so that the edit cannot be undone any more.
            Some(edit) => journal(edit.path(), &content, Existing::Replace)?.commit().or_else(ignore_if_in_place)?,
            None => {
                let journal =
                    journal(&path, &content, Existing::Keep).map_err(|failed| explain_existing(failed, &path))?;
                if let Err(failed) = journal.commit() {
                    if failed.is_in_place() {
                        let _ = disk::remove_file(&path);
                    }
                    return Err(explain_existing(failed.not_in_place(), &path));
                }
            }
        }
        let (_locks, mut temporaries): (Vec<File>, Vec<TempPath>) = self
            .files
            .into_iter()
            .map(|file| {
                let (file, temporary, _) = file.into_parts();
                (file, temporary)
            })
            .unzip();
        temporaries.iter_mut().for_each(|temporary| temporary.disable_cleanup(true));
        let done = match steps.rename_all(&self.folder) {
            Err((0, failed)) if edit.is_none() && disk::remove_file(&path).is_ok() => {
                // Nothing has changed yet, and the journal is gone again.
                temporaries.iter_mut().for_each(|temporary| temporary.disable_cleanup(false));
                return Err(failed);
            }
            renamed => renamed.map_err(|(_, failed)| failed).and_then(|()| steps.remove_all(&path)),
        };
        done.map_err(|failed| match failed.is_in_place() {
            true => failed,
            false => Failed::Incomplete { path: self.folder, failed: Box::new(failed) },
        })
    }

    fn steps(&self, edit: Option<&EditJournal>) -> Result<Steps, Failed> {
        let mut rename = Vec::new();
        for file in &self.files {
            let metadata = file.file().metadata().map_err(|e| Failed::io("read", file.path(), e))?;
            rename.push(Rename {
                from: file_name(file.temporary_path()),
                to: file_name(file.path()),
                inode: inode(&metadata),
            });
        }
        let edited = edit.into_iter().flat_map(EditJournal::names).map(str::to_owned).collect();
        Ok(Steps { rename, remove: self.remove.clone(), edited })
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A journal with this content, before its rename to `path`.
fn journal(path: &Path, content: &[u8], existing: Existing) -> Result<NewFile, Failed> {
    NewFile::create_like(path, existing, None)?.with(content)
}

/// Ignores the failure to sync the folder of a file that is in its place.
fn ignore_if_in_place(failed: Failed) -> Result<(), Failed> {
    if failed.is_in_place() { Ok(()) } else { Err(failed) }
}

impl Steps {
    /// Makes the remaining renames. A failure comes with the number of renames made before it.
    fn rename_all(&self, folder: &Path) -> Result<(), (usize, Failed)> {
        for (made, Rename { from, to, .. }) in self.rename.iter().enumerate() {
            let (from, to) = (folder.join(from), folder.join(to));
            if from.symlink_metadata().is_ok() {
                disk::rename(&from, &to).map_err(|e| (made, Failed::io("rename to", &to, e)))?;
            }
        }
        Ok(())
    }

    /// Makes the removals, then removes the journal at `path`.
    fn remove_all(&self, path: &Path) -> Result<(), Failed> {
        sync_folder(path)?;
        for path in self.remove.iter().map(|name| path.with_file_name(name)).chain([path.to_owned()]) {
            match disk::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Failed::io("remove", &path, e)),
                _ => {}
            }
        }
        sync_folder(path).map_err(|failed| failed.after_rename(disk::folder(path)))
    }
}

/// An interrupted commit. Its files are locked.
#[derive(Debug)]
pub struct UnfinishedCommit {
    path: PathBuf,
    steps: Steps,
    _locks: Vec<File>,
}

impl UnfinishedCommit {
    /// Reads the journal that is open as `file`, and locks its new files.
    pub(super) fn read(file: File, path: PathBuf, copied: bool) -> Result<Self, Failed> {
        let steps = read_steps(&file, &path)?;
        let mut locks = Vec::new();
        for Rename { from, to, inode } in &steps.rename {
            let [from, to] = [from, to].map(|name| path.with_file_name(name));
            let current = match from.symlink_metadata() {
                Ok(_) => from,
                // Without a comparison of inodes, the file with the final name could be the old or the new one.
                Err(_) if copied => return Err(damaged(&path, "not all files that it would put in place were copied")),
                Err(_) => to,
            };
            same_file(&current, *inode, &path, copied)?;
            // An untrusted journal may name a pipe; `open_any` does not wait for it.
            let file = input::open_any(&current).map_err(|e| Failed::io("open", &current, e))?;
            lock(&file, &current, Access::Edit)?;
            if !is_at(&file, &current) {
                return Err(Failed::InUse { path: current, access: Access::Edit });
            }
            locks.push(file);
        }
        Ok(Self { path, steps, _locks: locks })
    }

    /// The final names of the new files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.steps.rename.iter().map(|rename| rename.to.as_str())
    }

    /// Makes the remaining renames and removals, then removes the journal.
    ///
    /// # Errors
    /// [`Failed::Io`]; the call can be repeated.
    pub fn finish(self) -> Result<(), Failed> {
        let folder = disk::folder(&self.path);
        self.steps.rename_all(folder).map_err(|(_, failed)| failed)?;
        self.steps.remove_all(&self.path)
    }
}

/// The files that the journal describes. It does not contain the inodes of files that were edited in place.
pub(super) fn described_files(file: &File, path: &Path) -> Result<Vec<DescribedFile>, Failed> {
    let Steps { rename, edited, .. } = read_steps(file, path)?;
    let new = rename.into_iter().map(|rename| DescribedFile { name: rename.to, inode: rename.inode });
    Ok(new.chain(edited.into_iter().map(|name| DescribedFile { name, inode: 0 })).collect())
}

/// Whether this is the name of an undo patch, as [`undo_name`] makes them. A commit removes no other files, whatever its journal says.
pub fn is_undo_patch(name: &str) -> bool {
    is_plain(name) && name.starts_with(UNDO_PREFIX) && name.ends_with(UNDO_SUFFIX)
}

/// The file name of the undo patch for the patch with this id.
pub fn undo_name(id: &str) -> String {
    format!("{UNDO_PREFIX}{id}{UNDO_SUFFIX}")
}

const UNDO_PREFIX: &str = "lcepatch-undo-";
const UNDO_SUFFIX: &str = ".lcepatch";

fn read_steps(file: &File, path: &Path) -> Result<Steps, Failed> {
    let mut content = Vec::new();
    let mut limited = file.take(JOURNAL_BYTES_MAX + 1);
    limited.read_to_end(&mut content).map_err(|e| Failed::io("read", path, e))?;
    // The caller read the magic at offset 0 without moving the file's position, so it is part of the content.
    let text = content.get(MAGIC.len()..).filter(|_| content.len() as u64 <= JOURNAL_BYTES_MAX);
    let steps: Option<Steps> = text.and_then(|text| serde_json::from_slice(text).ok());
    let steps = steps.ok_or_else(|| damaged(path, "its list of files is invalid"))?;
    let is_valid = |rename: &Rename| is_temporary(&rename.from) && is_plain(&rename.from) && is_plain(&rename.to);
    if !steps.rename.iter().all(is_valid) || !steps.remove.iter().chain(&steps.edited).all(|name| is_plain(name)) {
        return Err(damaged(path, "it contains a name that is not a plain file name"));
    }
    if !steps.remove.iter().all(|name| is_undo_patch(name)) {
        return Err(damaged(path, "it would remove other files than undo patches"));
    }
    Ok(steps)
}

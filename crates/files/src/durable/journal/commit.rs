//! New files of one folder that take their places together.
//!
//! The journal holds `lcejcmt1` and a JSON object: which temporary file gets which name, and which files go. It appears when all new files
//! are on the disk, which is the point of no return: what is left after a crash is done by [`UnfinishedCommit::finish`].

use super::super::disk::{self, inode, is_at, sync_folder};
use super::super::lock::{Access, lock};
use super::super::replace::new_file;
use super::super::temporary::is_temporary;
use super::super::{Existing, Failed, NewFile};
use super::edit::EditJournal;
use super::{FILE_NAME, damaged, is_plain, same_file, there};
use crate::input;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use tempfile::TempPath;

pub(super) const MAGIC: &[u8; 8] = b"lcejcmt1";
/// What the names of 65,536 files take at most.
const JOURNAL_BYTES_MAX: u64 = 48 << 20;

/// What a commit does in its folder.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Steps {
    rename: Vec<Rename>,
    remove: Vec<String>,
    /// Files that were edited in place, and are as they shall be.
    edited: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Rename {
    from: String,
    to: String,
    /// Of the new file, under either name.
    inode: u64,
}

/// New files that will take their places together. Dropped before [`Commit::run`], it leaves nothing behind.
#[derive(Debug)]
pub struct Commit {
    folder: PathBuf,
    files: Vec<NewFile>,
    remove: Vec<String>,
}

impl Commit {
    /// Begins with no files; all will be in `folder`.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), files: Vec::new(), remove: Vec::new() }
    }

    /// Adds a file whose content has been written.
    pub fn add(&mut self, file: NewFile) {
        self.files.push(file);
    }

    /// Adds a file with this content, which takes the place of one of its name.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), Failed> {
        self.files.push(new_file(&self.folder.join(name), bytes, Existing::Replace)?);
        Ok(())
    }

    /// Adds that the undo patch of this name goes, if it is there.
    pub fn remove(&mut self, name: String) {
        self.remove.push(name);
    }

    /// Puts all files in their places, and ends the edit in place that `edit` is the journal of.
    ///
    /// # Errors
    /// [`Failed`]. Where it [is in place](Failed::is_in_place), the files are in their places, or [`UnfinishedCommit::finish`] puts them
    /// there; otherwise all is as it was before, and `edit` is to be taken back.
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
            // One name for both journals: the edit cannot be taken back any more once the other one is there.
            Some(edit) => journal(edit.path(), &content, Existing::Replace)?.commit().or_else(passed)?,
            None => {
                let journal = journal(&path, &content, Existing::Keep).map_err(|failed| there(failed, &path))?;
                if let Err(failed) = journal.commit() {
                    if failed.is_in_place() {
                        let _ = disk::remove_file(&path);
                    }
                    return Err(there(failed.before_anything(), &path));
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
                // Nothing has changed yet.
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
            let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let (from, to) = (name(file.temporary_path()), name(file.path()));
            rename.push(Rename { from, to, inode: inode(&metadata) });
        }
        let edited = edit.into_iter().flat_map(EditJournal::names).map(str::to_owned).collect();
        Ok(Steps { rename, remove: self.remove.clone(), edited })
    }
}

/// A journal with this content that is not yet at `path`.
fn journal(path: &Path, content: &[u8], existing: Existing) -> Result<NewFile, Failed> {
    NewFile::create_like(path, existing, None)?.with(content)
}

/// Goes on after a file whose folder could not be synced: it is in its place.
fn passed(failed: Failed) -> Result<(), Failed> {
    if failed.is_in_place() { Ok(()) } else { Err(failed) }
}

impl Steps {
    /// Makes the renames that are left; fails with how many were made before.
    fn rename_all(&self, folder: &Path) -> Result<(), (usize, Failed)> {
        for (made, Rename { from, to, .. }) in self.rename.iter().enumerate() {
            let (from, to) = (folder.join(from), folder.join(to));
            if from.symlink_metadata().is_ok() {
                disk::rename(&from, &to).map_err(|e| (made, Failed::io("rename to", &to, e)))?;
            }
        }
        Ok(())
    }

    /// Removes what shall go, and then the journal at `path`.
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

/// A commit that was interrupted. Its files are locked.
#[derive(Debug)]
pub struct UnfinishedCommit {
    path: PathBuf,
    steps: Steps,
    _locks: Vec<File>,
}

impl UnfinishedCommit {
    /// The commit whose journal is open as `file`.
    pub(super) fn read(file: File, path: PathBuf, copied: bool) -> Result<Self, Failed> {
        let steps = read_steps(&file, &path)?;
        let mut locks = Vec::new();
        for Rename { from, to, inode } in &steps.rename {
            let [from, to] = [from, to].map(|name| path.with_file_name(name));
            let here = match from.symlink_metadata() {
                Ok(_) => from,
                // Nothing else than the inode says whether the other one is the new file.
                Err(_) if copied => return Err(damaged(&path, "not all files that it would put in place were copied")),
                Err(_) => to,
            };
            same_file(&here, *inode, &path, copied)?;
            // A journal may name a pipe, which must not be waited for.
            let file = input::open_any(&here).map_err(|e| Failed::io("open", &here, e))?;
            lock(&file, &here, Access::Edit)?;
            if !is_at(&file, &here) {
                return Err(Failed::InUse { path: here, access: Access::Edit });
            }
            locks.push(file);
        }
        Ok(Self { path, steps, _locks: locks })
    }

    /// The names of the files that take their places.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.steps.rename.iter().map(|rename| rename.to.as_str())
    }

    /// Puts the files in their places that are not there yet, and removes the journal.
    ///
    /// # Errors
    /// [`Failed::Io`]; it can be repeated.
    pub fn finish(self) -> Result<(), Failed> {
        let folder = disk::folder(&self.path);
        self.steps.rename_all(folder).map_err(|(_, failed)| failed)?;
        self.steps.remove_all(&self.path)
    }
}

/// The names and inodes of the files that the journal is about; 0 for those of which it does not know the inode.
pub(super) fn names(file: &File, path: &Path) -> Result<Vec<(String, u64)>, Failed> {
    let Steps { rename, edited, .. } = read_steps(file, path)?;
    let rename = rename.into_iter().map(|rename| (rename.to, rename.inode));
    Ok(rename.chain(edited.into_iter().map(|name| (name, 0))).collect())
}

/// Whether a file of this name is an undo patch that [`undo_name`] named. No others are removed, whatever a journal says.
pub fn is_undo_patch(name: &str) -> bool {
    is_plain(name) && name.starts_with(UNDO_PREFIX) && name.ends_with(UNDO_SUFFIX)
}

/// The name of an undo patch beside a log, of the patch with this id.
pub fn undo_name(id: &str) -> String {
    format!("{UNDO_PREFIX}{id}{UNDO_SUFFIX}")
}

const UNDO_PREFIX: &str = "lcepatch-undo-";
const UNDO_SUFFIX: &str = ".lcepatch";

fn read_steps(file: &File, path: &Path) -> Result<Steps, Failed> {
    let mut content = Vec::new();
    let mut limited = file.take(JOURNAL_BYTES_MAX + 1);
    limited.read_to_end(&mut content).map_err(|e| Failed::io("read", path, e))?;
    // The magic has been read at its place, without moving on.
    let text = content.get(MAGIC.len()..).filter(|_| content.len() as u64 <= JOURNAL_BYTES_MAX);
    let steps: Option<Steps> = text.and_then(|text| serde_json::from_slice(text).ok());
    let steps = steps.ok_or_else(|| damaged(path, "it is no list of files"))?;
    let plain = |rename: &Rename| is_temporary(&rename.from) && is_plain(&rename.from) && is_plain(&rename.to);
    if !steps.rename.iter().all(plain) || !steps.remove.iter().chain(&steps.edited).all(|name| is_plain(name)) {
        return Err(damaged(path, "a name is no plain file name"));
    }
    if !steps.remove.iter().all(|name| is_undo_patch(name)) {
        return Err(damaged(path, "it would remove other files than undo patches"));
    }
    Ok(steps)
}

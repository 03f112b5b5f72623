//! Outputs that are whole or absent: written beside their place, synced, then renamed; or line by line; or, where several files change
//! together or are edited where they are, with a journal.

mod background;
mod disk;
mod fault;
pub mod journal;
mod lines;
mod lock;
mod place;
mod replace;
mod temporary;

pub(crate) use disk::{is_at, read_at};
pub use disk::{is_same, set_len, write_at};
pub use journal::{Commit, EditJournal, Editable, NewEditJournal, Segments, Unfinished};
pub use journal::{is_undo_patch, undo_name};
pub use lines::{Found, Lines};
pub use lock::Access;
pub use lock::{lock, open_locked};
pub use place::refuse_hub_cache;
pub use place::{check_output, real_path};
pub use replace::{NewDirectory, NewFile, output_was_printed, write_file};
pub use temporary::{abandoned, is_temporary};

use std::path::{Path, PathBuf};

/// Whether an output may take the place of an existing file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// Refuse.
    #[default]
    Keep,
    /// Replace it, atomically.
    Replace,
}

/// Why an output is not in its place. What was there before still is, but for those that [are in place](Failed::is_in_place).
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// Something is there already.
    #[error("{} exists already", path.display())]
    Exists {
        /// The output.
        path: PathBuf,
    },
    /// Another process writes it, or reads what shall be edited.
    #[error("another process is {} {}", if *access == Access::Read { "writing" } else { "using" }, path.display())]
    InUse {
        /// The file.
        path: PathBuf,
        /// What it was wanted for.
        access: Access,
    },
    /// The output would take the place of a checkpoint that is open.
    #[error("{} is a checkpoint that is being read or edited, which is not replaced", path.display())]
    Busy {
        /// The output.
        path: PathBuf,
    },
    /// A file cannot be locked, and so not be edited in place.
    #[error("{} cannot be locked, and an edit in place needs that: {source}", path.display())]
    NoLocks {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The output's place is in a hub's cache.
    #[error("{} is in a hub's cache, whose files are upstream's for every program on this machine", path.display())]
    HubCache {
        /// The output.
        path: PathBuf,
    },
    /// The output's place is a device, a pipe or a socket.
    #[error("{} is a device, a pipe or a socket, which is not replaced", path.display())]
    NotAFile {
        /// The output.
        path: PathBuf,
    },
    /// What was written is not what is read back.
    #[error("{tensor:?} in {} is not what was written: its bytes were read back, and their digest is another", path.display())]
    ReadBack {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// The output is in its place, and the disk may not have taken that.
    #[error("{} is in its place, but a loss of power may take it back: {operation}: {source}", path.display())]
    Unsynced {
        /// The output.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Files that go together are complete, and not all of them are in their places.
    #[error("the result in {} is complete, but it is not finished: {failed}", path.display())]
    Incomplete {
        /// Their folder.
        path: PathBuf,
        /// What failed.
        failed: Box<Failed>,
    },
    /// A file was replaced by another one while it was used.
    #[error("{} was replaced by another file meanwhile", path.display())]
    Replaced {
        /// Its path.
        path: PathBuf,
    },
    /// A change was interrupted, and has not been finished or taken back.
    #[error("a change of {} was interrupted, it may be half old and half new", path.display())]
    Interrupted {
        /// One of the files.
        path: PathBuf,
    },
    /// A journal is not one.
    #[error("{} is not a whole journal: {reason}", path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// A file is not the one that a journal is about.
    #[error("{} is not the file that was being changed: it was replaced, changed or copied since", path.display())]
    OtherFile {
        /// The file.
        path: PathBuf,
        /// The journal.
        journal: PathBuf,
    },
    /// A file that a journal is about is not there.
    #[error("a change of {} was interrupted, and the file is not there any more", path.display())]
    Gone {
        /// The file.
        path: PathBuf,
        /// The journal.
        journal: PathBuf,
    },
    /// The output's name is one that this program gives to files of its own.
    #[error("{} is a name that lcepatch gives to files of its own", path.display())]
    Reserved {
        /// The output.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The output.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl Failed {
    /// A stable name for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Failed::Exists { .. } => "output.exists",
            Failed::InUse { .. } | Failed::Busy { .. } => "output.in-use",
            Failed::Replaced { .. } => "checkpoint.changed",
            Failed::NoLocks { .. } => "output.no-locks",
            Failed::HubCache { .. } => "output.hub-cache",
            Failed::NotAFile { .. } => "output.not-a-file",
            Failed::ReadBack { .. } => "output.read-back",
            Failed::Unsynced { .. } => "output.unsynced",
            Failed::Incomplete { .. } => "edit.incomplete",
            Failed::Interrupted { .. } => "edit.interrupted",
            Failed::Damaged { .. } => "journal.damaged",
            Failed::OtherFile { .. } => "journal.other-file",
            Failed::Gone { .. } => "journal.file-gone",
            Failed::Reserved { .. } => "output.reserved",
            Failed::Io { .. } => "output.io",
        }
    }

    /// One thing to do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Failed::Exists { path } if path.is_dir() => Some("choose another name, or remove the directory".to_owned()),
            Failed::Exists { .. } => Some("choose another name, or replace it with --force".to_owned()),
            Failed::InUse { .. } => Some("wait for it, or choose another file".to_owned()),
            Failed::Replaced { .. } => Some("let no other program write there, and try again".to_owned()),
            Failed::NoLocks { .. } => Some("write the result to a new place with -o".to_owned()),
            Failed::HubCache { .. } => {
                Some("write to a place of your own with -o; programs load the result from there".to_owned())
            }
            Failed::NotAFile { .. } => {
                Some("choose another name; a pipe or a character device is written to without --force".to_owned())
            }
            Failed::ReadBack { .. } => Some("check the disk and memory of this machine, then try again".to_owned()),
            Failed::Unsynced { .. } => Some("check the disk, and that the result is there after a restart".to_owned()),
            Failed::Incomplete { path, .. } => Some(format!("`lcepatch recover {}` finishes it", path.display())),
            Failed::Interrupted { path } => {
                Some(format!("`lcepatch recover {}` ends it: what was before, or all of the result", path.display()))
            }
            Failed::Damaged { path, .. } => {
                let path = path.display();
                Some(format!("get the weights beside it again, they may be half old and half new; then remove {path}"))
            }
            Failed::OtherFile { journal, .. } => Some(format!(
                "if the folder was copied or restored, `lcepatch recover --copied`; if the file is as it should be, remove {}",
                journal.display()
            )),
            Failed::Gone { journal, .. } => Some(format!(
                "if it has another name or place now, put it back where it was; if it was removed on purpose, remove {}",
                journal.display()
            )),
            Failed::Reserved { .. } => Some("choose another name".to_owned()),
            Failed::Busy { .. } => Some("choose another name, or wait for whoever uses it".to_owned()),
            Failed::Io { .. } => None,
        }
    }

    /// Whether the output is in its place all the same, or one step away from it, so that nothing is to be taken back.
    pub fn is_in_place(&self) -> bool {
        matches!(self, Failed::Unsynced { .. } | Failed::Incomplete { .. })
    }

    /// The same failure of something that has been taken back.
    pub fn before_anything(self) -> Self {
        match self {
            Failed::Unsynced { path, operation, source } => Failed::Io { operation, path, source },
            failed => failed,
        }
    }

    /// The same failure of a part of an output at `path`, which is not in its place yet.
    pub fn inside(self, path: &Path) -> Self {
        match self.before_anything() {
            Failed::Io { operation, source, .. } => Failed::io(operation, path, source),
            failed => failed,
        }
    }

    /// The same failure of a step that comes after the output at `path` was put in its place.
    fn after_rename(self, path: &Path) -> Self {
        match self {
            Failed::Io { operation, source, .. } => Failed::Unsynced { path: path.to_owned(), operation, source },
            failed => failed,
        }
    }

    /// What the system refused at `path`.
    pub fn io(operation: &'static str, path: &Path, source: std::io::Error) -> Self {
        Failed::Io { operation, path: path.to_owned(), source }
    }
}

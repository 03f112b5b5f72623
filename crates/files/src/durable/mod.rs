//! Outputs that survive crashes. A new file is written to a temporary file in the same folder, synced, then renamed, so that it is either
//! complete or absent. Files of lines grow by whole lines. Several files that change together, and files that are edited in place, are
//! protected by a [`journal`].

mod background;
mod disk;
mod fault;
pub mod journal;
mod lines;
mod lock;
mod place;
mod replace;
mod temporary;

pub(crate) use disk::is_at;
pub use disk::read_at;
pub use disk::{is_same, set_len, write_at};
pub use journal::{Commit, EditJournal, Editable, NewEditJournal, Segments, Unfinished};
pub use journal::{is_undo_patch, undo_name};
pub use lines::{Found, Lines};
pub use lock::Access;
pub use lock::{lock, open_locked};
pub use place::refuse_hub_cache;
pub use place::{check_new_directory, check_new_file, real_path};
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

/// Why an output could not be written. The file or directory that it would replace is unchanged, unless the output
/// [is in place](Failed::is_in_place).
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The path exists already.
    #[error("{} exists already", path.display())]
    Exists {
        /// The output.
        path: PathBuf,
    },
    /// A file is to be written to the path of a directory.
    #[error("{} is the path of a directory, and what is written is a file", path.display())]
    Directory {
        /// The output.
        path: PathBuf,
    },
    /// A directory is to be made where something else is.
    #[error("{} is not a directory, and what is written is a directory", path.display())]
    NotADirectory {
        /// The output.
        path: PathBuf,
    },
    /// Another process writes the file, or reads a file that is to be edited.
    #[error("another process is {} {}", if *access == Access::Read { "writing" } else { "using" }, path.display())]
    InUse {
        /// The file.
        path: PathBuf,
        /// What this process wanted to do with the file.
        access: Access,
    },
    /// The output would replace a checkpoint that is open.
    #[error("{} is a checkpoint that is being read or edited, which is not replaced", path.display())]
    Busy {
        /// The output.
        path: PathBuf,
    },
    /// A file cannot be locked, and so not be edited in place.
    #[error("{} cannot be locked, and an edit in place needs that", path.display())]
    NoLocks {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The output's path is in a hub's cache.
    #[error("{} is in a hub's cache, whose files are upstream's for every program on this machine", path.display())]
    HubCache {
        /// The output.
        path: PathBuf,
    },
    /// What is to be edited in place is not on this machine.
    #[error("{} is not on this machine, and what is elsewhere is not edited in place", path.display())]
    Elsewhere {
        /// Its name.
        path: PathBuf,
    },
    /// The output's path is a device, a pipe or a socket.
    #[error("{} is a device, a pipe or a socket, which is not replaced", path.display())]
    NotAFile {
        /// The output.
        path: PathBuf,
    },
    /// The bytes that were read back differ from those that were written.
    #[error("{tensor:?} in {} is not what was written: its bytes were read back, and their digest is another", path.display())]
    ReadBack {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// The output is in its place, and the disk may not have taken that.
    #[error("{} is in its place, but a loss of power may take it back: {operation}", path.display())]
    Unsynced {
        /// The output.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Files that go together are complete, and not all of them are in their places.
    #[error("the result in {} is complete, but it is not finished", path.display())]
    Incomplete {
        /// Their folder.
        path: PathBuf,
        /// What failed.
        #[source]
        failed: Box<Failed>,
    },
    /// The file was replaced by another one while it was open.
    #[error("{} was replaced by another file meanwhile", path.display())]
    Replaced {
        /// Its path.
        path: PathBuf,
    },
    /// A change was interrupted, and has been neither finished nor undone.
    #[error("a change of {} was interrupted, it may be half old and half new", path.display())]
    Interrupted {
        /// One of the files.
        path: PathBuf,
    },
    /// A journal is invalid.
    #[error("{} is not a valid journal: {reason}", path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// A file is not the one that the journal describes.
    #[error("{} is not the file that was being changed: it was replaced, changed or copied since", path.display())]
    OtherFile {
        /// The file.
        path: PathBuf,
        /// The journal.
        journal: PathBuf,
    },
    /// A file that the journal describes does not exist.
    #[error("a change of {} was interrupted, and the file is not there any more", path.display())]
    Gone {
        /// The file.
        path: PathBuf,
        /// The journal.
        journal: PathBuf,
    },
    /// The output's name is reserved for temporary files and journals.
    #[error("{} is a name that lcepatch reserves for its temporary files and journals", path.display())]
    Reserved {
        /// The output.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{operation} {}", path.display())]
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
    /// Whether the output is in its place in spite of the failure, or can be finished with the journal. Then nothing must be undone.
    pub fn is_in_place(&self) -> bool {
        matches!(self, Failed::Unsynced { .. } | Failed::Incomplete { .. })
    }

    /// Converts the failure of a step that has been undone since: the output is not in its place.
    pub fn not_in_place(self) -> Self {
        match self {
            Failed::Unsynced { path, operation, source } => Failed::Io { operation, path, source },
            failed => failed,
        }
    }

    /// Converts the failure of a file inside of a new directory to a failure of the directory at `path`, which is not in its place yet.
    pub fn inside(self, path: &Path) -> Self {
        match self.not_in_place() {
            Failed::Io { operation, source, .. } => Failed::io(operation, path, source),
            failed => failed,
        }
    }

    /// Converts the failure of a step after the output at `path` was renamed into its place.
    fn after_rename(self, path: &Path) -> Self {
        match self {
            Failed::Io { operation, source, .. } => Failed::Unsynced { path: path.to_owned(), operation, source },
            failed => failed,
        }
    }

    /// A failure of the operating system at `path`.
    pub fn io(operation: &'static str, path: &Path, source: std::io::Error) -> Self {
        Failed::Io { operation, path: path.to_owned(), source }
    }
}

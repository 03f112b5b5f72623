//! Outputs that are whole or absent: written beside their place, synced, then renamed; or line by line; or, inside files, with
//! a journal of what they held.

mod at;
mod behind;
pub mod journal;
mod lines;
mod replace;

pub(crate) use at::write_at;
pub use journal::{Editable, Journal, NewJournal};
pub use lines::{Found, Lines};
pub use replace::{NewDirectory, NewFile, write_file};

use std::path::{Path, PathBuf};

/// Whether an output may take the place of an existing file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Refuse.
    Keep,
    /// Replace it, atomically.
    Replace,
}

/// Why an output is not in its place. What was there before still is.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// Something is there already.
    #[error("{} exists already", path.display())]
    Exists {
        /// The output.
        path: PathBuf,
    },
    /// Another process writes it.
    #[error("another process is writing {}", path.display())]
    InUse {
        /// The output.
        path: PathBuf,
    },
    /// An edit in place was interrupted, and what it changed was not put back.
    #[error("an edit of {} was interrupted, it may be half old and half new", path.display())]
    Interrupted {
        /// One of the files.
        path: PathBuf,
    },
    /// A journal of an edit in place is not one.
    #[error("{} is not a whole journal of an edit: {reason}", path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// A file is not the one that a journal is about.
    #[error("{} is not the file that was edited: it was replaced or changed since", path.display())]
    OtherFile {
        /// The file.
        path: PathBuf,
        /// The journal.
        journal: PathBuf,
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
            Failed::InUse { .. } => "output.in-use",
            Failed::Interrupted { .. } => "edit.interrupted",
            Failed::Damaged { .. } => "journal.damaged",
            Failed::OtherFile { .. } => "journal.other-file",
            Failed::Io { .. } => "output.io",
        }
    }

    /// One thing to do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Failed::Exists { path } if path.is_dir() => Some("choose another name, or remove the directory".to_owned()),
            Failed::Exists { .. } => Some("choose another name, or replace it with --force".to_owned()),
            Failed::InUse { .. } => Some("wait for it, or choose another name".to_owned()),
            Failed::Interrupted { path } => {
                Some(format!("`lcepatch recover {}` puts back what it was before", path.display()))
            }
            Failed::Damaged { path, .. } => {
                let path = path.display();
                Some(format!("get the weights beside it again, they may be half old and half new; then remove {path}"))
            }
            Failed::OtherFile { journal, .. } => {
                Some(format!("if the file is as it should be, remove {}", journal.display()))
            }
            Failed::Io { .. } => None,
        }
    }

    pub(crate) fn io(operation: &'static str, path: &Path, source: std::io::Error) -> Self {
        Failed::Io { operation, path: path.to_owned(), source }
    }
}

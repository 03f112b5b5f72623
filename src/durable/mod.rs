//! Outputs that are whole or absent: written beside their place, synced, then renamed; or line by line.

mod lines;
mod replace;

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
            Failed::Io { .. } => "output.io",
        }
    }

    /// One thing to do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Failed::Exists { path } if path.is_dir() => Some("choose another name, or remove the directory".to_owned()),
            Failed::Exists { .. } => Some("choose another name, or replace it with --force".to_owned()),
            Failed::InUse { .. } => Some("wait for it, or choose another name".to_owned()),
            Failed::Io { .. } => None,
        }
    }

    pub(crate) fn io(operation: &'static str, path: &Path, source: std::io::Error) -> Self {
        Failed::Io { operation, path: path.to_owned(), source }
    }
}

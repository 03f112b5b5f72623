//! What goes wrong with files that are elsewhere.

use crate::place::directory::DirectoryFault;

/// Why a file elsewhere could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Somebody else published meanwhile.
    #[error("{place} has changed meanwhile")]
    Moved {
        /// The place.
        place: String,
    },
    /// A directory could not be read or written.
    #[error(transparent)]
    Directory(#[from] DirectoryFault),
}

//! Why patches are not published, and why those that are published do not lead anywhere.

use crate::digest::Digest;
use std::path::PathBuf;

/// Why patches are not published, and why those that are published do not lead anywhere. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PublishFault {
    /// A place of patches also has the configuration of an adapter.
    #[error("{place} has an adapter_config.json: transformers would load what it describes in place of the patches")]
    Adapter {
        /// The place.
        place: String,
    },
    /// Another patch has the name.
    #[error("{place} has another {file}: {}, and the given patch has id {given}", found.map_or("it is no valid patch".to_owned(), |id| format!("it has id {id}")))]
    OtherPatch {
        /// The place.
        place: String,
        /// The name.
        file: String,
        /// The id of the patch that is there; None if it is no valid patch.
        found: Option<Digest>,
        /// The id of the patch that was to be published.
        given: Digest,
    },
    /// A patch would be replaced, and its signature would stay.
    #[error("{place} has {file}.sig, which is not of the patch that would take the place of {file}")]
    OldSignature {
        /// The place.
        place: String,
        /// The patch.
        file: String,
    },
    /// Two patches of one name.
    #[error("{} and {} have one name, and a place has one file of a name", first.display(), second.display())]
    SameName {
        /// One.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A name that a patch cannot have in a place.
    #[error("{}: not a name for a patch that others download", path.display())]
    Name {
        /// The patch.
        path: PathBuf,
    },
    /// A later version wrote the index.
    #[error("patches.json of {place} was written by a later version: it has schema {found}")]
    LaterIndex {
        /// The place.
        place: String,
        /// Its schema.
        found: u64,
    },
    /// A text that is to be changed cannot be read.
    #[error("{file} of {place} is not text in UTF-8")]
    NotText {
        /// The place.
        place: String,
        /// The file.
        file: String,
    },
    /// More patches than are opened.
    #[error("{place} has {patches} patches, more than the {most} that are opened")]
    TooMany {
        /// The place.
        place: String,
        /// How many it has.
        patches: usize,
        /// How many are opened.
        most: usize,
    },
    /// There are no patches.
    #[error("{place} has no patches")]
    Empty {
        /// The place.
        place: String,
    },
    /// No patch has this name or id.
    #[error("{place} has no patch {wanted:?}")]
    Unknown {
        /// The place.
        place: String,
        /// What was asked for.
        wanted: String,
        /// The patches that it has.
        files: Vec<String>,
    },
    /// A patch was replaced while it was read.
    #[error("{place} has another {file} by now")]
    Replaced {
        /// The place.
        place: String,
        /// The patch.
        file: String,
    },
    /// Patches lead to several versions.
    #[error("the patches of {place} lead from {} to several versions: {}", model.display(), ends.join(", "))]
    Fork {
        /// The place.
        place: String,
        /// The checkpoint.
        model: PathBuf,
        /// The last patch of each.
        ends: Vec<String>,
    },
    /// Patches lead back to where they began.
    #[error("the patches of {place} lead in a circle: {}", patches.join(" -> "))]
    Cycle {
        /// The place.
        place: String,
        /// The patches, the first of them again at the end.
        patches: Vec<String>,
    },
    /// No patch, or not the one that was asked for, can be reached.
    #[error("no patches of {place} lead from {} {}", model.display(), to.as_ref().map_or("anywhere".to_owned(), |to| format!("to {to}")))]
    Broken {
        /// The place.
        place: String,
        /// The checkpoint.
        model: PathBuf,
        /// The patch that was asked for.
        to: Option<String>,
        /// What is missing: a sentence about each patch.
        missing: Vec<String>,
    },
    /// The checkpoint is the last version.
    #[error("{} is what {patch} of {place} leads to: nothing is missing", model.display())]
    Current {
        /// The place.
        place: String,
        /// The checkpoint.
        model: PathBuf,
        /// The last patch.
        patch: String,
    },
    /// There are more ways through the patches than are looked at.
    #[error("the patches of {place} can be applied in more than {most} orders")]
    TooManyWays {
        /// The place.
        place: String,
        /// How many are looked at.
        most: usize,
    },
}

impl PublishFault {
    /// Lines below the message.
    pub fn details(&self) -> Vec<String> {
        match self {
            Self::Broken { missing, .. } => missing.clone(),
            _ => Vec::new(),
        }
    }
}

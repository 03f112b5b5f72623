//! Names of checkpoints, patches and other files: a path, or the name of something that is elsewhere and comes here first.
//!
//! A path that is there always wins. What else a name can be is in `docs/hubs.md`.

#[cfg(not(feature = "net"))]
mod local;
mod pinned;
#[cfg(feature = "net")]
mod remote;

use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::patch::Patch;
use serde::Serialize;
use std::fs::File;
use std::path::{Path, PathBuf};

#[cfg(not(feature = "net"))]
pub(crate) use local::Sources;
pub(crate) use pinned::{Pinned, PinnedFile, Place};
#[cfg(feature = "net")]
pub(crate) use remote::{Options, Sources};

/// A file or folder that is on this machine now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// How messages name it: as it was given, and if that is a repository, with the file that was found in it.
    pub name: PathBuf,
    /// Where it came from, if it was fetched.
    pub origin: Option<Origin>,
}

/// Where something came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Origin {
    /// The repository, or the address.
    pub name: String,
    /// The revision that was asked for, of a repository.
    pub revision: Option<String>,
    /// The commit that it was, of a repository.
    pub commit: Option<String>,
    /// The file in the repository, if it is one.
    pub file: Option<String>,
}

/// How much of a patch or a checkpoint will be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parts {
    /// Headers, and perhaps some blocks. What is elsewhere is read in parts.
    Some,
    /// All of it. What is elsewhere is fetched.
    All,
}

impl Found {
    /// A path of this machine.
    fn here(path: &Path) -> Self {
        Self { path: path.to_owned(), name: path.to_owned(), origin: None }
    }

    /// What a log says of it.
    pub fn source(&self) -> Option<String> {
        self.origin.as_ref().map(Origin::to_string)
    }

    /// Opens it as a checkpoint for reading.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn checkpoint(&self) -> Result<Checkpoint, Error> {
        Ok(Checkpoint::open(&self.path)?.with_source(self.source()))
    }

    /// Opens it as a patch.
    ///
    /// # Errors
    /// As [`Patch::open`].
    pub fn patch(&self) -> Result<Patch, Error> {
        Ok(self.named(Patch::open(&self.path)?))
    }

    /// The patch, which was read from the file, under its name.
    pub fn named(&self, patch: Patch) -> Patch {
        match self.origin {
            Some(_) => patch.named(&self.name).with_source(self.source()),
            None => patch,
        }
    }
}

impl Origin {
    /// Of what has no revisions.
    #[cfg(feature = "net")]
    fn of_address(address: &str) -> Self {
        Self { name: address.to_owned(), revision: None, commit: None, file: None }
    }
}

impl std::fmt::Display for Origin {
    /// As a name that leads to the same again: `ORG/NAME@COMMIT/FILE`, or an address.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.name)?;
        self.commit.as_ref().map_or(Ok(()), |commit| write!(out, "@{commit}"))?;
        self.file.as_ref().map_or(Ok(()), |file| write!(out, "/{file}"))
    }
}

/// A patch from standard input, which is kept in a temporary file.
///
/// # Errors
/// I/O; as [`Patch::open`].
pub(crate) fn patch_from_stdin() -> Result<Patch, Error> {
    let name = Path::new("standard input");
    let read = || -> std::io::Result<File> {
        let mut file = tempfile::tempfile()?;
        std::io::copy(&mut std::io::stdin().lock(), &mut file)?;
        Ok(file)
    };
    let file = read().map_err(|error| Error::io("read", name, error))?;
    Ok(Patch::from_file(name, file)?)
}

//! Without the feature `net`, names are paths.

use super::{Found, Origin, Parts, Pinned, PinnedFile, Place};
use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::error::Error;
use crate::format::patch::ReadAt;
use crate::patch::Patch;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Finds files by their names, which are paths.
#[derive(Debug, Default)]
pub(crate) struct Sources {}

impl Sources {
    /// A checkpoint.
    pub fn checkpoint(&self, name: &Path, _: &Context<'_>) -> Result<Found, Error> {
        Ok(Found::here(name))
    }

    /// A checkpoint of which parts are read, and what its files are.
    pub fn checkpoint_in_parts(&self, name: &Path, _: &Context<'_>) -> Result<(Checkpoint, Pinned), Error> {
        let checkpoint = Checkpoint::open(name)?;
        let pinned = Pinned::here(name, &checkpoint)?;
        Ok((checkpoint, pinned))
    }

    /// The folder with the files beside the weights of a checkpoint that is elsewhere.
    pub fn beside(&self, _: &Path, _: &Context<'_>) -> Result<Option<PathBuf>, Error> {
        Ok(None)
    }

    /// Where a file that is elsewhere is in a cache.
    pub fn cached(&self, _: &Place, _: &PinnedFile) -> Result<Option<PathBuf>, Error> {
        Ok(None)
    }

    /// A file elsewhere.
    pub fn part(&self, _: &Place, file: &PinnedFile, _: bool) -> Result<Arc<dyn ReadAt>, Error> {
        Err(Error::io("read", Path::new(&file.name), std::io::ErrorKind::Unsupported.into()))
    }

    /// The file of a patch, whose signature is beside it if there is one.
    pub fn patch_file(&self, name: &Path, _: &Context<'_>) -> Result<Found, Error> {
        Ok(Found::here(name))
    }

    /// A patch.
    pub fn patch(&self, name: &Path, _: Parts, _: &Context<'_>) -> Result<Patch, Error> {
        Found::here(name).patch()
    }

    /// Any other file.
    pub fn file(&self, name: &Path, _: &Context<'_>) -> Result<PathBuf, Error> {
        Ok(name.to_owned())
    }

    /// A file or folder that will be changed, and so has to be on this machine.
    pub fn own(&self, name: &Path) -> Result<PathBuf, Error> {
        Ok(name.to_owned())
    }

    /// Where everything came from so far.
    pub fn origins(&self) -> Vec<Origin> {
        Vec::new()
    }
}

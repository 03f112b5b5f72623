//! A place where patches are published: a repository of a hub, objects under a prefix of S3, or a directory.

pub mod directory;
pub mod repository;

use crate::Fault;
use lcepatch_files::context::Context;
use lcepatch_format::patch::ReadAt;
use std::fs::File;
use std::path::PathBuf;

/// One state of a place. What is read is of this state, whatever others publish meanwhile.
pub trait Place: Send + Sync {
    /// How messages, answers and logs name the place: as it was given, and with the commit where there is one.
    fn name(&self) -> &str;

    /// The commit that a hub resolved the revision to.
    fn commit(&self) -> Option<&str>;

    /// The files, in the order of their paths.
    fn files(&self) -> &[PlaceFile];

    /// Opens a file for reading parts of it.
    ///
    /// # Errors
    /// [`Fault`], such as a file that is not there.
    fn open(&self, path: &str, context: &Context<'_>) -> Result<Box<dyn ReadAt>, Fault>;

    /// Reads a whole file of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Place::open`]; a file that is larger.
    fn read(&self, path: &str, limit: u64, context: &Context<'_>) -> Result<Vec<u8>, Fault>;

    /// Fetches a whole file into the cache of this machine, and returns where it is there; none of a place that has no cache.
    ///
    /// # Errors
    /// As [`Place::open`]; a file that is damaged on the way; cancellation.
    fn fetch(&self, _path: &str, _context: &Context<'_>) -> Result<Option<PathBuf>, Fault> {
        Ok(None)
    }

    /// Writes files, all of them or none. Fails with [`Fault::Moved`] if somebody else published meanwhile, so that the caller
    /// looks at the new state and tries again.
    ///
    /// The bytes of files are reported as progress, those of texts are not.
    ///
    /// # Errors
    /// [`Fault`], also for a file that is not what [`LocalFile`] says; nothing has changed then, except in places without commits, where
    /// files appear one by one in the given order.
    fn publish(&self, files: &[NewFile], message: &str, context: &Context<'_>) -> Result<Published, Fault>;
}

/// A file of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceFile {
    /// Its path in the place, with `/` between folders.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// The SHA-256 digest of its content, in hexadecimal digits, where the place knows it.
    pub sha256: Option<String>,
}

/// A file to publish.
#[derive(Debug, Clone)]
pub struct NewFile {
    /// Its path in the place.
    pub path: String,
    /// What it holds.
    pub content: Content,
}

/// What a new file holds.
#[derive(Debug, Clone)]
pub enum Content {
    /// Small texts.
    Bytes(Vec<u8>),
    /// The bytes of a file.
    File(LocalFile),
}

/// A file of this machine whose content is known. It may be another one by the time it is sent, and is not sent then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFile {
    /// Where it is.
    pub path: PathBuf,
    /// SHA-256 of its content, in hexadecimal digits.
    pub sha256: String,
}

impl LocalFile {
    pub(crate) fn open(&self) -> Result<File, Fault> {
        lcepatch_files::input::open_any(&self.path).map_err(|error| Fault::io("open", &self.path, error))
    }

    /// Refuses another content, by its digest.
    pub(crate) fn check(&self, sha256: &str) -> Result<(), Fault> {
        if sha256 == self.sha256 {
            return Ok(());
        }
        let [before, after] = [&self.sha256, sha256].map(|digest| digest.to_owned());
        Err(Fault::Changed { address: self.path.display().to_string(), before, after })
    }
}

/// What publishing did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The new commit, where there are commits.
    pub commit: Option<String>,
    /// Where it can be looked at, if it is a web page.
    pub url: Option<String>,
}

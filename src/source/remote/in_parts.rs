//! Checkpoints elsewhere of which parts are read: their headers at once, and tensors when they are looked at.

use super::repository::{folder_in, wanted_of_checkpoint};
use super::web::file_name;
use super::{Origin, Sources};
use crate::checkpoint::{Checkpoint, INDEX_SUFFIX, Malformed, OpenError, Sources as CheckpointSources, side_by_side};
use crate::context::Context;
use crate::error::{Error, PlanFault};
use crate::format::patch::ReadAt;
use crate::source::{Pinned, PinnedFile, Place};
use lcepatch_hub::name::{Name, RepoName};
use lcepatch_hub::s3::{Bucket, Object};
use lcepatch_hub::{Client, Fault, RemoteFile};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The longest index or configuration that is read, in bytes.
const TEXT_BYTES_MAX: u64 = 64 << 20;

impl Sources {
    /// A checkpoint of which parts are read, and what its files are. Of what is elsewhere and not in the cache, the headers are read now,
    /// and tensors when they are looked at.
    ///
    /// # Errors
    /// [Kinds](crate::ErrorKind) `Remote…`; as [`Checkpoint::open`].
    pub fn checkpoint_in_parts(&self, name: &Path, context: &Context<'_>) -> Result<(Checkpoint, Pinned), Error> {
        let listed = match self.parse(name)? {
            Name::Path(_) | Name::Stdin => {
                let checkpoint = Checkpoint::open(name)?;
                let pinned = Pinned::here(name, &checkpoint)?;
                return Ok((checkpoint, pinned));
            }
            Name::Hub(repository) => {
                let (client, snapshot) = self.open(&repository, context)?;
                let wanted = wanted_of_checkpoint(&snapshot, repository.path.as_deref())?;
                let path = repository.path.as_deref().unwrap_or_default();
                let is_file = snapshot.files.iter().any(|file| file.path == path);
                let folder = folder_in(&snapshot, path);
                let found = self.found(name, &snapshot, repository.path.clone(), PathBuf::new());
                let file = |path: &str| -> Option<PinnedFile> {
                    let listed = snapshot.file(path).ok()?;
                    let tag = listed.digest.as_ref().map(ToString::to_string);
                    PinnedFile::listed(path.strip_prefix(&folder)?, listed.bytes, tag)
                };
                let files: Vec<PinnedFile> = wanted.iter().filter_map(|path| file(path)).collect();
                let place = Place::Hub { id: snapshot.id.clone(), commit: snapshot.commit.clone(), folder };
                let listed = Pinned { name: found.name.clone(), origin: found.source(), is_file, place, files };
                if wanted.iter().all(|path| snapshot.is_cached(&client, path)) {
                    let here = snapshot.fetch(&client, &wanted, context)?.join(path);
                    let checkpoint = Checkpoint::open(here)?.with_source(found.source());
                    let pinned = listed.of(&checkpoint);
                    return Ok((checkpoint, pinned));
                }
                listed
            }
            Name::Web(address) => {
                let remote = self.client()?.web(&address, context)?;
                self.remember(Origin::of_address(remote.address()));
                let file = PinnedFile {
                    name: file_name(remote.address()).to_owned(),
                    bytes: ReadAt::bytes(&remote),
                    tag: remote.tag().map(str::to_owned),
                    header: Vec::new(),
                };
                let origin = Some(remote.address().to_owned());
                let place = Place::Web { address };
                Pinned { name: name.to_owned(), origin, is_file: true, place, files: vec![file] }
            }
            Name::S3 { bucket: name_of_bucket, key } => {
                let bucket = Bucket::open(&self.client()?, &name_of_bucket)?;
                let (folder, objects) = bucket.checkpoint(&key, INDEX_SUFFIX, context)?;
                let found = self.in_store(name, &bucket, &key, PathBuf::new());
                let file = |object: &Object| {
                    let tag = Some(object.tag.clone()).filter(|tag| !tag.is_empty());
                    PinnedFile::listed(object.key.strip_prefix(&folder)?, object.bytes, tag)
                };
                let files: Vec<PinnedFile> = objects.iter().filter_map(file).collect();
                let is_file = objects.iter().any(|object| object.key == key);
                let place = Place::Bucket { bucket: name_of_bucket, folder };
                Pinned { name: found.name.clone(), origin: found.source(), is_file, place, files }
            }
        };
        let checkpoint = self.of_listed(&listed, context)?;
        let pinned = listed.of(&checkpoint);
        Ok((checkpoint, pinned))
    }

    /// The folder with the files beside the weights of a checkpoint that is elsewhere: configuration, tokenizer, index.
    ///
    /// # Errors
    /// [Kinds](crate::ErrorKind) `Remote…`.
    pub fn beside(&self, name: &Path, context: &Context<'_>) -> Result<Option<PathBuf>, Error> {
        // Modules in folders have weights of their own.
        let is_beside = |file: &str| file.contains('/') || !file.ends_with(".safetensors");
        match self.parse(name)? {
            Name::Path(_) | Name::Stdin | Name::Web(_) => Ok(None),
            Name::Hub(repository) => {
                let (client, snapshot) = self.open(&repository, context)?;
                let path = repository.path.as_deref().unwrap_or_default();
                let mut wanted = wanted_of_checkpoint(&snapshot, repository.path.as_deref())?;
                let folder = folder_in(&snapshot, path);
                wanted.retain(|file| is_beside(file.strip_prefix(&*folder).unwrap_or(file)));
                Ok(Some(snapshot.fetch(&client, &wanted, context)?.join(folder)))
            }
            Name::S3 { bucket, key } => {
                let bucket = Bucket::open(&self.client()?, &bucket)?;
                let (folder, mut objects) = bucket.checkpoint(&key, INDEX_SUFFIX, context)?;
                objects.retain(|object| object.key.strip_prefix(&folder).is_some_and(is_beside));
                Ok(Some(bucket.fetch(&folder, &objects, context)?))
            }
        }
    }

    /// Opens what was listed, reading headers.
    fn of_listed(&self, listed: &Pinned, context: &Context<'_>) -> Result<Checkpoint, Error> {
        let is_text = |file: &&PinnedFile| file.name == "config.json" || file.name.ends_with(INDEX_SUFFIX);
        let texts: Vec<&PinnedFile> = listed.files.iter().filter(is_text).collect();
        let text = |file: &&PinnedFile| -> Result<(String, Vec<u8>), Error> {
            if file.bytes > TEXT_BYTES_MAX {
                let path = listed.name.join(&file.name);
                let reason = Malformed::Index { reason: format!("it has {} bytes", file.bytes) };
                return Err(OpenError::malformed(&path, reason).into());
            }
            let remote = self.remote(&listed.place, file, context)?;
            Ok((file.name.clone(), remote.read(0, ReadAt::bytes(&remote).min(file.bytes), context)?))
        };
        let texts = side_by_side(&texts, text)?;
        let weights = listed.files.iter().filter(|file| file.name.ends_with(".safetensors"));
        let weight = |file: &PinnedFile| Ok((file.name.clone(), self.part(&listed.place, file, false)?));
        let weights = weights.map(weight).collect::<Result<Vec<_>, Error>>()?;
        let named = listed.name.file_name().and_then(|name| name.to_str()).filter(|_| listed.is_file);
        let named = match &listed.place {
            // The name of the file is made from the address.
            Place::Web { .. } => weights.first().map(|(name, _)| name.as_str()),
            _ => named,
        };
        let named = named.map(str::to_owned);
        let sources = CheckpointSources { path: &listed.name, named: named.as_deref(), texts, weights };
        let checkpoint = Checkpoint::of_sources(sources)?;
        Ok(checkpoint.with_source(listed.origin.clone()))
    }

    /// Where a file that is elsewhere is in the cache, if it is there.
    pub fn cached(&self, place: &Place, file: &PinnedFile) -> Result<Option<PathBuf>, Error> {
        let Place::Hub { .. } = place else { return Ok(None) };
        Ok(in_repository(place, file).and_then(|name| self.client().ok()?.cached(&name)))
    }

    /// A file elsewhere, which is asked for when something of it is read. `is_planned` says who is told if it is another one: what was
    /// planned, or what was listed a moment ago.
    pub fn part(&self, place: &Place, file: &PinnedFile, is_planned: bool) -> Result<Arc<dyn ReadAt>, Error> {
        let client = self.client()?;
        Ok(Arc::new(Part { client, place: place.clone(), file: file.clone(), is_planned, opened: Mutex::default() }))
    }

    fn remote(&self, place: &Place, file: &PinnedFile, context: &Context<'_>) -> Result<RemoteFile, Error> {
        Ok(remote(&self.client()?, place, file, context)?)
    }
}

/// The name of a file of a repository.
fn in_repository(place: &Place, file: &PinnedFile) -> Option<RepoName> {
    let Place::Hub { id, commit, folder } = place else { return None };
    let path = Some(format!("{folder}{}", file.name));
    Some(RepoName { id: id.clone(), revision: Some(commit.clone()), path })
}

/// Opens a file that is elsewhere.
fn remote(client: &Client, place: &Place, file: &PinnedFile, context: &Context<'_>) -> Result<RemoteFile, Fault> {
    match place {
        Place::Bucket { bucket, folder } => {
            Bucket::open(client, bucket)?.file(&format!("{folder}{}", file.name), context)
        }
        Place::Web { address } => client.web(address, context),
        Place::Hub { .. } | Place::Here(_) => {
            let name = in_repository(place, file).ok_or_else(|| Fault::Name {
                name: file.name.clone(),
                reason: "is a file of this machine".to_owned(),
            })?;
            client.file(&name, context)
        }
    }
}

/// A file elsewhere, which is asked for when something of it is read.
struct Part {
    client: Client,
    place: Place,
    file: PinnedFile,
    is_planned: bool,
    opened: Mutex<Option<Arc<RemoteFile>>>,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Part").field("place", &self.place).field("file", &self.file.name).finish_non_exhaustive()
    }
}

impl Part {
    /// The file, if it is the one that is meant.
    fn opened(&self) -> std::io::Result<Arc<RemoteFile>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*opened {
            return Ok(file.clone());
        }
        let file = remote(&self.client, &self.place, &self.file, &Context::silent())?;
        let found = (ReadAt::bytes(&file), file.tag().map(str::to_owned));
        let differs = match (&found.1, &self.file.tag) {
            // Of a file of a hub the tag is its digest, unless another server has one of its own.
            (Some(found), Some(tag)) => found != tag && (found.len() == tag.len() || !self.is_of_hub()),
            // What is in the cache has no tag.
            (None, Some(_)) => !self.is_of_hub(),
            _ => false,
        };
        if found.0 != self.file.bytes || differs {
            return Err(self.other(&file, found));
        }
        let file = Arc::new(file);
        *opened = Some(file.clone());
        Ok(file)
    }

    fn is_of_hub(&self) -> bool {
        matches!(self.place, Place::Hub { .. })
    }

    fn other(&self, file: &RemoteFile, found: (u64, Option<String>)) -> std::io::Error {
        let say = |(bytes, tag): (u64, Option<String>)| {
            let tag = tag.map_or("no tag".to_owned(), |tag| format!("tag {tag}"));
            format!("{bytes} bytes with {tag}")
        };
        let planned = say((self.file.bytes, self.file.tag.clone()));
        let name = file.address().to_owned();
        match self.is_planned {
            true => {
                std::io::Error::other(PlanFault::OtherSource { name, found: format!("it is {}", say(found)), planned })
            }
            false => Fault::Changed { address: name, before: planned, after: say(found) }.into(),
        }
    }
}

impl ReadAt for Part {
    fn bytes(&self) -> u64 {
        self.file.bytes
    }

    fn read_at(&self, offset: u64, bytes: u64) -> std::io::Result<Vec<u8>> {
        let file = self.opened()?;
        if bytes == 0 { Ok(Vec::new()) } else { file.read_at(offset, bytes) }
    }
}

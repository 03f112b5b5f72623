//! Names of what is elsewhere.

use super::{Found, Origin, Parts, Pinned, PinnedFile, Place};
use crate::checkpoint::{Checkpoint, INDEX_SUFFIX, Malformed, OpenError, Sources as CheckpointSources, side_by_side};
use crate::context::Context;
use crate::durable::Failed;
use crate::error::{Error, PlanFault};
use crate::format::patch::ReadAt;
use crate::patch::Patch;
use lcepatch_hub::name::{Name, RepoName, may_be_repository};
use lcepatch_hub::notice::Notice;
use lcepatch_hub::place::Place as PatchPlace;
use lcepatch_hub::place::directory::Directory;
use lcepatch_hub::place::repository::{Absent, Repository};
use lcepatch_hub::s3::{Bucket, Object, Prefix};
use lcepatch_hub::settings::Settings;
use lcepatch_hub::{Client, DEFAULT_REVISION, Fault, RemoteFile, Snapshot, checkpoint_files};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tempfile::TempDir;

/// How many bytes of a file are asked for at once where all of it is read.
const PART_BYTES: u64 = 8 << 20;

/// The longest index or configuration that is read, in bytes.
const TEXT_BYTES_MAX: u64 = 64 << 20;

/// The end of the names of patches.
const PATCH_SUFFIX: &str = ".lcepatch";

/// What is set beside the environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// The hub, if the environment names none.
    pub endpoint: Option<String>,
    /// Whether other machines may be asked without encryption.
    pub allow_http: bool,
}

/// Receives what a person should know, on any thread.
pub(crate) type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// Finds files by their names, and fetches those that are elsewhere.
pub(crate) struct Sources {
    options: Options,
    say: Say,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    client: Option<Client>,
    origins: Vec<Origin>,
    /// Files from web addresses, which no cache keeps.
    fetched: Option<TempDir>,
}

impl Default for Sources {
    /// Says nothing.
    fn default() -> Self {
        Self::new(Options::default(), Arc::new(|_| {}))
    }
}

impl Sources {
    /// `say` is called with what a person should know: which commit something is of, and what is waited for.
    pub fn new(options: Options, say: Say) -> Self {
        Self { options, say, state: Mutex::default() }
    }

    /// A checkpoint: of a repository, its weights, configuration and tokenizer, or the file or folder that is named.
    ///
    /// # Errors
    /// [Kinds](crate::ErrorKind) `Remote…`.
    pub fn checkpoint(&self, name: &Path, context: &Context<'_>) -> Result<Found, Error> {
        match self.parse(name)? {
            Name::Path(_) | Name::Stdin => Ok(Found::here(name)),
            Name::Hub(repository) => {
                let (client, snapshot) = self.open(&repository, context)?;
                let wanted = wanted_of_checkpoint(&snapshot, repository.path.as_deref())?;
                let folder = snapshot.fetch(&client, &wanted, context)?;
                Ok(self.found(name, &snapshot, repository.path, folder))
            }
            Name::Web(address) => self.fetch(name, &address, context),
            Name::S3 { bucket, key } => {
                let bucket = Bucket::open(&self.client()?, &bucket)?;
                let (folder, objects) = bucket.checkpoint(&key, INDEX_SUFFIX, context)?;
                let path = bucket.fetch(&folder, &objects, context)?;
                // A folder, unless a file in it was named.
                let file = key.get(folder.len()..).unwrap_or_default();
                Ok(self.in_store(name, &bucket, &key, path.join(file)))
            }
        }
    }

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
                    let tag = snapshot.file(path).ok()?.digest.as_ref().map(ToString::to_string);
                    PinnedFile::listed(path.strip_prefix(&folder)?, snapshot.file(path).ok()?.bytes, tag)
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
                self.remember(Origin { name: remote.address().to_owned(), revision: None, commit: None, file: None });
                let file = PinnedFile {
                    name: file_name(remote.address()).to_owned(),
                    bytes: ReadAt::bytes(&remote),
                    tag: remote.etag().map(|tag| bare(tag).to_owned()),
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
                    let tag = Some(bare(&object.tag).to_owned()).filter(|tag| !tag.is_empty());
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

    /// The file of a patch. Its signature is beside it, if there is one.
    ///
    /// # Errors
    /// [Kinds](crate::ErrorKind) `Remote…`.
    pub fn patch_file(&self, name: &Path, context: &Context<'_>) -> Result<Found, Error> {
        match self.parse(name)? {
            Name::Path(_) | Name::Stdin => Ok(Found::here(name)),
            Name::Hub(repository) => {
                let (client, snapshot) = self.open(&repository, context)?;
                let file = patch_in(&snapshot, &repository)?;
                let signature = format!("{file}.sig");
                let has_signature = snapshot.files.iter().any(|other| other.path == signature);
                let wanted: Vec<&str> =
                    [file.as_str()].into_iter().chain(has_signature.then_some(&*signature)).collect();
                let folder = snapshot.fetch(&client, &wanted, context)?;
                Ok(self.found(name, &snapshot, Some(file), folder))
            }
            Name::Web(address) => self.fetch(name, &address, context),
            Name::S3 { bucket, key } => {
                let bucket = Bucket::open(&self.client()?, &bucket)?;
                let objects = bucket.patch(&key, PATCH_SUFFIX, context)?;
                self.objects(name, &bucket, &objects, context)
            }
        }
    }

    /// A patch.
    ///
    /// # Errors
    /// [Kinds](crate::ErrorKind) `Remote…`; as [`Patch::open`].
    pub fn patch(&self, name: &Path, parts: Parts, context: &Context<'_>) -> Result<Patch, Error> {
        if parts == Parts::All {
            return self.patch_file(name, context)?.patch();
        }
        match self.parse(name)? {
            Name::Path(_) | Name::Stdin => Found::here(name).patch(),
            Name::Hub(repository) => {
                let client = self.client()?;
                let is_file = repository.path.as_deref().is_some_and(|path| path.ends_with(PATCH_SUFFIX));
                if is_file && !client.settings().offline {
                    let remote = client.file(&repository, context)?;
                    let commit = remote.commit().map(str::to_owned);
                    let revision = repository.revision.clone().unwrap_or_else(|| DEFAULT_REVISION.to_owned());
                    let (name, file) = (repository.id.clone(), repository.path.clone());
                    self.remember(Origin { name, revision: Some(revision), commit: commit.clone(), file });
                    let source = RepoName { revision: commit, ..repository.clone() }.to_string();
                    return Ok(
                        Patch::from_source(Path::new(&repository.to_string()), remote)?.with_source(Some(source))
                    );
                }
                let (client, snapshot) = self.open(&repository, context)?;
                let file = patch_in(&snapshot, &repository)?;
                if client.settings().offline || snapshot.is_cached(&client, &file) {
                    let folder = snapshot.fetch(&client, &[&file], context)?;
                    return self.found(name, &snapshot, Some(file), folder).patch();
                }
                let at = RepoName {
                    id: snapshot.id.clone(),
                    revision: Some(snapshot.commit.clone()),
                    path: Some(file.clone()),
                };
                let remote = client.file(&at, context)?;
                let found = self.found(name, &snapshot, Some(file), PathBuf::new());
                Ok(found.named(Patch::from_source(&found.name, remote)?))
            }
            Name::Web(address) => {
                let remote = self.client()?.web(&address, context)?;
                self.remember(Origin { name: remote.address().to_owned(), revision: None, commit: None, file: None });
                let source = Some(remote.address().to_owned());
                Ok(Patch::from_source(name, remote)?.with_source(source))
            }
            Name::S3 { bucket, key } => {
                let bucket = Bucket::open(&self.client()?, &bucket)?;
                let objects = bucket.patch(&key, PATCH_SUFFIX, context)?;
                let key = objects.first().map_or(key, |patch| patch.key.clone());
                let found = self.in_store(name, &bucket, &key, PathBuf::new());
                Ok(found.named(Patch::from_source(&found.name, bucket.file(&key, context)?)?))
            }
        }
    }

    /// Any other file.
    ///
    /// # Errors
    /// [Kinds](crate::ErrorKind) `Remote…`.
    pub fn file(&self, name: &Path, context: &Context<'_>) -> Result<PathBuf, Error> {
        match self.parse(name)? {
            Name::Path(_) | Name::Stdin => Ok(name.to_owned()),
            Name::Hub(repository) => {
                let (client, snapshot) = self.open(&repository, context)?;
                let Some(file) = repository.path else {
                    let reason = "is a repository, and a file is meant: add its path in it".to_owned();
                    return Err(Fault::Name { name: repository.id, reason }.into());
                };
                snapshot.file(&file)?;
                let folder = snapshot.fetch(&client, &[&file], context)?;
                Ok(self.found(name, &snapshot, Some(file), folder).path)
            }
            Name::Web(address) => Ok(self.fetch(name, &address, context)?.path),
            Name::S3 { bucket, key } => {
                let bucket = Bucket::open(&self.client()?, &bucket)?;
                let object = bucket.find(&key, context)?.ok_or_else(|| Fault::NoSuchFile {
                    place: bucket.name_of(""),
                    path: key,
                    nearest: Vec::new(),
                })?;
                Ok(self.objects(name, &bucket, &[object], context)?.path)
            }
        }
    }

    /// A file or folder that will be changed, and so has to be on this machine.
    ///
    /// # Errors
    /// [Kind](crate::ErrorKind) `OutputElsewhere` for what is elsewhere.
    pub fn own(&self, name: &Path) -> Result<PathBuf, Error> {
        match self.parse(name)? {
            Name::Path(_) | Name::Stdin => Ok(name.to_owned()),
            Name::Hub(_) | Name::Web(_) | Name::S3 { .. } => Err(Failed::Elsewhere { path: name.to_owned() }.into()),
        }
    }

    /// The repositories whose cards say that they have patches for this one; None if the name is not that of a repository.
    ///
    /// # Errors
    /// [Kinds](crate::ErrorKind) `Remote…`.
    pub fn patches_for(&self, name: &Path, context: &Context<'_>) -> Result<Option<Vec<PathBuf>>, Error> {
        match self.parse(name)? {
            Name::Hub(repository) => {
                let found = self.client()?.search(&repository.id, context)?;
                // With the scheme, so that no file here, and no other place, is taken for what the hub names.
                Ok(Some(found.into_iter().map(|id| format!("hf://models/{id}").into()).collect()))
            }
            _ => Ok(None),
        }
    }

    /// A place where patches are published: a directory, which need not be there, a repository, or a prefix of S3. `absent` says what to do if there is
    /// no repository.
    ///
    /// # Errors
    /// [Kinds](crate::ErrorKind) `Remote…`, `Io`.
    pub fn place(&self, name: &Path, absent: Absent, context: &Context<'_>) -> Result<Box<dyn PatchPlace>, Error> {
        match self.parse(name)? {
            // A folder that is named as the owner of a repository must not decide whether something is published or not.
            Name::Path(_) if name.to_str().is_some_and(|text| may_be_repository(text) && !text.ends_with('/')) => {
                let reason =
                    "may be a repository, or a directory that is not there: write hf:// or ./ before it".to_owned();
                Err(Fault::Name { name: name.display().to_string(), reason }.into())
            }
            Name::Path(_) => Ok(Box::new(Directory::open(name)?)),
            Name::Hub(repository) => {
                let place = Repository::open(&self.client()?, &repository, absent, context)?;
                if let Some(commit) = place.commit() {
                    let revision = repository.revision.unwrap_or_else(|| DEFAULT_REVISION.to_owned());
                    let (revision, commit) = (Some(revision), Some(commit.to_owned()));
                    self.remember(Origin { name: repository.id, revision, commit, file: None });
                }
                Ok(Box::new(place))
            }
            Name::Stdin | Name::Web(_) => {
                let reason =
                    "is no place for patches: that is a directory, a repository ORG/NAME, or s3://BUCKET/PREFIX"
                        .to_owned();
                Err(Fault::Name { name: name.display().to_string(), reason }.into())
            }
            Name::S3 { bucket, key } => {
                Ok(Box::new(Prefix::open(Bucket::open(&self.client()?, &bucket)?, &key, context)?))
            }
        }
    }

    /// Where everything came from so far, in the order in which it was found.
    pub fn origins(&self) -> Vec<Origin> {
        self.state().origins.clone()
    }

    /// A client of hubs, with the settings of the environment.
    ///
    /// # Errors
    /// [Kinds](crate::ErrorKind) `RemoteSetting`, `Io`.
    pub fn client(&self) -> Result<Client, Error> {
        let mut state = self.state();
        if let Some(client) = &state.client {
            return Ok(client.clone());
        }
        let say = self.say.clone();
        let client = Client::with_notices(self.settings()?, Arc::new(move |notice| say(&waiting(notice))));
        state.client = Some(client.clone());
        Ok(client)
    }

    fn settings(&self) -> Result<Settings, Error> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        // The variable of all programs that use a hub wins over what is configured here.
        let configured = |name: &str| self.options.endpoint.clone().filter(|_| name == "HF_ENDPOINT");
        let mut settings = Settings::from_variables(|name| variable(name).or_else(|| configured(name)))?;
        settings.allow_http |= self.options.allow_http;
        Ok(settings)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parse(&self, name: &Path) -> Result<Name, Error> {
        // What can only be a path needs no settings, which can be wrong.
        let text = name.to_str().filter(|text| text.contains('/') && name.symlink_metadata().is_err());
        match text {
            Some(text) => Ok(Name::parse(text, self.client()?.settings())?),
            None => Ok(Name::Path(name.to_owned())),
        }
    }

    fn open(&self, repository: &RepoName, context: &Context<'_>) -> Result<(Client, Snapshot), Error> {
        let client = self.client()?;
        let snapshot = client.open(repository, context)?;
        Ok((client, snapshot))
    }

    /// What was found in a repository.
    fn found(&self, name: &Path, snapshot: &Snapshot, file: Option<String>, folder: PathBuf) -> Found {
        let origin = Origin {
            name: snapshot.id.clone(),
            revision: Some(snapshot.revision.clone()),
            commit: Some(snapshot.commit.clone()),
            file: file.clone(),
        };
        self.remember(origin.clone());
        let path = file.as_ref().map_or(folder.clone(), |file| folder.join(file));
        let name = match &file {
            Some(file) if !name.ends_with(file) => name.join(file),
            _ => name.to_owned(),
        };
        Found { path, name, origin: Some(origin) }
    }

    fn remember(&self, origin: Origin) {
        let mut state = self.state();
        if state.origins.contains(&origin) {
            return;
        }
        if let (Some(revision), Some(commit)) = (&origin.revision, &origin.commit)
            && revision != commit
        {
            (self.say)(&format!("{}@{revision} is commit {commit}", origin.name));
        }
        state.origins.push(origin);
    }

    /// Fetches objects, of which the first is what is meant, and the others are beside it.
    fn objects(&self, name: &Path, bucket: &Bucket, objects: &[Object], context: &Context<'_>) -> Result<Found, Error> {
        let key = objects.first().map(|object| object.key.as_str()).unwrap_or_default();
        let (folder, file) = key.split_at(key.rfind('/').map_or(0, |at| at + 1));
        let path = bucket.fetch(folder, objects, context)?.join(file);
        Ok(self.in_store(name, bucket, key, path))
    }

    /// What was found in a store of objects.
    fn in_store(&self, name: &Path, bucket: &Bucket, key: &str, path: PathBuf) -> Found {
        let origin = Origin { name: bucket.name_of(key), revision: None, commit: None, file: None };
        self.remember(origin.clone());
        let is_named = name.to_str().is_some_and(|name| name.ends_with(key));
        let name = if is_named { name.to_owned() } else { PathBuf::from(bucket.name_of(key)) };
        Found { path, name, origin: Some(origin) }
    }

    /// Fetches the file at a web address into a folder that is removed at the end.
    fn fetch(&self, name: &Path, address: &str, context: &Context<'_>) -> Result<Found, Error> {
        let client = self.client()?;
        let remote = client.web(address, context)?;
        let path = self.new_file(remote.address())?;
        let io = |error| Error::io("write", &path, error);
        let mut file = File::create_new(&path).map_err(io)?;
        copy(&remote, &mut file, &path, context)?;
        let origin = Origin { name: remote.address().to_owned(), revision: None, commit: None, file: None };
        self.remember(origin.clone());
        Ok(Found { path, name: name.to_owned(), origin: Some(origin) })
    }

    /// Where a file from an address goes: under its own name, in a folder of its own.
    fn new_file(&self, address: &str) -> Result<PathBuf, Error> {
        let mut state = self.state();
        let io = |error| Error::io("create a folder in", &std::env::temp_dir(), error);
        if state.fetched.is_none() {
            state.fetched = Some(tempfile::Builder::new().prefix("lcepatch-").tempdir().map_err(io)?);
        }
        let root = state.fetched.as_ref().map(TempDir::path).unwrap_or(Path::new("")).to_owned();
        let folder = (0..).map(|number: u32| root.join(number.to_string())).find(|folder| !folder.exists());
        let folder = folder.unwrap_or(root);
        std::fs::create_dir(&folder).map_err(io)?;
        Ok(folder.join(file_name(address)))
    }
}

/// How a file from an address is named.
fn file_name(address: &str) -> &str {
    let name = address.rsplit('/').next().unwrap_or_default();
    let is_plain =
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) && name != "..";
    if is_plain && name != "." { name } else { "file" }
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

/// A server's tag without quotation marks, and without the mark of those that need not change with every byte.
fn bare(tag: &str) -> &str {
    tag.trim_start_matches("W/").trim_matches('"')
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
        let found = (ReadAt::bytes(&file), file.etag().map(|tag| bare(tag).to_owned()));
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

/// What is waited for.
fn waiting(notice: &Notice) -> String {
    match notice {
        Notice::Again { origin, reason, wait } => {
            // Most reasons say where they come from.
            let at = if reason.contains(origin) { String::new() } else { format!("{origin}: ") };
            format!("{at}{reason}; trying again in {:.0} s", wait.as_secs_f64().ceil())
        }
        Notice::WaitsForLock { file, process: Some(process), .. } => {
            format!("waiting for process {process}, which downloads {file}, too")
        }
        Notice::WaitsForLock { file, lock, .. } => {
            format!("waiting for another process that downloads {file}, too; its lock is {}", lock.display())
        }
        Notice::WholeFile { address } => {
            format!("{address}: the server sends no parts of files, so all of it is fetched")
        }
    }
}

/// All of a file, part by part.
fn copy(remote: &RemoteFile, file: &mut File, path: &Path, context: &Context<'_>) -> Result<(), Error> {
    let bytes = ReadAt::bytes(remote);
    context.begin("download", bytes);
    for start in (0..bytes).step_by(PART_BYTES as usize) {
        let part = remote.read(start, PART_BYTES.min(bytes - start), context)?;
        file.write_all(&part).map_err(|error| Error::io("write", path, error))?;
        context.advance(part.len() as u64)?;
    }
    Ok(())
}

/// The folder of a checkpoint at a path in a repository, with a slash at its end unless it is the repository itself.
fn folder_in(snapshot: &Snapshot, path: &str) -> String {
    match path {
        "" => String::new(),
        path if snapshot.files.iter().any(|file| file.path == path) => {
            path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"))
        }
        path => format!("{path}/"),
    }
}

/// The files of a repository that make the checkpoint at a path in it, or in the repository itself.
fn wanted_of_checkpoint<'a>(snapshot: &'a Snapshot, path: Option<&str>) -> Result<Vec<&'a str>, Fault> {
    let of_folder = |folder: &str| -> Result<Vec<&'a str>, Fault> {
        let files = checkpoint_files(&snapshot.files, folder).into_iter().map(|file| file.path.as_str());
        let files: Vec<&str> = files.collect();
        if files.iter().any(|file| file.ends_with(".safetensors")) {
            return Ok(files);
        }
        Err(Fault::NoSuchFile { place: snapshot.name(), path: format!("{folder}*.safetensors"), nearest: Vec::new() })
    };
    let Some(path) = path else { return of_folder("") };
    let folder = format!("{path}/");
    if snapshot.files.iter().any(|file| file.path.starts_with(&folder)) {
        return of_folder(&folder);
    }
    let file = snapshot.file(path)?.path.as_str();
    match file.ends_with(crate::checkpoint::INDEX_SUFFIX) {
        // Shards are beside their index, and so is what makes them a model.
        true => of_folder(file.rsplit_once('/').map_or("", |(folder, _)| &file[..=folder.len()])),
        false => Ok(vec![file]),
    }
}

/// The patch at a path in a repository, or the only one there.
fn patch_in(snapshot: &Snapshot, name: &RepoName) -> Result<String, Fault> {
    let path = name.path.as_deref().unwrap_or_default();
    if snapshot.files.iter().any(|file| file.path == path) {
        return Ok(path.to_owned());
    }
    let folder = if path.is_empty() { String::new() } else { format!("{path}/") };
    let is_patch = |file: &&str| file.starts_with(&folder) && file.ends_with(PATCH_SUFFIX);
    let patches: Vec<&str> = snapshot.files.iter().map(|file| file.path.as_str()).filter(is_patch).collect();
    match patches[..] {
        [] if path.is_empty() => {
            Err(Fault::NoSuchFile { place: snapshot.name(), path: "*.lcepatch".to_owned(), nearest: Vec::new() })
        }
        [] => snapshot.file(path).map(|file| file.path.clone()),
        [only] => Ok(only.to_owned()),
        [..] => {
            let shown = patches.iter().take(10).copied().collect::<Vec<_>>().join(", ");
            let reason = format!("has {} patches, and one is meant: {shown}", patches.len());
            Err(Fault::Name { name: name.to_string(), reason })
        }
    }
}

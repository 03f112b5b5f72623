//! Names of what is elsewhere.

mod in_parts;
mod repository;
mod web;

use super::{Found, Origin, Parts};
use crate::checkpoint::INDEX_SUFFIX;
use crate::context::Context;
use crate::durable::Failed;
use crate::error::Error;
use crate::patch::Patch;
use lcepatch_hub::name::{Name, RepoName, may_be_repository};
use lcepatch_hub::notice::Notice;
use lcepatch_hub::place::Place as PatchPlace;
use lcepatch_hub::place::directory::Directory;
use lcepatch_hub::place::repository::{Absent, Repository};
use lcepatch_hub::s3::{Bucket, Object, Prefix};
use lcepatch_hub::settings::Settings;
use lcepatch_hub::{Client, DEFAULT_REVISION, Fault, Snapshot};
use repository::{patch_in, wanted_of_checkpoint};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tempfile::TempDir;

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
                self.remember(Origin::of_address(remote.address()));
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
        let origin = Origin::of_address(&bucket.name_of(key));
        self.remember(origin.clone());
        let is_named = name.to_str().is_some_and(|name| name.ends_with(key));
        let name = if is_named { name.to_owned() } else { PathBuf::from(bucket.name_of(key)) };
        Found { path, name, origin: Some(origin) }
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

//! Fetches objects into a cache: of each state of a prefix once.
//!
//! The cache is `FOLDER/PREFIX/STATE/`: the first is a digest of where the objects are, the second of the list of their keys, tags and
//! lengths. An object is under its name as soon as all of it has arrived.

use super::{Ask, Bucket, InBucket, Object, is_other};
use crate::Fault;
use crate::cache::free_space;
use crate::http::Answer;
use crate::listing::{Digest, hex};
use crate::name::is_inner_path;
use crate::notice::Notice;
use crate::receive::{Stop, Wanted, side_by_side};
use base64::Engine as _;
use lcepatch_files::context::Context;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::http::Method;

/// How often it is tried to get the lock that another process has.
const PAUSE: Duration = Duration::from_millis(50);

impl Bucket {
    /// Fetches objects whose keys begin with `folder`, and returns the folder where they are under the rest of their keys. The files are in a
    /// cache: they must not be changed.
    ///
    /// Lengths and tags are compared, and the SHA-256 digest where the server has one.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn fetch(&self, folder: &str, objects: &[Object], context: &Context) -> Result<PathBuf, Fault> {
        let state = self.cache_folder(folder, objects);
        let inner = |object: &Object| object.key.get(folder.len()..).unwrap_or_default().to_owned();
        if let Some(wrong) = objects.iter().map(inner).find(|path| !is_inner_path(path)) {
            let reason = format!("the name {wrong:?} cannot be that of a file here");
            return Err(Fault::Answer { address: self.name_of(folder), reason });
        }
        let path_of = |object: &Object| state.join(inner(object));
        let is_here = |object: &&Object| {
            path_of(object).metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == object.bytes)
        };
        if objects.iter().all(|object| is_here(&object)) && state.is_dir() {
            return Ok(state);
        }
        std::fs::create_dir_all(&state).map_err(|error| Fault::io("create the folder", &state, error))?;
        let _lock = self.lock(&state, folder, context)?;
        let missing: Vec<&Object> = objects.iter().filter(|object| !is_here(object)).collect();
        let needed = missing.iter().fold(0u64, |all, object| all.saturating_add(object.bytes));
        if let Some(free) = free_space(&state).filter(|free| *free < needed) {
            return Err(Fault::DiskFull { path: state, needed, free });
        }
        context.begin("download", needed);
        side_by_side(&self.http, &missing, context, |object, stop| self.fetch_one(object, &path_of(object), stop))?;
        Ok(state)
    }

    fn cache_folder(&self, folder: &str, objects: &[Object]) -> PathBuf {
        let digest = |text: String| hex(&Sha256::digest(text)).get(..32).unwrap_or_default().to_owned();
        let endpoint = self.access.endpoint.as_deref().unwrap_or_default();
        let place = format!("{endpoint:?} {:?} {folder:?}", self.name);
        let list: String =
            objects.iter().map(|object| format!("{:?} {} {:?}\n", object.key, object.bytes, object.tag)).collect();
        self.access.cache.join(digest(place)).join(digest(list))
    }

    /// Waits until no other process downloads the same.
    fn lock(&self, state: &Path, folder: &str, context: &Context) -> Result<File, Fault> {
        let path = state.with_extension("lock");
        let file = File::create(&path).map_err(|error| Fault::io("create", &path, error))?;
        let mut is_said = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(std::fs::TryLockError::WouldBlock) => {}
                // Without locks, each object still appears whole.
                Err(std::fs::TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
                    return Ok(file);
                }
                Err(std::fs::TryLockError::Error(error)) => return Err(Fault::io("lock", &path, error)),
            }
            if !std::mem::replace(&mut is_said, true) {
                let (file, lock) = (self.name_of(folder), path.clone());
                self.http.notify(&Notice::WaitsForLock { file, process: None, lock });
            }
            context.advance(0)?;
            std::thread::sleep(PAUSE);
        }
    }

    /// Fetches an object to `path`.
    fn fetch_one(&self, object: &Object, path: &Path, stop: &Stop) -> Result<(), Fault> {
        let parent = path.parent().unwrap_or(path);
        std::fs::create_dir_all(parent).map_err(|error| Fault::io("create the folder", parent, error))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let partial = path.with_file_name(format!(".{name}.incomplete"));
        let digest = self.declared(object, stop)?;
        let check = |answer: &Answer| self.check_state(object, answer);
        let ranged = InBucket { bucket: self.clone(), key: object.key.clone() };
        let (name, digest) = (self.name_of(&object.key), digest.as_ref());
        Wanted { http: &self.http, ranged: &ranged, name, bytes: object.bytes, digest, check: &check, stop }
            .receive(&partial)?;
        std::fs::rename(&partial, path).map_err(|error| Fault::io("rename to", path, error))
    }

    /// The SHA-256 digest of the object, where the server has that of all of it.
    fn declared(&self, object: &Object, stop: &Stop) -> Result<Option<Digest>, Fault> {
        let ask = Ask { key: &object.key, headers: &[("x-amz-checksum-mode", "ENABLED")], ..Ask::default() };
        let answer = self.http.send(&self.request(&Method::HEAD, &ask)?, stop.context())?;
        if !answer.is_success() {
            return Err(self.refused(answer, &object.key));
        }
        self.check_state(object, &answer)?;
        // Of an object that was sent in parts it can be the digest of their digests, with their number.
        let is_whole = answer.header("x-amz-checksum-type") != Some("COMPOSITE");
        let digest = answer.header("x-amz-checksum-sha256").filter(|_| is_whole);
        let bytes = digest.and_then(|digest| base64::prelude::BASE64_STANDARD.decode(digest).ok());
        Ok(bytes.and_then(|bytes| Digest::parse(&hex(&bytes))))
    }

    fn check_state(&self, object: &Object, answer: &Answer) -> Result<(), Fault> {
        if is_other(answer, object) {
            let after = answer.header("etag").unwrap_or_default().to_owned();
            return Err(Fault::Changed { address: self.name_of(&object.key), before: object.tag.clone(), after });
        }
        Ok(())
    }
}

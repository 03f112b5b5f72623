//! Fetches objects into a cache: of each state of a prefix once.
//!
//! The cache is `FOLDER/PREFIX/STATE/`: the first is a digest of where the objects are, the second of the list of their keys, tags and
//! lengths. An object is under its name as soon as all of it has arrived.

use super::{Ask, Bucket, Object, is_other};
use crate::Fault;
use crate::cache::free_space;
use crate::http::{Failure, Notice, Tries};
use crate::name::is_inner_path;
use crate::remote::content_range;
use base64::Engine as _;
use lcepatch_files::context::Context;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use ureq::http::Method;

/// How many bytes are read at once.
const CHUNK_BYTES: usize = 256 << 10;
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
        let (next, stop, failed) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None));
        let work = || {
            while let Some(object) =
                missing.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !stop.load(Ordering::Relaxed))
            {
                if let Err(fault) = self.fetch_one(object, &path_of(object), &stop, context) {
                    // Of several the first, which the others may follow from; so that it is there before they stop.
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
                    stop.store(true, Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.http.settings().parallel.clamp(1, 8).min(missing.len()) {
                // If no thread can be started, this one does the work.
                let _ = std::thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(state), Err)
    }

    fn cache_folder(&self, folder: &str, objects: &[Object]) -> PathBuf {
        let digest = |text: String| super::hex(&Sha256::digest(text)).get(..32).unwrap_or_default().to_owned();
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

    /// Fetches an object to `path`. If its digest is not what the server says, once more.
    fn fetch_one(&self, object: &Object, path: &Path, stop: &AtomicBool, context: &Context) -> Result<(), Fault> {
        let parent = path.parent().unwrap_or(path);
        std::fs::create_dir_all(parent).map_err(|error| Fault::io("create the folder", parent, error))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let partial = path.with_file_name(format!(".{name}.incomplete"));
        let mut receive = Receive { bucket: self, object, partial: &partial, reported: 0, stop, context };
        let expected = receive.declared()?;
        let mut found = receive.run()?;
        if expected.as_ref().is_some_and(|expected| *expected != found) {
            std::fs::remove_file(&partial).map_err(|error| Fault::io("remove", &partial, error))?;
            found = receive.run()?;
        }
        match expected.filter(|expected| *expected != found) {
            None => std::fs::rename(&partial, path).map_err(|error| Fault::io("rename to", path, error)),
            Some(expected) => {
                let _ = std::fs::remove_file(&partial);
                Err(Fault::Digest { file: self.name_of(&object.key), expected, found })
            }
        }
    }
}

/// An object that is received.
struct Receive<'a> {
    bucket: &'a Bucket,
    object: &'a Object,
    /// What is here of it.
    partial: &'a Path,
    /// How many bytes of progress were reported.
    reported: u64,
    /// Set when another object failed.
    stop: &'a AtomicBool,
    context: &'a Context<'a>,
}

impl Receive<'_> {
    /// The SHA-256 digest of the object in base64, where the server has that of all of it.
    fn declared(&self) -> Result<Option<String>, Fault> {
        let ask = Ask { key: &self.object.key, headers: &[("x-amz-checksum-mode", "ENABLED")], ..Ask::default() };
        let answer = self.bucket.http.send(&self.bucket.request(&Method::HEAD, &ask)?, self.context)?;
        if !answer.is_success() {
            return Err(self.bucket.refused(answer, &self.object.key));
        }
        self.check_state(&answer)?;
        let digest = answer.header("x-amz-checksum-sha256").map(str::to_owned);
        // Of an object that was sent in parts it is the digest of their digests, with their number.
        Ok(digest.filter(|digest| !digest.contains('-') && answer.header("x-amz-checksum-type") != Some("COMPOSITE")))
    }

    fn check_state(&self, answer: &crate::http::Answer) -> Result<(), Fault> {
        if is_other(answer, self.object) {
            let after = answer.header("etag").unwrap_or_default().to_owned();
            let (address, before) = (self.bucket.name_of(&self.object.key), self.object.tag.clone());
            return Err(Fault::Changed { address, before, after });
        }
        Ok(())
    }

    /// Receives what is not here yet, with tries again, and returns the SHA-256 digest of all in base64.
    fn run(&mut self) -> Result<String, Fault> {
        let failed = |error| Fault::io("write", self.partial, error);
        let mut file =
            File::options().create(true).truncate(false).read(true).write(true).open(self.partial).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() > self.object.bytes {
            file.set_len(0).map_err(failed)?;
        }
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut here = 0;
        loop {
            match file.read(&mut buffer).map_err(failed)? {
                0 => break,
                read => {
                    hasher.update(buffer.get(..read).unwrap_or_default());
                    here += read as u64;
                    self.report(here)?;
                }
            }
        }
        let mut tries = Tries::default();
        while here < self.object.bytes {
            let before = here;
            if let Err(failure) = self.receive(&mut file, &mut hasher, &mut here) {
                if here > before {
                    tries.reset();
                }
                self.bucket.http.again(failure, &mut tries, self.context)?;
            }
        }
        file.sync_all().map_err(|error| Fault::io("sync", self.partial, error))?;
        Ok(base64::prelude::BASE64_STANDARD.encode(hasher.finalize()))
    }

    /// One request for what is not here yet.
    fn receive(&mut self, file: &mut File, hasher: &mut Sha256, here: &mut u64) -> Result<(), Failure> {
        let bytes = self.object.bytes;
        let mut request = self.bucket.request(&Method::GET, &Ask { key: &self.object.key, ..Ask::default() })?;
        if *here > 0 {
            request = request.header("Range", format!("bytes={here}-"));
        }
        let mut answer = self.bucket.http.try_once(&request)?;
        if !answer.is_success() {
            return Err(self.bucket.refused(answer, &self.object.key).into());
        }
        self.check_state(&answer)?;
        let address = answer.address.clone();
        let name = || self.bucket.name_of(&self.object.key);
        // What it is of counts, not the status.
        let said = answer.header("content-range").map(str::to_owned);
        let is_right = match said.as_deref() {
            Some(said) => content_range(said) == Some((*here..bytes, bytes)),
            None => *here == 0 && answer.length().is_none_or(|length| length == bytes),
        };
        if !is_right {
            let said = said.or_else(|| answer.length().map(|length| format!("{length} bytes"))).unwrap_or_default();
            let reason = format!("it is of {said:?}, and bytes from {here} of {bytes} on were asked for");
            return Err(Fault::Answer { address: name(), reason }.into());
        }
        let mut reader = answer.reader();
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.bucket.http.broken(&address, &error)),
            };
            let part = buffer.get(..read).unwrap_or_default();
            let left = bytes - *here;
            if part.len() as u64 > left {
                let reason = format!("it is longer than {bytes} bytes, which the list says");
                return Err(Fault::Answer { address: name(), reason }.into());
            }
            if part.is_empty() {
                let short = std::io::Error::other(format!("it ended {left} bytes early"));
                return if left == 0 { Ok(()) } else { Err(self.bucket.http.broken(&address, &short)) };
            }
            file.write_all(part).map_err(|error| Fault::io("write", self.partial, error))?;
            hasher.update(part);
            *here += part.len() as u64;
            self.report(*here)?;
        }
    }

    /// Reports progress, once for each byte.
    fn report(&mut self, here: u64) -> Result<(), Fault> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Fault::Cancelled);
        }
        let more = here.saturating_sub(self.reported);
        self.reported += more;
        Ok(self.context.advance(more)?)
    }
}

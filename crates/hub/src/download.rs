//! Fetches files of a repository into the cache: side by side, continued where an earlier call stopped, each checked against its digest.

use crate::Fault;
use crate::cache::{RepoCache, free_space, is_whole};
use crate::client::{About, Client};
use crate::http::{Failure, Request, Tries};
use crate::listing::{Digest, Hasher, RepoFile};
use crate::remote::content_range;
use crate::repository::Snapshot;
use lcepatch_files::context::Context;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The most files that are downloaded side by side.
const PARALLEL_MAX: usize = 8;
/// How many bytes are read at once.
const CHUNK_BYTES: usize = 256 << 10;

impl Snapshot {
    /// Fetches files that are not in the cache yet, and returns the folder of the commit in the cache. Its files are shared by all
    /// programs on this machine: they must not be changed.
    ///
    /// What is received is always compared with the digest that the hub lists: a file that is damaged is fetched once again. A download
    /// that is interrupted continues with the next call. What was in the cache is taken as it is, if it has the right length.
    ///
    /// # Errors
    /// [`Fault`]. Nothing that is damaged or not whole is stored under its name.
    pub fn fetch(&self, client: &Client, paths: &[&str], context: &Context) -> Result<PathBuf, Fault> {
        let settings = client.settings();
        let cache = RepoCache::new(&settings.cache, &self.id);
        let files = paths.iter().map(|path| self.file(path)).collect::<Result<Vec<_>, _>>()?;
        let missing: Vec<&RepoFile> = files.into_iter().filter(|file| !cache.has(&self.commit, file)).collect();
        if settings.offline {
            return match missing.first() {
                None => Ok(cache.snapshot(&self.commit)),
                Some(file) => {
                    let what = format!("{}/{}", self.name(), file.path);
                    Err(Fault::Offline { what, cache: settings.cache.clone() })
                }
            };
        }
        if !missing.is_empty() {
            cache.prepare()?;
            cache.keep_listing(&self.commit, &self.files);
            check_space(&cache, &settings.cache, &missing)?;
            context.begin("download", missing.iter().fold(0u64, |all, file| all.saturating_add(file.bytes)));
            self.fetch_all(client, &cache, &missing, context)?;
        }
        // Whoever only reads a cache that others fill need not be able to write to it.
        match cache.remember(&self.revision, &self.commit) {
            Err(_) if missing.is_empty() => {}
            remembered => remembered?,
        }
        Ok(cache.snapshot(&self.commit))
    }

    /// Whether a file is in the cache.
    pub fn is_cached(&self, client: &Client, path: &str) -> bool {
        let cache = RepoCache::new(&client.settings().cache, &self.id);
        self.file(path).is_ok_and(|file| cache.has(&self.commit, file))
    }

    /// Fetches the files side by side. After the first failure no other file is begun, and those that are under way stop.
    fn fetch_all(
        &self,
        client: &Client,
        cache: &RepoCache,
        files: &[&RepoFile],
        context: &Context,
    ) -> Result<(), Fault> {
        let (next, stop, failed) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None));
        let work = || {
            while let Some(file) =
                files.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !stop.load(Ordering::Relaxed))
            {
                let download = Download { snapshot: self, client, cache, file, stop: &stop, context };
                if let Err(fault) = download.run() {
                    // Of several the first, which the others may follow from; so that it is there before they stop.
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
                    stop.store(true, Ordering::Relaxed);
                }
            }
        };
        let threads = client.settings().parallel.clamp(1, PARALLEL_MAX).min(files.len());
        std::thread::scope(|scope| {
            for _ in 1..threads {
                // If no thread can be started, this one does the work.
                let _ = std::thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

/// Whether there is space for the files, less what of them is here already.
fn check_space(cache: &RepoCache, root: &Path, files: &[&RepoFile]) -> Result<(), Fault> {
    let here = |digest: &Digest| cache.partial(digest).metadata().map_or(0, |metadata| metadata.len());
    let to_come = |file: &&RepoFile| match &file.digest {
        Some(digest) if is_whole(&cache.blob(digest), file.bytes) => 0,
        Some(digest) => file.bytes.saturating_sub(here(digest)),
        None => file.bytes,
    };
    let needed = files.iter().map(to_come).fold(0, u64::saturating_add);
    match free_space(root) {
        Some(free) if free < needed => Err(Fault::DiskFull { path: root.to_owned(), needed, free }),
        _ => Ok(()),
    }
}

/// One file that is downloaded.
struct Download<'a> {
    snapshot: &'a Snapshot,
    client: &'a Client,
    cache: &'a RepoCache,
    file: &'a RepoFile,
    /// Set when another file failed.
    stop: &'a AtomicBool,
    context: &'a Context<'a>,
}

/// What is here of a file.
struct Partial<'a> {
    file: File,
    path: &'a Path,
    /// How many bytes are here.
    bytes: u64,
    /// Has seen these bytes.
    hasher: Hasher,
}

impl Download<'_> {
    fn run(&self) -> Result<(), Fault> {
        let name = || format!("{}/{}", self.snapshot.name(), self.file.path);
        let digest = self
            .file
            .digest
            .as_ref()
            .ok_or_else(|| Fault::Answer { address: name(), reason: "the listing has no digest of it".into() })?;
        let _lock = self.cache.lock(&name(), digest, self.client.http(), &|| self.check_stop())?;
        let commit = &self.snapshot.commit;
        if self.cache.has(commit, self.file) {
            self.context.advance(self.file.bytes)?;
            return Ok(());
        }
        let links = self.client.settings().symlinks;
        let blob = self.cache.blob(digest);
        if is_whole(&blob, self.file.bytes) {
            self.context.advance(self.file.bytes)?;
            return self.cache.place(commit, self.file, digest, links, false);
        }
        self.receive(digest, &blob)?;
        self.cache.place(commit, self.file, digest, links, true)
    }

    /// Downloads the content to its place in the cache. A damaged one is fetched once more, from the beginning.
    fn receive(&self, digest: &Digest, blob: &Path) -> Result<(), Fault> {
        let path = self.cache.partial(digest);
        let mut reported = 0;
        let mut found = None;
        for _ in 0..2 {
            let (file, hasher) = self.receive_once(digest, &path, &mut reported)?;
            let received = hasher.finish();
            if received == *digest {
                file.sync_all().map_err(|error| Fault::io("sync", &path, error))?;
                drop(file);
                return std::fs::rename(&path, blob).map_err(|error| Fault::io("rename to", blob, error));
            }
            drop(file);
            std::fs::remove_file(&path).map_err(|error| Fault::io("remove", &path, error))?;
            found = Some(received);
        }
        let file = format!("{}/{}", self.snapshot.name(), self.file.path);
        let found = found.map(|digest| digest.to_string()).unwrap_or_default();
        Err(Fault::Digest { file, expected: digest.to_string(), found })
    }

    /// Downloads what is not here yet of the content, with tries again. Progress is reported once for each byte.
    fn receive_once(&self, digest: &Digest, path: &Path, reported: &mut u64) -> Result<(File, Hasher), Fault> {
        let mut partial = self.open_partial(digest, path)?;
        self.report(partial.bytes, reported)?;
        let mut tries = Tries::default();
        while partial.bytes < self.file.bytes {
            let before = partial.bytes;
            match self.receive_more(digest, &mut partial, reported) {
                Ok(()) => {}
                Err(failure) => {
                    if partial.bytes > before {
                        tries.reset();
                    }
                    self.client.http().again(failure, &mut tries, self.context)?;
                }
            }
        }
        Ok((partial.file, partial.hasher))
    }

    /// Opens what an earlier call received, and reads it.
    fn open_partial<'a>(&self, digest: &Digest, path: &'a Path) -> Result<Partial<'a>, Fault> {
        let failed = |error| Fault::io("write", path, error);
        let file = File::options().create(true).truncate(false).read(true).write(true).open(path).map_err(failed)?;
        let mut partial = Partial { file, path, bytes: 0, hasher: Hasher::like(digest, self.file.bytes) };
        if partial.file.metadata().map_err(failed)?.len() > self.file.bytes {
            self.start_over(digest, &mut partial)?;
        }
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            self.check_stop()?;
            match partial.file.read(&mut buffer).map_err(failed)? {
                0 => return Ok(partial),
                read => {
                    partial.hasher.update(buffer.get(..read).unwrap_or_default());
                    partial.bytes += read as u64;
                }
            }
        }
    }

    fn start_over(&self, digest: &Digest, partial: &mut Partial) -> Result<(), Fault> {
        let failed = |error| Fault::io("write", partial.path, error);
        partial.file.set_len(0).and_then(|()| partial.file.seek(SeekFrom::Start(0))).map_err(failed)?;
        partial.bytes = 0;
        partial.hasher = Hasher::like(digest, self.file.bytes);
        Ok(())
    }

    /// One request for the rest of the content.
    fn receive_more(&self, digest: &Digest, partial: &mut Partial, reported: &mut u64) -> Result<(), Failure> {
        let http = self.client.http();
        let Snapshot { id, commit, .. } = self.snapshot;
        let mut request = Request::get(self.client.resolve_address(id, commit, &self.file.path));
        if partial.bytes > 0 {
            request = request.header("Range", format!("bytes={}-", partial.bytes));
        }
        let mut answer = http.try_once(&request)?;
        let address = answer.address.clone();
        let wrong = |reason: String| Failure::Final(Fault::Answer { address: crate::address::shown(&address), reason });
        let declared = answer.first_header("x-linked-etag").and_then(Digest::of_tag);
        if let Some(declared) = declared.filter(|declared| declared != digest) {
            return Err(wrong(format!("it is of {declared}, and the listing of {digest}")));
        }
        match answer.status {
            200 => self.start_over(digest, partial)?,
            206 => {
                let said = answer.header("content-range").unwrap_or_default();
                let expected = (partial.bytes..self.file.bytes, self.file.bytes);
                if content_range(said) != Some(expected) {
                    return Err(wrong(format!(
                        "it is of {said:?}, and bytes from {} of {} on were asked for",
                        partial.bytes, self.file.bytes
                    )));
                }
            }
            // The server has less than is here, so that what is here is of something else.
            416 if partial.bytes > 0 => {
                self.start_over(digest, partial)?;
                return Ok(());
            }
            _ => {
                let about = About { repository: id, revision: commit, path: Some(&self.file.path) };
                let fault = self.client.refused(answer, about, self.context);
                if let Fault::NoSuchFile { .. } = fault {
                    self.cache.remember_missing(commit, &self.file.path);
                }
                return Err(fault.into());
            }
        }
        let mut reader = answer.reader();
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(http.broken(&address, &error)),
            };
            let left = self.file.bytes - partial.bytes;
            if read as u64 > left {
                return Err(wrong(format!("it is longer than {} bytes, which the listing says", self.file.bytes)));
            }
            let bytes = buffer.get(..read).unwrap_or_default();
            if bytes.is_empty() {
                let short = || std::io::Error::other(format!("it ended {left} bytes early"));
                return if left == 0 { Ok(()) } else { Err(http.broken(&address, &short())) };
            }
            partial.file.write_all(bytes).map_err(|error| self.not_written(partial, error))?;
            partial.hasher.update(bytes);
            partial.bytes += bytes.len() as u64;
            self.report(partial.bytes, reported)?;
        }
    }

    fn not_written(&self, partial: &Partial, error: std::io::Error) -> Fault {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                let path = partial.path.parent().unwrap_or(partial.path);
                let free = free_space(path).unwrap_or(0);
                Fault::DiskFull { path: path.to_owned(), needed: self.file.bytes - partial.bytes, free }
            }
            _ => Fault::io("write", partial.path, error),
        }
    }

    /// Reports progress up to `bytes` of this file.
    fn report(&self, bytes: u64, reported: &mut u64) -> Result<(), Fault> {
        self.check_stop()?;
        let more = bytes.saturating_sub(*reported);
        *reported += more;
        Ok(self.context.advance(more)?)
    }

    fn check_stop(&self) -> Result<(), Fault> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Fault::Cancelled);
        }
        Ok(self.context.advance(0)?)
    }
}

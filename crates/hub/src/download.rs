//! Fetches files of a repository into the cache.

use crate::Fault;
use crate::address::shown;
use crate::cache::{RepoCache, free_space, is_whole};
use crate::client::Client;
use crate::http::Answer;
use crate::listing::{Digest, RepoFile};
use crate::receive::{Stop, Wanted, side_by_side};
use crate::remote::InRepository;
use crate::repository::Snapshot;
use lcepatch_files::context::Context;
use std::path::{Path, PathBuf};

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
            side_by_side(client.http(), &missing, context, |file, stop| {
                Download { snapshot: self, client, cache: &cache, file, stop }.run()
            })?;
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
    stop: &'a Stop<'a>,
}

impl Download<'_> {
    fn run(&self) -> Result<(), Fault> {
        let name = || format!("{}/{}", self.snapshot.name(), self.file.path);
        let digest = self
            .file
            .digest
            .as_ref()
            .ok_or_else(|| Fault::Answer { address: name(), reason: "the listing has no digest of it".into() })?;
        let _lock = self.cache.lock(&name(), digest, self.client.http(), &|| self.stop.advance(0))?;
        let commit = &self.snapshot.commit;
        if self.cache.has(commit, self.file) {
            return self.stop.advance(self.file.bytes);
        }
        let links = self.client.settings().symlinks;
        let blob = self.cache.blob(digest);
        if is_whole(&blob, self.file.bytes) {
            self.stop.advance(self.file.bytes)?;
            return self.cache.place(commit, self.file, digest, links, false);
        }
        self.receive(name(), digest, &blob)?;
        self.cache.place(commit, self.file, digest, links, true)
    }

    /// Downloads the content to its place in the cache.
    fn receive(&self, name: String, digest: &Digest, blob: &Path) -> Result<(), Fault> {
        let Snapshot { id, commit, .. } = self.snapshot;
        let RepoFile { path, bytes, .. } = self.file;
        let check = |answer: &Answer| match answer.first_header("x-linked-etag").and_then(Digest::of_tag) {
            Some(declared) if declared != *digest => {
                let reason = format!("it is of {declared}, and the listing of {digest}");
                Err(Fault::Answer { address: shown(&answer.address), reason })
            }
            _ => Ok(()),
        };
        let ranged = InRepository::new(self.client, id, commit, path);
        let http = self.client.http();
        let wanted =
            Wanted { http, ranged: &ranged, name, bytes: *bytes, digest: Some(digest), check: &check, stop: self.stop };
        let partial = self.cache.partial(digest);
        let received = wanted.receive(&partial);
        if let Err(Fault::NoSuchFile { .. }) = received {
            self.cache.remember_missing(commit, path);
        }
        received?;
        std::fs::rename(&partial, blob).map_err(|error| Fault::io("rename to", blob, error))
    }
}

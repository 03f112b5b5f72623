//! The cache that all programs of the hub share, as `huggingface_hub` 2.4.0 keeps it: `models--ORG--NAME/` with
//! `blobs/DIGEST`, `snapshots/COMMIT/PATH` as links to them, `refs/REVISION`, `trees/COMMIT.json` and `.no_exist/COMMIT/PATH`, and
//! beside all repositories `.locks/models--ORG--NAME/DIGEST.lock`.

use crate::Fault;
use crate::http::Http;
use crate::listing::{Digest, RepoFile, Tree};
use crate::name::{is_inner_path, is_revision};
use crate::notice::Notice;
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What says to programs that make backups that this is a cache.
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This file is a cache directory tag created by huggingface_hub.\n\
    # For information about cache directory tags, see:\n\
    #\thttps://bford.info/cachedir/\n";

/// How often it is tried to get a lock that another process has.
const PAUSE: Duration = Duration::from_millis(50);
/// How long is waited for a lock before it is said.
const SILENT_WAIT: Duration = Duration::from_secs(2);

/// The part of the cache that belongs to one repository.
#[derive(Debug, Clone)]
pub(crate) struct RepoCache {
    root: PathBuf,
    folder: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    /// The part of `ORG/NAME` in the cache at `root`. Nothing is made.
    pub(crate) fn new(root: &Path, id: &str) -> Self {
        let name = format!("models--{}", id.replace('/', "--"));
        Self { root: root.to_owned(), folder: root.join(&name), locks: root.join(".locks").join(&name) }
    }

    /// The commit that a revision was when it was last asked for: the revision itself, if it is a commit.
    pub(crate) fn commit_of(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = std::fs::read_to_string(self.folder.join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Remembers what commit a revision is.
    pub(crate) fn remember(&self, revision: &str, commit: &str) -> Result<(), Fault> {
        if revision == commit || !is_revision(revision) || self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        write_whole(&self.folder.join("refs").join(revision), commit.as_bytes())
    }

    /// The listing of a commit, if it was kept.
    pub(crate) fn listing(&self, commit: &str) -> Option<Vec<RepoFile>> {
        let bytes = std::fs::read(self.tree(commit)).ok()?;
        serde_json::from_slice::<Tree>(&bytes).ok()?.files()
    }

    /// Keeps the listing of a commit. It is only a copy, so that nothing is wrong if it cannot be kept.
    pub(crate) fn keep_listing(&self, commit: &str, files: &[RepoFile]) {
        let path = self.tree(commit);
        if files.iter().all(|file| file.blob.is_some())
            && !path.exists()
            && let Ok(bytes) = serde_json::to_vec_pretty(&Tree::of(files))
        {
            let _ = write_whole(&path, &bytes);
        }
    }

    fn tree(&self, commit: &str) -> PathBuf {
        self.folder.join("trees").join(format!("{commit}.json"))
    }

    /// The folder with the files of a commit, as far as they were fetched.
    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// The files of a commit that are in the cache, in the order of their paths.
    pub(crate) fn cached_files(&self, commit: &str) -> Vec<RepoFile> {
        let root = self.snapshot(commit);
        let mut files = Vec::new();
        walk(&root, &root, &mut files);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    }

    /// Where the content of a file is, or will be.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.folder.join("blobs").join(digest.hex())
    }

    /// Where a download is until it is complete. Other programs do not know this name, and ours continue it.
    pub(crate) fn partial(&self, digest: &Digest) -> PathBuf {
        self.folder.join("blobs").join(format!("{}.lcepatch.incomplete", digest.hex()))
    }

    /// Where a file of a commit is, or will be.
    pub(crate) fn pointer(&self, commit: &str, path: &str) -> PathBuf {
        self.snapshot(commit).join(path)
    }

    /// Whether a file of a commit is there, and as long as it should be. Links are followed, also links to links.
    pub(crate) fn has(&self, commit: &str, file: &RepoFile) -> bool {
        is_whole(&self.pointer(commit, &file.path), file.bytes)
    }

    /// Remembers that a commit has no such file, as other programs do. It only spares a question, so that it may fail.
    pub(crate) fn remember_missing(&self, commit: &str, path: &str) {
        if is_commit(commit) && is_inner_path(path) {
            let place = self.folder.join(".no_exist").join(commit).join(path);
            let _ = create_folder_of(&place).map(|()| File::create(place));
        }
    }

    /// Makes the folders of the cache and its tag.
    pub(crate) fn prepare(&self) -> Result<(), Fault> {
        for folder in [&self.folder.join("blobs"), &self.locks] {
            std::fs::create_dir_all(folder).map_err(|error| Fault::io("create the folder", folder, error))?;
        }
        let tag = self.root.join("CACHEDIR.TAG");
        if !tag.exists() {
            // It is no loss for anybody who only reads the cache.
            let _ = std::fs::write(&tag, TAG);
        }
        Ok(())
    }

    /// Locks the content of a file against other processes, of this program and of others, as long as the lock lives. Waits for them
    /// without limit, and says so after two seconds. Stops when `check` fails.
    pub(crate) fn lock(
        &self,
        file: &str,
        digest: &Digest,
        http: &Http,
        check: &dyn Fn() -> Result<(), Fault>,
    ) -> Result<Lock, Fault> {
        let path = self.locks.join(format!("{}.lock", digest.hex()));
        let began = Instant::now();
        let mut is_said = false;
        loop {
            let lock = File::options().create(true).truncate(false).read(true).write(true).open(&path);
            let lock = lock.map_err(|error| Fault::io("create the lock", &path, error))?;
            match lock.try_lock() {
                Ok(()) if is_at(&lock, &path) => return Ok(Lock { _file: lock }),
                // Somebody removed it between opening and locking, and another process may have made a new one.
                Ok(()) => continue,
                Err(TryLockError::WouldBlock) => {}
                // On file systems without locks the cache stays right: every download appears under its name by a rename.
                Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
                    return Ok(Lock { _file: lock });
                }
                Err(TryLockError::Error(error)) => return Err(Fault::io("lock", &path, error)),
            }
            if !is_said && began.elapsed() >= SILENT_WAIT {
                is_said = true;
                let process = holder(&lock);
                http.notify(&Notice::WaitsForLock { file: file.to_owned(), process, lock: path.clone() });
            }
            check()?;
            std::thread::sleep(PAUSE);
        }
    }

    /// Puts a file of a commit in its place: a link to its content, or, on systems without links, its content, which is moved if it is
    /// `new` and else copied.
    pub(crate) fn place(
        &self,
        commit: &str,
        file: &RepoFile,
        digest: &Digest,
        links: bool,
        new: bool,
    ) -> Result<(), Fault> {
        let (pointer, blob) = (self.pointer(commit, &file.path), self.blob(digest));
        create_folder_of(&pointer)?;
        let beside = beside(&pointer);
        if links && link(&up_to_blob(&file.path, digest), &beside).is_ok() {
            // Renaming a link onto another one to the same file does nothing on some systems, but then it is right already.
            return rename(&beside, &pointer);
        }
        if new {
            return rename(&blob, &pointer);
        }
        std::fs::copy(&blob, &beside).map_err(|error| Fault::io("write", &beside, error))?;
        rename(&beside, &pointer)
    }
}

/// A lock on the content of a file.
pub(crate) struct Lock {
    _file: File,
}

/// Whether there is a regular file of this length, wherever links lead.
pub(crate) fn is_whole(path: &Path, bytes: u64) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == bytes)
}

/// Whether this is the name of a commit.
pub(crate) fn is_commit(text: &str) -> bool {
    matches!(Digest::parse(text), Some(Digest::Git(_)))
}

/// The way from a file of a commit to its content: out of its folders, the commit's and `snapshots`.
fn up_to_blob(path: &str, digest: &Digest) -> PathBuf {
    let up = "../".repeat(path.split('/').count() + 1);
    PathBuf::from(format!("{up}blobs/{}", digest.hex()))
}

fn link(to: &Path, at: &Path) -> std::io::Result<()> {
    let _ = std::fs::remove_file(at);
    #[cfg(unix)]
    return std::os::unix::fs::symlink(to, at);
    #[cfg(windows)]
    return std::os::windows::fs::symlink_file(to, at);
}

/// A name beside `path` that no other process and no other thread uses.
fn beside(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}-{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
}

fn rename(from: &Path, to: &Path) -> Result<(), Fault> {
    std::fs::rename(from, to).map_err(|error| Fault::io("rename to", to, error))
}

fn create_folder_of(path: &Path) -> Result<(), Fault> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(|error| Fault::io("create the folder", folder, error))
}

/// Writes a small file, which appears whole.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    create_folder_of(path)?;
    let beside = beside(path);
    let write = File::create(&beside).and_then(|mut file| file.write_all(bytes));
    write.map_err(|error| Fault::io("write", &beside, error))?;
    rename(&beside, path)
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<RepoFile>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = path.metadata() else { continue };
        if metadata.is_dir() && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(root, &path, files);
        } else if let Some(inner) = path.strip_prefix(root).ok().and_then(Path::to_str).filter(|_| metadata.is_file()) {
            // The first of a chain of links names the content.
            let to = path.read_link().ok();
            let digest = to.as_deref().and_then(Path::file_name).and_then(|name| Digest::parse(name.to_str()?));
            let path = inner.replace('\\', "/");
            files.push(RepoFile { path, bytes: metadata.len(), digest, xet: None, blob: None });
        }
    }
}

/// Whether `path` still leads to the open file.
fn is_at(file: &File, path: &Path) -> bool {
    File::open(path).is_ok_and(|there| lcepatch_files::durable::is_same(file, &there))
}

/// The process that holds the lock of a file, where the system lists locks.
fn holder(file: &File) -> Option<u32> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt;
        let inode = file.metadata().ok()?.ino().to_string();
        // 1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF
        let locks = std::fs::read_to_string("/proc/locks").ok()?;
        let of_file = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mut of_file =
            of_file.filter(|words| words.get(5).is_some_and(|place| place.rsplit(':').next() == Some(&inode)));
        of_file.next()?.get(4)?.parse().ok().filter(|process| *process > 0)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = file;
        None
    }
}

/// How many bytes are free for this user where `path` is, or will be; none if the system does not say.
pub(crate) fn free_space(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let there = path.ancestors().find(|folder| folder.is_dir())?;
        let space = rustix::fs::statvfs(there).ok()?;
        Some(space.f_bavail.saturating_mul(space.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use std::sync::{Arc, Mutex};

    const COMMIT: &str = "0123456789012345678901234567890123456789";

    fn file(path: &str, content: &[u8]) -> (RepoFile, Digest) {
        let digest = Digest::Git("a".repeat(40));
        let (path, bytes) = (path.to_owned(), content.len() as u64);
        (RepoFile { path, bytes, digest: Some(digest.clone()), xet: None, blob: None }, digest)
    }

    #[test]
    fn links_are_relative_and_replace_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let cache = RepoCache::new(folder.path(), "o/n");
        cache.prepare().unwrap();
        let (file, digest) = file("a/b.json", b"new");
        std::fs::write(cache.blob(&digest), b"new").unwrap();
        let pointer = cache.pointer(COMMIT, "a/b.json");
        for links in [true, true, false] {
            cache.place(COMMIT, &file, &digest, links, false).unwrap();
            assert!(cache.has(COMMIT, &file));
            let expected = PathBuf::from(format!("../../../blobs/{digest}"));
            assert_eq!(pointer.read_link().ok(), links.then_some(expected));
        }
        cache.place(COMMIT, &file, &digest, false, true).unwrap();
        assert!(!cache.blob(&digest).exists() && cache.has(COMMIT, &file));
        assert!(
            std::fs::read(folder.path().join("CACHEDIR.TAG"))
                .unwrap()
                .starts_with(b"Signature: 8a477f597d28d172789f06886806bc55")
        );
    }

    #[test]
    fn revisions_and_listings_are_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let cache = RepoCache::new(folder.path(), "o/n");
        assert_eq!(cache.commit_of("main"), None);
        cache.remember("refs/pr/1", COMMIT).unwrap();
        assert_eq!(cache.commit_of("refs/pr/1").as_deref(), Some(COMMIT));
        assert_eq!(cache.commit_of(COMMIT).as_deref(), Some(COMMIT));
        std::fs::write(folder.path().join("models--o--n/refs/bad"), "../../x").unwrap();
        assert_eq!(cache.commit_of("bad"), None);
        let mut files = vec![file("x", b"xx").0];
        files[0].blob = Some("a".repeat(40));
        cache.keep_listing(COMMIT, &files);
        assert_eq!(cache.listing(COMMIT).unwrap(), files);
        cache.remember_missing(COMMIT, "no/such");
        assert!(folder.path().join("models--o--n/.no_exist").join(COMMIT).join("no/such").is_file());
    }

    #[test]
    fn a_lock_waits_and_says_for_whom() {
        let folder = tempfile::tempdir().unwrap();
        let cache = RepoCache::new(folder.path(), "o/n");
        cache.prepare().unwrap();
        let (_, digest) = file("x", b"");
        let said = Arc::new(Mutex::new(Vec::new()));
        let notes = said.clone();
        let settings = Arc::new(Settings::from_variables(|_| None).unwrap());
        let http = Http::new(settings, Arc::new(move |notice: &Notice| notes.lock().unwrap().push(notice.clone())));
        let held = cache.lock("x", &digest, &http, &|| Ok(())).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| cache.lock("x", &digest, &http, &|| Ok(())).is_ok());
            std::thread::sleep(SILENT_WAIT + 4 * PAUSE);
            drop(held);
            assert!(waiting.join().unwrap());
        });
        let said = said.lock().unwrap();
        let [Notice::WaitsForLock { process, .. }] = said.as_slice() else { panic!("{said:?}") };
        assert_eq!(*process, cfg!(target_os = "linux").then(std::process::id));
    }

    #[test]
    fn there_is_some_space() {
        assert!(free_space(&std::env::temp_dir().join("not/there")).is_none_or(|free| free > 0));
    }
}

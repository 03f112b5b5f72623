//! The journal of edits inside files: what they held is on the disk before the first byte changes.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `lcejrnl2` |
//! | 4 | number of files; for each: length of its name (2), name, length of the file (8), its inode (8) |
//! | | segments ([`super::segment`]), until 32 bytes are left |
//! | 32 | BLAKE3 of all before |
//!
//! Numbers are little-endian.

use super::super::background::while_syncing;
use super::super::disk::{self, folder, inode, is_same, sync_folder};
use super::super::lock::{Access, lock};
use super::super::{Existing, Failed, NewFile};
use super::segment::{Change, Pass, Place, Segment, Segments, WINDOW_BYTES, read_part};
use super::{FILE_NAME, damaged, is_plain, other_file, same_file, there};
use crate::context::{Cancelled, Context};
use lcepatch_format::digest::{ContentHash, Digest, Hasher};
use rayon::prelude::*;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) const MAGIC: &[u8; 8] = b"lcejrnl2";
const DIGEST_BYTES: u64 = 32;
/// What file systems allow.
const NAME_BYTES_MAX: usize = 255;
const FILES_MAX: u32 = 1 << 16;
/// Windows that are listed while as many are worked on.
const BATCH: usize = 1 << 7;

/// A file that may be edited where it is: it has this one name, and can be written to.
#[derive(Debug)]
pub struct Editable {
    path: PathBuf,
    name: String,
    bytes: u64,
    inode: u64,
    file: File,
}

impl Editable {
    /// None for what should rather be replaced: a link, a file that has other names, one that is read-only.
    pub fn open(path: &Path) -> Option<Self> {
        let metadata = path.symlink_metadata().ok()?;
        if has_other_names(&metadata) { None } else { Self::reopen(path).ok()? }
    }

    /// One that was edited, whatever names it has by now. None for what can be none: no regular file, or of a name that is no text.
    fn reopen(path: &Path) -> std::io::Result<Option<Self>> {
        let name = path.file_name().and_then(OsStr::to_str).filter(|name| name.len() <= NAME_BYTES_MAX);
        let Some(name) = name.filter(|_| path.symlink_metadata().is_ok_and(|file| file.is_file())) else {
            return Ok(None);
        };
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let open = file.metadata()?;
        let (bytes, inode) = (open.len(), inode(&open));
        Ok(Some(Self { path: path.to_owned(), name: name.to_owned(), bytes, inode, file }))
    }

    /// Whether it is this open file, and has this length.
    pub fn is(&self, open: &File, bytes: u64) -> bool {
        self.bytes == bytes && is_same(&self.file, open)
    }
}

#[cfg(unix)]
fn has_other_names(metadata: &std::fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(metadata) > 1
}

#[cfg(not(unix))]
fn has_other_names(_: &std::fs::Metadata) -> bool {
    false
}

/// A journal in the making. Dropped before [`NewEditJournal::commit`], it leaves nothing behind.
pub struct NewEditJournal {
    new: NewFile,
    targets: Vec<Editable>,
    hasher: Hasher,
    bytes: u64,
    start: u64,
    last: Place,
}

impl NewEditJournal {
    /// Begins the journal of changes to `targets`, which are locked files of one folder.
    ///
    /// # Errors
    /// [`Failed::Interrupted`] where there is one already; [`Failed::Io`].
    pub fn create(targets: Vec<Editable>) -> Result<Self, Failed> {
        let beside = targets.first().map_or(Path::new(""), |target| &target.path);
        let path = folder(beside).join(FILE_NAME);
        // What they hold, it shows to no one else.
        let like = targets.iter().filter_map(|target| target.file.metadata().ok()).map(|file| file.permissions());
        let like = like.reduce(disk::stricter);
        let new = NewFile::create_like(&path, Existing::Keep, like).map_err(|failed| there(failed, &path))?;
        let mut front = MAGIC.to_vec();
        front.extend((targets.len() as u32).to_le_bytes());
        for target in &targets {
            front.extend((target.name.len() as u16).to_le_bytes());
            front.extend(target.name.as_bytes());
            front.extend(target.bytes.to_le_bytes());
            front.extend(target.inode.to_le_bytes());
        }
        let start = front.len() as u64;
        let mut journal = Self { new, targets, hasher: ContentHash::Blake3.hasher(), bytes: 0, start, last: (0, 0) };
        journal.write(&front)?;
        Ok(journal)
    }

    /// Appends segments, which must lie behind those before them.
    ///
    /// # Errors
    /// [`Failed::Io`]; [`Failed::Damaged`] for segments that are not in order.
    pub fn append(&mut self, segments: &Segments) -> Result<(), Failed> {
        let Some((first, last)) = segments.span else { return Ok(()) };
        if first < self.last {
            return Err(damaged(self.new.path(), "its segments are not in order"));
        }
        self.last = last;
        self.write(&segments.bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        disk::append(self.new.file(), bytes).map_err(|e| Failed::io("write", self.new.path(), e))?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Puts the journal on the disk. From now on the files may change.
    ///
    /// # Errors
    /// As [`NewEditJournal::create`]; the journal is not there then.
    pub fn commit(self) -> Result<EditJournal, Failed> {
        let Self { new, targets, hasher, bytes, start, .. } = self;
        let path = new.path().to_owned();
        let failed = |operation| move |path: &Path, e| Failed::io(operation, path, e);
        disk::append(new.file(), &hasher.finish().0).map_err(|e| failed("write")(&path, e))?;
        let file = new.file().try_clone().map_err(|e| failed("write")(&path, e))?;
        let journal = EditJournal { file, path: path.clone(), targets, segments: start..bytes };
        match new.commit() {
            Ok(()) => Ok(journal),
            // It is in its place, and nothing has happened that it would have to take back.
            Err(Failed::Unsynced { operation, path, source, .. }) => {
                let _ = disk::remove_file(&journal.path);
                Err(Failed::Io { operation, path, source })
            }
            Err(failed) => Err(there(failed, &path)),
        }
    }
}

/// A journal in its place. Its files are locked by whoever has it.
#[derive(Debug)]
pub struct EditJournal {
    file: File,
    path: PathBuf,
    targets: Vec<Editable>,
    /// Where the segments are.
    segments: Range<u64>,
}

impl EditJournal {
    /// The whole journal that is open as `file`; locks its files.
    pub(super) fn read(file: File, path: PathBuf, copied: bool) -> Result<Self, Failed> {
        let (entries, segments) = read_front(&file, &path)?;
        check_digest(&file, &path, segments.end)?;
        let mut targets = Vec::new();
        for Entry { name, bytes, inode } in entries {
            let target = path.with_file_name(name);
            same_file(&target, inode, &path, copied)?;
            let editable = Editable::reopen(&target).map_err(|e| Failed::io("open", &target, e))?;
            let editable = editable.filter(|editable| editable.bytes == bytes);
            let editable = editable.ok_or_else(|| other_file(target, &path))?;
            lock(&editable.file, &editable.path, Access::Edit)?;
            targets.push(editable);
        }
        Ok(Self { file, path, targets, segments })
    }

    /// The names of the files that it is about.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().map(|target| target.name.as_str())
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the changes, which are on the disk then.
    ///
    /// # Errors
    /// [`Failed::OtherFile`] where the files do not hold the old bytes, [`Failed::Io`], cancellation; then some changes are
    /// made, and are to be taken back.
    pub fn edit<E: From<Failed> + From<Cancelled> + Send>(&self, context: &Context<'_>) -> Result<(), E> {
        context.begin("editing in place", self.bytes());
        self.written_through(|| self.walk(Pass::Edit, context)).map(drop::<u64>)
    }

    /// Checks that each byte to put back is what it was before the edit, or what it would have been after it.
    ///
    /// # Errors
    /// [`Failed::OtherFile`], [`Failed::Damaged`], [`Failed::Io`], cancellation.
    pub fn check<E: From<Failed> + From<Cancelled> + Send>(&self, context: &Context<'_>) -> Result<(), E> {
        context.begin("comparing", self.bytes());
        self.walk(Pass::IsEither, context).map(drop::<u64>)
    }

    /// Puts the old bytes back, reads them again to see that they are there, and removes the journal; returns how many units changed.
    /// What is neither an old nor a new byte is another program's, and stays.
    ///
    /// # Errors
    /// [`Failed::Damaged`], [`Failed::Io`], [`Failed::OtherFile`], cancellation; the journal stays then.
    pub fn put_back<E: From<Failed> + From<Cancelled> + Send>(self, context: &Context<'_>) -> Result<u64, E> {
        context.begin("putting back", 2 * self.bytes());
        let changes = self.written_through::<_, E>(|| self.walk(Pass::PutBack, context))?;
        self.walk::<E>(Pass::IsOld, context)?;
        self.remove()?;
        Ok(changes)
    }

    /// Removes the journal: the files stay as they are.
    ///
    /// # Errors
    /// [`Failed::Io`] where the journal stays, [`Failed::Unsynced`] where it is gone and the disk may not know.
    pub(super) fn remove(&self) -> Result<(), Failed> {
        disk::remove_file(&self.path).map_err(|e| Failed::io("remove", &self.path, e))?;
        sync_folder(&self.path).map_err(|failed| failed.after_rename(folder(&self.path)))
    }

    fn bytes(&self) -> u64 {
        self.segments.end - self.segments.start
    }

    /// Does `work`, while another thread has the disk write what is written, until all is.
    fn written_through<T, E: From<Failed>>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let sync = || {
            let mut targets = self.targets.iter();
            targets
                .try_for_each(|target| disk::sync_data(&target.file).map_err(|e| Failed::io("sync", &target.path, e)))
        };
        let result = while_syncing(sync, work)?;
        sync()?;
        Ok(result)
    }

    /// Goes through all segments; returns how many changes they hold.
    fn walk<E: From<Failed> + From<Cancelled> + Send>(&self, pass: Pass, context: &Context<'_>) -> Result<u64, E> {
        let changes = AtomicU64::new(0);
        let work = |windows: &[Vec<Segment>]| {
            windows.par_iter().try_for_each_init(Buffers::default, |buffers, window| {
                changes.fetch_add(self.window(window, pass, buffers)?, Ordering::Relaxed);
                context.advance(window.iter().map(|segment| segment.bytes() as u64).sum()).map_err(E::from)
            })
        };
        let mut cursor = Cursor { at: self.segments.start, last: (0, 0) };
        let mut windows = self.windows(&mut cursor)?;
        while !windows.is_empty() {
            let (done, next) = rayon::join(|| work(&windows), || self.windows(&mut cursor));
            done?;
            windows = next?;
        }
        Ok(changes.into_inner())
    }

    /// The next windows from `cursor` on, which moves behind them: neighbouring segments that are worked on together. By the order of
    /// segments no two windows share a byte.
    fn windows(&self, cursor: &mut Cursor) -> Result<Vec<Vec<Segment>>, Failed> {
        let mut windows: Vec<Vec<Segment>> = Vec::new();
        while cursor.at < self.segments.end && windows.len() < BATCH {
            let segment = Segment::read(&self.file, &self.path, cursor.at, self.segments.end, cursor.last)?;
            let target = self.targets.get(segment.file as usize).filter(|target| segment.place.end <= target.bytes);
            if target.is_none() {
                return Err(damaged(&self.path, "a change is outside of its file"));
            }
            *cursor = Cursor { at: segment.end(), last: (segment.file, segment.place.end) };
            match windows.last_mut() {
                Some(window) if segment.is_near(&window[0]) => window.push(segment),
                _ => windows.push(vec![segment]),
            }
        }
        Ok(windows)
    }

    /// Works on neighbouring segments.
    fn window(&self, segments: &[Segment], pass: Pass, buffers: &mut Buffers) -> Result<u64, Failed> {
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return Ok(0) };
        let target = &self.targets[first.file as usize];
        let Buffers { notes, bytes } = buffers;
        notes.resize((last.end() - first.at) as usize, 0);
        read_part(&self.file, &self.path, notes, first.at, self.segments.end)?;
        let window = first.place.start..last.place.end;
        bytes.resize((window.end - window.start) as usize, 0);
        disk::read_at(&target.file, bytes, window.start).map_err(|e| Failed::io("read", &target.path, e))?;
        for segment in segments {
            let place = (segment.place.start - window.start) as usize..(segment.place.end - window.start) as usize;
            let notes = &notes[(segment.at - first.at) as usize..][..segment.bytes()];
            match segment.change(&mut bytes[place], notes, pass) {
                Change::Made => {}
                Change::Outside => return Err(damaged(&self.path, "a change is outside of its segment")),
                Change::OtherBytes => return Err(other_file(target.path.clone(), &self.path)),
            }
        }
        if pass.writes() {
            disk::write_at(&target.file, bytes, window.start).map_err(|e| Failed::io("write", &target.path, e))?;
        }
        Ok(segments.iter().map(|segment| segment.changes as u64).sum())
    }
}

#[derive(Default)]
struct Buffers {
    notes: Vec<u8>,
    bytes: Vec<u8>,
}

/// How far the segments have been listed.
struct Cursor {
    at: u64,
    last: Place,
}

/// A file that a journal is about.
struct Entry {
    name: String,
    bytes: u64,
    inode: u64,
}

/// The names and inodes of the files that a journal is about.
pub(super) fn names(file: &File, path: &Path) -> Result<Vec<(String, u64)>, Failed> {
    Ok(read_front(file, path)?.0.into_iter().map(|entry| (entry.name, entry.inode)).collect())
}

/// The files that a journal is about, and where its segments are.
fn read_front(file: &File, path: &Path) -> Result<(Vec<Entry>, Range<u64>), Failed> {
    let bytes = file.metadata().map_err(|e| Failed::io("read", path, e))?.len();
    let end = bytes.checked_sub(DIGEST_BYTES).ok_or_else(|| damaged(path, "it is too short"))?;
    let mut at = MAGIC.len() as u64;
    let mut take = |part: &mut [u8]| {
        read_part(file, path, part, at, end)?;
        at += part.len() as u64;
        Ok::<(), Failed>(())
    };
    let mut count = [0; 4];
    take(&mut count)?;
    if u32::from_le_bytes(count) > FILES_MAX {
        return Err(damaged(path, "it names too many files"));
    }
    let mut entries = Vec::new();
    for _ in 0..u32::from_le_bytes(count) {
        let (mut length, mut bytes, mut inode) = ([0; 2], [0; 8], [0; 8]);
        take(&mut length)?;
        let length = usize::from(u16::from_le_bytes(length));
        if length > NAME_BYTES_MAX {
            return Err(damaged(path, "a name is too long"));
        }
        let mut name = vec![0; length];
        take(&mut name)?;
        take(&mut bytes)?;
        take(&mut inode)?;
        let name = String::from_utf8(name).map_err(|_| damaged(path, "a name is not UTF-8"))?;
        if !is_plain(&name) {
            return Err(damaged(path, "a name is no plain file name"));
        }
        entries.push(Entry { name, bytes: u64::from_le_bytes(bytes), inode: u64::from_le_bytes(inode) });
    }
    Ok((entries, at..end))
}

fn check_digest(file: &File, path: &Path, end: u64) -> Result<(), Failed> {
    let mut hasher = ContentHash::Blake3.hasher();
    let mut part = vec![0; WINDOW_BYTES.min(end) as usize];
    for start in (0..end).step_by(WINDOW_BYTES as usize) {
        let part = &mut part[..WINDOW_BYTES.min(end - start) as usize];
        read_part(file, path, part, start, end)?;
        hasher.update(part);
    }
    let mut digest = [0; DIGEST_BYTES as usize];
    read_part(file, path, &mut digest, end, end + DIGEST_BYTES)?;
    if Digest(digest) != hasher.finish() {
        return Err(damaged(path, "its digest is wrong"));
    }
    Ok(())
}

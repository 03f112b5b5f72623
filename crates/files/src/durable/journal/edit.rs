//! The journal of edits in place. The old bytes are on the disk before the first byte of a file changes.
//!
//! | bytes | content |
//! | --- | --- |
//! | 8 | `lcejrnl2` |
//! | 4 | number of files; then for each file: length of its name (2), name, length of the file (8), inode (8) |
//! | | segments ([`super::segment`]), up to the last 32 bytes |
//! | 32 | BLAKE3 of everything before |
//!
//! Numbers are little-endian.

use super::super::background::while_syncing;
use super::super::disk::{self, folder, inode, is_same, sync_folder};
use super::super::lock::{Access, lock};
use super::super::{Existing, Failed, NewFile};
use super::segment::{Change, Pass, Place, Segment, Segments, WINDOW_BYTES, read_part};
use super::{DescribedFile, FILE_NAME, damaged, explain_existing, is_plain, other_file, same_file};
use crate::context::{Cancelled, Context};
use lcepatch_format::digest::{Digest, Hasher};
use rayon::prelude::*;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) const MAGIC: &[u8; 8] = b"lcejrnl2";
const DIGEST_BYTES: u64 = 32;
/// Longest file name that file systems allow.
const NAME_BYTES_MAX: usize = 255;
const FILES_MAX: u32 = 1 << 16;
/// Number of windows that are processed in parallel while the next ones are listed.
const BATCH: usize = 1 << 7;

/// A file that may be edited in place: it has a single name and is writable.
#[derive(Debug)]
pub struct Editable {
    path: PathBuf,
    name: String,
    bytes: u64,
    inode: u64,
    file: File,
}

impl Editable {
    /// Opens the file at `path`. Returns `None` for files that must be replaced instead: symbolic links, files with several hard links,
    /// and read-only files.
    pub fn open(path: &Path) -> Option<Self> {
        let metadata = path.symlink_metadata().ok()?;
        if has_other_names(&metadata) { None } else { Self::reopen(path).ok()? }
    }

    /// Opens a file that was edited, even if it has several hard links now. Returns `None` for what cannot have been edited: not a
    /// regular file, or a name that is not UTF-8 or too long.
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

    /// Whether this is the file that is open as `open`, and has this length.
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

/// A journal that is being written. If it is dropped before [`NewEditJournal::commit`], it leaves nothing behind.
pub struct NewEditJournal {
    new: NewFile,
    targets: Vec<Editable>,
    hasher: Hasher,
    /// Number of bytes written so far.
    bytes: u64,
    /// Offset of the first segment.
    start: u64,
    /// End of the last segment's range in the edited files.
    last: Place,
}

impl NewEditJournal {
    /// Begins the journal of changes to `targets`, which are locked files of one folder.
    ///
    /// # Errors
    /// [`Failed::Interrupted`] if the folder has a journal already; [`Failed::Io`].
    pub fn create(targets: Vec<Editable>) -> Result<Self, Failed> {
        let beside = targets.first().map_or(Path::new(""), |target| &target.path);
        let path = folder(beside).join(FILE_NAME);
        // The journal contains parts of the files, so nobody may read it who cannot read all of them.
        let permissions = targets
            .iter()
            .filter_map(|target| target.file.metadata().ok())
            .map(|metadata| metadata.permissions())
            .reduce(disk::stricter);
        let new = NewFile::create_like(&path, Existing::Keep, permissions)
            .map_err(|failed| explain_existing(failed, &path))?;
        let mut front = MAGIC.to_vec();
        front.extend((targets.len() as u32).to_le_bytes());
        for target in &targets {
            front.extend((target.name.len() as u16).to_le_bytes());
            front.extend(target.name.as_bytes());
            front.extend(target.bytes.to_le_bytes());
            front.extend(target.inode.to_le_bytes());
        }
        let start = front.len() as u64;
        let mut journal = Self { new, targets, hasher: Hasher::default(), bytes: 0, start, last: (0, 0) };
        journal.write(&front)?;
        Ok(journal)
    }

    /// Appends segments, which must come after all earlier ones in the order of files and offsets.
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

    /// Completes the journal and syncs it to the disk. After that the files may be edited.
    ///
    /// # Errors
    /// As [`NewEditJournal::create`]; then there is no journal.
    pub fn commit(self) -> Result<EditJournal, Failed> {
        let Self { new, targets, hasher, bytes, start, .. } = self;
        let path = new.path().to_owned();
        disk::append(new.file(), &hasher.finish().0).map_err(|e| Failed::io("write", &path, e))?;
        let file = new.file().try_clone().map_err(|e| Failed::io("write", &path, e))?;
        let journal = EditJournal { file, path: path.clone(), targets, segments: start..bytes };
        match new.commit() {
            Ok(()) => Ok(journal),
            // The journal is in place, but no file was edited yet.
            Err(Failed::Unsynced { operation, path, source, .. }) => {
                let _ = disk::remove_file(&journal.path);
                Err(Failed::Io { operation, path, source })
            }
            Err(failed) => Err(explain_existing(failed, &path)),
        }
    }
}

/// A journal on the disk. The edited files are locked as long as it is held.
#[derive(Debug)]
pub struct EditJournal {
    file: File,
    path: PathBuf,
    targets: Vec<Editable>,
    /// The range of the segments in the journal.
    segments: Range<u64>,
}

impl EditJournal {
    /// Reads and verifies the journal that is open as `file`, and locks the files that it describes.
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

    /// The names of the edited files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().map(|target| target.name.as_str())
    }

    /// The journal's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the changes and syncs them to the disk.
    ///
    /// # Errors
    /// [`Failed::OtherFile`] if a file does not contain the old bytes; [`Failed::Io`]; cancellation. Then some changes have been made, and
    /// must be undone.
    pub fn edit<E: From<Failed> + From<Cancelled> + Send>(&self, context: &Context<'_>) -> Result<(), E> {
        context.begin("editing in place", self.bytes());
        self.written_through(|| self.walk(Pass::Edit, context)).map(drop::<u64>)
    }

    /// Checks that each byte to restore has its old or its new value.
    ///
    /// # Errors
    /// [`Failed::OtherFile`], [`Failed::Damaged`], [`Failed::Io`], cancellation.
    pub fn check<E: From<Failed> + From<Cancelled> + Send>(&self, context: &Context<'_>) -> Result<(), E> {
        context.begin("comparing", self.bytes());
        self.walk(Pass::IsEither, context).map(drop::<u64>)
    }

    /// Restores the old bytes, verifies them by reading them back, and removes the journal. Returns the number of changed units. Bytes with
    /// neither their old nor their new value were written by another program and are left alone.
    ///
    /// # Errors
    /// [`Failed::Damaged`], [`Failed::Io`], [`Failed::OtherFile`], cancellation. Then the journal remains.
    pub fn put_back<E: From<Failed> + From<Cancelled> + Send>(self, context: &Context<'_>) -> Result<u64, E> {
        context.begin("putting back", 2 * self.bytes());
        let changes = self.written_through::<_, E>(|| self.walk(Pass::PutBack, context))?;
        self.walk::<E>(Pass::IsOld, context)?;
        self.remove()?;
        Ok(changes)
    }

    /// Removes the journal. The files keep their current content.
    ///
    /// # Errors
    /// [`Failed::Io`] if the journal remains; [`Failed::Unsynced`] if it is removed, but the removal may not be durable.
    pub(super) fn remove(&self) -> Result<(), Failed> {
        disk::remove_file(&self.path).map_err(|e| Failed::io("remove", &self.path, e))?;
        sync_folder(&self.path).map_err(|failed| failed.after_rename(folder(&self.path)))
    }

    /// Size of all segments in bytes.
    fn bytes(&self) -> u64 {
        self.segments.end - self.segments.start
    }

    /// Runs `work`, which writes to the files, with syncs in the background, and returns when everything is on the disk.
    fn written_through<T, E: From<Failed>>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let result = while_syncing(|| self.sync(), work)?;
        self.sync()?;
        Ok(result)
    }

    fn sync(&self) -> Result<(), Failed> {
        let sync = |target: &Editable| disk::sync_data(&target.file).map_err(|e| Failed::io("sync", &target.path, e));
        self.targets.iter().try_for_each(sync)
    }

    /// Processes all segments, in parallel. Returns the number of changes in them.
    fn walk<E: From<Failed> + From<Cancelled> + Send>(&self, pass: Pass, context: &Context<'_>) -> Result<u64, E> {
        let mut changes = 0;
        let mut cursor = Cursor { at: self.segments.start, last: (0, 0) };
        let mut windows = self.windows(&mut cursor)?;
        while !windows.is_empty() {
            let (changed, next) =
                rayon::join(|| self.process::<E>(&windows, pass, context), || self.windows(&mut cursor));
            changes += changed?;
            windows = next?;
        }
        Ok(changes)
    }

    /// Processes these windows, in parallel. Returns the number of changes in them.
    fn process<E: From<Failed> + From<Cancelled> + Send>(
        &self,
        windows: &[Vec<Segment>],
        pass: Pass,
        context: &Context<'_>,
    ) -> Result<u64, E> {
        let changes = AtomicU64::new(0);
        windows.par_iter().try_for_each_init(Buffers::default, |buffers, window| {
            changes.fetch_add(self.window(window, pass, buffers)?, Ordering::Relaxed);
            context.advance(window.iter().map(|segment| segment.bytes() as u64).sum()).map_err(E::from)
        })?;
        Ok(changes.into_inner())
    }

    /// Lists the next windows and advances `cursor` past them. A window is a run of neighbouring segments that are processed together.
    /// No two windows share a byte, because segments ascend and do not overlap.
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

    /// Processes one window. Returns the number of changes in it.
    fn window(&self, segments: &[Segment], pass: Pass, buffers: &mut Buffers) -> Result<u64, Failed> {
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return Ok(0) };
        let target = &self.targets[first.file as usize];
        let Buffers { changes, bytes } = buffers;
        changes.resize((last.end() - first.at) as usize, 0);
        read_part(&self.file, &self.path, changes, first.at, self.segments.end)?;
        let window = first.place.start..last.place.end;
        bytes.resize((window.end - window.start) as usize, 0);
        disk::read_at(&target.file, bytes, window.start).map_err(|e| Failed::io("read", &target.path, e))?;
        for segment in segments {
            let place = (segment.place.start - window.start) as usize..(segment.place.end - window.start) as usize;
            let changes = &changes[(segment.at - first.at) as usize..][..segment.bytes()];
            match segment.change(&mut bytes[place], changes, pass) {
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
    changes: Vec<u8>,
    bytes: Vec<u8>,
}

/// Position in the list of segments.
struct Cursor {
    /// Offset of the next segment in the journal.
    at: u64,
    /// End of the previous segment's range in the edited files.
    last: Place,
}

/// A file in the journal's header.
struct Entry {
    name: String,
    bytes: u64,
    inode: u64,
}

/// The files that the journal describes.
pub(super) fn described_files(file: &File, path: &Path) -> Result<Vec<DescribedFile>, Failed> {
    let (entries, _) = read_front(file, path)?;
    Ok(entries.into_iter().map(|entry| DescribedFile { name: entry.name, inode: entry.inode }).collect())
}

/// Parses the header of a journal. Returns the files, and the range of the segments.
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
            return Err(damaged(path, "it contains a name that is not a plain file name"));
        }
        entries.push(Entry { name, bytes: u64::from_le_bytes(bytes), inode: u64::from_le_bytes(inode) });
    }
    Ok((entries, at..end))
}

/// Verifies the digest of the journal, which follows its first `end` bytes.
fn check_digest(file: &File, path: &Path, end: u64) -> Result<(), Failed> {
    let mut hasher = Hasher::default();
    let mut part = vec![0; WINDOW_BYTES.min(end) as usize];
    for start in (0..end).step_by(WINDOW_BYTES as usize) {
        let part = &mut part[..WINDOW_BYTES.min(end - start) as usize];
        read_part(file, path, part, start, end)?;
        hasher.update(part);
    }
    let mut digest = [0; DIGEST_BYTES as usize];
    read_part(file, path, &mut digest, end, end + DIGEST_BYTES)?;
    if Digest(digest) != hasher.finish() {
        return Err(damaged(path, "its digest does not match its content"));
    }
    Ok(())
}

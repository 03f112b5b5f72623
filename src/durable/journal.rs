//! Edits inside files that happen whole or not at all: what the files held is on disk before the first byte changes.
//!
//! A journal lies beside the files, under one name for each folder, from before the first change until after the last one
//! has been synced. It appears by a rename, so one that is there is whole, and the one process that edits holds a lock on it.
//! Whoever finds it without that lock puts the old bytes back.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `lcejrnl1` |
//! | 4 | number of files; for each: length of its name (2), name, length of the file (8) |
//! | | segments, until 32 bytes are left |
//! | 32 | SHA-256 of all before |
//!
//! A segment holds the changes within 65536 units of 1, 2, 4 or 8 bytes: where the units begin in the file (8), which file (4), number
//! of changes less one (2), bytes of a unit (2); then for all changes the unit (2 each), the old and the new bytes. Numbers are
//! little-endian. The content is not trusted: whoever made it can change bytes of files beside it, which they could do anyway.

use super::at::{read_at, write_at};
use super::behind::while_syncing;
use super::replace::{folder, sync_folder};
use super::{Existing, Failed, NewFile};
use crate::context::{Cancelled, Context};
use crate::digest::{Digest, Hasher};
use rayon::prelude::*;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The name of a journal, in the folder of the files that it is about.
pub const FILE_NAME: &str = ".lcepatch-journal";

const MAGIC: &[u8; 8] = b"lcejrnl1";
const DIGEST_BYTES: u64 = 32;
const SEGMENT_UNITS: usize = 1 << 16;
const SEGMENT_HEADER_BYTES: usize = 16;
/// What file systems allow.
const NAME_BYTES_MAX: usize = 255;
const FILES_MAX: u32 = 1 << 16;
/// Bytes of a file that are read, changed and written at once.
const WINDOW_BYTES: u64 = 1 << 20;
/// Windows that are listed while as many are worked on.
const BATCH: usize = 1 << 7;

/// A file that may be edited in place: it has this one name, and can be written to.
#[derive(Debug)]
pub struct Editable {
    path: PathBuf,
    name: String,
    bytes: u64,
    file: File,
}

impl Editable {
    /// None for what should rather be replaced: a link, a file that has other names, one that is read-only.
    pub fn open(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str().filter(|name| name.len() <= NAME_BYTES_MAX)?.to_owned();
        let metadata = path.symlink_metadata().ok()?;
        if !metadata.is_file() || has_other_names(&metadata) {
            return None;
        }
        let file = OpenOptions::new().read(true).write(true).open(path).ok()?;
        Some(Self { path: path.to_owned(), name, bytes: metadata.len(), file })
    }

    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.bytes
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

/// A journal in the making. Dropped before [`NewJournal::commit`], it leaves nothing behind.
pub struct NewJournal {
    new: NewFile,
    /// Another handle of the same open file, which keeps the lock.
    file: File,
    targets: Vec<Editable>,
    written: Mutex<Written>,
}

struct Written {
    hasher: Hasher,
    bytes: u64,
    start: u64,
}

impl NewJournal {
    /// Begins the journal of changes to `targets`, which are files of one folder.
    ///
    /// # Errors
    /// [`Failed::InUse`], [`Failed::Interrupted`] where there is one already; [`Failed::Io`].
    pub fn create(targets: Vec<Editable>) -> Result<Self, Failed> {
        let beside = targets.first().map_or(Path::new(""), |target| &target.path);
        let path = folder(beside).join(FILE_NAME);
        let new = NewFile::create(&path, Existing::Keep).map_err(|failed| there(failed, beside))?;
        new.file().try_lock().map_err(|error| locked(error, &path))?;
        let file = new.file().try_clone().map_err(|e| Failed::io("create", &path, e))?;
        let mut front = MAGIC.to_vec();
        front.extend((targets.len() as u32).to_le_bytes());
        for target in &targets {
            front.extend((target.name.len() as u16).to_le_bytes());
            front.extend(target.name.as_bytes());
            front.extend(target.bytes.to_le_bytes());
        }
        let written = Mutex::new(Written { hasher: Hasher::sha256(), bytes: 0, start: front.len() as u64 });
        let journal = Self { new, file, targets, written };
        journal.append(&front)?;
        Ok(journal)
    }

    /// Notes that units of `width` bytes at `offset` of target `target` will change: `before` is what they all hold, and each of
    /// `changes` is a unit of them, ascending, and its new bits.
    ///
    /// # Errors
    /// [`Failed::Io`].
    ///
    /// # Panics
    /// When `width` is not 1, 2, 4 or 8, or a unit lies outside `before`.
    pub fn note(
        &self,
        target: usize,
        offset: u64,
        width: usize,
        before: &[u8],
        changes: &[(u32, u64)],
    ) -> Result<(), Failed> {
        let segments = match width {
            1 => segments::<1>,
            2 => segments::<2>,
            4 => segments::<4>,
            8 => segments::<8>,
            _ => panic!("units of {width} bytes"),
        };
        self.append(&segments(target, offset, before, changes))
    }

    fn append(&self, bytes: &[u8]) -> Result<(), Failed> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        self.new.file().write_all(bytes).map_err(|e| Failed::io("write", self.new.path(), e))?;
        written.hasher.update(bytes);
        written.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Puts the journal on the disk. From now on the files may change.
    ///
    /// # Errors
    /// As [`NewJournal::create`].
    pub fn commit(self) -> Result<Journal, Failed> {
        let Self { new, file, targets, written } = self;
        let Written { hasher, bytes, start } = written.into_inner().unwrap_or_else(PoisonError::into_inner);
        let path = new.path().to_owned();
        new.file().write_all(&hasher.finish().0).map_err(|e| Failed::io("write", &path, e))?;
        new.commit().map_err(|failed| {
            if !matches!(failed, Failed::Exists { .. }) {
                // It may be in its place, and nothing has happened that it would have to take back.
                let _ = std::fs::remove_file(&path);
            }
            there(failed, targets.first().map_or(&path, |target| &target.path))
        })?;
        Ok(Journal { file, path, targets, segments: start..bytes })
    }
}

/// The segments of changes in `before`, which is at `offset`.
fn segments<const WIDTH: usize>(target: usize, offset: u64, before: &[u8], changes: &[(u32, u64)]) -> Vec<u8> {
    let before = before.as_chunks::<WIDTH>().0;
    let segment_of = |change: &(u32, u64)| change.0 as usize / SEGMENT_UNITS;
    let mut out = Vec::new();
    let mut real: Vec<(u16, [u8; WIDTH], [u8; WIDTH])> = Vec::new();
    for changes in changes.chunk_by(|a, b| segment_of(a) == segment_of(b)) {
        real.clear();
        real.extend(changes.iter().filter_map(|(unit, bits)| {
            let (old, mut new) = (before[*unit as usize], [0; WIDTH]);
            new.copy_from_slice(&bits.to_le_bytes()[..WIDTH]);
            (old != new).then_some((*unit as u16, old, new))
        }));
        if real.is_empty() {
            continue;
        }
        out.extend((offset + (segment_of(&changes[0]) * SEGMENT_UNITS * WIDTH) as u64).to_le_bytes());
        out.extend((target as u32).to_le_bytes());
        out.extend(((real.len() - 1) as u16).to_le_bytes());
        out.extend((WIDTH as u16).to_le_bytes());
        real.iter().for_each(|(unit, _, _)| out.extend(unit.to_le_bytes()));
        real.iter().for_each(|(_, old, _)| out.extend(old));
        real.iter().for_each(|(_, _, new)| out.extend(new));
    }
    out
}

/// A journal in its place, and the lock on it.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    targets: Vec<Editable>,
    /// Where the segments are.
    segments: Range<u64>,
}

/// What is done to the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Edit,
    /// Nothing; whether every byte is an old or a new one.
    Check,
    PutBack,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    offset: u64,
    target: usize,
    changes: usize,
    width: usize,
    /// Where what follows its header is.
    at: u64,
}

impl Segment {
    fn bytes(&self) -> usize {
        self.changes * (2 + 2 * self.width)
    }

    /// Where in the file `unit` is.
    fn place(&self, unit: [u8; 2]) -> Option<Range<u64>> {
        let start = self.offset.checked_add(u64::from(u16::from_le_bytes(unit)) * self.width as u64)?;
        Some(start..start.checked_add(self.width as u64)?)
    }
}

impl Journal {
    /// The journal in the folder of `file`, if there is one, whole, for files of the lengths that it says.
    ///
    /// # Errors
    /// [`Failed::InUse`], [`Failed::Damaged`], [`Failed::OtherFile`], [`Failed::Io`].
    pub fn find(file: &Path) -> Result<Option<Self>, Failed> {
        let path = folder(file).join(FILE_NAME);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Failed::io("open", &path, e)),
        };
        file.try_lock().map_err(|error| locked(error, &path))?;
        if !is_at(&file, &path) {
            // Whoever held the lock has finished.
            return Ok(None);
        }
        let (names, segments) = read_front(&file, &path)?;
        check_digest(&file, &path, segments.end)?;
        let mut targets = Vec::new();
        for (name, bytes) in names {
            let target = path.with_file_name(name);
            let editable = Editable::open(&target).filter(|editable| editable.bytes == bytes);
            targets.push(editable.ok_or_else(|| Failed::OtherFile { path: target, journal: path.clone() })?);
        }
        Ok(Some(Self { file, path, targets, segments }))
    }

    /// The names of the files that it is about.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().map(|target| target.name.as_str())
    }

    /// Makes the changes, which are on the disk then.
    ///
    /// # Errors
    /// [`Failed::OtherFile`] where the files do not hold the old bytes, [`Failed::Io`], cancellation; then some changes are
    /// made, and are to be taken back.
    pub fn edit<E: From<Failed> + From<Cancelled> + Send>(&self, context: &Context<'_>) -> Result<(), E> {
        context.begin("editing in place", self.segments.end - self.segments.start);
        self.written_through(|| self.walk(Pass::Edit, context)).map(drop::<u64>)
    }

    /// Checks that each byte to put back is what it was before the edit, or what it would have been after it.
    ///
    /// # Errors
    /// [`Failed::OtherFile`], [`Failed::Damaged`], [`Failed::Io`], cancellation.
    pub fn check<E: From<Failed> + From<Cancelled> + Send>(&self, context: &Context<'_>) -> Result<(), E> {
        context.begin("comparing", self.segments.end - self.segments.start);
        self.walk(Pass::Check, context).map(drop::<u64>)
    }

    /// Puts the old bytes back, and removes the journal; returns how many units changed.
    ///
    /// # Errors
    /// [`Failed::Damaged`], [`Failed::Io`], cancellation; the journal stays then.
    pub fn put_back<E: From<Failed> + From<Cancelled> + Send>(self, context: &Context<'_>) -> Result<u64, E> {
        context.begin("putting back", self.segments.end - self.segments.start);
        let changes = self.written_through::<_, E>(|| self.walk(Pass::PutBack, context))?;
        self.finish()?;
        Ok(changes)
    }

    /// Removes the journal: the files stay as they are.
    ///
    /// # Errors
    /// [`Failed::Io`].
    pub fn finish(self) -> Result<(), Failed> {
        std::fs::remove_file(&self.path).map_err(|e| Failed::io("remove", &self.path, e))?;
        sync_folder(&self.path)
    }

    /// Does `work`, while another thread has the disk write what is written, until all is.
    fn written_through<T, E: From<Failed>>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let sync = || {
            let mut targets = self.targets.iter();
            targets.try_for_each(|target| target.file.sync_data().map_err(|e| Failed::io("sync", &target.path, e)))
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
                let bytes = window.iter().map(|segment| SEGMENT_HEADER_BYTES + segment.bytes()).sum::<usize>();
                context.advance(bytes as u64).map_err(E::from)
            })
        };
        let mut at = self.segments.start;
        let mut windows = self.windows(&mut at)?;
        while !windows.is_empty() {
            let (done, next) = rayon::join(|| work(&windows), || self.windows(&mut at));
            done?;
            windows = next?;
        }
        Ok(changes.into_inner())
    }

    /// The next windows from `at` on, which moves behind them: segments that are worked on together.
    fn windows(&self, at: &mut u64) -> Result<Vec<Vec<Segment>>, Failed> {
        let mut windows: Vec<Vec<Segment>> = Vec::new();
        while *at < self.segments.end && windows.len() < BATCH {
            let segment = self.segment(*at)?;
            *at = segment.at + segment.bytes() as u64;
            match windows.last_mut().filter(|window| belongs(window, &segment)) {
                Some(window) => window.push(segment),
                None => windows.push(vec![segment]),
            }
        }
        Ok(windows)
    }

    fn segment(&self, at: u64) -> Result<Segment, Failed> {
        let mut header = [0; SEGMENT_HEADER_BYTES];
        read_part(&self.file, &self.path, &mut header, at, self.segments.end)?;
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = header;
        let segment = Segment {
            offset: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            target: u32::from_le_bytes([i, j, k, l]) as usize,
            changes: usize::from(u16::from_le_bytes([m, n])) + 1,
            width: usize::from(u16::from_le_bytes([o, p])),
            at: at + SEGMENT_HEADER_BYTES as u64,
        };
        if segment.target >= self.targets.len() || ![1, 2, 4, 8].contains(&segment.width) {
            return Err(self.damaged("a segment is not valid"));
        }
        Ok(segment)
    }

    /// Works on segments that lie side by side.
    fn window(&self, segments: &[Segment], pass: Pass, buffers: &mut Buffers) -> Result<u64, Failed> {
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return Ok(0) };
        let target = &self.targets[first.target];
        let Buffers { notes, bytes } = buffers;
        notes.resize((last.at - first.at) as usize + last.bytes(), 0);
        read_part(&self.file, &self.path, notes, first.at, self.segments.end)?;
        let notes_of = |segment: &Segment| {
            let start = (segment.at - first.at) as usize;
            let (units, values) = notes[start..start + segment.bytes()].split_at(2 * segment.changes);
            let (old, new) = values.split_at(segment.changes * segment.width);
            (units.as_chunks::<2>().0, old, new)
        };
        let invalid = || self.damaged("a change is outside of its file");
        let edge = |segment: &Segment, unit: fn(&[[u8; 2]]) -> Option<&[u8; 2]>| {
            unit(notes_of(segment).0).and_then(|unit| segment.place(*unit)).ok_or_else(invalid)
        };
        let window = edge(first, |units| units.first())?.start..edge(last, |units| units.last())?.end;
        if window.end > target.bytes || window.start >= window.end || window.end - window.start > WINDOW_BYTES {
            return Err(invalid());
        }
        bytes.resize((window.end - window.start) as usize, 0);
        read_at(&target.file, bytes, window.start).map_err(|e| Failed::io("read", &target.path, e))?;
        for segment in segments {
            let change = match segment.width {
                1 => change::<1>,
                2 => change::<2>,
                4 => change::<4>,
                _ => change::<8>,
            };
            // Segments begin in the window, but for the first, of which only the changes do.
            let offset = segment.offset.wrapping_sub(window.start);
            match change(bytes, offset, notes_of(segment), pass) {
                Change::Made => {}
                Change::Outside => return Err(invalid()),
                Change::OtherBytes => {
                    return Err(Failed::OtherFile { path: target.path.clone(), journal: self.path.clone() });
                }
            }
        }
        if pass != Pass::Check {
            write_at(&target.file, bytes, window.start).map_err(|e| Failed::io("write", &target.path, e))?;
        }
        Ok(segments.iter().map(|segment| segment.changes as u64).sum())
    }

    fn damaged(&self, reason: &'static str) -> Failed {
        Failed::Damaged { path: self.path.clone(), reason }
    }
}

#[derive(Default)]
struct Buffers {
    notes: Vec<u8>,
    bytes: Vec<u8>,
}

/// How the changes of a segment went.
enum Change {
    Made,
    Outside,
    OtherBytes,
}

/// Makes the changes of a segment in `bytes`, from which it begins `offset` bytes on, modulo 2^64.
fn change<const WIDTH: usize>(
    bytes: &mut [u8],
    offset: u64,
    (units, old, new): (&[[u8; 2]], &[u8], &[u8]),
    pass: Pass,
) -> Change {
    let values = old.as_chunks::<WIDTH>().0.iter().zip(new.as_chunks::<WIDTH>().0);
    for (unit, (old, new)) in units.iter().zip(values) {
        let start = offset.wrapping_add(u64::from(u16::from_le_bytes(*unit)) * WIDTH as u64);
        let here = usize::try_from(start).ok().and_then(|start| bytes.get_mut(start..)?.first_chunk_mut::<WIDTH>());
        let Some(here) = here else { return Change::Outside };
        let as_noted = match pass {
            Pass::Edit => here == old,
            // A disk may have written some of the bytes of a unit.
            Pass::Check => here.iter().zip(old).zip(new).all(|((here, old), new)| here == old || here == new),
            Pass::PutBack => true,
        };
        if !as_noted {
            return Change::OtherBytes;
        }
        match pass {
            Pass::Edit => *here = *new,
            Pass::Check => {}
            Pass::PutBack => *here = *old,
        }
    }
    Change::Made
}

/// Whether `segment` lies behind those of `window`, in its file as in its journal, and near enough.
fn belongs(window: &[Segment], segment: &Segment) -> bool {
    let (Some(first), Some(last)) = (window.first(), window.last()) else { return false };
    let bytes = (SEGMENT_UNITS * segment.width) as u64;
    segment.target == first.target
        && segment.width == first.width
        && last.offset.saturating_add(bytes) <= segment.offset
        && segment.offset.saturating_add(bytes) - first.offset <= WINDOW_BYTES
}

/// Refuses a file that is being edited in place, or of which such an edit was interrupted.
///
/// # Errors
/// [`Failed::InUse`], [`Failed::Interrupted`].
pub fn refuse_unfinished(file: &Path) -> Result<(), Failed> {
    // Whatever way led here, the journal is where the file is.
    let Ok(file) = file.canonicalize() else { return Ok(()) };
    let path = folder(&file).join(FILE_NAME);
    let Ok(journal) = File::open(&path) else { return Ok(()) };
    // One that can not be read may be about this file.
    let names = read_front(&journal, &path).map(|(names, _)| names).ok();
    if names.is_some_and(|names| !names.iter().any(|(name, _)| file.file_name() == Some(name.as_ref()))) {
        return Ok(());
    }
    Err(unfinished(&journal, file))
}

/// What an existing journal means for `path`.
fn unfinished(journal: &File, path: PathBuf) -> Failed {
    match journal.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Failed::InUse { path },
        _ => Failed::Interrupted { path },
    }
}

/// The same failure, but for a journal that is there already.
fn there(failed: Failed, target: &Path) -> Failed {
    match failed {
        Failed::Exists { path } => match File::open(&path) {
            Ok(journal) => unfinished(&journal, target.to_owned()),
            Err(e) => Failed::io("open", &path, e),
        },
        failed => failed,
    }
}

fn locked(error: TryLockError, path: &Path) -> Failed {
    match error {
        TryLockError::WouldBlock => Failed::InUse { path: path.to_owned() },
        TryLockError::Error(source) => Failed::io("lock", path, source),
    }
}

/// Whether the open `file` is the one at `path`, and not one that was removed meanwhile.
fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        matches!((file.metadata(), path.metadata()), (Ok(a), Ok(b)) if (a.dev(), a.ino()) == (b.dev(), b.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}

/// Names of files, and their lengths.
type Names = Vec<(String, u64)>;

/// The files that a journal is about, and where its segments are.
fn read_front(file: &File, path: &Path) -> Result<(Names, Range<u64>), Failed> {
    let damaged = |reason| Failed::Damaged { path: path.to_owned(), reason };
    let bytes = file.metadata().map_err(|e| Failed::io("read", path, e))?.len();
    let end = bytes.checked_sub(DIGEST_BYTES).ok_or_else(|| damaged("it is too short"))?;
    let mut at = 0;
    let mut take = |part: &mut [u8]| {
        read_part(file, path, part, at, end)?;
        at += part.len() as u64;
        Ok::<(), Failed>(())
    };
    let (mut magic, mut count) = ([0; 8], [0; 4]);
    take(&mut magic)?;
    if magic != *MAGIC {
        return Err(damaged("it is none of this version"));
    }
    take(&mut count)?;
    if u32::from_le_bytes(count) > FILES_MAX {
        return Err(damaged("it names too many files"));
    }
    let mut names = Vec::new();
    for _ in 0..u32::from_le_bytes(count) {
        let (mut length, mut bytes) = ([0; 2], [0; 8]);
        take(&mut length)?;
        let length = usize::from(u16::from_le_bytes(length));
        if length > NAME_BYTES_MAX {
            return Err(damaged("a name is too long"));
        }
        let mut name = vec![0; length];
        take(&mut name)?;
        take(&mut bytes)?;
        let name = String::from_utf8(name).map_err(|_| damaged("a name is not UTF-8"))?;
        // Nothing in another folder.
        let plain = Path::new(&name).components().eq([Component::Normal(name.as_ref())]);
        if !plain || name == FILE_NAME {
            return Err(damaged("a name is no plain file name"));
        }
        names.push((name, u64::from_le_bytes(bytes)));
    }
    Ok((names, at..end))
}

/// Reads a part of a journal of which the content ends at `end`.
fn read_part(file: &File, path: &Path, part: &mut [u8], at: u64, end: u64) -> Result<(), Failed> {
    if at.checked_add(part.len() as u64).is_none_or(|part_end| part_end > end) {
        return Err(Failed::Damaged { path: path.to_owned(), reason: "it ends too early" });
    }
    read_at(file, part, at).map_err(|e| Failed::io("read", path, e))
}

fn check_digest(file: &File, path: &Path, end: u64) -> Result<(), Failed> {
    let mut hasher = Hasher::sha256();
    let mut part = vec![0; WINDOW_BYTES.min(end) as usize];
    for start in (0..end).step_by(WINDOW_BYTES as usize) {
        let part = &mut part[..WINDOW_BYTES.min(end - start) as usize];
        read_part(file, path, part, start, end)?;
        hasher.update(part);
    }
    let mut digest = [0; DIGEST_BYTES as usize];
    read_part(file, path, &mut digest, end, end + DIGEST_BYTES)?;
    if Digest(digest) != hasher.finish() {
        return Err(Failed::Damaged { path: path.to_owned(), reason: "its digest is wrong" });
    }
    Ok(())
}

#[cfg(test)]
mod tests;

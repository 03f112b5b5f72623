//! Results on disk: a new file, or a new directory.

use super::carry::{carry_along, result_root};
use super::part::{Output, Rewritten, rewrite_part};
use super::plan::Plan;
use super::rewrite::Rewrite;
use crate::checkpoint::scan::windows;
use crate::checkpoint::{Checkpoint, Layout, Tensor, WeightFile};
use crate::context::Context;
use crate::digest::Digest;
use crate::durable::{Existing, Failed, NewDirectory, NewFile, set_len, write_at, write_file};
use crate::error::{Error, Refusal};
use crate::patch::Patch;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    /// The number of edited elements.
    pub edited: u64,
    /// The number of tensors with an edited element.
    pub tensors: usize,
    /// Whether the digest of the bytes that were read back from the result's files is the one that the patch declares. Only one patch at
    /// alpha 1, after a full check, declares it; for anything else this is false.
    pub verified: bool,
    /// The BLAKE3 digests of the edited tensors, by name, of the bytes that were read back.
    pub digests: BTreeMap<String, Digest>,
    /// Paths in the base's directory that were not copied, because they hold the base's weights in another format or a second time.
    pub left_behind: Vec<String>,
    /// Paths in the base's directory that were not copied, because they could not be read.
    pub unreadable: Vec<String>,
}

/// A result that is complete and was read back, but is not yet in its place.
#[derive(Debug)]
pub struct Finished<'a> {
    /// The result.
    pub result: &'a Checkpoint,
    /// What was written.
    pub applied: &'a Applied,
    /// The patch that leads from the result back to the base, if it was asked for.
    pub undo: Option<Patch>,
}

/// Files beside the weights, such as the log, that change together with the weights. By name.
#[derive(Debug, Default)]
pub struct SideFiles {
    /// Files to create or replace, with their bytes.
    pub write: Vec<(String, Vec<u8>)>,
    /// Files to remove, if they exist.
    pub remove: Vec<String>,
}

/// Writes the result to `path`: a file for a base that is a file, a model directory otherwise. `finish` receives the complete result
/// before it is put in its place, can refuse it, and returns the files that go beside it in a directory. For an undo patch, `undo_of` is
/// the plan that `rewrite` carries out.
///
/// The base is not touched. After an error, `path` is what it was before, unless the error [is in place](Failed::is_in_place).
///
/// # Errors
/// [`Failed`] for outputs; [`Refusal`] for numbers and digests; what decoding and `finish` return.
pub fn to_path(
    rewrite: &impl Rewrite,
    undo_of: Option<&Plan<'_>>,
    path: &Path,
    existing: Existing,
    finish: impl FnOnce(Finished<'_>) -> Result<SideFiles, Error>,
    context: &Context<'_>,
) -> Result<Applied, Error> {
    let base = rewrite.base();
    if same_file(path, base.path()) {
        return Err(Refusal::SameFile { path: path.to_owned() }.into());
    }
    context.begin("applying", base.bytes());
    if base.layout() == &Layout::File {
        let new = NewFile::create(path, existing)?;
        let (applied, undo) = write_weights(rewrite, undo_of, &[(0, &new)], context)?;
        let result = Checkpoint::open_files(path, Layout::File, &[new.temporary_path().to_owned()])?;
        finish(Finished { result: &result, applied: &applied, undo })?;
        new.commit()?;
        return Ok(applied);
    }
    let new = NewDirectory::create(path)?;
    let create = |file: &WeightFile| NewFile::create(&new.temporary_path().join(file.name()), Existing::Keep);
    let files = base.files().iter().map(create).collect::<Result<Vec<_>, Failed>>()?;
    let outputs: Vec<(usize, &NewFile)> = files.iter().enumerate().collect();
    let (mut applied, undo) = write_weights(rewrite, undo_of, &outputs, context)?;
    files.into_iter().try_for_each(NewFile::commit).map_err(|failed| failed.inside(path))?;
    let not_carried = carry_along(base, None, new.temporary_path())?;
    (applied.left_behind, applied.unreadable) = (not_carried.weights, not_carried.unreadable);
    let result = Checkpoint::open(result_root(base, new.temporary_path()))?;
    let SideFiles { write, .. } = finish(Finished { result: &result, applied: &applied, undo })?;
    for (name, bytes) in write {
        let written = write_file(&new.temporary_path().join(name), &bytes, Existing::Replace);
        written.map_err(|failed| failed.inside(path))?;
    }
    new.commit()?;
    Ok(applied)
}

/// Writes the edited weight files. `outputs` are the indices of the base's files, and where each goes. Reads back every edited tensor, and
/// compares it with what was written and with what the patch declares. With `undo_of` it also returns the undo patch.
pub(super) fn write_weights(
    rewrite: &impl Rewrite,
    undo_of: Option<&Plan<'_>>,
    outputs: &[(usize, &NewFile)],
    context: &Context<'_>,
) -> Result<(Applied, Option<Patch>), Error> {
    let base = rewrite.base();
    let written = write_and_read_back(rewrite, undo_of, outputs, context);
    // If the base changed meanwhile, then this is the error to report, whatever failed because of it.
    base.unchanged()?;
    written
}

fn write_and_read_back(
    rewrite: &impl Rewrite,
    undo_of: Option<&Plan<'_>>,
    outputs: &[(usize, &NewFile)],
    context: &Context<'_>,
) -> Result<(Applied, Option<Patch>), Error> {
    let base = rewrite.base();
    let mut rewritten = Rewritten::default();
    for (index, new) in outputs {
        let file = &base.files()[*index];
        set_len(new.file(), file.bytes()).map_err(|e| Failed::io("write", new.path(), e))?;
        let work = work(rewrite, file, *index);
        let each = |work: &Work<'_>| match work {
            Work::Copy(range) => copy(file, range, new, context).map(|()| None),
            Work::Edit(tensor, part) => {
                let output = Output::File(new);
                rewrite_part(rewrite, *tensor, part.clone(), output, undo_of.is_some(), context).map(Some)
            }
        };
        let done = new.while_writing(|| work.par_iter().map(each).collect::<Result<Vec<_>, Error>>())?;
        rewritten.add(work.iter().zip(done).filter_map(|(work, part)| match work {
            Work::Edit(tensor, _) => Some((tensor.info.name.as_str(), part?)),
            Work::Copy(_) => None,
        }));
    }
    let results = outputs
        .iter()
        .map(|(index, new)| base.files()[*index].with_layout_of(new.temporary_path(), new.file()))
        .collect::<Result<Vec<_>, _>>()?;
    for ((index, _), result) in outputs.iter().zip(&results) {
        rewritten.read_back(&base.files()[*index], result, context)?;
    }
    let undo = undo_of.map(|plan| plan.undo(std::mem::take(&mut rewritten.undo), &rewritten.digests)).transpose()?;
    let mut applied = rewritten.applied();
    applied.verified = rewrite.compare_declared(&applied.digests)?;
    Ok((applied, undo))
}

/// A part of a file: bytes to copy, or elements of a tensor to edit.
enum Work<'a> {
    Copy(Range<u64>),
    Edit(Tensor<'a>, Range<u64>),
}

/// Divides `file`, the base's file number `index`, into parts. In order, they cover every byte once.
fn work<'a>(rewrite: &impl Rewrite, file: &'a WeightFile, index: usize) -> Vec<Work<'a>> {
    let mut work = Vec::new();
    let mut copied = 0;
    for info in file.tensors() {
        if rewrite.changes(&info.name) {
            let tensor = Tensor { file, file_index: index, info };
            work.push(Work::Copy(copied..info.range().start));
            work.extend(rewrite.parts(tensor).into_iter().map(|part| Work::Edit(tensor, part)));
            copied = info.range().end;
        }
    }
    work.push(Work::Copy(copied..file.bytes()));
    work.retain(|work| !matches!(work, Work::Copy(range) if range.is_empty()));
    work
}

/// Copies a range of bytes from file to file. The system can do this without passing them through this process.
fn copy(file: &WeightFile, range: &Range<u64>, new: &NewFile, context: &Context<'_>) -> Result<(), Error> {
    const PART_BYTES: u64 = 64 << 20;
    const BLOCK_BYTES: u64 = 1 << 16;
    let failed = |e| Failed::io("write", new.path(), e);
    if file.file().is_none() {
        // What is elsewhere, or in memory, has no handle.
        for part in windows(range.clone(), 1 << 22) {
            let bytes = file.map().read(part.clone()).map_err(|e| Error::io("read", file.path(), e))?;
            write_at(new.file(), &bytes, part.start).map_err(failed)?;
            context.advance(bytes.len() as u64)?;
        }
        return Ok(());
    }
    // Each copy needs handles of its own, since a handle has one position for all threads.
    let mut from = file.reopen()?;
    let mut to = std::fs::OpenOptions::new().write(true).open(new.temporary_path()).map_err(failed)?;
    from.seek(SeekFrom::Start(range.start)).map_err(|e| Error::io("read", file.path(), e))?;
    to.seek(SeekFrom::Start(range.start)).map_err(failed)?;
    // File systems that can share blocks between files (btrfs, XFS) do so from where a block begins.
    let aligned = range.start.next_multiple_of(BLOCK_BYTES).min(range.end);
    for part in std::iter::once(range.start..aligned).chain(windows(aligned..range.end, PART_BYTES)) {
        let bytes = part.end - part.start;
        if std::io::copy(&mut from.by_ref().take(bytes), &mut to).map_err(failed)? != bytes {
            return Err(Error::io("read", file.path(), std::io::ErrorKind::UnexpectedEof.into()));
        }
        context.advance(bytes)?;
    }
    Ok(())
}

/// Whether two paths lead to the same file or directory, if both exist.
pub(super) fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

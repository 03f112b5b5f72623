//! Results on disk: a new file, or a new directory.

use super::carry::{carry_along, result_root};
use super::part::{Output, Rewritten, digests_by, rewrite_part};
use super::plan::Plan;
use super::rewrite::Rewrite;
use crate::checkpoint::scan::windows;
use crate::checkpoint::{Checkpoint, Layout, Tensor, WeightFile};
use crate::context::Context;
use crate::digest::Digest;
use crate::durable::{Existing, Failed, NewDirectory, NewFile, set_len, write_file};
use crate::error::{Error, Refusal};
use crate::patch::Patch;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Elements that were edited.
    pub edited: u64,
    /// Tensors that they are in.
    pub tensors: usize,
    /// Whether the result's digest, of the bytes that were read back from its files, is the one that the patch declares (which one patch
    /// at alpha 1 does, after a full check).
    pub verified: bool,
    /// The digests of the tensors that were edited, by name and by BLAKE3, of the bytes that were read back.
    pub digests: BTreeMap<String, Digest>,
    /// What of the base's directory was left behind because it holds the base's weights, in another format or again: paths in it.
    pub left_behind: Vec<String>,
    /// What of the base's directory was left behind because it could not be read: paths in it.
    pub unreadable: Vec<String>,
}

/// A result that is complete and was read back, but is not yet final.
#[derive(Debug)]
pub struct Finished<'a> {
    /// The result.
    pub result: &'a Checkpoint,
    /// What was written.
    pub applied: &'a Applied,
    /// The patch that leads from it back to the base, if that was asked for.
    pub undo: Option<Patch>,
}

/// Files beside the weights that change together with them, by name.
#[derive(Debug, Default)]
pub struct Beside {
    /// New files, which take the place of those of their names.
    pub write: Vec<(String, Vec<u8>)>,
    /// Files that go, if they are there.
    pub remove: Vec<String>,
}

/// Writes the result to `path`: a file for a base that is a file, a model directory otherwise. `finish` gets the finished result before
/// it is put in its place, and says what goes beside it in a directory. With `undo_of`, which is what `rewrite` is, it also gets the patch
/// that leads back.
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
    finish: impl FnOnce(Finished<'_>) -> Result<Beside, Error>,
    context: &Context<'_>,
) -> Result<Applied, Error> {
    let base = rewrite.base();
    if same_file(path, &base.path) {
        return Err(Refusal::SameFile { path: path.to_owned() }.into());
    }
    context.begin("applying", base.bytes());
    if base.layout == Layout::File {
        let new = NewFile::create(path, existing)?;
        let (applied, undo) = write_weights(rewrite, undo_of, &[(0, &new)], context)?;
        let result = Checkpoint::open_files(path, Layout::File, &[new.temporary_path().to_owned()])?;
        finish(Finished { result: &result, applied: &applied, undo })?;
        new.commit()?;
        return Ok(applied);
    }
    let new = NewDirectory::create(path)?;
    let weights = base.files.iter().map(|file| new.temporary_path().join(file.name()));
    let files = weights.map(|path| NewFile::create(&path, Existing::Keep)).collect::<Result<Vec<_>, Failed>>()?;
    let outputs: Vec<(usize, &NewFile)> = files.iter().enumerate().collect();
    let (mut applied, undo) = write_weights(rewrite, undo_of, &outputs, context)?;
    files.into_iter().try_for_each(NewFile::commit).map_err(|failed| failed.inside(path))?;
    let not_carried = carry_along(base, new.temporary_path())?;
    (applied.left_behind, applied.unreadable) = (not_carried.weights, not_carried.unreadable);
    let result = Checkpoint::open(result_root(base, new.temporary_path()))?;
    let Beside { write, .. } = finish(Finished { result: &result, applied: &applied, undo })?;
    for (name, bytes) in write {
        let written = write_file(&new.temporary_path().join(name), &bytes, Existing::Replace);
        written.map_err(|failed| failed.inside(path))?;
    }
    new.commit()?;
    Ok(applied)
}

/// Writes weight files of the base, by index, with the edits; reads back what was edited, and compares it with what was written and with
/// what was declared. With `undo_of` also returns the patch that leads back.
pub(super) fn write_weights(
    rewrite: &impl Rewrite,
    undo_of: Option<&Plan<'_>>,
    outputs: &[(usize, &NewFile)],
    context: &Context<'_>,
) -> Result<(Applied, Option<Patch>), Error> {
    let base = rewrite.base();
    let written = write_and_read_back(rewrite, undo_of, outputs, context);
    // What failed on a file that changed failed because it did.
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
        let file = &base.files[*index];
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
        .map(|(index, new)| base.files[*index].with_layout_of(new.temporary_path(), new.file()))
        .collect::<Result<Vec<_>, _>>()?;
    for ((index, _), result) in outputs.iter().zip(&results) {
        rewritten.read_back(&base.files[*index], result, context)?;
    }
    let result = Checkpoint::of_files(&base.path, base.layout.clone(), results)?;
    let undo = undo_of.map(|plan| plan.undo(std::mem::take(&mut rewritten.undo), &rewritten.digests)).transpose()?;
    let mut applied = rewritten.applied();
    if let Some(hash) = rewrite.declared() {
        rewrite.compare_declared(&digests_by(hash, &applied.digests, &result, context)?)?;
        applied.verified = true;
    }
    Ok((applied, undo))
}

/// A part of a file: bytes to copy, or elements of a tensor to edit.
enum Work<'a> {
    Copy(Range<u64>),
    Edit(Tensor<'a>, Range<u64>),
}

/// The parts of `file`, which is that `index` of the base, in order; together they are the whole file.
fn work<'a>(rewrite: &impl Rewrite, file: &'a WeightFile, index: usize) -> Vec<Work<'a>> {
    let mut work = Vec::new();
    let mut copied = 0;
    for info in &file.tensors {
        if rewrite.changes(&info.name) {
            let tensor = Tensor { file, file_index: index, info };
            work.push(Work::Copy(copied..info.range.start));
            work.extend(rewrite.parts(tensor).into_iter().map(|part| Work::Edit(tensor, part)));
            copied = info.range.end;
        }
    }
    work.push(Work::Copy(copied..file.bytes()));
    work.retain(|work| !matches!(work, Work::Copy(range) if range.is_empty()));
    work
}

/// Copies bytes from file to file; the system may do it without passing them through this process.
fn copy(file: &WeightFile, range: &Range<u64>, new: &NewFile, context: &Context<'_>) -> Result<(), Error> {
    const PART_BYTES: u64 = 64 << 20;
    let failed = |e| Failed::io("write", new.path(), e);
    // Handles of their own, since each has a place where it reads or writes.
    let mut from = file.reopen()?;
    let mut to = std::fs::OpenOptions::new().write(true).open(new.temporary_path()).map_err(failed)?;
    from.seek(SeekFrom::Start(range.start)).map_err(|e| Error::io("read", &file.path, e))?;
    to.seek(SeekFrom::Start(range.start)).map_err(failed)?;
    for part in windows(range.clone(), PART_BYTES) {
        let bytes = part.end - part.start;
        if std::io::copy(&mut from.by_ref().take(bytes), &mut to).map_err(failed)? != bytes {
            return Err(Error::io("read", &file.path, std::io::ErrorKind::UnexpectedEof.into()));
        }
        context.advance(bytes)?;
    }
    Ok(())
}

pub(super) fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

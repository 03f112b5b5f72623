//! Results in the place of their base: its files edited, with a journal of what they held, or replaced by new ones.

use super::plan::Plan;
use super::rewrite::Rewrite;
use super::run::{Applied, write_weights};
use super::tensor::SPAN;
use crate::checkpoint::scan::windows;
use crate::checkpoint::{Checkpoint, Tensor, WeightFile};
use crate::context::Context;
use crate::durable::{Editable, Existing, Failed, Journal, NewFile, NewJournal, journal};
use crate::error::Error;
use crate::format::tensor_table::TensorEntry;
use rayon::prelude::*;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What is looked at before a result is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needed {
    /// The result, and its base beside it, as making an undo patch needs them.
    Both,
    /// The result alone.
    Result,
}

/// Puts the result in the place of the base. `before_commit` gets the finished result, and can still refuse it.
///
/// With [`Needed::Result`] the files are edited where they are, which takes the time and the disk space of what changes. The
/// bytes that they held are on the disk before the first one changes; an error, also one of `before_commit`, puts them
/// back, and after a crash [`recover`] does. The base as it is open here then shows the result.
///
/// New files take the place of the old ones, each of which is whole until then, with [`Needed::Both`], where most of the
/// files changes, and for files that are links, have other names, can not be written to or lie in several folders.
///
/// # Errors
/// [`Failed`] for outputs; [`super::Refusal`] for numbers and digests; what decoding returns. The base is what it was then,
/// unless the error is [`Failed::Interrupted`], or says that of new shards a rename failed.
pub fn in_place(
    plan: &Plan<'_>,
    needed: Needed,
    before_commit: impl FnOnce(&Checkpoint, &Applied) -> Result<(), Error>,
    context: &Context<'_>,
) -> Result<Applied, Error> {
    let base = plan.base();
    let changes = |file: &WeightFile| file.tensors.iter().any(|tensor| plan.changes(&tensor.name));
    let changed: Vec<usize> = (0..base.files.len()).filter(|index| changes(&base.files[*index])).collect();
    context.begin("applying", changed.iter().map(|index| base.files[*index].bytes()).sum());
    if needed == Needed::Result
        && let Some(targets) = editable(plan, &changed)
    {
        match NewJournal::create(targets) {
            // Not every file system has locks.
            Err(Failed::Io { operation: "lock", .. }) => {}
            journal => return edit(plan, &changed, journal?, before_commit, context),
        }
    }
    replace(plan, &changed, before_commit, context)
}

/// The files of a base to edit where they are; none if they should be replaced.
fn editable(plan: &Plan<'_>, changed: &[usize]) -> Option<Vec<Editable>> {
    let files = || changed.iter().map(|index| &plan.base().files[*index]);
    let folder = files().next()?.path.parent();
    // For each change a journal holds where it is, the old and the new bytes.
    let noted = |entry: &TensorEntry| {
        let selected: u64 = entry.blocks.iter().map(|block| u64::from(block.selected)).sum();
        selected * (2 + 2 * entry.dtype.width().bytes() as u64)
    };
    let journal: u64 = plan.by_tensor.values().flatten().map(|(_, entry)| noted(entry)).sum();
    if files().any(|file| file.path.parent() != folder) || journal > files().map(WeightFile::bytes).sum::<u64>() / 2 {
        return None;
    }
    files().map(|file| Editable::open(&file.path).filter(|target| target.bytes() == file.bytes())).collect()
}

/// Edits files of the base, by index, where they are.
fn edit(
    plan: &Plan<'_>,
    changed: &[usize],
    journal: NewJournal,
    before_commit: impl FnOnce(&Checkpoint, &Applied) -> Result<(), Error>,
    context: &Context<'_>,
) -> Result<Applied, Error> {
    let base = plan.base();
    let applied = note(plan, changed, &journal, context)?;
    // What was refused was refused by now. From here on nothing reads the base as it is mapped.
    let journal = journal.commit()?;
    let files: Vec<PathBuf> = base.files.iter().map(|file| file.path.clone()).collect();
    let edited = journal.edit(context);
    let open = || Checkpoint::open_files(&base.path, base.layout.clone(), &files);
    let done = edited.and_then(|()| before_commit(&open()?, &applied));
    match done {
        Ok(()) => journal.finish()?,
        Err(error) => {
            // Also when it is the user who interrupts.
            let back: Result<u64, Error> = journal.put_back(&Context::silent());
            back.map_err(|_| Failed::Interrupted { path: base.path.clone() })?;
            return Err(error);
        }
    }
    Ok(applied)
}

/// Notes in a journal what will change in files of the base, by index, and compares the result's digests with what was promised.
fn note(plan: &Plan<'_>, changed: &[usize], journal: &NewJournal, context: &Context<'_>) -> Result<Applied, Error> {
    let files = changed.iter().map(|index| (*index, &plan.base().files[*index]));
    let tensors: Vec<(usize, Tensor<'_>)> = files
        .enumerate()
        .flat_map(|(target, (file_index, file))| {
            file.tensors.iter().map(move |info| (target, Tensor { file, file_index, info }))
        })
        .filter(|(_, tensor)| plan.changes(&tensor.info.name))
        .collect();
    let spans: Vec<(usize, Tensor<'_>, Range<u64>)> = tensors
        .iter()
        .flat_map(|(target, tensor)| windows(0..tensor.info.elements(), SPAN).map(|span| (*target, *tensor, span)))
        .collect();
    let of_span = |(target, tensor, span): &(usize, Tensor<'_>, Range<u64>)| {
        let width = tensor.info.dtype.width().bytes();
        let mut note = |part: Range<u64>, bytes: &mut [u8], edits: &[(u32, u64)]| {
            let offset = tensor.info.range.start + part.start * width as u64;
            Ok(journal.note(*target, offset, width, bytes, edits)?)
        };
        plan.edits(*tensor, span.clone(), &mut note, context)
    };
    let edited = spans.par_iter().map(of_span).try_reduce(|| 0, |a, b| Ok(a + b))?;
    let mut applied = Applied { edited, tensors: tensors.len(), ..Applied::default() };
    if let Some(hash) = plan.promise() {
        context.begin("hashing the result", tensors.iter().map(|(_, tensor)| tensor.info.bytes()).sum());
        let digest = |(_, tensor): &(usize, Tensor<'_>)| {
            Ok((tensor.info.name.clone(), plan.result_digest(*tensor, hash, context)?))
        };
        let digests = tensors.par_iter().map(digest).collect::<Result<Vec<_>, Error>>()?;
        plan.keep_promise(&digests)?;
        applied.verified = true;
        applied.digests.extend(digests);
    }
    Ok(applied)
}

/// Puts new files in the place of those of the base, by index.
fn replace(
    plan: &Plan<'_>,
    changed: &[usize],
    before_commit: impl FnOnce(&Checkpoint, &Applied) -> Result<(), Error>,
    context: &Context<'_>,
) -> Result<Applied, Error> {
    let base = plan.base();
    let files = changed
        .iter()
        .map(|index| Ok((*index, NewFile::create(&base.files[*index].path, Existing::Replace)?)))
        .collect::<Result<Vec<_>, Failed>>()?;
    let mut applied = Applied::default();
    let outputs: Vec<(usize, &NewFile)> = files.iter().map(|(index, new)| (*index, new)).collect();
    write_weights(plan, &outputs, &mut applied, context)?;
    let result: Vec<PathBuf> = (0..base.files.len())
        .map(|index| match files.iter().find(|(changed, _)| *changed == index) {
            Some((_, new)) => new.temporary_path().to_owned(),
            None => base.files[index].path.clone(),
        })
        .collect();
    before_commit(&Checkpoint::open_files(&base.path, base.layout.clone(), &result)?, &applied)?;
    // Everything is on disk before the first rename, so that what can fail has failed.
    files.iter().try_for_each(|(_, new)| new.sync())?;
    files.into_iter().try_for_each(|(_, new)| new.commit())?;
    Ok(applied)
}

/// What [`recover`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Names of the files that were put back.
    pub files: Vec<String>,
    /// Weights that the edit changed in them.
    pub weights: u64,
}

/// Takes back an edit [`in_place`] that was interrupted in the folder of `model`, a model directory or a file in one; none if
/// there is nothing to take back. It can be interrupted itself, and repeated.
///
/// # Errors
/// [`Failed`]; cancellation. Files that were replaced or changed since are not touched ([`Failed::OtherFile`]).
pub fn recover(model: &Path, context: &Context<'_>) -> Result<Option<Recovered>, Error> {
    let real = model.canonicalize().map_err(|e| Error::io("open", model, e))?;
    let inside = if real.is_dir() { real.join(journal::FILE_NAME) } else { real };
    let Some(journal) = Journal::find(&inside)? else { return Ok(None) };
    let files = journal.names().map(str::to_owned).collect();
    journal.check::<Error>(context)?;
    Ok(Some(Recovered { files, weights: journal.put_back::<Error>(context)? }))
}

//! Applies edits in place. The files of the base are edited, with a journal of the bytes that they held, or they are replaced by new ones.
//!
//! The order is always the same: lock, check, journal, change, read back, commit. The files were locked before they were read
//! ([`Access::Edit`]). Nothing changes before all results are known and the journal, or all new files, are on the disk. What was changed is
//! read back from the files and compared by digest. Only then comes the point of no return.

use super::part::{Output, Part, Rewritten, rewrite_part};
use super::plan::Plan;
use super::rewrite::Rewrite;
use super::run::{Applied, Finished, SideFiles, write_weights};
use super::tensor::SPAN;
use crate::checkpoint::scan::windows;
use crate::checkpoint::{Access, Checkpoint, Layout, Tensor, WeightFile};
use crate::context::Context;
use crate::durable::{
    Commit, EditJournal, Editable, Failed, NewEditJournal, NewFile, Segments, Unfinished, refuse_hub_cache,
};
use crate::error::Error;
use crate::format::tensor_table::TensorEntry;
use rayon::prelude::*;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Puts the result in the place of the base, which must be open for editing ([`Access::Edit`]). `finish` receives the complete result, read
/// back from its files, and with `with_undo` the undo patch. It can still refuse the result, and returns the other files that change in a
/// model directory.
///
/// Files are edited where they are, which takes time and disk space only for what changes. The bytes that they held are on the disk before
/// the first one changes. After an error, also one of `finish`, they are put back here; after a crash, [`recover`] puts them back. Once
/// this function succeeds, the open base shows the result.
///
/// If most of the bytes change, or a file is a link, has other names or cannot be written to, new files replace the old ones, which stay
/// whole until then. After a crash [`recover`] finishes the replacement.
///
/// # Errors
/// [`Failed`] for outputs; [`Refusal`](crate::error::Refusal) for numbers and digests; what decoding returns. After an error the base is
/// unchanged, unless the error is [`Failed::Interrupted`] or [is in place](Failed::is_in_place).
pub fn in_place(
    plan: &Plan<'_>,
    with_undo: bool,
    finish: impl FnOnce(Finished<'_>) -> Result<SideFiles, Error>,
    context: &Context<'_>,
) -> Result<Applied, Error> {
    let base = plan.base();
    if base.access() != Access::Edit {
        return Err(Failed::InUse { path: base.path().to_owned(), access: Access::Edit }.into());
    }
    base.files().iter().try_for_each(|file| refuse_hub_cache(file.path()))?;
    let changes = |file: &WeightFile| file.tensors().iter().any(|tensor| plan.changes(&tensor.name));
    let changed: Vec<usize> = (0..base.files().len()).filter(|index| changes(&base.files()[*index])).collect();
    context.begin("applying", changed.iter().map(|index| base.files()[*index].bytes()).sum());
    match editable(plan, &changed) {
        Some(targets) => edit(plan, &changed, targets, with_undo, finish, context),
        None => replace(plan, &changed, with_undo, finish, context),
    }
}

/// Opens the changed files to edit them where they are; `None` if they should be replaced.
fn editable(plan: &Plan<'_>, changed: &[usize]) -> Option<Vec<Editable>> {
    if changed.is_empty() {
        return None;
    }
    let files = || changed.iter().map(|index| &plan.base().files()[*index]);
    // For each change, the journal holds about two bytes of position, the old bytes and the new bytes.
    let journal_bytes = |entry: &TensorEntry| {
        let selected: u64 = entry.blocks.iter().map(|block| u64::from(block.selected)).sum();
        selected.saturating_mul(2 + 2 * entry.dtype.width().bytes() as u64)
    };
    let entries = plan.by_tensor.values().flatten().map(|(_, entry)| entry);
    let journal = entries.map(|entry| journal_bytes(entry)).fold(0, u64::saturating_add);
    if journal > files().map(WeightFile::bytes).sum::<u64>() / 2 {
        return None;
    }
    // The path may lead to another file by now, which is not locked.
    let is_locked =
        |file: &WeightFile, target: &Editable| file.file().is_some_and(|open| target.is(open, file.bytes()));
    files().map(|file| Editable::open(file.path()).filter(|target| is_locked(file, target))).collect()
}

/// Edits the `changed` files of the base where they are; `targets` are these files, open for writing.
fn edit(
    plan: &Plan<'_>,
    changed: &[usize],
    targets: Vec<Editable>,
    with_undo: bool,
    finish: impl FnOnce(Finished<'_>) -> Result<SideFiles, Error>,
    context: &Context<'_>,
) -> Result<Applied, Error> {
    let base = plan.base();
    let mut journal = NewEditJournal::create(targets)?;
    let rewritten = write_journal(plan, changed, &mut journal, with_undo, context);
    // If another program changed the base, that is the error to report: it may be the reason why something else failed.
    base.unchanged()?;
    let mut rewritten = rewritten?;
    let undo_blocks = std::mem::take(&mut rewritten.undo);
    let undo = if with_undo { Some(plan.undo(undo_blocks, &rewritten.digests)?) } else { None };
    let verified = plan.compare_declared(&rewritten.digests)?;
    base.unchanged()?;
    base.still_at_their_paths()?;
    // All results are known. From here on nothing may read the base through its map, because its bytes change.
    let journal = journal.commit()?;
    let change = || -> Result<(Applied, Commit), Error> {
        journal.edit::<Error>(context)?;
        base.still_at_their_paths()?;
        let result = reopened(base)?;
        for index in changed {
            rewritten.read_back(&base.files()[*index], &result.files()[*index], context)?;
        }
        let applied = Applied { verified, ..rewritten.applied() };
        let side_files = finish(Finished { result: &result, applied: &applied, undo })?;
        base.still_at_their_paths()?;
        Ok((applied, commit(base, Vec::new(), side_files)?))
    };
    let error = match change() {
        Ok((applied, commit)) => match commit.run(Some(&journal)) {
            Ok(()) => return Ok(applied),
            // After the point of no return, the result stays.
            Err(failed) if failed.is_in_place() => return Err(failed.into()),
            Err(failed) => failed.into(),
        },
        Err(error) => error,
    };
    // The caller's context may be cancelled, and the old bytes must be put back all the same.
    let put_back: Result<u64, Error> = journal.put_back(&Context::silent());
    put_back.map_err(|_| Failed::Interrupted { path: base.path().to_owned() })?;
    Err(error)
}

/// Opens the base's files again, to read what they now hold.
fn reopened(base: &Checkpoint) -> Result<Checkpoint, Error> {
    let files: Vec<PathBuf> = base.files().iter().map(|file| file.path().to_owned()).collect();
    Ok(Checkpoint::open_files(base.path(), base.layout().clone(), &files)?)
}

/// Prepares the commit: new weight files, if there are any, and the other files of a model directory.
fn commit(base: &Checkpoint, weights: Vec<NewFile>, side_files: SideFiles) -> Result<Commit, Failed> {
    let mut commit = Commit::new(&folder(base));
    // Weights come first. Their rename can fail, for instance if another user owns them, and until the first rename all can be undone.
    weights.into_iter().for_each(|file| commit.add(file));
    for (name, bytes) in side_files.write {
        commit.write(&name, &bytes)?;
    }
    side_files.remove.into_iter().for_each(|name| commit.remove(name));
    Ok(commit)
}

/// The folder of a checkpoint's files.
fn folder(base: &Checkpoint) -> PathBuf {
    match base.layout() {
        Layout::Directory { .. } => base.path().to_owned(),
        Layout::Index { index: path } => path.parent().map(Path::to_owned).unwrap_or_default(),
        Layout::File => base.path().parent().map(Path::to_owned).unwrap_or_default(),
    }
}

/// Writes every change of the `changed` files to the journal. Parts are rewritten in parallel, and their changes are written in order.
fn write_journal(
    plan: &Plan<'_>,
    changed: &[usize],
    journal: &mut NewEditJournal,
    with_undo: bool,
    context: &Context<'_>,
) -> Result<Rewritten, Error> {
    let mut parts: Vec<(u32, Tensor<'_>, Range<u64>)> = Vec::new();
    for (target, file_index) in (0..).zip(changed) {
        let file = &plan.base().files()[*file_index];
        for info in file.tensors().iter().filter(|info| plan.changes(&info.name)) {
            let tensor = Tensor { file, file_index: *file_index, info };
            parts.extend(windows(0..info.elements(), SPAN).map(|part| (target, tensor, part)));
        }
    }
    let mut done: Vec<Part> = Vec::new();
    for batch in batches(&parts) {
        let rewrite = |(file, tensor, part): &(u32, Tensor<'_>, Range<u64>)| {
            let mut segments = Segments::default();
            let output = Output::Journal { file: *file, segments: &mut segments };
            Ok((rewrite_part(plan, *tensor, part.clone(), output, with_undo, context)?, segments))
        };
        for (part, segments) in batch.par_iter().map(rewrite).collect::<Result<Vec<_>, Error>>()? {
            journal.append(&segments)?;
            done.push(part);
        }
    }
    let mut rewritten = Rewritten::default();
    rewritten.add(parts.iter().map(|(_, tensor, _)| tensor.info.name.as_str()).zip(done));
    Ok(rewritten)
}

/// Divides parts into batches. The changes of one batch are in memory at once, so a batch has enough parts for all threads, and at most two
/// full spans of elements for each thread.
fn batches<'p, 't>(
    parts: &'p [(u32, Tensor<'t>, Range<u64>)],
) -> impl Iterator<Item = &'p [(u32, Tensor<'t>, Range<u64>)]> {
    let elements_max = SPAN * 2 * rayon::current_num_threads() as u64;
    let mut rest = parts;
    std::iter::from_fn(move || {
        let mut elements = 0;
        let fits = rest.iter().take_while(|(_, _, part)| {
            elements += part.end - part.start;
            elements <= elements_max
        });
        let (batch, later) = rest.split_at(fits.count());
        rest = later;
        (!batch.is_empty()).then_some(batch)
    })
}

/// Replaces the `changed` files of the base by new ones.
fn replace(
    plan: &Plan<'_>,
    changed: &[usize],
    with_undo: bool,
    finish: impl FnOnce(Finished<'_>) -> Result<SideFiles, Error>,
    context: &Context<'_>,
) -> Result<Applied, Error> {
    let base = plan.base();
    let files = changed
        .iter()
        .map(|index| Ok((*index, NewFile::create_in_place(base.files()[*index].path())?)))
        .collect::<Result<Vec<_>, Failed>>()?;
    let outputs: Vec<(usize, &NewFile)> = files.iter().map(|(index, new)| (*index, new)).collect();
    let (applied, undo) = write_weights(plan, with_undo.then_some(plan), &outputs, context)?;
    let path = |index: usize| match files.iter().find(|(changed, _)| *changed == index) {
        Some((_, new)) => new.temporary_path().to_owned(),
        None => base.files()[index].path().to_owned(),
    };
    let paths: Vec<PathBuf> = (0..base.files().len()).map(path).collect();
    let result = Checkpoint::open_files(base.path(), base.layout().clone(), &paths)?;
    let side_files = finish(Finished { result: &result, applied: &applied, undo })?;
    base.unchanged()?;
    base.still_at_their_paths()?;
    commit(base, files.into_iter().map(|(_, new)| new).collect(), side_files)?.run(None)?;
    Ok(applied)
}

/// What [`recover`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovered {
    /// The edit was undone: the files are what they were before it.
    TakenBack {
        /// Their names.
        files: Vec<String>,
        /// Weights that the edit changed in them.
        weights: u64,
    },
    /// The replacement was finished: these files are the new ones.
    Finished {
        /// Their names.
        files: Vec<String>,
    },
}

/// Ends an interrupted change in the folder of `model`, a model directory or a file in one: undoes an edit in place, or finishes a
/// replacement whose new files were complete. Returns `None` if no change was interrupted. Recovery can itself be interrupted and repeated.
/// A journal that was copied together with its files is used only with `copied`.
///
/// # Errors
/// [`Failed`]; cancellation. Files that were replaced or changed since are not touched ([`Failed::OtherFile`]).
pub fn recover(model: &Path, copied: bool, context: &Context<'_>) -> Result<Option<Recovered>, Error> {
    let metadata = std::fs::metadata(model).map_err(|e| Error::io("open", model, e))?;
    let mut folders = vec![model.to_owned()];
    if !metadata.is_dir() {
        // The folder of the path, and if that is a link, the folder of the file itself.
        let real = model.canonicalize().map_err(|e| Error::io("open", model, e))?;
        folders = [model, &real].map(|file| file.parent().map(Path::to_owned).unwrap_or_default()).into();
    }
    for folder in folders {
        match Unfinished::find(&folder, copied)? {
            Some(Unfinished::Edit(journal)) => return Ok(Some(take_back(journal, context)?)),
            Some(Unfinished::Commit(commit)) => {
                let files = commit.names().map(str::to_owned).collect();
                commit.finish()?;
                return Ok(Some(Recovered::Finished { files }));
            }
            None => {}
        }
    }
    Ok(None)
}

/// Puts back what an interrupted edit changed.
fn take_back(journal: EditJournal, context: &Context<'_>) -> Result<Recovered, Error> {
    let files = journal.names().map(str::to_owned).collect();
    journal.check::<Error>(context)?;
    Ok(Recovered::TakenBack { files, weights: journal.put_back::<Error>(context)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::floats;

    #[test]
    fn batches_are_all_parts_in_order_and_none_is_too_large() {
        let base = floats(&[("w", &[1.0])]);
        let tensor = base.tensor("w").unwrap();
        let parts: Vec<_> = (0..100).map(|file| (file, tensor, 0..SPAN / (1 + u64::from(file % 3)))).collect();
        let batches: Vec<_> = batches(&parts).collect();
        let files: Vec<u32> = batches.iter().flat_map(|batch| batch.iter().map(|(file, ..)| *file)).collect();
        assert_eq!(files, (0..100).collect::<Vec<u32>>());
        let elements_max = SPAN * 2 * rayon::current_num_threads() as u64;
        for batch in batches {
            let elements: u64 = batch.iter().map(|(_, _, part)| part.end - part.start).sum();
            assert!((1..=elements_max).contains(&elements), "{elements}");
        }
    }
}

//! Results in the place of their base: its files edited, with a journal of what they held, or replaced by new ones.
//!
//! One order, in every mode: lock, check, journal, change, read back, commit. The files were locked before they were read
//! ([`Access::Edit`]); nothing changes before all results are known and the journal, or all new files, are on the disk; what was
//! changed is read back from the files and compared by digest; and only then comes the point of no return.

use super::part::{Output, Part, Rewritten, rewrite_part};
use super::plan::Plan;
use super::rewrite::Rewrite;
use super::run::{Applied, Beside, Finished, write_weights};
use super::tensor::SPAN;
use crate::checkpoint::scan::windows;
use crate::checkpoint::{Access, Checkpoint, Layout, Tensor, WeightFile};
use crate::context::Context;
use crate::digest::{ContentHash, Digest};
use crate::durable::{
    Commit, EditJournal, Editable, Failed, NewEditJournal, NewFile, Segments, Unfinished, refuse_hub_cache,
};
use crate::error::Error;
use crate::format::tensor_table::TensorEntry;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Puts the result in the place of the base, which was opened for that ([`Access::Edit`]). `finish` gets the finished result, read back
/// from its files, can still refuse it, and says what else changes in a model directory. With `with_undo` it also gets the patch
/// that leads back.
///
/// The files are edited where they are, which takes the time and the disk space of what changes. The bytes that they held are on the
/// disk before the first one changes; an error, also one of `finish`, puts them back, and after a crash [`recover`] does. The base as
/// it is open here then shows the result.
///
/// New files take the place of the old ones, each of which is whole until then, where most of the files changes, and for files that
/// are links, have other names or cannot be written to. After a crash [`recover`] finishes what was begun.
///
/// # Errors
/// [`Failed`] for outputs; [`Refusal`](crate::error::Refusal) for numbers and digests; what decoding returns. The base is what it was then,
/// unless the error is [`Failed::Interrupted`] or [is in place](Failed::is_in_place).
pub fn in_place(
    plan: &Plan<'_>,
    with_undo: bool,
    finish: impl FnOnce(Finished<'_>) -> Result<Beside, Error>,
    context: &Context<'_>,
) -> Result<Applied, Error> {
    let base = plan.base();
    if base.access() != Access::Edit {
        return Err(Failed::InUse { path: base.path.clone(), access: Access::Edit }.into());
    }
    base.files.iter().try_for_each(|file| refuse_hub_cache(&file.path))?;
    let changes = |file: &WeightFile| file.tensors.iter().any(|tensor| plan.changes(&tensor.name));
    let changed: Vec<usize> = (0..base.files.len()).filter(|index| changes(&base.files[*index])).collect();
    context.begin("applying", changed.iter().map(|index| base.files[*index].bytes()).sum());
    match editable(plan, &changed) {
        Some(targets) => edit(plan, &changed, targets, with_undo, finish, context),
        None => replace(plan, &changed, with_undo, finish, context),
    }
}

/// The files of a base to edit where they are; none if they should be replaced.
fn editable(plan: &Plan<'_>, changed: &[usize]) -> Option<Vec<Editable>> {
    if changed.is_empty() {
        return None;
    }
    let files = || changed.iter().map(|index| &plan.base().files[*index]);
    // For each change a journal holds where it is, the old and the new bytes.
    let noted = |entry: &TensorEntry| {
        let selected: u64 = entry.blocks.iter().map(|block| u64::from(block.selected)).sum();
        selected.saturating_mul(2 + 2 * entry.dtype.width().bytes() as u64)
    };
    let journal = plan.by_tensor.values().flatten().map(|(_, entry)| noted(entry)).fold(0, u64::saturating_add);
    if journal > files().map(WeightFile::bytes).sum::<u64>() / 2 {
        return None;
    }
    // What is locked is edited, even if its path leads to another file meanwhile.
    let is_locked =
        |file: &WeightFile, target: &Editable| file.file().is_some_and(|open| target.is(open, file.bytes()));
    files().map(|file| Editable::open(&file.path).filter(|target| is_locked(file, target))).collect()
}

/// Edits files of the base, by index, where they are.
fn edit(
    plan: &Plan<'_>,
    changed: &[usize],
    targets: Vec<Editable>,
    with_undo: bool,
    finish: impl FnOnce(Finished<'_>) -> Result<Beside, Error>,
    context: &Context<'_>,
) -> Result<Applied, Error> {
    let base = plan.base();
    let mut journal = NewEditJournal::create(targets)?;
    let noted = note(plan, changed, &mut journal, with_undo, context);
    // What failed on a file that changed failed because it did.
    base.unchanged()?;
    let mut rewritten = noted?;
    let undo = match with_undo {
        true => Some(plan.undo(std::mem::take(&mut rewritten.undo), &rewritten.digests)?),
        false => None,
    };
    if let Some(hash) = plan.declared() {
        plan.compare_declared(&declared_digests(plan, hash, &rewritten, context)?)?;
    }
    base.unchanged()?;
    base.still_at_their_paths()?;
    // What was refused was refused by now. From here on nothing reads the base as it is mapped.
    let journal = journal.commit()?;
    let change = || -> Result<(Applied, Commit), Error> {
        journal.edit::<Error>(context)?;
        base.still_at_their_paths()?;
        let result = reopened(base)?;
        for index in changed {
            rewritten.read_back(&base.files[*index], &result.files[*index], context)?;
        }
        let applied = Applied { verified: plan.declared().is_some(), ..rewritten.applied() };
        let beside = finish(Finished { result: &result, applied: &applied, undo })?;
        base.still_at_their_paths()?;
        Ok((applied, commit(base, Vec::new(), beside)?))
    };
    let error = match change() {
        Ok((applied, commit)) => match commit.run(Some(&journal)) {
            Ok(()) => return Ok(applied),
            // Past the point of no return.
            Err(failed) if failed.is_in_place() => return Err(failed.into()),
            Err(failed) => failed.into(),
        },
        Err(error) => error,
    };
    // Also when it is the user who interrupts.
    let back: Result<u64, Error> = journal.put_back(&Context::silent());
    back.map_err(|_| Failed::Interrupted { path: base.path.clone() })?;
    Err(error)
}

/// The base as its files now are.
fn reopened(base: &Checkpoint) -> Result<Checkpoint, Error> {
    let files: Vec<PathBuf> = base.files.iter().map(|file| file.path.clone()).collect();
    Ok(Checkpoint::open_files(&base.path, base.layout.clone(), &files)?)
}

/// New weights and what goes beside them in a model directory, ready to take their places.
fn commit(base: &Checkpoint, weights: Vec<NewFile>, beside: Beside) -> Result<Commit, Failed> {
    let mut commit = Commit::new(&folder(base));
    // First, since others may own them: as long as no file has moved, all can be taken back.
    weights.into_iter().for_each(|file| commit.add(file));
    for (name, bytes) in beside.write {
        commit.write(&name, &bytes)?;
    }
    beside.remove.into_iter().for_each(|name| commit.remove(name));
    Ok(commit)
}

/// The folder that all files of a checkpoint are in.
fn folder(base: &Checkpoint) -> PathBuf {
    match &base.layout {
        Layout::Directory { .. } => base.path.clone(),
        Layout::Index { index: path } => path.parent().map(Path::to_owned).unwrap_or_default(),
        Layout::File => base.path.parent().map(Path::to_owned).unwrap_or_default(),
    }
}

/// The digests that a result will have, made with `hash`.
fn declared_digests(
    plan: &Plan<'_>,
    hash: ContentHash,
    rewritten: &Rewritten,
    context: &Context<'_>,
) -> Result<BTreeMap<String, Digest>, Error> {
    if hash == ContentHash::Blake3 {
        return Ok(rewritten.digests.clone());
    }
    let tensors: Vec<Tensor<'_>> = rewritten.digests.keys().filter_map(|name| plan.base().tensor(name)).collect();
    let digest = |tensor: &Tensor<'_>| Ok((tensor.info.name.clone(), plan.result_digest(*tensor, hash, context)?));
    tensors.par_iter().map(digest).collect()
}

/// Notes in a journal what will change in files of the base, by index. Parts are rewritten in parallel, and noted in their order.
fn note(
    plan: &Plan<'_>,
    changed: &[usize],
    journal: &mut NewEditJournal,
    with_undo: bool,
    context: &Context<'_>,
) -> Result<Rewritten, Error> {
    let mut parts: Vec<(u32, Tensor<'_>, Range<u64>)> = Vec::new();
    for (target, file_index) in (0..).zip(changed) {
        let file = &plan.base().files[*file_index];
        for info in file.tensors.iter().filter(|info| plan.changes(&info.name)) {
            let tensor = Tensor { file, file_index: *file_index, info };
            parts.extend(windows(0..info.elements(), SPAN).map(|part| (target, tensor, part)));
        }
    }
    let mut done: Vec<Part> = Vec::new();
    for batch in batches(&parts) {
        let note = |(file, tensor, part): &(u32, Tensor<'_>, Range<u64>)| {
            let mut segments = Segments::default();
            let output = Output::Journal { file: *file, segments: &mut segments };
            Ok((rewrite_part(plan, *tensor, part.clone(), output, with_undo, context)?, segments))
        };
        for (part, segments) in batch.par_iter().map(note).collect::<Result<Vec<_>, Error>>()?.into_iter() {
            journal.append(&segments)?;
            done.push(part);
        }
    }
    let mut rewritten = Rewritten::default();
    rewritten.add(parts.iter().map(|(_, tensor, _)| tensor.info.name.as_str()).zip(done));
    Ok(rewritten)
}

/// Parts that are worked on together: enough for all threads, and not more elements than some parts of full size have, since what changes
/// in them is held in memory.
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

/// Puts new files in the place of those of the base, by index.
fn replace(
    plan: &Plan<'_>,
    changed: &[usize],
    with_undo: bool,
    finish: impl FnOnce(Finished<'_>) -> Result<Beside, Error>,
    context: &Context<'_>,
) -> Result<Applied, Error> {
    let base = plan.base();
    let files = changed
        .iter()
        .map(|index| Ok((*index, NewFile::create_in_place(&base.files[*index].path)?)))
        .collect::<Result<Vec<_>, Failed>>()?;
    let outputs: Vec<(usize, &NewFile)> = files.iter().map(|(index, new)| (*index, new)).collect();
    let (applied, undo) = write_weights(plan, with_undo.then_some(plan), &outputs, context)?;
    let path = |index: usize| match files.iter().find(|(changed, _)| *changed == index) {
        Some((_, new)) => new.temporary_path().to_owned(),
        None => base.files[index].path.clone(),
    };
    let paths: Vec<PathBuf> = (0..base.files.len()).map(path).collect();
    let result = Checkpoint::open_files(&base.path, base.layout.clone(), &paths)?;
    let beside = finish(Finished { result: &result, applied: &applied, undo })?;
    base.unchanged()?;
    base.still_at_their_paths()?;
    commit(base, files.into_iter().map(|(_, new)| new).collect(), beside)?.run(None)?;
    Ok(applied)
}

/// What [`recover`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovered {
    /// The edit was taken back: the files are what they were before it.
    TakenBack {
        /// Their names.
        files: Vec<String>,
        /// Weights that the edit changed in them.
        weights: u64,
    },
    /// What was begun was finished: these files are the new ones.
    Finished {
        /// Their names.
        files: Vec<String>,
    },
}

/// Ends a change that was interrupted in the folder of `model`, a model directory or a file in one: takes it back, or finishes it where the
/// result was complete. None if there is nothing to end. It can be interrupted itself, and repeated. A journal that was copied
/// with its files is believed only with `copied`.
///
/// # Errors
/// [`Failed`]; cancellation. Files that were replaced or changed since are not touched ([`Failed::OtherFile`]).
pub fn recover(model: &Path, copied: bool, context: &Context<'_>) -> Result<Option<Recovered>, Error> {
    let metadata = std::fs::metadata(model).map_err(|e| Error::io("open", model, e))?;
    let mut folders = vec![model.to_owned()];
    if !metadata.is_dir() {
        // The folder of the file's name, and where it really is.
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

fn take_back(journal: EditJournal, context: &Context<'_>) -> Result<Recovered, Error> {
    let files = journal.names().map(str::to_owned).collect();
    journal.check::<Error>(context)?;
    Ok(Recovered::TakenBack { files, weights: journal.put_back::<Error>(context)? })
}

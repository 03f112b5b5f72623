//! Gets patches from a place, and applies them one after the other.

use super::Listed;
use super::shelf::signature_name;
use crate::algebra::squash;
use crate::apply::{Apply, Done, Edit, UndoTo};
use crate::check::intact;
use crate::checkpoint::{Checkpoint, Layout};
use crate::context::Context;
use crate::durable::{Existing, NewDirectory, NewFile};
use crate::error::{Error, PublishFault};
use crate::format::patch::ReadAt;
use crate::patch::{Patch, Unreadable};
use crate::signature::beside;
use lcepatch_hub::place::Place;
use lcepatch_hub::place::directory::OpenFile;
use std::path::{Path, PathBuf};

/// Bytes that are read of a place at a time.
const PIECE_BYTES: u64 = 8 << 20;

/// Copies a patch of a place, and the signature beside it, into `folder`, and returns the patch's path there. A file that is there and has
/// the same content stays.
///
/// # Errors
/// Those of the place and of outputs; [`PublishFault::Replaced`] if the place has another patch there by now; cancellation.
pub(crate) fn copy(
    place: &dyn Place,
    listed: &Listed,
    folder: &Path,
    existing: Existing,
    context: &Context<'_>,
) -> Result<PathBuf, Error> {
    let path = folder.join(&listed.file);
    let is_it = |path: &Path| Patch::open(path).is_ok_and(|patch| patch.id() == listed.patch.id());
    // The id is that of the header, and one that is there may have become damaged since.
    let is_whole = |path: &Path| Patch::open(path).is_ok_and(|patch| intact(&patch, context).is_ok());
    if !(is_it(&path) && is_whole(&path)) {
        context.begin("getting a patch", listed.patch.file_bytes());
        copy_file(place, &listed.file, &path, existing, context)?;
        if !is_it(&path) {
            // Nobody should take it for what was listed.
            let _ = std::fs::remove_file(&path);
            let (place, file) = (place.name().to_owned(), listed.file.clone());
            return Err(PublishFault::Replaced { place, file }.into());
        }
    }
    if listed.signed {
        let (name, path) = (signature_name(&listed.file), beside(&path));
        copy_file(place, &name, &path, existing, context)?;
    }
    Ok(path)
}

/// Copies one file, unless it is there already.
fn copy_file(
    place: &dyn Place,
    name: &str,
    path: &Path,
    existing: Existing,
    context: &Context<'_>,
) -> Result<(), Error> {
    let source: Box<dyn ReadAt> = match place.fetch(name, context)? {
        Some(cached) => Box::new(OpenFile::open(&cached)?),
        None => place.open(name, context)?,
    };
    let inside = super::shelf::inside(place, name);
    let pieces = (0..source.bytes()).step_by(PIECE_BYTES as usize);
    let read = |start: u64| {
        let bytes = PIECE_BYTES.min(source.bytes() - start);
        source.read_at(start, bytes).map_err(|e| Unreadable { patch: inside.as_path().into(), reason: e.into() })
    };
    if source.bytes() <= PIECE_BYTES
        && path.is_file()
        && std::fs::read(path).is_ok_and(|there| read(0).is_ok_and(|bytes| there == bytes))
    {
        return Ok(());
    }
    let mut new = NewFile::create(path, existing)?;
    for start in pieces {
        let piece = read(start)?;
        new = new.with(&piece)?;
        context.advance(piece.len() as u64)?;
    }
    Ok(new.commit()?)
}

/// A folder beside `output` for what is not needed in the end. It is removed when it is dropped.
///
/// # Errors
/// Those of outputs.
pub(crate) fn scratch(output: &Path) -> Result<NewDirectory, Error> {
    let mut name = output.file_name().unwrap_or_default().to_owned();
    name.push(".steps");
    Ok(NewDirectory::create(&output.with_file_name(name))?)
}

/// Applies patches to `model` at alpha 1, each to the result of the one before it, and writes the last result to `output`. Every base
/// is checked in full, and every result is read back.
///
/// Results between the first and the last are one model in `scratch`, which is edited in place.
///
/// # Errors
/// Those of [`Apply`].
pub(crate) fn apply_in_order(
    model: &Checkpoint,
    patches: Vec<Patch>,
    (output, existing): (&Path, Existing),
    scratch: &Path,
    context: &Context<'_>,
) -> Result<Done, Error> {
    let between = scratch.join(if model.layout() == &Layout::File { "model.safetensors" } else { "model" });
    let mut edits: Vec<Edit> = patches.into_iter().map(Edit::to_reference).collect();
    let last = edits.split_off(edits.len().saturating_sub(1));
    for (at, edit) in edits.iter().enumerate() {
        let edit = std::slice::from_ref(edit);
        if at == 0 {
            Apply::new(model, edit).undo(UndoTo::Nowhere).to(&between, context)?;
        } else {
            let model = Checkpoint::open_for_edit(&between)?;
            Apply::new(&model, edit).undo(UndoTo::Nowhere).in_place(context)?;
        }
    }
    let apply_last =
        |model: &Checkpoint| Apply::new(model, &last).undo(UndoTo::Nowhere).existing(existing).to(output, context);
    if edits.is_empty() { apply_last(model) } else { apply_last(&Checkpoint::open(&between)?) }
}

/// One patch that does to `model` what all of these do in their order.
///
/// # Errors
/// Those of [`squash`].
pub(crate) fn squashed(model: &Checkpoint, patches: Vec<Patch>, context: &Context<'_>) -> Result<Option<Patch>, Error> {
    let mut patches = patches.into_iter().map(Edit::to_reference);
    let Some(mut all) = patches.next() else { return Ok(None) };
    for next in patches {
        all = Edit::to_reference(squash(&all, &next, Some(model), context)?);
    }
    Ok(Some(all.patch))
}

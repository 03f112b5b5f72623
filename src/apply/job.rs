//! Whole jobs on a checkpoint: apply patches to it, and take the last apply back. What the commands do, without their words.

use super::in_place::in_place;
use super::plan::{Edit, Plan, PlanOptions};
use super::run::{Applied, Beside, Finished, to_path};
use crate::checkpoint::{Checkpoint, Layout, Tensor, WeightFile};
use crate::context::{Cancelled, Context};
use crate::digest::Digest;
use crate::durable::{Existing, Failed, is_undo_patch, real_path, undo_name, write_file};
use crate::error::{Error, NoRevert, Refusal};
use crate::history::{self, AppliedPatch, History, State, Step, Undo, digests};
use crate::localize::scan::of_files;
use crate::mask::{self, PruningMask};
use crate::patch::Patch;
use std::path::{Path, PathBuf};

/// Where a result goes.
#[derive(Debug, Clone, Copy)]
pub enum Destination<'a> {
    /// Into the base itself, which was opened with [`Checkpoint::open_for_edit`].
    InPlace,
    /// To a new file or directory.
    Path(&'a Path),
}

/// Where the patch goes that takes a result back to its base.
#[derive(Debug, Clone, Copy)]
pub enum UndoTo<'a> {
    /// Beside the log of a model directory, so that [`Revert`] finds it; nowhere for a single file.
    Log,
    /// To this file.
    Path(&'a Path),
    /// Nowhere: none is made.
    Nowhere,
}

/// Where the pruning mask of the result goes.
#[derive(Debug, Clone, Copy)]
pub struct KeepMask<'a> {
    /// The mask of the base.
    pub of_base: &'a PruningMask<'a>,
    /// The mask file to write.
    pub path: &'a Path,
}

/// Patches applied to a checkpoint.
///
/// ```
/// use lcepatch::apply::{Apply, Edit};
/// use lcepatch::checkpoint::Checkpoint;
/// use lcepatch::context::Context;
/// use lcepatch::edit::Alpha;
/// use lcepatch::patch::Patch;
/// use std::path::Path;
///
/// fn debias(model: &Path, patch: &Path, result: &Path) -> Result<(), lcepatch::Error> {
///     let base = Checkpoint::open(model)?;
///     let edits = [Edit::at(Patch::open(patch)?, Alpha::new(-2.0).expect("finite"))];
///     let done = Apply::new(&base, &edits).to(result, &Context::silent())?;
///     println!("{} weights edited", done.applied.edited);
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Apply<'a> {
    base: &'a Checkpoint,
    edits: &'a [Edit],
    options: PlanOptions,
    undo: UndoTo<'a>,
    log: bool,
    mask: Option<KeepMask<'a>>,
    existing: Existing,
}

/// What an apply did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// What was written.
    pub applied: Applied,
    /// Whether all files of the result are those of the patch's reference, by the digests of the bytes that were read back.
    pub is_reference: bool,
    /// Whether deltas were added to a checkpoint that is not the patch's base.
    pub added: bool,
    /// The undo patch that was written.
    pub undo: Option<PathBuf>,
}

impl<'a> Apply<'a> {
    /// `edits` together, to `base`: checked in full, with an undo patch beside a model directory's log, and nothing replaced.
    pub fn new(base: &'a Checkpoint, edits: &'a [Edit]) -> Self {
        let (options, undo, existing) = (PlanOptions::default(), UndoTo::Log, Existing::Keep);
        Self { base, edits, options, undo, log: true, mask: None, existing }
    }

    /// How the base is checked, and what is refused.
    pub fn options(self, options: PlanOptions) -> Self {
        Self { options, ..self }
    }

    /// Where the undo patch goes.
    pub fn undo(self, undo: UndoTo<'a>) -> Self {
        Self { undo, ..self }
    }

    /// Whether a model directory's log tells of it.
    pub fn log(self, log: bool) -> Self {
        Self { log, ..self }
    }

    /// Where the result's pruning mask goes, if it is wanted.
    pub fn keep_mask(self, mask: Option<KeepMask<'a>>) -> Self {
        Self { mask, ..self }
    }

    /// Whether outputs may replace files that are there.
    pub fn existing(self, existing: Existing) -> Self {
        Self { existing, ..self }
    }

    /// Writes the result to a new file or directory at `path`.
    ///
    /// # Errors
    /// As [`Apply::run`].
    pub fn to(&self, path: &Path, context: &Context<'_>) -> Result<Done, Error> {
        self.run(Destination::Path(path), context)
    }

    /// Writes the result. Nothing is written before the base is checked and every result is known.
    ///
    /// # Errors
    /// [`Refusal::OfBase`], [`Refusal::SamePlace`]; what [`Plan::check`], [`in_place`] and [`to_path`] return; the log's.
    pub fn run(&self, destination: Destination<'_>, context: &Context<'_>) -> Result<Done, Error> {
        self.refuse_outputs(destination)?;
        let plan = Plan::check(self.base, self.edits, &self.options, context)?;
        if let Some(KeepMask { of_base, path }) = self.mask {
            let mask = plan.result_mask(of_base, context)?;
            let covered: Vec<Tensor<'_>> = mask.names().filter_map(|name| self.base.tensor(name)).collect();
            mask::write(&mask, &covered, &[self.base], path, self.existing, context)?;
        }
        let history = if self.log { History::of(self.base)? } else { None };
        // Ahead of the edit: in place, there is no base after it.
        let before = history.is_some().then(|| digests(self.base, self.base, context)).transpose()?;
        let with_undo = match self.undo {
            UndoTo::Log => history.is_some(),
            UndoTo::Path(_) => true,
            UndoTo::Nowhere => false,
        };
        let (mut is_reference, mut undo_path) = (false, None);
        let finish = |Finished { result, applied, undo }: Finished<'_>| -> Result<Beside, Error> {
            is_reference = is_reference_of(&plan, result, applied, context)?;
            let mut beside = Beside::default();
            let undo = match (undo, self.undo) {
                (Some(patch), UndoTo::Path(path)) => {
                    // The way back must be on the disk before the weights change.
                    let written = write_file(path, &patch.to_bytes()?, self.existing);
                    written.map_err(Failed::not_in_place)?;
                    undo_path = Some(path.to_owned());
                    Some(Undo::new(patch.id, path))
                }
                (Some(patch), _) => {
                    let name = undo_name(&patch.id.short());
                    beside.write.push((name.clone(), patch.to_bytes()?));
                    undo_path = folder_of(destination, self.base).map(|folder| folder.join(&name));
                    Some(Undo::new(patch.id, Path::new(&name)))
                }
                (None, _) => None,
            };
            if let (Some(mut history), Some(before)) = (history, before) {
                let after = digests(result, self.base, context)?;
                let patch = |edit: &Edit| AppliedPatch::new(edit.patch.id, edit.patch.name(), edit.kind);
                let patches = self.edits.iter().map(patch).collect();
                history.steps.push(Step::new(patches, before, after, undo));
                beside.write.push((history::FILE_NAME.to_owned(), history.to_bytes()?));
            }
            Ok(beside)
        };
        let applied = match destination {
            Destination::Path(path) => {
                to_path(&plan, with_undo.then_some(&plan), path, self.existing, finish, context)?
            }
            Destination::InPlace => in_place(&plan, with_undo, finish, context)?,
        };
        Ok(Done { applied, is_reference, added: plan.is_added(), undo: undo_path })
    }

    /// Refuses outputs beside the result that would take the place of the base's own files, of the result, or of each other.
    fn refuse_outputs(&self, destination: Destination<'_>) -> Result<(), Refusal> {
        let real = |path: &Path| real_path(path).unwrap_or_else(|| path.to_owned());
        let index = match &self.base.layout {
            Layout::Index { index } | Layout::Directory { index: Some(index) } => Some(index.clone()),
            _ => None,
        };
        let log = history::folder(self.base).map(|folder| folder.join(history::FILE_NAME));
        let weights = self.base.files.iter().map(|file| file.path.clone());
        let own: Vec<PathBuf> = weights.chain(index).chain(log).map(|path| real(&path)).collect();
        let mut taken: Vec<PathBuf> = Vec::new();
        if let Destination::Path(path) = destination {
            taken.push(real(path));
        }
        let undo = if let UndoTo::Path(path) = self.undo { Some(path) } else { None };
        for path in undo.into_iter().chain(self.mask.map(|mask| mask.path)) {
            let place = real(path);
            if own.contains(&place) {
                return Err(Refusal::OfBase { path: path.to_owned() });
            }
            // A result may be a directory.
            if taken.iter().any(|taken| place.starts_with(taken) || taken.starts_with(&place)) {
                return Err(Refusal::SamePlace { path: path.to_owned() });
            }
            taken.push(place);
        }
        Ok(())
    }
}

/// The folder of a result, where its log is.
fn folder_of(destination: Destination<'_>, base: &Checkpoint) -> Option<PathBuf> {
    let of_base = history::folder(base)?;
    match destination {
        Destination::InPlace => Some(of_base),
        Destination::Path(path) => Some(path.to_owned()),
    }
}

/// Whether the files of `result` are those of the patch's reference, every byte, as far as that is known.
fn is_reference_of(
    plan: &Plan<'_>,
    result: &Checkpoint,
    applied: &Applied,
    context: &Context<'_>,
) -> Result<bool, Cancelled> {
    let Some(metadata) = plan.whole_difference() else { return Ok(false) };
    let files = &metadata.reference.files;
    if !files.iter().map(|file| file.bytes).eq(result.files.iter().map(WeightFile::bytes)) {
        return Ok(false);
    }
    if files.iter().all(|file| file.content.is_some()) {
        let contents = of_files(result, &applied.digests, context)?;
        return Ok(contents.iter().map(Digest::to_string).eq(files.iter().flat_map(|file| file.content.clone())));
    }
    // As in patches of format 1.0 and 1.1.
    let sha256 = result.files.iter().map(|file| file.sha256(context)).collect::<Result<Vec<Digest>, Cancelled>>()?;
    Ok(sha256.iter().map(|digest| Some(digest.to_string())).eq(files.iter().map(|file| file.sha256.clone())))
}

/// The last apply to a model directory, taken back in place.
#[derive(Debug)]
pub struct Revert<'a> {
    /// The model directory, opened with [`Checkpoint::open_for_edit`].
    pub model: &'a Checkpoint,
    /// Where the undo patch is; by default where the log leads.
    pub undo: Option<&'a Path>,
}

impl Revert<'_> {
    /// Does it; returns the step that was taken back.
    ///
    /// # Errors
    /// [`Refusal::NoRevert`]; what [`Plan::check`] and [`in_place`] return.
    pub fn run(&self, context: &Context<'_>) -> Result<Step, Error> {
        let model = self.model;
        let refuse = |reason: NoRevert| -> Error { Refusal::NoRevert { path: model.path.clone(), reason }.into() };
        let Some(mut history) = History::of(model)? else { return Err(refuse(NoRevert::File)) };
        let files = digests(model, model, context)?;
        let state = history.state(&files);
        let Some(step) = history.steps.pop() else { return Err(refuse(NoRevert::NoStep)) };
        if state != State::After(history.steps.len() + 1) {
            return Err(refuse(NoRevert::Changed));
        }
        let Some(undo) = &step.undo else { return Err(refuse(NoRevert::NoUndo)) };
        let Some(path) = self.undo.map(Path::to_owned).or_else(|| find(undo, model)) else {
            return Err(refuse(NoRevert::UndoGone { file: undo.file.clone() }));
        };
        let patch = Patch::open(&path)?;
        if patch.id.to_string() != undo.id {
            return Err(refuse(NoRevert::OtherUndo { path, found: patch.id, expected: undo.id.clone() }));
        }
        let edits = [Edit::to_reference(patch)];
        let plan = Plan::check(model, &edits, &PlanOptions::default(), context)?;
        let finish = |Finished { result, .. }: Finished<'_>| -> Result<Beside, Error> {
            if digests(result, model, context)? != step.before {
                return Err(refuse(NoRevert::OtherResult));
            }
            // One that was written beside the log by default has done its work, unless an earlier step was the same.
            let is_needed = history.steps.iter().flat_map(|step| &step.undo).any(|earlier| earlier.file == undo.file);
            let remove = Some(undo.file.clone()).filter(|name| is_undo_patch(name) && !is_needed).into_iter().collect();
            Ok(Beside { write: vec![(history::FILE_NAME.to_owned(), history.to_bytes()?)], remove })
        };
        in_place(&plan, false, finish, context)?;
        Ok(step)
    }
}

/// Where the undo patch may be.
fn find(undo: &Undo, model: &Checkpoint) -> Option<PathBuf> {
    // Only a plain name: a log that someone else made must not lead anywhere.
    if !history::is_plain(&undo.file) || model.layout == Layout::File {
        return None;
    }
    let folder = history::folder(model)?;
    let places = [folder.join(&undo.file), folder.join("..").join(&undo.file), PathBuf::from(&undo.file)];
    places.into_iter().find(|path| path.is_file())
}

//! Whole jobs on a checkpoint: apply patches to it, with undo patch, log and mask, and revert the last apply.

use super::in_place::in_place;
use super::plan::{Edit, Plan, PlanOptions};
use super::run::{Applied, Finished, SideFiles, to_path};
use crate::checkpoint::{Checkpoint, Layout, Tensor, WeightFile};
use crate::context::{Cancelled, Context};
use crate::durable::{Existing, Failed, is_undo_patch, real_path, undo_name};
use crate::error::{Error, NoRevert, Refusal};
use crate::history::{self, AppliedPatch, Digests, History, State, Step, Undo, digests};
use crate::localize::scan::of_files;
use crate::mask::{self, PruningMask};
use crate::patch::Patch;
use std::path::{Path, PathBuf};

/// Where a result goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Destination<'a> {
    /// Into the base itself, which was opened with [`Checkpoint::open_for_edit`].
    InPlace,
    /// To a new file or directory.
    Path(&'a Path),
}

/// Where the patch goes that takes a result back to its base.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
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
pub(crate) struct KeepMask<'a> {
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
#[non_exhaustive]
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
    /// Applies all `edits` at once. By default the base is checked in full, the undo patch goes beside a model directory's log, and no
    /// existing file is replaced.
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

    /// Whether this apply is recorded in a model directory's log.
    pub fn log(self, log: bool) -> Self {
        Self { log, ..self }
    }

    /// Where the result's pruning mask goes; `None` to write no mask.
    pub(crate) fn keep_mask(self, mask: Option<KeepMask<'a>>) -> Self {
        Self { mask, ..self }
    }

    /// Whether outputs may replace files that are there.
    pub fn existing(self, existing: Existing) -> Self {
        Self { existing, ..self }
    }

    /// Writes the result to a new file or directory at `path`. Nothing is written before the base is checked and every result is known.
    ///
    /// # Errors
    /// [Kinds](crate::ErrorKind) `OutputIsBase`, `OutputSame`; what [`Plan::check`] returns; those of numbers, of outputs and of the log.
    pub fn to(&self, path: &Path, context: &Context<'_>) -> Result<Done, Error> {
        self.run(Destination::Path(path), context)
    }

    /// Edits the base itself, which was opened with [`Checkpoint::open_for_edit`]. An interrupted edit is put back by
    /// [`recover`](super::recover).
    ///
    /// # Errors
    /// As [`Apply::to`].
    pub fn in_place(&self, context: &Context<'_>) -> Result<Done, Error> {
        self.run(Destination::InPlace, context)
    }

    /// Writes the result.
    ///
    /// # Errors
    /// As [`Apply::to`].
    pub(crate) fn run(&self, destination: Destination<'_>, context: &Context<'_>) -> Result<Done, Error> {
        self.refuse_outputs(destination)?;
        let plan = Plan::check(self.base, self.edits, &self.options, context)?;
        self.write_mask(&plan, context)?;
        // The base is hashed before the edit, since in place there is no base afterwards.
        let log = if self.log { OpenLog::of(self.base, context)? } else { None };
        let with_undo = match self.undo {
            UndoTo::Log => log.is_some(),
            UndoTo::Path(_) => true,
            UndoTo::Nowhere => false,
        };

        let (mut is_reference, mut undo_path) = (false, None);
        let finish = |Finished { result, applied, undo }: Finished<'_>| -> Result<SideFiles, Error> {
            is_reference = is_reference_of(&plan, result, applied, context)?;
            let mut side_files = SideFiles::default();
            let mut logged_undo = None;
            if let Some(patch) = undo {
                let (undo, path) = self.put_undo(&patch, destination, &mut side_files)?;
                (logged_undo, undo_path) = (Some(undo), path);
            }
            if let Some(log) = log {
                let bytes = log.with_step(self.edits, logged_undo, (result, self.base), context)?;
                side_files.write.push((history::FILE_NAME.to_owned(), bytes));
            }
            Ok(side_files)
        };
        let applied = match destination {
            Destination::Path(path) => {
                to_path(&plan, with_undo.then_some(&plan), path, self.existing, finish, context)?
            }
            Destination::InPlace => in_place(&plan, with_undo, finish, context)?,
        };
        Ok(Done { applied, is_reference, added: plan.is_added(), undo: undo_path })
    }

    /// Writes the pruning mask of the result, if there is a place for it.
    fn write_mask(&self, plan: &Plan<'_>, context: &Context<'_>) -> Result<(), Error> {
        let Some(KeepMask { of_base, path }) = self.mask else { return Ok(()) };
        let mask = plan.result_mask(of_base, context)?;
        let covered: Vec<Tensor<'_>> = mask.names().filter_map(|name| self.base.tensor(name)).collect();
        Ok(mask::write(&mask, &covered, &[self.base], path, self.existing, context)?)
    }

    /// Writes the undo patch to the path that was asked for, or adds it to the files that appear together with the weights. Returns its
    /// entry for the log, and the path where it will be.
    fn put_undo(
        &self,
        patch: &Patch,
        destination: Destination<'_>,
        side_files: &mut SideFiles,
    ) -> Result<(Undo, Option<PathBuf>), Error> {
        if let UndoTo::Path(path) = self.undo {
            // The undo patch must be on the disk before the weights change.
            patch.save(path, self.existing).map_err(Failed::not_in_place)?;
            return Ok((Undo::new(patch.id(), path), Some(path.to_owned())));
        }
        let name = undo_name(&patch.id().short());
        let path = folder_of(destination, self.base).map(|folder| folder.join(&name));
        let undo = Undo::new(patch.id(), Path::new(&name));
        side_files.write.push((name, patch.to_bytes()?));
        Ok((undo, path))
    }

    /// Refuses outputs beside the result that would take the place of the base's own files, of the result, or of each other.
    fn refuse_outputs(&self, destination: Destination<'_>) -> Result<(), Refusal> {
        let real = |path: &Path| real_path(path).unwrap_or_else(|| path.to_owned());
        let index = match self.base.layout() {
            Layout::Index { index } | Layout::Directory { index: Some(index) } => Some(index.clone()),
            _ => None,
        };
        let log = history::folder(self.base).map(|folder| folder.join(history::FILE_NAME));
        let weights = self.base.files().iter().map(|file| file.path().to_owned());
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

/// The log of a model directory before an apply.
struct OpenLog {
    history: History,
    /// The digests of the model's files.
    before: Digests,
}

impl OpenLog {
    /// Reads the log of `base` and hashes its files; `None` for a single file, which has no log.
    fn of(base: &Checkpoint, context: &Context<'_>) -> Result<Option<Self>, Error> {
        let Some(history) = History::of(base)? else { return Ok(None) };
        let before = digests(base, base, context)?;
        Ok(Some(Self { history, before }))
    }

    /// The bytes of the log with one more step: `edits` made `result`, whose files have the names that they have in `base`.
    fn with_step(
        mut self,
        edits: &[Edit],
        undo: Option<Undo>,
        (result, base): (&Checkpoint, &Checkpoint),
        context: &Context<'_>,
    ) -> Result<Vec<u8>, Error> {
        let after = digests(result, base, context)?;
        let patches = edits.iter().map(|edit| AppliedPatch::new(&edit.patch, edit.kind)).collect();
        let source = base.source().map(str::to_owned);
        self.history.steps.push(Step::new(patches, source, self.before, after, undo));
        self.history.to_bytes()
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

/// Whether every file of `result` has the digest of the reference's file. False if the patch does not know these digests.
pub(super) fn is_reference_of(
    plan: &Plan<'_>,
    result: &Checkpoint,
    applied: &Applied,
    context: &Context<'_>,
) -> Result<bool, Cancelled> {
    let Some(metadata) = plan.whole_difference() else { return Ok(false) };
    let files = &metadata.reference.files;
    if !files.iter().map(|file| file.bytes).eq(result.files().iter().map(WeightFile::bytes)) {
        return Ok(false);
    }
    let contents = of_files(result, &applied.digests, context)?;
    Ok(contents.iter().map(|digest| Some(digest.to_string())).eq(files.iter().map(|file| file.content.clone())))
}

/// Reverts the last apply to a model directory, in place.
#[derive(Debug)]
pub struct Revert<'a> {
    /// The model directory, opened with [`Checkpoint::open_for_edit`].
    pub model: &'a Checkpoint,
    /// Where the undo patch is; `None` to look where the log says.
    pub undo: Option<&'a Path>,
}

impl Revert<'_> {
    /// Edits the model in place, and returns the step that was reverted.
    ///
    /// # Errors
    /// [Kind](crate::ErrorKind) `RevertImpossible`; what [`Plan::check`] returns; those of outputs.
    pub fn run(&self, context: &Context<'_>) -> Result<Step, Error> {
        let model = self.model;
        let (history, step) = self.last_step(context)?;
        let undo = step.undo.as_ref().ok_or_else(|| self.refusal(NoRevert::NoUndo))?;
        let edits = [Edit::to_reference(self.open_undo(undo)?)];
        let plan = Plan::check(model, &edits, &PlanOptions::default(), context)?;
        let finish = |Finished { result, .. }: Finished<'_>| -> Result<SideFiles, Error> {
            if digests(result, model, context)? != step.before {
                return Err(self.refusal(NoRevert::OtherResult));
            }
            let write = vec![(history::FILE_NAME.to_owned(), history.to_bytes()?)];
            let remove = if is_obsolete(undo, &history) { vec![undo.file.clone()] } else { Vec::new() };
            Ok(SideFiles { write, remove })
        };
        in_place(&plan, false, finish, context)?;
        Ok(step)
    }

    /// The last step of the log, which must have made the files what they are, and the log without it.
    fn last_step(&self, context: &Context<'_>) -> Result<(History, Step), Error> {
        let mut history = History::of(self.model)?.ok_or_else(|| self.refusal(NoRevert::File))?;
        let state = history.state(&digests(self.model, self.model, context)?);
        let step = history.steps.pop().ok_or_else(|| self.refusal(NoRevert::NoStep))?;
        if state != State::After(history.steps.len() + 1) {
            return Err(self.refusal(NoRevert::Changed));
        }
        Ok((history, step))
    }

    /// The patch that the log calls `undo`.
    fn open_undo(&self, undo: &Undo) -> Result<Patch, Error> {
        let path = self.undo.map(Path::to_owned).or_else(|| find(undo, self.model));
        let path = path.ok_or_else(|| self.refusal(NoRevert::UndoGone { file: undo.file.clone() }))?;
        let patch = Patch::open(&path)?;
        if patch.id().to_string() != undo.id {
            return Err(self.refusal(NoRevert::OtherUndo { path, found: patch.id(), expected: undo.id.clone() }));
        }
        Ok(patch)
    }

    fn refusal(&self, reason: NoRevert) -> Error {
        Refusal::NoRevert { path: self.model.path().to_owned(), reason }.into()
    }
}

/// Whether a used undo patch can go: an apply wrote it beside the log, and no earlier step of the log needs it.
fn is_obsolete(undo: &Undo, earlier: &History) -> bool {
    let is_needed = earlier.steps.iter().flat_map(|step| &step.undo).any(|earlier| earlier.file == undo.file);
    is_undo_patch(&undo.file) && !is_needed
}

/// Looks for the undo patch in the places where an apply may have put it.
fn find(undo: &Undo, model: &Checkpoint) -> Option<PathBuf> {
    // Only a plain name: a log that someone else made must not lead anywhere.
    if !history::is_plain(&undo.file) || model.layout() == &Layout::File {
        return None;
    }
    let folder = history::folder(model)?;
    let places = [folder.join(&undo.file), folder.join("..").join(&undo.file), PathBuf::from(&undo.file)];
    places.into_iter().find(|path| path.is_file())
}

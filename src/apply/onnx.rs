//! ONNX files as bases: finds the tensors that patches change by their digests, edits them with the code that edits checkpoints, and writes
//! them back.

use super::plan::{Edit, Plan, PlanOptions};
use super::rewrite::{EachPart, Edits, Rewrite};
use super::run::{Applied, same_file, write_weights};
use crate::checkpoint::{Checkpoint, Layout, Tensor, TensorInfo, WeightFile};
use crate::context::Context;
use crate::digest::{Digest, Hasher};
use crate::durable::{Commit, Existing, Failed, NewFile};
use crate::error::{Difference, Error, Refusal};
use crate::onnx::{Binding, BoundTensor, Malformed, OnnxFile, OpenError, TensorQuery, find, matrix, transpose};
use crate::patch::Patch;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// An ONNX file, and which of its initializers are the tensors that patches change.
#[derive(Debug)]
pub struct OnnxBase {
    /// The tensors that were found, with the names, shapes and orientation that the patches give them.
    pub tensors: Checkpoint,
    /// The tensors that were not found, or that several initializers may be.
    pub missing: Vec<(String, Difference)>,
    /// The file and those that its weights are in. Their tensors are the initializers that were found.
    places: Checkpoint,
    /// Which tensor each of these initializers is, by the initializer's name.
    bindings: BTreeMap<String, Binding>,
}

impl OnnxBase {
    /// Opens the ONNX file at `path`, and finds the tensors that `patches` change.
    ///
    /// Memory: a copy of each matrix that the file holds transposed.
    ///
    /// # Errors
    /// I/O; [`Malformed`]; cancellation. Missing tensors are no error here: [`OnnxBase::plan`] refuses them.
    pub fn open<'p>(
        path: &Path,
        patches: impl IntoIterator<Item = &'p Patch>,
        context: &Context<'_>,
    ) -> Result<Self, Error> {
        let file = OnnxFile::open(path)?;
        let mut wanted: BTreeMap<&str, TensorQuery> = BTreeMap::new();
        for patch in patches {
            for entry in &patch.table().tensors {
                // If two patches expect different bases, the plan refuses one of them.
                wanted.entry(&entry.name).or_insert_with(|| TensorQuery {
                    name: entry.name.clone(),
                    dtype: entry.dtype,
                    shape: entry.shape.clone(),
                    digest: entry.base_digest,
                });
            }
        }
        let wanted: Vec<TensorQuery> = wanted.into_values().collect();
        let found = find(&file, &wanted, context)?;
        let absent = found.absent.into_iter().map(|name| (name, Difference::Unbound));
        let unsure = found.ambiguous.into_iter().map(|name| (name, Difference::Constant));
        let mut missing: Vec<(String, Difference)> = absent.chain(unsure).collect();
        missing.sort_by(|a, b| a.0.cmp(&b.0));
        let mut bindings = found.bound.into_iter().map(|binding| (binding.initializer.clone(), binding)).collect();
        let places = places(&file, &mut bindings)?;
        let tensors = tensors(&places, &bindings, &wanted)?;
        Ok(Self { tensors, missing, places, bindings })
    }

    /// Plans edits of the tensors that were found.
    ///
    /// # Errors
    /// [Kind](crate::ErrorKind) `BaseDiffers`, if any is missing; what [`Plan::check`] returns.
    pub fn plan<'a>(
        &'a self,
        edits: &'a [Edit],
        options: &PlanOptions,
        context: &Context<'_>,
    ) -> Result<Plan<'a>, Error> {
        for edit in edits {
            if let Some(refusal) = self.refusal(&edit.patch) {
                return Err(refusal.into());
            }
        }
        Plan::check(&self.tensors, edits, options, context)
    }

    /// Why `patch` does not fit, if tensors that it changes are missing.
    pub(crate) fn refusal(&self, patch: &Patch) -> Option<Refusal> {
        let names = |name: &String| patch.table().tensors.binary_search_by(|entry| entry.name.cmp(name)).is_ok();
        let differences: Vec<_> = self.missing.iter().filter(|(name, _)| names(name)).cloned().collect();
        (!differences.is_empty()).then(|| Refusal::Base {
            patch: patch.name().to_owned(),
            differences,
            tensors: patch.table().tensors.len(),
            state: crate::error::BaseState::Unknown,
            portable: false,
        })
    }

    /// The files that [`OnnxBase::write`] writes: `output`, then those of its external weights, at the same places beside it.
    pub fn outputs(&self, output: &Path) -> Vec<PathBuf> {
        let (from, to) = (folder(self.places.path()), folder(output));
        let weights = self.places.files().iter().skip(1).map(|file| match file.path().strip_prefix(&from) {
            Ok(inner) => to.join(inner),
            Err(_) => output.to_owned(),
        });
        std::iter::once(output.to_owned()).chain(weights).collect()
    }

    /// Writes the result to `output`, and the files that its weights are in beside it, under the names that it has for them,
    /// changed or not. The base is not touched.
    ///
    /// # Errors
    /// [Kinds](crate::ErrorKind) `OutputIsBase`, `BaseShared`; those of outputs. Files are put in their places
    /// once all are complete, the ONNX file last.
    pub fn write(
        &self,
        plan: &Plan<'_>,
        output: &Path,
        existing: Existing,
        context: &Context<'_>,
    ) -> Result<Applied, Error> {
        context.begin("applying", self.places.bytes());
        // What lies beside a new ONNX file may be another model's weights: only the files of an earlier result are replaced.
        let existing_weights = if output.exists() { existing } else { Existing::Keep };
        let mut files = Vec::new();
        for (index, (file, path)) in self.places.files().iter().zip(self.outputs(output)).enumerate() {
            if same_file(&path, file.path()) {
                return Err(Refusal::BesideBase { path }.into());
            }
            if index > 0 {
                let folder = folder(&path);
                std::fs::create_dir_all(&folder).map_err(|e| Failed::io("create", &folder, e))?;
            }
            files.push(NewFile::create(&path, if index == 0 { existing } else { existing_weights })?);
        }
        let export = Export { base: self, plan, digests: Mutex::default() };
        let outputs: Vec<(usize, &NewFile)> = files.iter().enumerate().collect();
        let (applied, _) = write_weights(&export, None, &outputs, context)?;
        self.places.unchanged()?;
        // Weights may lie in folders of their own: of each folder all files appear together, the one of the ONNX file last.
        let mut commits: BTreeMap<PathBuf, Commit> = BTreeMap::new();
        for file in files {
            let folder = folder(file.path());
            commits.entry(folder.clone()).or_insert_with(|| Commit::new(&folder)).add(file);
        }
        let last = commits.remove(&folder(output));
        commits.into_values().chain(last).try_for_each(|commit| commit.run(None))?;
        Ok(applied)
    }
}

/// The ONNX file and its external data as a checkpoint, whose tensors are the initializers of `bindings` in the order of their bytes. Of
/// several initializers that share their bytes, the first stands for all.
fn places(file: &OnnxFile, bindings: &mut BTreeMap<String, Binding>) -> Result<Checkpoint, Error> {
    let mut files = Vec::new();
    for place in file.files() {
        let mut bound: Vec<TensorInfo> =
            place.tensors().iter().filter(|tensor| bindings.contains_key(&tensor.name)).cloned().collect();
        bound.sort_by_key(|tensor| (tensor.range().start, tensor.range().end));
        let mut tensors: Vec<TensorInfo> = Vec::new();
        for tensor in bound {
            match tensors.last() {
                Some(last) if last.range() == tensor.range() => {
                    let same = bindings.remove(&tensor.name);
                    if let (Some(first), Some(same)) = (bindings.get_mut(&last.name), same) {
                        first.alternatives.extend(same.candidates().cloned());
                    }
                }
                Some(last) if last.range().end > tensor.range().start => {
                    let initializers = [last.name.clone(), tensor.name];
                    let reason = Malformed::Overlap { initializers };
                    return Err(OpenError::Malformed { path: file.path().to_owned(), reason }.into());
                }
                _ => tensors.push(tensor),
            }
        }
        let (path, map) = (place.path().to_owned(), place.map());
        files.push(WeightFile::of_tensors(path, tensors, map));
    }
    Ok(Checkpoint::of_files(file.path(), Layout::File, files)?)
}

/// The bound tensors in the orientation of the patches: views of the files, or copies of those that are stored transposed.
fn tensors(
    places: &Checkpoint,
    bindings: &BTreeMap<String, Binding>,
    wanted: &[TensorQuery],
) -> Result<Checkpoint, Error> {
    let mut files: Vec<WeightFile> = Vec::new();
    for TensorQuery { name, dtype, shape, .. } in wanted {
        let is = |source: &&BoundTensor| source.tensor == *name;
        let mut found = bindings.values().filter_map(|binding| Some((binding, binding.candidates().find(is)?)));
        let Some((binding, source)) = found.clone().find(|(_, source)| !source.transposed).or_else(|| found.next())
        else {
            continue;
        };
        let Some(place) = places.tensor(&binding.initializer) else { continue };
        let (path, info) = (place.file.path().to_owned(), place.info);
        let (range, map) = match matrix(shape) {
            Some([rows, columns]) if source.transposed => {
                let bytes = transpose(place.elements(0..rows * columns), [columns, rows], dtype.width());
                place.release(0..rows * columns);
                (0..bytes.len() as u64, crate::checkpoint::map::FileBytes::Owned(bytes.into()))
            }
            _ => (info.range(), place.file.map()),
        };
        let tensors = vec![TensorInfo::new(name.clone(), *dtype, shape.clone(), range)];
        files.push(WeightFile::of_tensors(path, tensors, map));
    }
    Ok(Checkpoint::of_files(places.path(), Layout::File, files)?)
}

/// Carries a plan for tensors out on the initializers that hold them.
struct Export<'a> {
    base: &'a OnnxBase,
    plan: &'a Plan<'a>,
    /// The digests of the result's tensors in the orientation of the patches, by name.
    digests: Mutex<BTreeMap<String, Digest>>,
}

impl Export<'_> {
    /// Calls `each` with the result's bytes of the tensor of an initializer, and stores their digest.
    fn edit(&self, source: &BoundTensor, each: &mut EachPart<'_>, context: &Context<'_>) -> Result<u64, Error> {
        let Some(tensor) = self.plan.base().tensor(&source.tensor) else { return Ok(0) };
        let width = tensor.info.dtype.width();
        let mut hasher = Hasher::default();
        let mut hashing = |part: Range<u64>, bytes: &mut [u8], edits: Edits<'_>| {
            edits.make(width, bytes);
            hasher.update(bytes);
            each(part, bytes, Edits::Listed(&[]))
        };
        let edited = self.plan.edits(tensor, 0..tensor.info.elements(), &mut hashing, context)?;
        let mut digests = self.digests.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        digests.insert(source.tensor.clone(), hasher.finish());
        Ok(edited)
    }

    /// The result's bytes of the tensor of an initializer, in the initializer's orientation, and the number of edited weights.
    fn oriented(
        &self,
        source: &BoundTensor,
        place: Tensor<'_>,
        context: &Context<'_>,
    ) -> Result<(Vec<u8>, u64), Error> {
        let mut bytes = Vec::with_capacity(place.info.bytes() as usize);
        let mut each = |_: Range<u64>, part: &mut [u8], _: Edits<'_>| {
            bytes.extend_from_slice(part);
            Ok(())
        };
        let edited = self.edit(source, &mut each, context)?;
        let tensor = self.plan.base().tensor(&source.tensor);
        Ok(match tensor.and_then(|tensor| matrix(&tensor.info.shape)) {
            Some(shape) if source.transposed => (transpose(&bytes, shape, place.info.dtype.width()), edited),
            _ => (bytes, edited),
        })
    }
}

impl Rewrite for Export<'_> {
    fn base(&self) -> &Checkpoint {
        &self.base.places
    }

    fn changes(&self, initializer: &str) -> bool {
        let binding = self.base.bindings.get(initializer);
        binding.is_some_and(|binding| binding.candidates().any(|source| self.plan.changes(&source.tensor)))
    }

    /// A transpose cannot be divided.
    fn parts(&self, place: Tensor<'_>) -> Vec<Range<u64>> {
        let whole = 0..place.info.elements();
        vec![whole]
    }

    fn rewrite(
        &self,
        place: Tensor<'_>,
        _: Range<u64>,
        each: &mut EachPart<'_>,
        context: &Context<'_>,
    ) -> Result<u64, Error> {
        let Some(binding) = self.base.bindings.get(&place.info.name) else { return Ok(0) };
        if binding.alternatives.is_empty() && !binding.source.transposed {
            return self.edit(&binding.source, each, context);
        }
        let (mut bytes, edited) = self.oriented(&binding.source, place, context)?;
        for alternative in &binding.alternatives {
            if self.oriented(alternative, place, context)?.0 != bytes {
                let tensors = [&binding.source, alternative].map(|source| source.tensor.clone());
                return Err(Refusal::Shared { initializer: binding.initializer.clone(), tensors }.into());
            }
        }
        each(0..place.info.elements(), &mut bytes, Edits::Listed(&[]))?;
        Ok(edited)
    }

    fn compare_declared(&self, _: &BTreeMap<String, Digest>) -> Result<bool, Error> {
        // The initializers were read back. A transposed one has another digest than its tensor, whose digest was made while it was edited.
        self.plan.compare_declared(&self.digests.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// The folder that a file is in.
fn folder(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_owned()
}

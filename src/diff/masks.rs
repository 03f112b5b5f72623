//! The pruning masks of a pair of checkpoints, from the sources that the options name.

use super::DiffOptions;
use crate::checkpoint::{Checkpoint, Tensor, names};
use crate::context::Context;
use crate::format::metadata;
use crate::localize::candidates::Candidates;
use crate::localize::{Impossible, mask};
use crate::mask::{MaskFault, PairMasks, PruningMask, Scope, Selection, Sparsity};
use crate::pair::{Pair, TensorPair};
use std::collections::HashSet;

/// Where the pruning mask of a checkpoint is.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum MaskSource<'a> {
    /// In a mask file.
    File(&'a Checkpoint),
    /// Beside the weights in the checkpoint, as `X_orig` and `X_mask`.
    Pairs,
    /// In the weights themselves: those that are zero are pruned.
    Zeros,
    /// None is stored: the weights of smallest magnitude count as pruned.
    Sparsity(Sparsity, Scope),
    /// The checkpoint is not pruned.
    Dense,
}

impl<'a> MaskSource<'a> {
    /// The name in the metadata.
    fn label(self) -> &'static str {
        match self {
            MaskSource::File(_) => "file",
            MaskSource::Pairs => "pairs",
            MaskSource::Zeros => "zeros",
            MaskSource::Sparsity(..) => "sparsity",
            MaskSource::Dense => "dense",
        }
    }

    /// The mask of `checkpoint`. Zeros and magnitudes are looked at in the `candidates` alone.
    ///
    /// # Errors
    /// [`MaskFault`].
    pub(crate) fn find(
        self,
        checkpoint: &'a Checkpoint,
        candidates: &[Tensor<'a>],
        context: &Context<'_>,
    ) -> Result<PruningMask<'a>, MaskFault> {
        match self {
            MaskSource::File(file) => PruningMask::stored(file, checkpoint),
            MaskSource::Pairs => PruningMask::pairs(checkpoint),
            MaskSource::Zeros => Ok(PruningMask::zeros(candidates.iter().copied())),
            MaskSource::Sparsity(sparsity, scope) => PruningMask::smallest(candidates, sparsity, scope, None, context),
            MaskSource::Dense => Ok(PruningMask::default()),
        }
    }
}

/// The masks of a pair, and how many weights they keep.
pub(super) struct Masks<'a> {
    pub pair: PairMasks<'a>,
    pub description: metadata::Masks,
    /// The candidates' weights that exactly one of the masks keeps.
    pub differing: Selection,
    /// Names of tensors that have a mask and are no candidates.
    pub elsewhere: Vec<String>,
}

impl<'a> Masks<'a> {
    /// The masks of `pair`; `None` if the options name no source of masks.
    ///
    /// # Errors
    /// [`Impossible::Mask`] for masks that are missing or malformed, [`Impossible::Unpruned`].
    pub fn find(
        pair: &Pair<'a>,
        candidates: &Candidates,
        options: &DiffOptions<'a>,
        context: &Context<'_>,
    ) -> Result<Option<Self>, Impossible> {
        let Some([target_source, reference_source]) = options.masks else { return Ok(None) };
        let tensors: Vec<&TensorPair<'a>> = candidates.tensors.iter().map(|place| &pair.tensors[*place]).collect();
        let targets: Vec<Tensor<'a>> = tensors.iter().map(|tensor| tensor.target).collect();
        let references: Vec<Tensor<'a>> = tensors.iter().map(|tensor| tensor.reference).collect();
        let target = target_source.find(pair.target, &targets, context)?;
        let reference = reference_source.find(pair.reference, &references, context)?;
        let considered: HashSet<&str> = targets.iter().map(|tensor| tensor.info.name.as_str()).collect();
        let elsewhere = target.names().filter(|name| !considered.contains(name));
        let elsewhere = elsewhere.map(str::to_owned).collect();
        let masks = PairMasks { target, reference };
        let (differing, overlaps) = mask::select(pair, &candidates.tensors, &masks, context)?;
        let source = source_label(target_source, reference_source);
        let description = describe(source, tensors.into_iter().zip(overlaps));
        if let Some(unpruned) = options.unpruned {
            check_unpruned(unpruned, &targets)?;
        }
        Ok(Some(Self { pair: masks, description, differing, elsewhere }))
    }
}

/// The name of both sources in the metadata.
fn source_label(target: MaskSource<'_>, reference: MaskSource<'_>) -> String {
    match [target.label(), reference.label()] {
        [target, reference] if target == reference => target.to_owned(),
        [target, reference] => format!("{target}, {reference}"),
    }
}

/// The metadata: how many weights the masks keep, in all and by component.
fn describe<'a>(
    source: String,
    overlaps: impl Iterator<Item = (&'a TensorPair<'a>, metadata::Overlap)>,
) -> metadata::Masks {
    let mut description = metadata::Masks { source, ..metadata::Masks::default() };
    for (tensor, overlap) in overlaps {
        description.overlap = description.overlap.and(overlap);
        let component = names::place(tensor.name()).component.label().to_owned();
        let sum = description.by_component.entry(component).or_default();
        *sum = sum.and(overlap);
    }
    description
}

/// Refuses an unpruned checkpoint without the targets' tensors.
fn check_unpruned(unpruned: &Checkpoint, targets: &[Tensor<'_>]) -> Result<(), Impossible> {
    for target in targets {
        let same = |found: Tensor<'_>| found.info.dtype == target.info.dtype && found.info.shape == target.info.shape;
        if !unpruned.tensor(&target.info.name).is_some_and(same) {
            return Err(Impossible::Unpruned { tensor: target.info.name.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::localize::candidates::{CandidateOptions, Kinds, Params};
    use crate::testing::floats;

    /// Finds the masks of `target` and `reference`, of which `tensors` are candidates.
    fn find<'a>(pair: &Pair<'a>, include: &str, options: &DiffOptions<'a>) -> Result<Option<Masks<'a>>, Impossible> {
        let include = vec![include.to_owned()];
        let only = CandidateOptions { params: Some(Params::All), include, ..CandidateOptions::default() };
        let candidates = Candidates::new(&pair.targets(), &only, Kinds::Floats).unwrap();
        Masks::find(pair, &candidates, options, &Context::silent())
    }

    #[test]
    fn masks_of_zeros_are_counted_by_which_side_keeps_what() {
        let (target, reference) = (floats(&[("w", &[0.0, 1.0, 2.0, 0.0])]), floats(&[("w", &[3.0, 1.0, 0.0, 0.0])]));
        let pair = Pair::new(&target, &reference, &Default::default()).unwrap();
        let options = DiffOptions { masks: Some([MaskSource::Zeros; 2]), ..DiffOptions::default() };
        let Masks { description, differing, .. } = find(&pair, "*", &options).unwrap().unwrap();
        let overlap = metadata::Overlap { both: 1, base_only: 1, reference_only: 1, neither: 1 };
        assert_eq!((description.source.as_str(), description.overlap), ("zeros", overlap));
        assert_eq!(differing.len(), 2);
        assert!(find(&pair, "*", &DiffOptions::default()).unwrap().is_none(), "no masks were asked for");
    }

    #[test]
    fn two_sources_are_both_named() {
        let (target, reference) = (floats(&[("w", &[1.0, 2.0])]), floats(&[("w", &[0.0, 2.0])]));
        let pair = Pair::new(&target, &reference, &Default::default()).unwrap();
        let options = DiffOptions { masks: Some([MaskSource::Dense, MaskSource::Zeros]), ..DiffOptions::default() };
        assert_eq!(find(&pair, "*", &options).unwrap().unwrap().description.source, "dense, zeros");
    }

    #[test]
    fn an_unpruned_checkpoint_must_have_the_targets_tensors() {
        let (target, reference) = (floats(&[("w", &[0.0, 2.0])]), floats(&[("w", &[1.0, 0.0])]));
        let pair = Pair::new(&target, &reference, &Default::default()).unwrap();
        for (unpruned, fits) in [(floats(&[("w", &[1.0, 2.0])]), true), (floats(&[("w", &[1.0])]), false)] {
            let masks = Some([MaskSource::Zeros; 2]);
            let options = DiffOptions { masks, unpruned: Some(&unpruned), ..DiffOptions::default() };
            assert_eq!(find(&pair, "*", &options).is_ok(), fits);
        }
    }
}

//! The pruning masks of the pair, from wherever they are.

use super::DiffOptions;
use crate::checkpoint::{Checkpoint, Tensor, names};
use crate::context::Context;
use crate::format::metadata;
use crate::localize::candidates::Candidates;
use crate::localize::{Impossible, mask};
use crate::mask::{MaskFault, PairMasks, PruningMask, Scope, Selection, Sparsity};
use crate::pair::Pair;
use std::collections::HashSet;

/// Where the pruning mask of a checkpoint is.
#[derive(Debug, Clone, Copy)]
pub enum MaskSource<'a> {
    /// In a mask file.
    File(&'a Checkpoint),
    /// Beside the weights, as `X_orig` and `X_mask`.
    Pairs,
    /// Its zeros are the pruned weights.
    Zeros,
    /// Nowhere yet: the weights of smallest magnitude are pruned.
    Sparsity(Sparsity, Scope),
    /// It is not pruned.
    Dense,
}

impl<'a> MaskSource<'a> {
    fn label(self) -> &'static str {
        match self {
            MaskSource::File(_) => "file",
            MaskSource::Pairs => "pairs",
            MaskSource::Zeros => "zeros",
            MaskSource::Sparsity(..) => "sparsity",
            MaskSource::Dense => "dense",
        }
    }

    /// The mask of `checkpoint`, of which `candidates` may be pruned.
    ///
    /// # Errors
    /// [`MaskFault`].
    pub fn find(
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

/// The masks of a pair, and what they keep.
pub(super) struct Masks<'a> {
    pub pair: PairMasks<'a>,
    pub description: metadata::Masks,
    /// What exactly one of them keeps.
    pub differing: Selection,
    /// Tensors that have a mask and are no candidates.
    pub elsewhere: Vec<String>,
}

impl<'a> Masks<'a> {
    /// The masks of `pair`, if the options say that there are any.
    pub fn find(
        pair: &Pair<'a>,
        candidates: &Candidates,
        options: &DiffOptions<'a>,
        context: &Context<'_>,
    ) -> Result<Option<Self>, Impossible> {
        let Some([target_source, reference_source]) = options.masks else { return Ok(None) };
        let tensors = || candidates.tensors.iter().map(|at| &pair.tensors[*at]);
        let targets: Vec<Tensor<'a>> = tensors().map(|tensor| tensor.target).collect();
        let references: Vec<Tensor<'a>> = tensors().map(|tensor| tensor.reference).collect();
        let target = target_source.find(pair.target, &targets, context)?;
        let reference = reference_source.find(pair.reference, &references, context)?;
        let considered: HashSet<&str> = targets.iter().map(|tensor| tensor.info.name.as_str()).collect();
        let elsewhere = target.names().filter(|name| !considered.contains(name));
        let elsewhere = elsewhere.map(str::to_owned).collect();
        let masks = PairMasks { target, reference };
        let (differing, overlaps) = mask::select(pair, &candidates.tensors, &masks, context)?;
        let mut description = metadata::Masks {
            source: match [target_source.label(), reference_source.label()] {
                [target, reference] if target == reference => target.to_owned(),
                [target, reference] => format!("{target}, {reference}"),
            },
            ..metadata::Masks::default()
        };
        for (tensor, overlap) in tensors().zip(overlaps) {
            description.overlap = description.overlap.and(overlap);
            let component = names::place(tensor.name()).component.label().to_owned();
            let of_component = description.by_component.entry(component).or_default();
            *of_component = of_component.and(overlap);
        }
        if let Some(unpruned) = options.unpruned {
            for info in targets.iter().map(|tensor| tensor.info) {
                let same = unpruned
                    .tensor(&info.name)
                    .is_some_and(|t| t.info.dtype == info.dtype && t.info.shape == info.shape);
                if !same {
                    return Err(Impossible::Unpruned { tensor: info.name.clone() });
                }
            }
        }
        Ok(Some(Self { pair: masks, description, differing, elsewhere }))
    }
}

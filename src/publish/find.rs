//! Which patches of a place fit a checkpoint.

use super::Listed;
use crate::apply::BaseState;
use crate::checkpoint::Checkpoint;
use crate::context::{Cancelled, Context};
use crate::digest::Digest;
use crate::error::Error;
use crate::format::tensor_table::TensorEntry;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// How a patch fits a checkpoint.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    /// The patch.
    pub listed: &'a Listed,
    /// How many of its tensors the checkpoint does not have as they are in the patch's base.
    pub differing: usize,
    /// What the checkpoint is to the patch.
    pub state: BaseState,
}

impl Found<'_> {
    /// Whether the checkpoint is the patch's base.
    pub fn fits(&self) -> bool {
        self.differing == 0
    }
}

/// Says of each patch whether `model` is its base, in the order of `patches`.
///
/// Hashes each tensor once that a patch changes, whose dtype and shape are those of the checkpoint.
///
/// # Errors
/// A checkpoint that changed meanwhile; cancellation.
pub(crate) fn find<'a>(
    model: &Checkpoint,
    patches: &'a [Listed],
    context: &Context<'_>,
) -> Result<Vec<Found<'a>>, Error> {
    let digests = digests(model, patches, context);
    let digests = model.settled(digests.map_err(Error::from))?;
    Ok(patches.iter().map(|listed| found(listed, &digests)).collect())
}

/// The digests of the tensors of `model` that any of the patches can be applied to, by name.
pub(super) fn digests<'a>(
    model: &Checkpoint,
    patches: &'a [Listed],
    context: &Context<'_>,
) -> Result<BTreeMap<&'a str, Digest>, Cancelled> {
    let entries = patches.iter().flat_map(|listed| &listed.patch.table().tensors);
    let tensors = entries.filter_map(|entry| {
        let tensor = model.tensor(&entry.name)?;
        (tensor.info.dtype == entry.dtype && tensor.info.shape == entry.shape).then_some((&entry.name[..], tensor))
    });
    let tensors: BTreeMap<_, _> = tensors.collect();
    context.begin("hashing the checkpoint", tensors.values().map(|tensor| tensor.info.bytes()).sum());
    tensors.into_par_iter().map(|(name, tensor)| Ok((name, tensor.digest(context)?))).collect()
}

fn found<'a>(listed: &'a Listed, digests: &BTreeMap<&str, Digest>) -> Found<'a> {
    let table = listed.patch.table();
    let differs = |entry: &&TensorEntry| digests.get(&entry.name[..]) != Some(&entry.base_digest);
    let differing = table.tensors.iter().filter(differs).count();
    let there: Option<Vec<Digest>> = table.tensors.iter().map(|entry| digests.get(&entry.name[..]).copied()).collect();
    let state = match there.map(|there| Digest::root(&there)) {
        _ if differing == 0 => BaseState::Base,
        Some(root) if root == table.roots.result => BaseState::Result,
        Some(root) if root == table.roots.reference => BaseState::Reference,
        _ => BaseState::Unknown,
    };
    Found { listed, differing, state }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;
    use crate::testing::{checkpoint, floats, portable, vector};

    fn listed(file: &str, base: &Checkpoint, reference: &Checkpoint) -> Listed {
        Listed { file: file.to_owned(), patch: portable(base, reference, 1.0).patch, signed: false }
    }

    #[test]
    fn patches_fit_by_their_base_and_what_the_checkpoint_is_to_others_is_said() {
        let one = floats(&[("a", &[1.0, 2.0]), ("b", &[3.0])]);
        let two = floats(&[("a", &[1.0, 2.5]), ("b", &[3.5])]);
        let three = floats(&[("a", &[1.0, 2.5]), ("b", &[4.0])]);
        let halves = checkpoint(&[vector("a", Dtype::F16, &[0, 0]), vector("b", Dtype::F16, &[0])]);
        let patches = [listed("1", &one, &two), listed("2", &two, &three), listed("3", &three, &one)];
        let states = |model: &Checkpoint| {
            let found = find(model, &patches, &Context::silent()).unwrap();
            found.iter().map(|found| (found.fits(), found.differing, found.state)).collect::<Vec<_>>()
        };
        assert_eq!(states(&one)[0], (true, 0, BaseState::Base));
        assert_eq!(states(&two)[0], (false, 2, BaseState::Result));
        assert_eq!(states(&two)[1], (true, 0, BaseState::Base));
        assert_eq!(states(&three)[0], (false, 2, BaseState::Unknown));
        assert_eq!(states(&halves)[0], (false, 2, BaseState::Unknown));
    }
}

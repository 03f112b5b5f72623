//! From encoded blocks and an outline to the bytes of a patch.

use super::Diffed;
use super::outline::Outline;
use crate::apply::results;
use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::digest::{Digest, PartDigest, join};
use crate::error::Error;
use crate::format::block::choose::BlockEncodings;
use crate::format::block::encode::{Portability, Precision};
use crate::format::block::{BlockId, Elements};
use crate::format::builder::{NewPatch, PatchBuilder, TensorParts};
use crate::format::limits::BLOCK_LOG2;
use crate::format::metadata::{Metadata, Reduced};
use crate::format::tensor_table::Counterparts;
use crate::localize::full::{Differing, differing};
use crate::localize::room::Room;
use crate::localize::scan::{Block, BlockDigests, PairDigests, TensorDigests, scan};
use crate::localize::value::{BlockCounts, Largest, LargestInBlock, LargestSearch, Part, RankingGroup, Shortlist};
use crate::mask::{PairMasks, Selection, flags};
use crate::pair::Pair;
use crate::patch::Patch;
use crate::patch::encode::{
    Buffers, DenseBlock, EncodeError, EncodeOptions, PatchedDigests, SelectedElements, encode_block,
    encode_dense_block, encode_selection,
};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The encoded selection of a pair of checkpoints, or of a shard's part of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Found {
    /// The blocks with selected elements, encoded, ascending by tensor and index. Where not all that differs is selected, also the
    /// digests of what each block becomes.
    pub encoded: Vec<(BlockEncodings, Option<PatchedDigests>)>,
    /// The digests of all blocks that were read, ascending by tensor and index.
    pub digests: Vec<BlockDigests>,
}

impl Found {
    /// Encodes every difference in the tensors `candidates` within `blocks`, in one pass over the pair.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn full(
        pair: &Pair<'_>,
        blocks: &[BlockId],
        candidates: &[usize],
        coding: EncodeOptions<'_>,
        context: &Context<'_>,
    ) -> Result<Self, EncodeError> {
        let (encoded, digests) = scan(pair, blocks, |block| {
            if candidates.binary_search(&block.id.tensor).is_err() {
                return Ok((None, block.hash(context)?));
            }
            let (differing, digests) = differing(block, coding.encoding, context, |_, _, _| Ok::<_, EncodeError>(()))?;
            Ok::<_, EncodeError>((encode_differing(block, differing, coding)?, digests))
        })?;
        Ok(Self { encoded: encoded.into_iter().flatten().map(|encodings| (encodings, None)).collect(), digests })
    }

    /// Encodes a selection. `digests` are those of the blocks that were read to find it.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn selected(
        pair: &Pair<'_>,
        selection: &Selection,
        digests: Vec<BlockDigests>,
        coding: EncodeOptions<'_>,
        context: &Context<'_>,
    ) -> Result<Self, EncodeError> {
        context.begin("coding", 0);
        let encoded =
            encode_selection(pair, selection, coding, coding.encoding.precision == Precision::Exact, context)?;
        Ok(Self { encoded, digests })
    }

    /// Encodes the largest differences: those that each of `groups` selects within `blocks`; with `masks`, only of the elements that both
    /// masks keep.
    ///
    /// The first pass over the pair finds where the rankings are cut, and the second one reads the blocks with selected elements. If more
    /// elements are asked for than differ, the first pass also encodes what differs, and only blocks with other elements are read again.
    ///
    /// # Errors
    /// [`Impossible`](crate::localize::Impossible), [`EncodeError`].
    pub fn largest(
        pair: &Pair<'_>,
        blocks: &[BlockId],
        groups: &[RankingGroup],
        masks: Option<&PairMasks<'_>>,
        coding: EncodeOptions<'_>,
        context: &Context<'_>,
    ) -> Result<Self, Error> {
        // The inverse of a portable patch is made of all of the reference, which then has to be read again.
        let has_shortlists = coding.encoding.portability == Portability::NeedsBase;
        let search = LargestSearch::new(pair, blocks, groups, masks, has_shortlists, context);
        // A sample tells whether all that differs will be selected, and can mislead: no more elements than are asked for are kept encoded.
        let room = Room::new(groups.iter().fold(0, |all, group| all.saturating_add(group.cutoff.k())));
        let may_take_all = coding.masks.is_none() && coding.encoding.precision == Precision::Exact;
        let (read, digests) = scan(pair, blocks, |block| {
            let Some(mut counter) = search.counter(block.id)? else {
                return Ok((Read::default(), block.hash(context)?));
            };
            let takes_all = may_take_all && counter.takes_all() && room.is_left();
            let mut count = |first, target: &[u8], reference: &[u8]| counter.add(Part { first, target, reference });
            let (encoded, digests) = match takes_all {
                true => {
                    let (differing, digests) = differing(block, coding.encoding, context, count)?;
                    (encode_differing(block, differing, coding)?, digests)
                }
                false => (None, block.read(context, &mut count)?),
            };
            let becomes = PatchedDigests { result: digests.cast(), inverse_result: digests.target() };
            let encoded = encoded.filter(|encodings| room.take(encodings.selected()));
            let encoded = encoded.map(|encodings| (encodings, Some(becomes)));
            let (counts, shortlist) = counter.finish();
            let shortlist = shortlist.map(|shortlist| (block.id, shortlist));
            Ok::<_, Error>((Read { counts: Some(counts), shortlist, encoded }, digests))
        })?;
        let (mut counts, mut shortlists, mut encoded) = (Vec::new(), BTreeMap::new(), Vec::new());
        for read in read {
            counts.extend(read.counts);
            shortlists.extend(read.shortlist);
            encoded.extend(read.encoded);
        }
        let largest = search.finish(counts)?;
        let mut to_read: BTreeMap<BlockId, &LargestInBlock> =
            largest.blocks().iter().map(|block| (block.id, block)).collect();
        // What differs is what is selected if it is as many elements.
        encoded.retain(|(encodings, _)| {
            let selected = to_read.get(&encodings.id());
            let is_selected =
                selected.is_some_and(|block| !block.has_unchanged && block.elements == encodings.selected());
            is_selected && to_read.remove(&encodings.id()).is_some()
        });

        context.begin("coding", 0);
        let buffers = Buffers::default();
        let encode = |block: &&LargestInBlock| {
            let shortlist = shortlists.get(&block.id);
            buffers.lend(|elements| encode_selected(pair, &largest, block, shortlist, elements, coding, context))
        };
        let to_read: Vec<&LargestInBlock> = to_read.into_values().collect();
        let read = to_read.par_iter().with_max_len(1).map(encode).collect::<Result<Vec<_>, Error>>()?;
        encoded.extend(read);
        encoded.sort_by_key(|(encodings, _)| encodings.id());
        Ok(Self { encoded, digests })
    }

    /// The number of selected elements.
    pub fn elements(&self) -> u64 {
        self.encoded.iter().map(|(encodings, _)| encodings.selected()).sum()
    }
}

/// Encodes the elements of `block` that differ, if there are any.
///
/// # Errors
/// [`EncodeError`].
fn encode_differing(
    block: Block<'_>,
    differing: Differing,
    coding: EncodeOptions<'_>,
) -> Result<Option<BlockEncodings>, EncodeError> {
    match differing {
        Differing::Listed(elements) if elements.positions.is_empty() => Ok(None),
        Differing::Listed(elements) => encode_block(block.pair, block.id, &elements, coding).map(Some),
        Differing::Dense(elements) => Ok(Some(encode_dense_block(block.pair, block.id, *elements, coding))),
    }
}

/// What the first pass for the largest differences finds in a block.
#[derive(Default)]
struct Read {
    counts: Option<BlockCounts>,
    shortlist: Option<(BlockId, Shortlist)>,
    /// All elements that differ.
    encoded: Option<(BlockEncodings, Option<PatchedDigests>)>,
}

/// Reads `block` of `pair`, and encodes its selected elements. `elements` is a buffer that calls share.
fn encode_selected(
    pair: &Pair<'_>,
    largest: &Largest<'_>,
    block: &LargestInBlock,
    shortlist: Option<&Shortlist>,
    elements: &mut Elements,
    coding: EncodeOptions<'_>,
    context: &Context<'_>,
) -> Result<(BlockEncodings, Option<PatchedDigests>), Error> {
    let tensor = &pair.tensors[block.id.tensor];
    if !block.has_unchanged
        && let Some(mut dense) = DenseBlock::new(tensor, block.id, block.elements, coding)
    {
        largest.read(*block, |part, flags| dense.add(flags, part.target, part.reference))?;
        if let Some((encodings, digests)) = dense.encode(block.elements) {
            return Ok((encodings, Some(digests)));
        }
    }
    let with_digests = coding.encoding.precision == Precision::Exact;
    let n = block.elements as usize;
    let mut selected = SelectedElements::new(tensor, block.id, n, elements, coding, with_digests, context)?;
    if let Some(shortlist) = shortlist.filter(|shortlist| largest.is_listed(*block, shortlist)) {
        largest.read_listed(*block, shortlist, |first, target, indices, reference| {
            selected.add_listed(first, indices, target, reference);
        })?;
        return Ok(selected.encode()?);
    }
    let mut indices = Vec::new();
    largest.read(*block, |part, flags| {
        indices.clear();
        flags::indices(flags, |index| indices.push(index));
        selected.add(part.first, &indices, part.target, part.reference);
    })?;
    Ok(selected.encode()?)
}

/// A patch whose deltas have less than full precision.
pub(super) struct ReducedPrecision<'a> {
    /// The name of the dtype that deltas are rounded to.
    pub delta_dtype: &'static str,
    /// The base. The patch is applied to it to learn the digests of its result, which no pass over the pair can tell.
    pub base: &'a Checkpoint,
}

/// A block, and the digests of what it becomes.
type EditedBlock = (BlockId, PatchedDigests);

/// Writes the patch of what was found in all blocks of the pair that `outline` describes. `unpaired` are the digests that
/// [`Outline::hash_unpaired`] returns.
pub(super) fn write(
    mut outline: Outline,
    found: Found,
    unpaired: &[Digest],
    reduced: Option<ReducedPrecision<'_>>,
    context: &Context<'_>,
) -> Result<Diffed, Error> {
    let digests = PairDigests::join(outline.blocks_per_tensor(), &found.digests);
    outline.add_contents(&digests, unpaired);
    let edited: Vec<EditedBlock> =
        found.encoded.iter().filter_map(|(encodings, sides)| Some((encodings.id(), (*sides)?))).collect();
    let encodings = found.encoded.into_iter().map(|(encodings, _)| encodings);
    let mut new = choose_encodings(&outline, &digests, encodings);
    complete_metadata(&mut outline.metadata, &new, reduced.as_ref());

    let tensors: Vec<(usize, &TensorDigests)> =
        new.tensors.iter().map(|tensor| (tensor.place, &digests.0[tensor.place])).collect();
    let references: Vec<Digest> = tensors.iter().map(|(_, digests)| digests.reference).collect();
    let reference = Digest::root(&references);
    let leads_to_reference = outline.is_whole && reduced.is_none();
    let results = match reduced {
        None if outline.is_whole => references.clone(),
        None => edited_digests(&tensors, |tensor| &tensor.target_blocks, &edited, |sides| sides.result),
        Some(ReducedPrecision { base, .. }) => {
            let unfinished = Patch::written(&new, &outline.metadata, reference, Digest::UNKNOWN)?;
            results(base, &unfinished, None, context)?
        }
    };
    let result = Digest::root(&results);
    if is_invertible(&outline, &new) {
        let inverse_results = match leads_to_reference {
            true => tensors.iter().map(|(_, digests)| digests.target).collect(),
            false => edited_digests(&tensors, |tensor| &tensor.reference_blocks, &edited, |sides| sides.inverse_result),
        };
        set_counterparts(&mut new, references, results, inverse_results);
    }
    let patch = Patch::written(&new, &outline.metadata, reference, result)?;
    Ok(Diffed {
        patch,
        unrecognized: outline.unrecognized,
        other_differences: other_differences(&outline, &digests),
        unchanged: new.total.unchanged,
        masked_elsewhere: Vec::new(),
    })
}

/// Gives all tensors and blocks to the builder, which makes one choice of encodings for the whole patch.
fn choose_encodings(
    outline: &Outline,
    digests: &PairDigests,
    encodings: impl Iterator<Item = BlockEncodings>,
) -> NewPatch {
    let mut builder = PatchBuilder::new(outline.portability, BLOCK_LOG2);
    for (tensor, digests) in outline.tensors.iter().zip(&digests.0) {
        let (name, dtype, shape) = (tensor.name.clone(), tensor.dtype, tensor.shape.clone());
        builder.tensor(TensorParts { name, dtype, shape, base_digest: digests.target, counterparts: None });
    }
    builder.encoded(encodings);
    builder.choose()
}

/// Adds what is known only once all blocks are encoded.
fn complete_metadata(metadata: &mut Metadata, new: &NewPatch, reduced: Option<&ReducedPrecision<'_>>) {
    metadata.portability_bytes = new.portability_bytes;
    if let Some(k) = &mut metadata.localization.k {
        *k = new.selected();
    }
    if let Some(masks) = &mut metadata.masks {
        masks.before_pruning = new.restores;
    }
    let total = &new.total;
    // Other numbers than floats have exact deltas.
    let has_floats = new.tensors.iter().any(|tensor| tensor.parts.dtype.float().is_some());
    metadata.reduced = reduced.filter(|_| has_floats).map(|reduced| Reduced {
        delta_dtype: reduced.delta_dtype.to_owned(),
        max_error: total.error_max,
        relative_error: if total.squares > 0.0 { (total.error_squares / total.squares).sqrt() } else { 0.0 },
    });
}

/// The digest of each of the `tensors` once its edited blocks are replaced. A tensor is its place and its digests; `blocks_of` picks the
/// digests of its blocks, and `edit_of` what an edited block becomes. Both lists are ascending by place.
fn edited_digests(
    tensors: &[(usize, &TensorDigests)],
    blocks_of: fn(&TensorDigests) -> &Vec<PartDigest>,
    edited: &[EditedBlock],
    edit_of: fn(&PatchedDigests) -> PartDigest,
) -> Vec<Digest> {
    let mut edited = edited.iter().peekable();
    let mut digests = Vec::new();
    for (place, tensor) in tensors {
        let mut blocks = blocks_of(tensor).clone();
        while let Some((id, sides)) = edited.next_if(|(id, _)| id.tensor == *place) {
            blocks[id.index as usize] = edit_of(sides);
        }
        digests.push(join(&blocks));
    }
    digests
}

/// Whether the patch can be inverted without its checkpoints, so that it has to know the digests on the other side (spec §11.4).
fn is_invertible(outline: &Outline, new: &NewPatch) -> bool {
    new.invertible && outline.portability == Portability::Portable && outline.metadata.pairing.is_none()
}

/// Adds each tensor's digests in the reference, in the result, and in the result of the inverse.
fn set_counterparts(new: &mut NewPatch, references: Vec<Digest>, results: Vec<Digest>, inverse_results: Vec<Digest>) {
    let counterparts = references.into_iter().zip(results).zip(inverse_results);
    for (tensor, ((reference, result), inverse_result)) in new.tensors.iter_mut().zip(counterparts) {
        tensor.parts.counterparts = Some(Counterparts { reference, result, inverse_result });
    }
}

/// The names of tensors without a float dtype that differ and were no candidates.
fn other_differences(outline: &Outline, digests: &PairDigests) -> Vec<String> {
    if outline.is_whole {
        return Vec::new();
    }
    let tensors = outline.tensors.iter().zip(&digests.0);
    let differ =
        tensors.filter(|(tensor, digests)| tensor.dtype.float().is_none() && digests.target != digests.reference);
    differ.map(|(tensor, _)| tensor.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::Edit;
    use crate::diff::{Amount, DiffOptions, Localize, diff};
    use crate::dtype::Dtype;
    use crate::mask::ranking::sampled;
    use crate::mask::top_k::SAMPLE_KEYS;
    use crate::testing::{all_tensors, apply, checkpoint, contents, floats, patch, vector};

    fn pair() -> (Checkpoint, Checkpoint) {
        let target = floats(&[("a", &[1.0, 2.0]), ("b", &[3.0, 4.0]), ("same", &[5.0])]);
        let reference = floats(&[("a", &[1.5, 2.0]), ("b", &[3.0, 8.0]), ("same", &[5.0])]);
        (target, reference)
    }

    /// The digest over the tensors of `checkpoint` that `patch` changes.
    fn root(patch: &Patch, checkpoint: &Checkpoint) -> Digest {
        let digest = |name: &str| checkpoint.tensor(name).unwrap().digest(&Context::silent()).unwrap();
        let digests: Vec<Digest> = patch.table().tensors.iter().map(|entry| digest(&entry.name)).collect();
        Digest::root(&digests)
    }

    #[test]
    fn a_whole_patch_declares_its_reference_as_its_result() {
        let (target, reference) = pair();
        let patch = patch(&target, &reference, Portability::Portable);
        let names: Vec<&str> = patch.table().tensors.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        let roots = patch.table().roots;
        assert_eq!((roots.reference, roots.result), (root(&patch, &reference), root(&patch, &reference)));
        let inverse_results: Vec<_> =
            patch.table().tensors.iter().map(|entry| entry.counterparts.unwrap().inverse_result).collect();
        let bases: Vec<_> = patch.table().tensors.iter().map(|entry| entry.base_digest).collect();
        assert_eq!(inverse_results, bases, "the inverse of a whole patch leads to its base");
    }

    #[test]
    fn a_patch_of_a_part_declares_what_applying_it_gives() {
        let (target, reference) = pair();
        for portability in [Portability::Portable, Portability::NeedsBase] {
            let localize = Localize::largest(Amount::Count(1));
            let options = DiffOptions { localize, portability, ..all_tensors() };
            let patch = diff(&target, &reference, &options, &Context::silent()).unwrap().patch;
            assert_eq!(patch.metadata().localization.k, Some(1));
            let edits = [Edit::to_reference(patch)];
            let result = apply(&target, &edits, &Default::default()).unwrap();
            let Edit { patch, .. } = &edits[0];
            assert_eq!(patch.table().roots.result, root(patch, &result));
            assert_eq!(patch.table().roots.reference, root(patch, &reference));
        }
    }

    #[test]
    fn a_sample_that_misses_what_differs_changes_no_result() {
        let (n, k) = (1_500_000, 1000);
        let id = BlockId { tensor: 0, index: 0 };
        let mut reference = vec![0x3c01; n];
        for run in sampled(id, 0..n as u64, 128, n as u64 / SAMPLE_KEYS) {
            reference[run.start as usize..run.end as usize].fill(0x3c00);
        }
        let [base, other] = [&vec![0x3c00; n], &reference].map(|bits| checkpoint(&[vector("w", Dtype::Bf16, bits)]));
        let options = DiffOptions { localize: Localize::largest(Amount::Count(k)), ..all_tensors() };
        let patch = diff(&base, &other, &options, &Context::silent()).unwrap().patch;
        let result = apply(&base, &[Edit::to_reference(patch)], &Default::default()).unwrap();
        let mut expected = vec![0x3c00; n];
        let differing = (0..n).filter(|at| reference[*at] == 0x3c01).take(k as usize);
        differing.for_each(|at| expected[at] = 0x3c01);
        assert!(contents(&result)["w"] == expected);
    }

    #[test]
    fn a_large_share_of_a_block_is_selected_exactly() {
        let n = 1_500_000;
        let target: Vec<u64> = (0..n).map(|at| 0x3c00 + crate::random::number(1, at) % 0x400).collect();
        let steps = |at: u64| if at.is_multiple_of(5) { 1 + crate::random::number(2, at) % 3 } else { 0 };
        let reference: Vec<u64> = (0..n).zip(&target).map(|(at, bits)| bits + steps(at)).collect();
        let difference =
            |at: &usize| Dtype::Bf16.float().map(|f| f.value(reference[*at]) - f.value(target[*at])).unwrap();
        let mut ranked: Vec<usize> = (0..n as usize).collect();
        ranked.sort_by(|a, b| difference(b).total_cmp(&difference(a)).then(a.cmp(b)));
        let [base, other] = [&target, &reference].map(|bits| checkpoint(&[vector("w", Dtype::Bf16, bits)]));
        // A tenth, which is coded without a list, and more than differ, which is not.
        for (k, unchanged) in [(n / 10, 0), (n / 4, n / 4 - n / 5)] {
            let options = DiffOptions { localize: Localize::largest(Amount::Count(k)), ..all_tensors() };
            let diffed = diff(&base, &other, &options, &Context::silent()).unwrap();
            assert_eq!((diffed.patch.metadata().localization.k, diffed.unchanged), (Some(k), unchanged));
            let mut expected = target.clone();
            ranked[..k as usize].iter().for_each(|at| expected[*at] = reference[*at]);
            let result = apply(&base, &[Edit::to_reference(diffed.patch.clone())], &Default::default()).unwrap();
            assert!(contents(&result)["w"] == expected);
            assert_eq!(diffed.patch.table().roots.result, root(&diffed.patch, &result));
        }
    }

    #[test]
    fn a_rounded_patch_tells_its_error_and_declares_its_result() {
        let (target, reference) = (floats(&[("w", &[0.0, 0.0])]), floats(&[("w", &[1.0, 1.0 + 1.0 / 1024.0])]));
        let options = DiffOptions { precision: Precision::Bf16, ..all_tensors() };
        let patch = diff(&target, &reference, &options, &Context::silent()).unwrap().patch;
        let reduced = patch.metadata().reduced.as_ref().unwrap();
        assert_eq!((reduced.delta_dtype.as_str(), reduced.max_error), ("bf16", 1.0 / 1024.0));
        let result = apply(&target, &[Edit::to_reference(patch.clone())], &Default::default()).unwrap();
        assert_eq!(patch.table().roots.result, root(&patch, &result));
        assert_ne!(patch.table().roots.result, patch.table().roots.reference);
    }

    #[test]
    fn files_are_named_by_the_digests_of_their_contents() {
        let (target, reference) = pair();
        let patch = patch(&target, &reference, Portability::NeedsBase);
        let metadata = patch.metadata();
        for (source, checkpoint) in [(&metadata.base, &target), (&metadata.reference, &reference)] {
            let digest = |name: &str| checkpoint.tensor(name).unwrap().digest(&Context::silent());
            let content = checkpoint.files()[0].content_digest(|tensor| digest(&tensor.name)).unwrap();
            assert_eq!(source.files[0].content, Some(content.to_string()));
        }
    }
}

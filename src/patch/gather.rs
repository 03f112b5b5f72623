//! From a pair and a selection to coded blocks (spec §8, §9): the writer's side of [`super::decode`].
//!
//! Every block is coded with and without its base, and `choose` decides for the whole patch, because a
//! base-conditioned patch asks more of its readers than a base-free one.

use super::base::BaseBlock;
use super::decode::{number_bits, unsigned_image, wrap_ulp};
use super::elements::{Elements, Magnitude};
use super::patched;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::pair::{Pair, TensorPair};
use crate::codec::gaps::{self, GroupedGaps};
use crate::codec::groups::{self, Partition};
use crate::context::{Cancelled, Context};
use crate::digest::{ContentHash, Digest, PartDigest};
use crate::dtype::{Dtype, FloatFormat, Rounded};
use crate::format::block::{BaseCodec, DeltaCodec, MaskCodec, PositionCodec, Streams};
use crate::mask::{BLOCK_ELEMENTS, MaskFault, PairMasks, SelectedBlock, Selection, block_range};
use rayon::prelude::*;

/// How exactly deltas are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// The reference's bits.
    Exact,
    /// Float deltas rounded to bfloat16.
    Bf16,
    /// Float deltas as one of 255 multiples of a scale for each block.
    Int8,
}

/// Whether the patch must serve without its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Portability {
    /// Smallest: whatever the base can tell is left out.
    NeedsBase,
    /// Base-free positions, and the base's values at them.
    Portable,
}

/// How a selection is coded.
#[derive(Debug, Clone, Copy)]
pub struct Coding<'a> {
    /// How exactly deltas are kept.
    pub precision: Precision,
    /// Whether the patch must serve without its base.
    pub portability: Portability,
    /// The pruning masks to keep with the selection.
    pub masks: Option<&'a PairMasks<'a>>,
    /// The target from before it was pruned, with the same tensors, for what it held where it is pruned now.
    pub unpruned: Option<&'a Checkpoint>,
}

/// A coded block.
#[derive(Debug, Clone)]
pub struct GatheredBlock {
    /// The tensor's place in its pair.
    pub tensor: usize,
    /// The block's index in the tensor.
    pub index: u64,
    /// Selected elements.
    pub selected: u32,
    /// Its streams.
    pub streams: Streams<Vec<u8>>,
    /// The digest of the base's values at the selected positions.
    pub base_digest: Digest,
    /// What the deltas are like.
    pub magnitude: Magnitude,
}

/// A selection, coded.
#[derive(Debug)]
pub struct Gathered {
    /// Its blocks, in order.
    pub blocks: Vec<GatheredBlock>,
    /// Bytes that a portable patch takes more than one that needs its base; an estimate in the latter.
    pub portability_bytes: u64,
    /// Whether what the base held before it was pruned is known at every selected element that has a mask.
    pub restores: bool,
    /// Whether the bits of base and reference are all that there is to the patch, so that it can be inverted.
    pub invertible: bool,
}

/// Why a selection can not be gathered.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GatherError {
    /// A mask has no value.
    #[error("{0}")]
    Mask(MaskFault),
    /// A delta has no reduced form.
    #[error("the delta of element {index} of {tensor:?} is not a finite number, which --delta-dtype can not carry")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// Flat index.
        index: u64,
    },
    /// Asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl From<MaskFault> for GatherError {
    fn from(fault: MaskFault) -> Self {
        match fault {
            MaskFault::Cancelled(cancelled) => Self::Cancelled(cancelled),
            fault => Self::Mask(fault),
        }
    }
}

/// Share of the payload that base-conditioned codecs must save together to be used at all.
const CONDITIONED_SAVES_MIN: f64 = 0.05;
/// Share that positions, or deltas, must save for themselves once they may be base-conditioned.
const STREAM_SAVES_MIN: f64 = 0.01;

/// What the block of a tensor becomes, by BLAKE3.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sides {
    /// With the reference's bits at the selected positions of the base: the result.
    pub result: PartDigest,
    /// With the base's bits at those of the reference: the result of the inverse.
    pub inverse_result: PartDigest,
}

/// Codes the selected elements of `pair`, in parallel by block; `with_sides` also tells what each block becomes. In the order of
/// the selection's blocks.
///
/// One to three passes over the blocks with a selected element, one for the sides among them. Memory: about 28 bytes for each
/// selected element of the blocks in work, and the coded bytes.
///
/// # Errors
/// [`GatherError`].
pub(crate) fn gather(
    pair: &Pair<'_>,
    selection: &Selection,
    coding: Coding<'_>,
    with_sides: bool,
    context: &Context<'_>,
) -> Result<Vec<(Variants, Option<Sides>)>, GatherError> {
    let one = |block: &SelectedBlock| {
        let tensor = &pair.tensors[block.tensor];
        let elements = Elements::read(pair, block, coding, context)?;
        let variants = code_block(tensor, (block.tensor, block.index), &elements, coding)?;
        if !with_sides {
            return Ok((variants, None));
        }
        let result = patched::digest(tensor.target, block.index, &elements, &elements.reference, context)?;
        // Only portable patches are inverted without their checkpoints.
        let inverse_result = match coding.portability == Portability::Portable && !tensor.is_cast() {
            true => patched::digest(tensor.reference, block.index, &elements, &elements.base, context)?,
            false => PartDigest::Whole(Digest::UNKNOWN),
        };
        Ok((variants, Some(Sides { result, inverse_result })))
    };
    selection.blocks.par_iter().map(one).collect()
}

/// Codes the selected `elements` of the block of `pair` at `place`: the tensor's place and the block's index.
///
/// # Errors
/// [`GatherError::NotFinite`].
pub(crate) fn code_block(
    pair: &TensorPair<'_>,
    place: (usize, u64),
    elements: &Elements,
    coding: Coding<'_>,
) -> Result<Variants, GatherError> {
    let base = BaseBlock::new(pair.target, block_range(place.1, pair.target.info.elements()));
    let hash = ContentHash::default();
    code(place, elements, Some(&base), hash, coding.precision, coding.portability).map_err(|at| {
        let index = place.1 * BLOCK_ELEMENTS + u64::from(elements.positions[at]);
        GatherError::NotFinite { tensor: pair.name().to_owned(), index }
    })
}

/// A block, coded in all ways.
pub(crate) struct Variants {
    block: GatheredBlock,
    class_gaps: Option<Vec<u8>>,
    class_ulps: Option<Vec<u8>>,
    base_values: BaseValues,
    /// Whether the base holds something else than zero where it is pruned.
    base_is_unpruned: bool,
    /// Elements that are pruned in the base, and of which the block does not say what they were before.
    unknown: usize,
    /// Whether nothing but the bits of base and reference is known of its elements.
    invertible: bool,
}

impl Variants {
    /// Selected elements.
    pub fn selected(&self) -> u64 {
        self.block.selected.into()
    }
}

/// The base's values at the selected positions.
enum BaseValues {
    /// As they go into the patch.
    Coded(Vec<u8>),
    /// How many bytes they would take.
    Estimated(u64),
}

/// Values of a block that are coded to estimate what all of them would take.
const SAMPLE: usize = 1 << 14;

/// Decides for all blocks of a patch.
pub(crate) fn choose(variants: Vec<Variants>, portability: Portability) -> Gathered {
    let saved = |free: usize, conditioned: usize| free.saturating_sub(conditioned) as u64;
    let (mut free, mut gaps_save, mut ulps_save, mut base_values) = (0, 0, 0, 0);
    for v in &variants {
        free += (v.block.streams.positions.1.len() + v.block.streams.deltas.1.len()) as u64;
        gaps_save += v.class_gaps.as_ref().map_or(0, |gaps| saved(v.block.streams.positions.1.len(), gaps.len()));
        ulps_save += v.class_ulps.as_ref().map_or(0, |ulps| saved(v.block.streams.deltas.1.len(), ulps.len()));
        base_values += match &v.base_values {
            BaseValues::Coded(bytes) => bytes.len() as u64,
            BaseValues::Estimated(bytes) => *bytes,
        };
    }
    let pays = |save: u64, share: f64| save > 0 && save as f64 >= share * (free - save) as f64;
    let conditioned = pays(gaps_save + ulps_save, CONDITIONED_SAVES_MIN);
    let gaps_pay = conditioned && pays(gaps_save, STREAM_SAVES_MIN);
    let ulps_pay = conditioned && pays(ulps_save, STREAM_SAVES_MIN);
    let portable = portability == Portability::Portable;
    // The base's values are in a portable patch, so grouping deltas by their class costs its readers nothing.
    let (use_gaps, use_ulps) = (gaps_pay && !portable, ulps_pay || portable);
    let needs_base_bytes = free - if gaps_pay { gaps_save } else { 0 } - if ulps_pay { ulps_save } else { 0 };
    let portable_bytes = free - ulps_save + base_values;
    let base_is_unpruned = variants.iter().any(|v| v.base_is_unpruned);
    let invertible = variants.iter().all(|v| v.invertible);
    let has_masks = variants.iter().any(|v| v.block.streams.masks.is_some());
    let restores = has_masks && (base_is_unpruned || variants.iter().all(|v| v.unknown == 0));
    let blocks = variants.into_iter().map(|v| {
        let mut block = v.block;
        let streams = &mut block.streams;
        if let Some((codec, _)) = streams.masks.as_mut().filter(|_| base_is_unpruned) {
            *codec = MaskCodec::UnprunedBase;
        }
        if let Some(gaps) = v.class_gaps.filter(|gaps| use_gaps && gaps.len() < streams.positions.1.len()) {
            streams.positions = (PositionCodec::ClassGaps, gaps);
        }
        if let Some(ulps) = v.class_ulps.filter(|ulps| use_ulps && ulps.len() < streams.deltas.1.len()) {
            streams.deltas = (DeltaCodec::ClassUlp, ulps);
        }
        if let BaseValues::Coded(bytes) = v.base_values {
            streams.base_values = Some((BaseCodec::Bits, bytes));
        }
        block
    });
    let portability_bytes = portable_bytes.abs_diff(needs_base_bytes);
    Gathered { blocks: blocks.collect(), portability_bytes, restores, invertible }
}

/// Codes one block, `place` being its tensor's place and its index. Without `base` its elements, positions are base-free.
/// Fails with the number of an element whose delta has no reduced form.
pub(crate) fn code(
    place: (usize, u64),
    elements: &Elements,
    base: Option<&BaseBlock<'_>>,
    hash: ContentHash,
    precision: Precision,
    portability: Portability,
) -> Result<Variants, usize> {
    let (dtype, positions) = (elements.dtype, &elements.positions[..]);

    // Only elements that are kept in the reference have a delta.
    let with_delta: Vec<usize> = (0..positions.len()).filter(|at| elements.kept(*at).in_reference()).collect();
    let base_bits: Vec<u64> = with_delta.iter().map(|at| elements.base[*at]).collect();
    let ulp = |at: &usize| wrap_ulp(dtype.ulp_delta(elements.base[*at], elements.reference[*at]), dtype);
    let ulps: Vec<u64> = with_delta.iter().map(ulp).collect();
    let (partition, class_ulps) = grouped(&base_bits, &ulps, dtype);
    let class_gaps = base.map(|base| class_gaps(base, positions, &partition));

    let reduced = match dtype.float() {
        Some(float) if precision != Precision::Exact => {
            let values: Vec<f64> = with_delta.iter().map(|at| elements.delta(*at, float)).collect();
            Some(reduce(&values, precision).map_err(|at| with_delta[at])?)
        }
        _ => None,
    };
    let mut magnitude = elements.magnitude();
    let (deltas, class_ulps) = match reduced {
        Some((deltas, seen)) => {
            let exact = with_delta.iter().filter_map(|at| Some(elements.delta(*at, dtype.float()?)));
            magnitude.add_errors(exact.zip(seen).map(|(exact, seen)| seen - exact));
            (deltas, None)
        }
        None => ((DeltaCodec::Ulp, single(ulps, number_bits(dtype))), Some(class_ulps)),
    };
    let mut hasher = hash.hasher();
    elements.base.iter().for_each(|bits| hasher.update(&bits.to_le_bytes()[..dtype.width().bytes()]));
    let image = |bits: &u64| unsigned_image(dtype, *bits);
    let base_values = match portability {
        Portability::Portable => {
            BaseValues::Coded(single(elements.base.iter().map(image).collect(), number_bits(dtype)))
        }
        Portability::NeedsBase => {
            let sample: Vec<u64> = elements.base.iter().take(SAMPLE).map(image).collect();
            let share = elements.base.len() as f64 / sample.len() as f64;
            BaseValues::Estimated((single(sample, number_bits(dtype)).len() as f64 * share) as u64)
        }
    };
    let masks = elements.kept.as_ref().map(|kept| single(kept.iter().map(|kept| kept.symbol()).collect(), 16));
    let values_before = elements.before.as_ref().map(|before| {
        let bits = before.iter().map(image).collect();
        (BaseCodec::Bits, single(bits, number_bits(dtype)))
    });
    Ok(Variants {
        base_is_unpruned: elements.base_is_unpruned(),
        invertible: precision == Precision::Exact && elements.holds_zeros && elements.before.is_none(),
        unknown: if values_before.is_some() { 0 } else { elements.pruned_in_base() },
        block: GatheredBlock {
            tensor: place.0,
            index: place.1,
            selected: positions.len() as u32,
            streams: Streams {
                positions: (PositionCodec::Gaps, gaps::encode(positions)),
                deltas,
                base_values: None,
                masks: masks.map(|masks| (MaskCodec::PrunedBase, masks)),
                values_before,
            },
            base_digest: hasher.finish(),
            magnitude,
        },
        class_gaps,
        class_ulps,
        base_values,
    })
}

fn single(numbers: Vec<u64>, width: u32) -> Vec<u8> {
    groups::encode(&Partition::whole(1), &[numbers], width)
}

/// The groups of classes that suit the selected elements, and the deltas coded by them.
fn grouped(base_bits: &[u64], ulps: &[u64], dtype: Dtype) -> (Partition, Vec<u8>) {
    let mut counts = vec![0; dtype.classes()];
    base_bits.iter().for_each(|bits| counts[usize::from(dtype.class(*bits))] += 1);
    let partition = Partition::of_counts(&counts);
    let mut sequences = vec![Vec::new(); partition.groups()];
    for (bits, ulp) in base_bits.iter().zip(ulps) {
        sequences[partition.group(dtype.class(*bits))].push(*ulp);
    }
    let coded = groups::encode(&partition, &sequences, number_bits(dtype));
    (partition, coded)
}

fn class_gaps(base: &BaseBlock<'_>, positions: &[u32], partition: &Partition) -> Vec<u8> {
    let mut gaps = GroupedGaps::new(partition);
    let mut rest = positions;
    base.walk_classes(|start, classes| {
        let end = start + classes.len() as u32;
        let (here, later) = rest.split_at(rest.partition_point(|p| *p < end));
        gaps.walk(start, classes, here);
        rest = later;
    });
    gaps.encode()
}

type Reduced = ((DeltaCodec, Vec<u8>), Vec<f64>);

/// Deltas with reduced precision: coded, and as a reader will see them. On failure, the place of a delta that has no
/// such form.
fn reduce(values: &[f64], precision: Precision) -> Result<Reduced, usize> {
    if precision == Precision::Int8 {
        return reduce_to_int8(values);
    }
    let rounded = |(at, value): (usize, &f64)| match FloatFormat::BF16.round(*value) {
        Rounded::Finite(bits) => Ok(bits),
        Rounded::NotFinite(_) => Err(at),
    };
    let bits = values.iter().enumerate().map(rounded).collect::<Result<Vec<u64>, usize>>()?;
    let coded = bits.iter().map(|bits| wrap_ulp(Dtype::Bf16.image(*bits), Dtype::Bf16)).collect();
    let seen = bits.iter().map(|bits| FloatFormat::BF16.value(*bits)).collect();
    Ok(((DeltaCodec::Bf16, single(coded, 16)), seen))
}

fn reduce_to_int8(values: &[f64]) -> Result<Reduced, usize> {
    let largest = values.iter().fold(0f64, |largest, value| largest.max(value.abs()));
    let scale = (largest / 127.0) as f32;
    let bad = values.iter().position(|value| !value.is_finite());
    if let Some(at) = bad.or(if scale.is_finite() { None } else { Some(0) }) {
        return Err(at);
    }
    let scale_value = f64::from(scale);
    let step =
        |value: &f64| if scale == 0.0 { 0 } else { (value / scale_value).round_ties_even().clamp(-127.0, 127.0) as i8 };
    let steps: Vec<i8> = values.iter().map(step).collect();
    let mut coded = scale.to_le_bytes().to_vec();
    coded.extend(single(steps.iter().map(|s| wrap_ulp(u64::from(*s as u8), Dtype::I8)).collect(), 16));
    let seen = steps.iter().map(|s| f64::from(*s) * scale_value).collect();
    Ok(((DeltaCodec::Int8, coded), seen))
}

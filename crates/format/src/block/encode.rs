//! From selected elements to encoded blocks (spec §8, §9): the writer's side of [`super::decode`].
//!
//! Whether the base is used is decided for the whole patch, because a base-conditioned patch asks more of its readers than
//! a base-free one. Where estimates do not tell, blocks are coded both ways, and `choose` decides.

use super::base::BaseElements;
use super::decode::{unsigned_image, wrap_ulp};
use super::elements::{Elements, Magnitude};
use super::masks::Kept;
use super::{BLOCK_ELEMENTS, BaseCodec, DeltaCodec, MaskCodec, PositionCodec, Streams};
use crate::codec::gaps::{self, GroupedGaps};
use crate::codec::groups::{self, Partition, Sequences};
use crate::codec::statistics::choice_bits;
use crate::codec::{Effort, Number};
use crate::digest::{ContentHash, Digest};
use crate::dtype::{Dtype, FloatFormat, Rounded};
use serde::{Deserialize, Serialize};

/// How exactly deltas are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// The reference's bits.
    #[default]
    Exact,
    /// Float deltas rounded to bfloat16.
    Bf16,
    /// Float deltas as one of 255 multiples of a scale for each block.
    Int8,
}

/// Whether the patch must serve without its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Portability {
    /// Smallest: whatever the base can tell is left out.
    #[default]
    NeedsBase,
    /// Base-free positions, and the base's values at them.
    Portable,
}

/// How blocks are encoded.
#[derive(Debug, Clone, Copy)]
pub struct Encoding {
    /// How exactly deltas are kept.
    pub precision: Precision,
    /// Whether the patch must serve without its base.
    pub portability: Portability,
    /// How much work goes into a small patch.
    pub effort: Effort,
    /// What the digests of contents are made with.
    pub hash: ContentHash,
}

/// A coded block.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CodedBlock {
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

/// All blocks of a patch, each in the way that is chosen.
#[derive(Debug)]
pub struct Chosen {
    /// Its blocks, in order.
    pub blocks: Vec<CodedBlock>,
    /// Bytes that a portable patch takes more than one that needs its base; an estimate in the latter.
    pub portability_bytes: u64,
    /// Whether what the base held before it was pruned is known at every selected element that has a mask.
    pub restores: bool,
    /// Whether the bits of base and reference are all that there is to the patch, so that it can be inverted.
    pub invertible: bool,
}

/// Share of the payload that base-conditioned codecs must save together to be used at all.
const CONDITIONED_SAVES_MIN: f64 = 0.05;
/// Share that positions, or deltas, must save for themselves once they may be base-conditioned.
const STREAM_SAVES_MIN: f64 = 0.01;
/// Where a block is estimated to save this many times as much, it is coded in the base-conditioned way alone, and where
/// one part of this many, in the base-free way alone.
const CLEARLY: f64 = 2.5;

/// A block, coded in all ways that may be chosen.
#[derive(Debug, Serialize, Deserialize)]
pub struct Variants {
    /// Without positions and deltas.
    block: CodedBlock,
    positions: Ways<PositionCodec>,
    deltas: Ways<DeltaCodec>,
    base_values: Coded,
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

    /// The tensor's place, and the block's index.
    pub fn place(&self) -> (usize, u64) {
        (self.block.tensor, self.block.index)
    }

    /// Whether its numbers can be those of a block: not so large that they cannot be added up.
    pub fn is_plausible(&self) -> bool {
        let Ways { free: (_, positions), conditioned: (_, grouped_positions) } = &self.positions;
        let Ways { free: (_, deltas), conditioned: (_, grouped_deltas) } = &self.deltas;
        let streams = [positions, grouped_positions, deltas, grouped_deltas, &self.base_values];
        streams.iter().all(|stream| stream.bytes() <= 1 << 36)
            && (1..=BLOCK_ELEMENTS).contains(&self.selected())
            && self.block.magnitude.unchanged <= self.selected()
    }
}

/// A stream, coded without and with the base, or with an estimate for one of them.
#[derive(Debug, Serialize, Deserialize)]
struct Ways<C> {
    free: (C, Coded),
    conditioned: (C, Coded),
}

impl<C> Ways<C> {
    /// Bytes that the base saves.
    fn saved(&self) -> u64 {
        self.free.1.bytes().saturating_sub(self.conditioned.1.bytes())
    }

    fn choose(self, conditioned_may_be: bool) -> (C, Vec<u8>) {
        let saves = conditioned_may_be && self.saved() > 0;
        match (self.free, self.conditioned) {
            ((codec, Coded::Bytes(free)), (_, Coded::Estimated(_))) => (codec, free),
            ((codec, Coded::Bytes(free)), _) if !saves => (codec, free),
            (_, (codec, conditioned)) => (codec, conditioned.into_bytes()),
        }
    }
}

/// A stream.
#[derive(Debug, Serialize, Deserialize)]
enum Coded {
    /// As it goes into the patch.
    Bytes(Vec<u8>),
    /// How many bytes it would take.
    Estimated(u64),
}

impl Coded {
    fn bytes(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Estimated(bytes) => *bytes,
        }
    }

    fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Estimated(_) => Vec::new(),
        }
    }
}

/// Values of a block that are looked at to estimate what all of them would take.
const SAMPLE: usize = 1 << 12;
/// Bytes that a group's entry takes, and parameters that suit it less than they could.
const GROUP_BYTES: u64 = 6;
/// Elements that are hashed at a time.
const DIGEST_ELEMENTS: usize = 1 << 12;

/// Decides for all blocks of a patch.
pub fn choose(variants: Vec<Variants>, portability: Portability) -> Chosen {
    let (mut free, mut gaps_save, mut ulps_save, mut base_values) = (0, 0, 0, 0);
    for v in &variants {
        free += v.positions.free.1.bytes() + v.deltas.free.1.bytes();
        gaps_save += v.positions.saved();
        ulps_save += v.deltas.saved();
        base_values += v.base_values.bytes();
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
        streams.positions = v.positions.choose(use_gaps);
        streams.deltas = v.deltas.choose(use_ulps);
        if let Coded::Bytes(bytes) = v.base_values {
            streams.base_values = Some((BaseCodec::Bits, bytes));
        }
        block
    });
    let portability_bytes = portable_bytes.abs_diff(needs_base_bytes);
    Chosen { blocks: blocks.collect(), portability_bytes, restores, invertible }
}

/// Encodes one block, `place` being its tensor's place and its index. Without `base` its elements, positions are base-free.
/// Fails with the number of an element whose delta has no reduced form.
pub fn encode(
    place: (usize, u64),
    elements: &Elements,
    base: Option<&dyn BaseElements>,
    encoding: Encoding,
) -> Result<Variants, usize> {
    with_number!(elements.dtype, N => encode_as::<N>(place, elements, base, encoding))
}

fn encode_as<N: Number>(
    place: (usize, u64),
    elements: &Elements,
    base: Option<&dyn BaseElements>,
    encoding: Encoding,
) -> Result<Variants, usize> {
    let Encoding { precision, portability, effort, hash } = encoding;
    let (dtype, positions) = (elements.dtype, &elements.positions[..]);
    let portable = portability == Portability::Portable;
    // Only elements that are kept in the reference have a delta.
    let with_delta = || (0..positions.len()).filter(|at| elements.kept(*at).in_reference());

    let mut magnitude = elements.magnitude();
    let reduced = match dtype.float() {
        Some(float) if precision != Precision::Exact => {
            let exact: Vec<f64> = with_delta().map(|at| elements.delta(at, float)).collect();
            let reduced = reduce(&exact, precision, effort);
            let (deltas, seen) = reduced.map_err(|at| with_delta().nth(at).unwrap_or_default())?;
            magnitude.add_errors(exact.iter().zip(seen).map(|(exact, seen)| seen - exact));
            Some(deltas)
        }
        _ => None,
    };

    let gaps = gaps::gaps(positions);
    let counts = class_counts(dtype, elements.base.iter().copied());
    let mut of_positions = Estimate { free: groups::estimated_bytes(&gaps), saved: 0 };
    // Portable positions are base-free whatever it would save, and inverting them without the base must give the same patch.
    if let Some(base) = base.filter(|_| !portable && effort != Effort::Fast) {
        of_positions.saved = saved_by_classes(&counts, &base.class_counts()).min(of_positions.free);
    }
    let (ulps, by_class, of_deltas);
    match &reduced {
        Some((_, bytes)) => {
            (ulps, by_class) = (Vec::new(), Sequences::zeros(Partition::whole(1), &[]));
            of_deltas = Estimate { free: bytes.len() as u64, saved: 0 };
        }
        None => {
            (ulps, by_class) = exact_deltas::<N>(elements, with_delta());
            let free = groups::estimated_bytes(&ulps);
            of_deltas = Estimate { free, saved: free.saturating_sub(by_class.estimated_bytes()) };
        }
    }

    let positions_in = match base {
        Some(_) if !portable && effort != Effort::Fast => of_positions.verdict(of_deltas, effort),
        _ => Verdict::Free,
    };
    let deltas_in = match reduced {
        Some(_) => Verdict::Free,
        None if portable && effort != Effort::Best => {
            if of_deltas.saved > 0 {
                Verdict::Conditioned
            } else {
                Verdict::Free
            }
        }
        None => of_deltas.verdict(of_positions, effort),
    };
    let positions_ways = Ways {
        free: (PositionCodec::Gaps, of_positions.free(positions_in, || groups::encode_whole(&gaps, effort))),
        conditioned: (
            PositionCodec::ClassGaps,
            of_positions.conditioned(positions_in, || match base {
                Some(base) => class_gaps(base, positions, &counts).encode(effort),
                None => Vec::new(),
            }),
        ),
    };
    let deltas_ways = Ways {
        conditioned: (DeltaCodec::ClassUlp, of_deltas.conditioned(deltas_in, || by_class.encode(effort))),
        free: match reduced {
            Some((codec, bytes)) => (codec, Coded::Bytes(bytes)),
            None => (DeltaCodec::Ulp, of_deltas.free(deltas_in, || groups::encode_whole(&ulps, effort))),
        },
    };

    let image = |bits: &u64| N::low(unsigned_image(dtype, *bits));
    let images = |bits: &[u64]| groups::encode_whole(&bits.iter().map(image).collect::<Vec<N>>(), effort);
    let base_values = if portable {
        Coded::Bytes(images(&elements.base))
    } else {
        let step = elements.base.len().div_ceil(SAMPLE).max(1);
        let sample: Vec<N> = elements.base.iter().step_by(step).map(image).collect();
        Coded::Estimated(groups::estimated_bytes(&sample) * elements.base.len() as u64 / sample.len().max(1) as u64)
    };
    let symbols = |kept: &Vec<Kept>| kept.iter().map(|kept| kept.symbol()).collect::<Vec<u16>>();
    let masks = elements.kept.as_ref().map(|kept| groups::encode_whole(&symbols(kept), effort));
    let values_before = elements.before.as_ref().map(|before| (BaseCodec::Bits, images(before)));
    Ok(Variants {
        base_is_unpruned: elements.base_is_unpruned(),
        invertible: precision == Precision::Exact && elements.holds_zeros && elements.before.is_none(),
        unknown: if values_before.is_some() { 0 } else { elements.pruned_in_base() },
        block: CodedBlock {
            tensor: place.0,
            index: place.1,
            selected: positions.len() as u32,
            streams: Streams {
                positions: (PositionCodec::Gaps, Vec::new()),
                deltas: (DeltaCodec::Ulp, Vec::new()),
                base_values: None,
                masks: masks.map(|masks| (MaskCodec::PrunedBase, masks)),
                values_before,
            },
            base_digest: values_digest(hash, dtype, &elements.base),
            magnitude,
        },
        positions: positions_ways,
        deltas: deltas_ways,
        base_values,
    })
}

/// About how many bytes a stream takes base-free, and how many of them the base saves.
#[derive(Clone, Copy)]
struct Estimate {
    free: u64,
    saved: u64,
}

/// In which ways a stream is worth coding.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Free,
    Conditioned,
    Either,
}

impl Estimate {
    /// `other` is the block's other stream.
    fn verdict(self, other: Self, effort: Effort) -> Verdict {
        let free = self.free + other.free;
        let saves = |saved: u64, share: f64| saved > 0 && saved as f64 >= share * (free - saved) as f64;
        let both = self.saved + other.saved;
        let may_pay =
            |factor: f64| saves(both, CONDITIONED_SAVES_MIN * factor) && saves(self.saved, STREAM_SAVES_MIN * factor);
        match effort {
            Effort::Best => Verdict::Either,
            _ if may_pay(CLEARLY) => Verdict::Conditioned,
            _ if may_pay(1.0 / CLEARLY) => Verdict::Either,
            _ => Verdict::Free,
        }
    }

    fn free(self, verdict: Verdict, code: impl FnOnce() -> Vec<u8>) -> Coded {
        if verdict == Verdict::Conditioned { Coded::Estimated(self.free) } else { Coded::Bytes(code()) }
    }

    fn conditioned(self, verdict: Verdict, code: impl FnOnce() -> Vec<u8>) -> Coded {
        if verdict == Verdict::Free { Coded::Estimated(self.free - self.saved) } else { Coded::Bytes(code()) }
    }
}

/// How many of `bits` are of each class.
fn class_counts(dtype: Dtype, bits: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut counts = vec![0; dtype.classes()];
    let anatomy = dtype.anatomy();
    bits.for_each(|bits| counts[usize::from(anatomy.class(bits))] += 1);
    counts
}

/// Bytes that positions are cheaper if the class of every element of the block is known.
fn saved_by_classes(selected: &[u64], all: &[u64]) -> u64 {
    let (k, n) = (selected.iter().sum(), all.iter().zip(selected).map(|(n, k)| *n.max(k)).sum());
    let by_class: u64 = selected.iter().zip(all).map(|(k, n)| choice_bits(*n.max(k), *k)).sum();
    let groups = Partition::of_counts(selected).groups() as u64;
    (choice_bits(n, k).saturating_sub(by_class) / 8).saturating_sub(GROUP_BYTES * groups)
}

/// The ULP deltas of the elements `with_delta`, in their order, and by groups of classes that suit them.
fn exact_deltas<N: Number>(elements: &Elements, with_delta: impl Iterator<Item = usize>) -> (Vec<N>, Sequences<N>) {
    let (dtype, anatomy) = (elements.dtype, elements.dtype.anatomy());
    let entries: Vec<(u16, N)> = with_delta
        .map(|at| {
            let (base, reference) = (elements.base[at], elements.reference[at]);
            (anatomy.class(base), N::low(wrap_ulp(anatomy.ulp_delta(base, reference), dtype)))
        })
        .collect();
    let mut counts = vec![0; dtype.classes()];
    entries.iter().for_each(|(class, _)| counts[usize::from(*class)] += 1);
    let mut by_class = Sequences::zeros(Partition::of_counts(&counts), &counts);
    let mut next = by_class.starts();
    for (class, ulp) in &entries {
        let at = &mut next[by_class.partition().group(*class)];
        by_class.numbers_mut()[*at] = *ulp;
        *at += 1;
    }
    (entries.into_iter().map(|(_, ulp)| ulp).collect(), by_class)
}

fn class_gaps(base: &dyn BaseElements, positions: &[u32], selected_per_class: &[u64]) -> GroupedGaps {
    let mut gaps = GroupedGaps::new(Partition::of_counts(selected_per_class), selected_per_class);
    let mut rest = positions;
    base.walk_classes(&mut |start, classes| {
        let end = start + classes.len() as u32;
        let (here, later) = rest.split_at(rest.partition_point(|p| *p < end));
        // What follows the last selected element is in no gap.
        if !rest.is_empty() {
            gaps.walk(start, classes, here);
        }
        rest = later;
    });
    gaps
}

/// The digest of values, as of a base's at the selected positions of a block (spec §12.2).
pub fn values_digest(hash: ContentHash, dtype: Dtype, bits: &[u64]) -> Digest {
    let width = dtype.width();
    let mut hasher = hash.hasher();
    let mut bytes = Vec::new();
    for part in bits.chunks(DIGEST_ELEMENTS) {
        width.store_all(part, &mut bytes);
        hasher.update(&bytes);
    }
    hasher.finish()
}

type Reduced = ((DeltaCodec, Vec<u8>), Vec<f64>);

/// Deltas with reduced precision: coded, and as a reader will see them. On failure, the place of a delta that has no
/// such form.
fn reduce(values: &[f64], precision: Precision, effort: Effort) -> Result<Reduced, usize> {
    if precision == Precision::Int8 {
        return reduce_to_int8(values, effort);
    }
    let rounded = |(at, value): (usize, &f64)| match FloatFormat::BF16.round(*value) {
        Rounded::Finite(bits) => Ok(bits),
        Rounded::NotFinite(_) => Err(at),
    };
    let bits = values.iter().enumerate().map(rounded).collect::<Result<Vec<u64>, usize>>()?;
    let coded: Vec<u16> = bits.iter().map(|bits| wrap_ulp(Dtype::Bf16.image(*bits), Dtype::Bf16) as u16).collect();
    let seen = bits.iter().map(|bits| FloatFormat::BF16.value(*bits)).collect();
    Ok(((DeltaCodec::Bf16, groups::encode_whole(&coded, effort)), seen))
}

fn reduce_to_int8(values: &[f64], effort: Effort) -> Result<Reduced, usize> {
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
    let numbers: Vec<u16> = steps.iter().map(|s| wrap_ulp(u64::from(*s as u8), Dtype::I8) as u16).collect();
    coded.extend(groups::encode_whole(&numbers, effort));
    let seen = steps.iter().map(|s| f64::from(*s) * scale_value).collect();
    Ok(((DeltaCodec::Int8, coded), seen))
}

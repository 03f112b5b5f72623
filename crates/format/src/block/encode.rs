//! Encodes the selected elements of a block (spec §8, §9); the inverse is [`super::decode()`].
//!
//! A block is encoded in every way that may still be the one to store; [`super::choose`] decides when all blocks are known.

use super::base::BaseElements;
use super::choose::{BlockEncodings, EncodedBlock, EncodedStream, Savings, StreamEncodings};
use super::decode::{unsigned_image, wrap_ulp};
use super::dense::{self, DenseSummary};
use super::elements::Elements;
use super::masks::Kept;
use super::{BaseCodec, BlockId, DeltaCodec, MaskCodec, PositionCodec, Streams};
use crate::codec::gaps::{self, GroupedGaps};
use crate::codec::groups::{self, Partition, Sequences};
use crate::codec::statistics::choice_bits;
use crate::codec::{Effort, Number};
use crate::digest::{Digest, Hasher};
use crate::dtype::{Classes, Dtype, FloatFormat, Rounded};
use serde::{Deserialize, Serialize};

/// How exactly deltas are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Losslessly: applying the patch at alpha 1 gives the reference's bits.
    #[default]
    Exact,
    /// Float deltas rounded to bfloat16.
    Bf16,
    /// Float deltas as one of 255 multiples of a scale that is stored per block.
    Int8,
}

/// Whether the patch must be readable without its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Portability {
    /// The smallest patch: whatever can be derived from the base is left out.
    #[default]
    NeedsBase,
    /// Positions are base-free, and the base's values at the selected positions are stored.
    Portable,
}

/// How blocks are encoded.
#[derive(Debug, Clone, Copy)]
pub struct Encoding {
    /// How exactly deltas are stored.
    pub precision: Precision,
    /// Whether the patch must be readable without its base.
    pub portability: Portability,
    /// How much time is spent on making the patch small.
    pub effort: Effort,
}

impl Encoding {
    /// Whether blocks may be encoded densely: exactly, and with their base.
    fn may_be_dense(self) -> bool {
        self.precision == Precision::Exact && self.portability == Portability::NeedsBase
    }

    /// Whether a block of which a large share changes is encoded densely without a trial of other encodings, so that no list of its
    /// elements is needed.
    pub fn is_dense_at_once(self) -> bool {
        self.may_be_dense() && self.effort != Effort::Best
    }
}

/// Estimates settle the choice for a block if the estimated saving is at least this factor above the thresholds (only the
/// base-conditioned encoding is made) or this factor below them (only the base-free one is made).
const CLEAR_FACTOR: f64 = 2.5;
/// Number of values of a block that are sampled to estimate the encoded size of all of them.
const SAMPLE: usize = 1 << 12;
/// Cost of one more group in bytes: its table entry, and code parameters that are fitted to fewer numbers.
const GROUP_BYTES: u64 = 6;
/// Number of elements that are hashed at a time.
const DIGEST_ELEMENTS: usize = 1 << 12;

/// Encodes the selected `elements` of one block. `base` gives all elements of the block in the base; without it, positions are
/// base-free.
///
/// # Errors
/// The index in `elements` of an element whose delta is not finite in the reduced precision.
pub fn encode(
    id: BlockId,
    elements: &Elements,
    base: Option<&dyn BaseElements>,
    encoding: Encoding,
) -> Result<BlockEncodings, usize> {
    with_number!(elements.dtype, N => encode_as::<N>(id, elements, base, encoding))
}

fn encode_as<N: Number>(
    id: BlockId,
    elements: &Elements,
    base: Option<&dyn BaseElements>,
    encoding: Encoding,
) -> Result<BlockEncodings, usize> {
    let Encoding { precision, portability, effort } = encoding;
    let (dtype, positions) = (elements.dtype, &elements.positions[..]);
    let portable = portability == Portability::Portable;
    let mut magnitude = elements.magnitude();
    let reduced = match dtype.float() {
        Some(float) if precision != Precision::Exact => {
            let exact: Vec<f64> = with_delta(elements).map(|entry| elements.delta(entry, float)).collect();
            let reduced = reduce(&exact, precision, effort)
                .map_err(|index| with_delta(elements).nth(index).unwrap_or_default())?;
            magnitude.add_errors(exact.iter().zip(&reduced.decoded).map(|(exact, decoded)| decoded - exact));
            Some(reduced)
        }
        _ => None,
    };

    let base_digest = values_digest(dtype, &elements.base);
    let dense = base.filter(|base| {
        let is_plain = encoding.may_be_dense() && elements.kept.is_none() && magnitude.unchanged == 0;
        is_plain && dense::is_dense(positions.len() as u64, base.elements())
    });
    let dense = dense.map(|base| {
        let deltas = dense::deltas_of::<N>(elements, base.elements());
        let summary = DenseSummary { selected: positions.len() as u32, magnitude, base_digest };
        encode_dense(id, summary, &dense::classes_of(base), &deltas, base, encoding)
    });
    let dense = match dense {
        Some(dense) if encoding.is_dense_at_once() => return Ok(dense),
        dense => dense,
    };

    let gaps = gaps::gaps(positions);
    let selected_per_class = class_counts(dtype, elements.base.iter().copied());
    // Portable positions are base-free even if conditioning would pay: inverting the patch without the base must give the same bytes.
    let base_for_positions = base.filter(|_| !portable && effort != Effort::Fast);
    let mut positions_size = SizeEstimate { free: groups::estimated_bytes(&gaps), saved: 0 };
    if let Some(base) = base_for_positions {
        let saved = saved_by_classes(&selected_per_class, &base.class_counts());
        positions_size.saved = saved.min(positions_size.free);
    }
    let exact = match &reduced {
        Some(_) => ExactDeltas { ulps: Vec::new(), by_class: Sequences::zeros(Partition::whole(1), &[]) },
        None => exact_deltas::<N>(elements),
    };
    let deltas_size = match &reduced {
        Some(reduced) => SizeEstimate { free: reduced.bytes.len() as u64, saved: 0 },
        None => exact.size(),
    };

    let savings = Savings {
        free: positions_size.free + deltas_size.free,
        positions: positions_size.saved,
        deltas: deltas_size.saved,
        needs_base: false,
    };
    let make_positions = match base_for_positions {
        Some(_) => Make::by_estimate(effort, |factor| savings.positions_pay(factor)),
        None => Make::BaseFree,
    };
    let make_deltas = match reduced {
        Some(_) => Make::BaseFree,
        None if portable && effort != Effort::Best && deltas_size.saved > 0 => Make::BaseConditioned,
        None if portable && effort != Effort::Best => Make::BaseFree,
        None => Make::by_estimate(effort, |factor| savings.deltas_pay(factor)),
    };
    let positions_encodings = StreamEncodings {
        base_free: (
            PositionCodec::Gaps,
            positions_size.base_free(make_positions, || groups::encode_whole(&gaps, effort)),
        ),
        base_conditioned: (
            PositionCodec::ClassGaps,
            positions_size.base_conditioned(make_positions, || match base_for_positions {
                Some(base) => class_gaps(base, positions, &selected_per_class).encode(effort),
                None => Vec::new(),
            }),
        ),
    };
    let deltas_encodings = StreamEncodings {
        base_conditioned: (
            DeltaCodec::ClassUlp,
            deltas_size.base_conditioned(make_deltas, || exact.by_class.encode(effort)),
        ),
        base_free: match reduced {
            Some(reduced) => (reduced.codec, EncodedStream::Bytes(reduced.bytes)),
            None => (DeltaCodec::Ulp, deltas_size.base_free(make_deltas, || groups::encode_whole(&exact.ulps, effort))),
        },
    };

    let masks = elements.kept.as_ref().map(|kept| {
        let symbols: Vec<u16> = kept.iter().map(|kept: &Kept| kept.symbol()).collect();
        (MaskCodec::PrunedBase, groups::encode_whole(&symbols, effort))
    });
    let values_before =
        elements.before.as_ref().map(|before| (BaseCodec::Bits, encode_values::<N>(dtype, before, effort)));
    let sparse = BlockEncodings {
        base_is_unpruned: elements.base_is_unpruned(),
        invertible: precision == Precision::Exact && elements.holds_zeros && elements.before.is_none(),
        unknown: if values_before.is_some() { 0 } else { elements.pruned_in_base() },
        base_values: match portable {
            true => EncodedStream::Bytes(encode_values::<N>(dtype, &elements.base, effort)),
            false => EncodedStream::Estimate(estimated_values_bytes::<N>(dtype, &elements.base)),
        },
        block: EncodedBlock {
            tensor: id.tensor,
            index: id.index,
            selected: positions.len() as u32,
            streams: Streams {
                positions: (PositionCodec::Gaps, Vec::new()),
                deltas: (DeltaCodec::Ulp, Vec::new()),
                base_values: None,
                masks,
                values_before,
            },
            base_digest,
            magnitude,
        },
        positions: positions_encodings,
        deltas: deltas_encodings,
    };
    // A list that is a little smaller is not worth the time that it takes everybody who applies the patch.
    Ok(match dense {
        Some(dense) if dense.needs_base_bytes() <= sparse.needs_base_bytes() / 32 * 33 => dense,
        _ => sparse,
    })
}

/// Encodes a block of which a large share changes. `deltas` has an entry for each element; see [`dense`].
pub(super) fn encode_dense<N: Number>(
    id: BlockId,
    DenseSummary { selected, magnitude, base_digest }: DenseSummary,
    classes: &[Classes],
    deltas: &[N],
    base: &dyn BaseElements,
    encoding: Encoding,
) -> BlockEncodings {
    let (codes, bits) = dense::sample(base, deltas);
    let of_all = |sample_bytes: u64| sample_bytes * u64::from(selected) / codes.len().max(1) as u64;
    let free_positions = choice_bits(base.elements().into(), selected.into()) / 8;
    let free_deltas = of_all(groups::estimated_bytes(&codes));
    let (chunks, dense) = dense::encode(base.dtype(), classes, deltas, encoding.effort);
    BlockEncodings {
        base_is_unpruned: false,
        invertible: true,
        unknown: 0,
        base_values: EncodedStream::Estimate(of_all(estimated_values_bytes::<N>(base.dtype(), &bits))),
        block: EncodedBlock {
            tensor: id.tensor,
            index: id.index,
            selected,
            streams: Streams {
                positions: (PositionCodec::Gaps, Vec::new()),
                deltas: (DeltaCodec::Ulp, Vec::new()),
                base_values: None,
                masks: None,
                values_before: None,
            },
            base_digest,
            magnitude,
        },
        positions: StreamEncodings {
            base_free: (PositionCodec::Gaps, EncodedStream::Estimate(free_positions)),
            base_conditioned: (PositionCodec::Chunks, EncodedStream::Bytes(chunks)),
        },
        deltas: StreamEncodings {
            base_free: (DeltaCodec::Ulp, EncodedStream::Estimate(free_deltas)),
            base_conditioned: (DeltaCodec::Dense, EncodedStream::Bytes(dense)),
        },
    }
}

/// The indices of the elements that have a delta: those that are kept in the reference.
fn with_delta(elements: &Elements) -> impl Iterator<Item = usize> {
    (0..elements.positions.len()).filter(|entry| elements.kept(*entry).in_reference())
}

/// Encodes bit patterns as base values (spec §9.8).
fn encode_values<N: Number>(dtype: Dtype, bits: &[u64], effort: Effort) -> Vec<u8> {
    let images: Vec<N> = bits.iter().map(|bits| N::low(unsigned_image(dtype, *bits))).collect();
    groups::encode_whole(&images, effort)
}

/// About how many bytes [`encode_values`] gives, from a sample.
fn estimated_values_bytes<N: Number>(dtype: Dtype, bits: &[u64]) -> u64 {
    let step = bits.len().div_ceil(SAMPLE).max(1);
    let sample: Vec<N> = bits.iter().step_by(step).map(|bits| N::low(unsigned_image(dtype, *bits))).collect();
    groups::estimated_bytes(&sample) * bits.len() as u64 / sample.len().max(1) as u64
}

/// Estimated size of a stream.
#[derive(Clone, Copy)]
struct SizeEstimate {
    /// Bytes of the base-free encoding.
    free: u64,
    /// Bytes that the base-conditioned encoding saves.
    saved: u64,
}

/// Which encodings of a stream are worth making.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Make {
    BaseFree,
    BaseConditioned,
    Both,
}

impl Make {
    /// Which encodings of a stream to make. `pays` says whether conditioning saves what it must at least, times a factor.
    fn by_estimate(effort: Effort, pays: impl Fn(f64) -> bool) -> Self {
        match effort {
            Effort::Best => Self::Both,
            _ if pays(CLEAR_FACTOR) => Self::BaseConditioned,
            _ if pays(1.0 / CLEAR_FACTOR) => Self::Both,
            _ => Self::BaseFree,
        }
    }
}

impl SizeEstimate {
    fn base_free(self, make: Make, encode: impl FnOnce() -> Vec<u8>) -> EncodedStream {
        match make {
            Make::BaseConditioned => EncodedStream::Estimate(self.free),
            Make::BaseFree | Make::Both => EncodedStream::Bytes(encode()),
        }
    }

    fn base_conditioned(self, make: Make, encode: impl FnOnce() -> Vec<u8>) -> EncodedStream {
        match make {
            Make::BaseFree => EncodedStream::Estimate(self.free - self.saved),
            Make::BaseConditioned | Make::Both => EncodedStream::Bytes(encode()),
        }
    }
}

/// Number of bit patterns of each class.
fn class_counts(dtype: Dtype, bits: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut counts = vec![0; dtype.classes()];
    let layout = dtype.bit_layout();
    bits.for_each(|bits| counts[usize::from(layout.class(bits))] += 1);
    counts
}

/// Estimated bytes by which positions shrink if the class of every element of the block is known: the difference between the
/// entropies of choosing positions among all elements and within each class, less the cost of the groups.
fn saved_by_classes(selected_per_class: &[u64], all_per_class: &[u64]) -> u64 {
    let k = selected_per_class.iter().sum();
    // The counts of all elements come from a sample and may be too small.
    let n = all_per_class.iter().zip(selected_per_class).map(|(n, k)| *n.max(k)).sum();
    let by_class: u64 = selected_per_class.iter().zip(all_per_class).map(|(k, n)| choice_bits(*n.max(k), *k)).sum();
    let groups = Partition::of_counts(selected_per_class).groups() as u64;
    (choice_bits(n, k).saturating_sub(by_class) / 8).saturating_sub(GROUP_BYTES * groups)
}

/// The ULP deltas of a block, as integers to encode.
struct ExactDeltas<N> {
    /// In the order of positions.
    ulps: Vec<N>,
    /// The same numbers, grouped by the class of the base's element.
    by_class: Sequences<N>,
}

impl<N: Number> ExactDeltas<N> {
    fn size(&self) -> SizeEstimate {
        let free = groups::estimated_bytes(&self.ulps);
        SizeEstimate { free, saved: free.saturating_sub(self.by_class.estimated_bytes()) }
    }
}

fn exact_deltas<N: Number>(elements: &Elements) -> ExactDeltas<N> {
    let (dtype, layout) = (elements.dtype, elements.dtype.bit_layout());
    let class = |entry: usize| usize::from(layout.class(elements.base[entry]));
    let mut ulps = Vec::with_capacity(elements.positions.len());
    let mut counts = vec![0; dtype.classes()];
    with_delta(elements).for_each(|entry| {
        let ulp = layout.ulp_delta(elements.base[entry], elements.reference[entry]);
        ulps.push(N::low(wrap_ulp(ulp, dtype)));
        counts[class(entry)] += 1;
    });
    let partition = Partition::of_counts(&counts);
    let groups: Vec<usize> = (0..dtype.classes() as u16).map(|class| partition.group(class)).collect();
    let mut by_class = Sequences::zeros(partition, &counts);
    let (mut next, numbers) = (by_class.starts(), by_class.numbers_mut());
    with_delta(elements).zip(&ulps).for_each(|(entry, ulp)| {
        let next = &mut next[groups[class(entry)]];
        numbers[*next] = *ulp;
        *next += 1;
    });
    ExactDeltas { ulps, by_class }
}

/// Counts the gaps between selected elements of each class, walking the base's elements of the block.
fn class_gaps(base: &dyn BaseElements, positions: &[u32], selected_per_class: &[u64]) -> GroupedGaps {
    let mut gaps = GroupedGaps::new(Partition::of_counts(selected_per_class), selected_per_class);
    let mut rest = positions;
    base.walk_classes(&mut |start, classes| {
        let end = start + classes.len() as u32;
        let (here, later) = rest.split_at(rest.partition_point(|position| *position < end));
        // Elements after the last selected one are in no gap.
        if !rest.is_empty() {
            gaps.walk(start, classes, here);
        }
        rest = later;
    });
    gaps
}

/// The digest of bit patterns, such as the base's values at the selected positions of a block (spec §11.2).
pub fn values_digest(dtype: Dtype, bits: &[u64]) -> Digest {
    let mut hasher = Hasher::default();
    update_values(&mut hasher, dtype, bits);
    hasher.finish()
}

/// Adds bit patterns to a hash, as [`values_digest`] hashes them.
pub(super) fn update_values(hasher: &mut Hasher, dtype: Dtype, bits: &[u64]) {
    let mut bytes = Vec::new();
    for part in bits.chunks(DIGEST_ELEMENTS) {
        dtype.width().store_all(part, &mut bytes);
        hasher.update(&bytes);
    }
}

/// Deltas of reduced precision.
struct ReducedDeltas {
    codec: DeltaCodec,
    bytes: Vec<u8>,
    /// The deltas that a reader decodes from `bytes`.
    decoded: Vec<f64>,
}

/// Encodes `deltas` with reduced precision.
///
/// # Errors
/// The index of a delta that is not finite in that precision.
fn reduce(deltas: &[f64], precision: Precision, effort: Effort) -> Result<ReducedDeltas, usize> {
    match precision {
        Precision::Int8 => reduce_to_int8(deltas, effort),
        Precision::Bf16 | Precision::Exact => reduce_to_bf16(deltas, effort),
    }
}

fn reduce_to_bf16(deltas: &[f64], effort: Effort) -> Result<ReducedDeltas, usize> {
    let mut bits = Vec::with_capacity(deltas.len());
    for (index, delta) in deltas.iter().enumerate() {
        match FloatFormat::BF16.round(*delta) {
            Rounded::Finite(rounded) => bits.push(rounded),
            Rounded::NotFinite(_) => return Err(index),
        }
    }
    let numbers: Vec<u16> = bits.iter().map(|bits| wrap_ulp(Dtype::Bf16.image(*bits), Dtype::Bf16) as u16).collect();
    let decoded = bits.iter().map(|bits| FloatFormat::BF16.value(*bits)).collect();
    Ok(ReducedDeltas { codec: DeltaCodec::Bf16, bytes: groups::encode_whole(&numbers, effort), decoded })
}

fn reduce_to_int8(deltas: &[f64], effort: Effort) -> Result<ReducedDeltas, usize> {
    if let Some(index) = deltas.iter().position(|delta| !delta.is_finite()) {
        return Err(index);
    }
    let largest = deltas.iter().fold(0f64, |largest, delta| largest.max(delta.abs()));
    let stored_scale = (largest / 127.0) as f32;
    if !stored_scale.is_finite() {
        return Err(0);
    }
    let scale = f64::from(stored_scale);
    let step =
        |delta: &f64| if scale == 0.0 { 0 } else { (delta / scale).round_ties_even().clamp(-127.0, 127.0) as i8 };
    let steps: Vec<i8> = deltas.iter().map(step).collect();
    let numbers: Vec<u16> = steps.iter().map(|step| wrap_ulp(u64::from(*step as u8), Dtype::I8) as u16).collect();
    let mut bytes = stored_scale.to_le_bytes().to_vec();
    bytes.extend(groups::encode_whole(&numbers, effort));
    let decoded = steps.iter().map(|step| f64::from(*step) * scale).collect();
    Ok(ReducedDeltas { codec: DeltaCodec::Int8, bytes, decoded })
}

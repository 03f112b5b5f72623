//! Pruning masks: which weights of a checkpoint are kept; the others count as 0.
//!
//! A mask is worked out block by block from wherever it is written down (a mask file, `X_mask` beside `X_orig`, the
//! zeros of a pruned checkpoint) or from the magnitudes themselves, so that no more than a block of it is in memory.

use super::ranking::{Cut, Keys, Zeros};
use super::top_k::TooFew;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::context::{Cancelled, Context};
use crate::dtype::Dtype;
use crate::format::block::{block_range, blocks};
use bitvec::order::Lsb0;
use bitvec::vec::BitVec;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One bit for each element, 1 = kept; packed as a mask file packs them.
pub type Bits = BitVec<u8, Lsb0>;

/// The share of weights that are pruned, at least 0 and below 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Sparsity(f64);

impl Sparsity {
    /// None unless `0 <= share < 1`.
    pub fn new(share: f64) -> Option<Self> {
        (0.0..1.0).contains(&share).then_some(Self(share))
    }

    /// How many of `elements` are pruned, rounded to the nearest count.
    pub fn of(self, elements: u64) -> u64 {
        (self.0 * elements as f64).round() as u64
    }
}

/// What is ranked together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All candidates in one ranking, as in the paper.
    Global,
    /// Each tensor for itself.
    Tensor,
}

impl Scope {
    /// The name on the command line and in metadata.
    pub fn label(self) -> &'static str {
        match self {
            Scope::Global => "global",
            Scope::Tensor => "tensor",
        }
    }
}

/// Why there is no mask.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MaskFault {
    /// The mask of a tensor has neither its shape nor that of its packed bits.
    #[error("the mask of {tensor:?} is {dtype} of shape {found:?}; it must have the shape {expected:?}, or be packed")]
    Shape {
        /// The tensor.
        tensor: String,
        /// The mask's dtype.
        dtype: Dtype,
        /// The mask's shape.
        found: Vec<u64>,
        /// The tensor's shape.
        expected: Vec<u64>,
    },
    /// An element of a mask is neither 0 nor 1.
    #[error("element {index} of the mask of {tensor:?} is {value}; a mask holds 0 and 1 only")]
    Value {
        /// The tensor.
        tensor: String,
        /// Flat index.
        index: u64,
        /// What it is.
        value: f64,
    },
    /// Bits after the last element of a packed mask are not 0.
    #[error("the packed mask of {tensor:?} has bits after its last element")]
    Padding {
        /// The tensor.
        tensor: String,
    },
    /// Masks for tensors that the checkpoint does not have.
    #[error("the mask has tensors that the checkpoint has not, the first is {first:?} ({count} in all)")]
    Unmatched {
        /// The first of them.
        first: String,
        /// How many there are.
        count: usize,
    },
    /// There is no mask where one was looked for.
    #[error("there is no pruning mask in {place}")]
    None {
        /// Where.
        place: String,
    },
    /// A magnitude has no rank.
    #[error("element {index} of {tensor:?} is {value}; only finite weights can be ranked")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// Flat index.
        index: u64,
        /// What it is.
        value: f64,
    },
    /// The earlier mask prunes more than was asked for.
    #[error("the earlier mask prunes {before} weights already; {wanted} are asked for")]
    Before {
        /// Pruned by the earlier mask.
        before: u64,
        /// Pruned at the sparsity asked for.
        wanted: u64,
    },
    /// The checkpoint changed while it was read.
    #[error("{found} weights can be ranked where there were more before; another program changes the checkpoint")]
    TooFew {
        /// Weights found.
        found: u64,
    },
    /// Asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl From<TooFew> for MaskFault {
    fn from(TooFew { found, .. }: TooFew) -> Self {
        Self::TooFew { found }
    }
}

/// Which weights of a checkpoint are kept. Tensors that it does not cover are kept whole.
#[derive(Debug, Clone, Default)]
pub struct PruningMask<'a> {
    tensors: BTreeMap<String, Source<'a>>,
}

#[derive(Debug, Clone)]
enum Source<'a> {
    /// One element for each weight.
    Whole(Tensor<'a>),
    /// One bit for each weight.
    Packed(Tensor<'a>),
    /// The weights themselves, of which the zeros are pruned.
    Zeros(Tensor<'a>),
    /// Worked out, block by block.
    Held(Arc<Vec<Bits>>),
    /// Those below a cut through the magnitudes, of which this tensor's blocks begin at a unit.
    Smallest(Arc<Smallest<'a>>, usize),
}

impl<'a> PruningMask<'a> {
    /// The masks in `file` for the weights of `checkpoint`: tensors named as the weight or `X_mask`, of the weight's
    /// shape with elements 0 and 1 of any dtype, or packed (`spec/mask-files.md`).
    ///
    /// # Errors
    /// [`MaskFault::Unmatched`], [`MaskFault::Shape`]; values are looked at when they are needed.
    pub fn stored(file: &'a Checkpoint, checkpoint: &Checkpoint) -> Result<Self, MaskFault> {
        let mut left: BTreeSet<&str> = file.tensors().map(|tensor| tensor.info.name.as_str()).collect();
        let mut tensors = BTreeMap::new();
        for weights in checkpoint.tensors() {
            let name = &weights.info.name;
            let module = name.strip_suffix("_orig").unwrap_or(name);
            let names = [name.clone(), module.to_owned(), format!("{module}_mask")];
            if let Some(mask) = names.iter().find_map(|name| file.tensor(name)) {
                left.remove(mask.info.name.as_str());
                tensors.insert(name.clone(), stored(mask, weights)?);
            }
        }
        match left.first() {
            Some(first) => Err(MaskFault::Unmatched { first: (*first).to_owned(), count: left.len() }),
            None => Ok(Self { tensors }),
        }
    }

    /// The masks `X_mask` beside weights `X_orig`, as `torch.nn.utils.prune` leaves them.
    ///
    /// # Errors
    /// [`MaskFault::None`] if there are none.
    pub fn pairs(checkpoint: &'a Checkpoint) -> Result<Self, MaskFault> {
        let mut tensors = BTreeMap::new();
        for weights in checkpoint.tensors() {
            if let Some(mask) = checkpoint.companion_mask(&weights.info.name) {
                tensors.insert(weights.info.name.clone(), stored(mask, weights)?);
            }
        }
        if tensors.is_empty() {
            return Err(MaskFault::None { place: format!("{}, as X_orig and X_mask", checkpoint.path.display()) });
        }
        Ok(Self { tensors })
    }

    /// The zeros among `weights`.
    pub fn zeros(weights: impl IntoIterator<Item = Tensor<'a>>) -> Self {
        let source = |weights: Tensor<'a>| (weights.info.name.clone(), Source::Zeros(weights));
        Self { tensors: weights.into_iter().map(source).collect() }
    }

    /// Prunes the weights of smallest magnitude: exactly `sparsity` of all `weights` (of each tensor, in
    /// [`Scope::Tensor`]), those pruned by `before` first; of equal ones the first by tensor name and flat index.
    ///
    /// # Errors
    /// [`MaskFault`]: weights that are not finite, an earlier mask that prunes more already, cancellation.
    pub fn smallest(
        weights: &[Tensor<'a>],
        sparsity: Sparsity,
        scope: Scope,
        before: Option<&PruningMask<'a>>,
        context: &Context<'_>,
    ) -> Result<Self, MaskFault> {
        let together = match scope {
            Scope::Global => vec![weights],
            Scope::Tensor => weights.chunks(1).collect(),
        };
        let mut tensors = BTreeMap::new();
        for weights in together {
            let smallest = Arc::new(Smallest::new(weights, sparsity, before, context)?);
            let mut unit = 0;
            for tensor in weights {
                tensors.insert(tensor.info.name.clone(), Source::Smallest(smallest.clone(), unit));
                unit += blocks(tensor.info.elements()).count();
            }
        }
        Ok(Self { tensors })
    }

    /// Puts the blocks of one tensor's mask in the place of what was there.
    pub fn replace(&mut self, tensor: &str, blocks: Vec<Bits>) {
        self.tensors.insert(tensor.to_owned(), Source::Held(Arc::new(blocks)));
    }

    /// Names of the tensors that it covers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether it covers the tensor named `tensor`.
    pub fn covers(&self, tensor: &str) -> bool {
        self.tensors.contains_key(tensor)
    }

    /// The mask of one block of a tensor, one bit an element.
    ///
    /// # Errors
    /// [`MaskFault::Value`], [`MaskFault::Padding`], cancellation.
    pub fn block(&self, weights: Tensor<'_>, index: u64, context: &Context<'_>) -> Result<Bits, MaskFault> {
        let elements = weights.info.elements();
        let range = block_range(index, elements);
        let n = (range.end - range.start) as usize;
        let name = &weights.info.name;
        let mut bytes = Vec::with_capacity(n.div_ceil(8));
        match self.tensors.get(name) {
            None => return Ok(Bits::repeat(true, n)),
            Some(Source::Held(blocks)) => return Ok(blocks[index as usize].clone()),
            Some(Source::Packed(mask)) => {
                bytes.extend_from_slice(mask.elements(range.start / 8..range.end.div_ceil(8)));
                let padding = bytes.len() * 8 - n;
                if bytes.last().is_some_and(|last| last.leading_zeros() < padding as u32) {
                    return Err(MaskFault::Padding { tensor: name.clone() });
                }
            }
            Some(Source::Whole(mask)) => {
                let mut values = Vec::new();
                for part in mask.element_windows(range) {
                    mask.info.dtype.values_of(mask.elements(part.clone()), &mut values);
                    if let Some(at) = values.iter().position(|value| *value != 0.0 && *value != 1.0) {
                        let (tensor, index, value) = (name.clone(), part.start + at as u64, values[at]);
                        return Err(MaskFault::Value { tensor, index, value });
                    }
                    pack(&values, |value| value != 0.0, &mut bytes);
                    mask.release(part);
                }
            }
            Some(Source::Zeros(weights)) => {
                let mut values = Vec::new();
                for part in weights.element_windows(range) {
                    weights.info.dtype.values_of(weights.elements(part.clone()), &mut values);
                    // A NaN is no zero.
                    pack(&values, |value| value != 0.0, &mut bytes);
                    weights.release(part);
                }
            }
            Some(Source::Smallest(smallest, first)) => {
                let mut kept = Bits::repeat(true, n);
                smallest.walk(first + index as usize, context, |position| kept.set(position as usize, false))?;
                return Ok(kept);
            }
        }
        context.advance(n as u64)?;
        let mut kept = Bits::from_vec(bytes);
        kept.truncate(n);
        Ok(kept)
    }
}

fn stored<'a>(mask: Tensor<'a>, weights: Tensor<'_>) -> Result<Source<'a>, MaskFault> {
    let packed = [weights.info.elements().div_ceil(8)];
    if mask.info.shape == weights.info.shape {
        Ok(Source::Whole(mask))
    } else if mask.info.dtype == Dtype::U8 && mask.info.shape == packed {
        Ok(Source::Packed(mask))
    } else {
        let (tensor, dtype) = (weights.info.name.clone(), mask.info.dtype);
        let (found, expected) = (mask.info.shape.clone(), weights.info.shape.clone());
        Err(MaskFault::Shape { tensor, dtype, found, expected })
    }
}

/// Appends one bit for each value.
fn pack(values: &[f64], bit: impl Fn(f64) -> bool, out: &mut Vec<u8>) {
    out.extend(
        values.chunks(8).map(|eight| eight.iter().rev().fold(0, |byte, value| byte << 1 | u8::from(bit(*value)))),
    );
}

/// The weights of smallest magnitude among several tensors.
#[derive(Debug, Clone)]
struct Smallest<'a> {
    tensors: Vec<Tensor<'a>>,
    units: Vec<(usize, u64)>,
    before: Option<PruningMask<'a>>,
    cut: Cut,
}

impl<'a> Smallest<'a> {
    fn new(
        weights: &[Tensor<'a>],
        sparsity: Sparsity,
        before: Option<&PruningMask<'a>>,
        context: &Context<'_>,
    ) -> Result<Self, MaskFault> {
        let all_units =
            |(at, tensor): (usize, &Tensor<'_>)| blocks(tensor.info.elements()).map(move |index| (at, index));
        let units: Vec<(usize, u64)> = weights.iter().enumerate().flat_map(all_units).collect();
        let wanted = sparsity.of(weights.iter().map(|tensor| tensor.info.elements()).sum());
        if let Some(mask) = before {
            let pruned = |unit: &(usize, u64)| Ok(mask.block(weights[unit.0], unit.1, context)?.count_zeros() as u64);
            let before = units.iter().map(pruned).sum::<Result<u64, MaskFault>>()?;
            if before > wanted {
                return Err(MaskFault::Before { before, wanted });
            }
        }
        let keys = Magnitudes { tensors: weights, units: &units, before, context };
        let cut = Cut::after(wanted, &keys)?;
        Ok(Self { tensors: weights.to_vec(), units, before: before.cloned(), cut })
    }

    fn walk(&self, unit: usize, context: &Context<'_>, each: impl FnMut(u32)) -> Result<(), MaskFault> {
        let (tensors, units) = (&self.tensors[..], &self.units[..]);
        let keys = Magnitudes { tensors, units, before: self.before.as_ref(), context };
        self.cut.walk(&keys, unit, each)
    }
}

/// The smaller the magnitude, the larger the key; those pruned before come first.
struct Magnitudes<'k, 'a> {
    tensors: &'k [Tensor<'a>],
    units: &'k [(usize, u64)],
    before: Option<&'k PruningMask<'a>>,
    context: &'k Context<'k>,
}

impl Keys for Magnitudes<'_, '_> {
    type Error = MaskFault;

    fn units(&self) -> &[(usize, u64)] {
        self.units
    }

    fn walk(&self, (at, index): (usize, u64), _: Zeros, mut each: impl FnMut(u32, u64)) -> Result<u64, MaskFault> {
        let tensor = self.tensors[at];
        let before = self.before.map(|mask| mask.block(tensor, index, self.context)).transpose()?;
        let range = block_range(index, tensor.info.elements());
        let mut values = Vec::new();
        for part in tensor.element_windows(range.clone()) {
            tensor.info.dtype.values_of(tensor.elements(part.clone()), &mut values);
            let first = (part.start - range.start) as u32;
            for (position, value) in (first..).zip(&values) {
                if !value.is_finite() {
                    let index = range.start + u64::from(position);
                    return Err(MaskFault::NotFinite { tensor: tensor.info.name.clone(), index, value: *value });
                }
                let pruned = before.as_ref().is_some_and(|kept| !kept[position as usize]);
                each(position, if pruned { u64::MAX } else { i64::MAX as u64 - value.abs().to_bits() });
            }
            tensor.release(part.clone());
            self.context.advance((part.end - part.start) * tensor.info.dtype.width().bytes() as u64)?;
        }
        Ok(0)
    }
}

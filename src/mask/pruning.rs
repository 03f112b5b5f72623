//! Pruning masks: which weights of a checkpoint are kept; the others count as 0.
//!
//! A mask is read or computed one block at a time, so that no more than a block of it is in memory. It comes from a mask file, from
//! tensors `X_mask` beside `X_orig`, from the zeros of a pruned checkpoint, or from the magnitudes of the weights.

use super::ranking::{self, Keys, sampled};
use super::top_k::{Cut, Outside, TooFew};
use crate::checkpoint::{Checkpoint, Tensor};
use crate::context::{Cancelled, Context};
use crate::dtype::Dtype;
use crate::format::block::{BlockId, block_range, blocks};
use crate::words::{count, counted};
use bitvec::order::Lsb0;
use bitvec::vec::BitVec;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

/// One bit for each element, 1 = kept; packed as a mask file packs them.
pub type Bits = BitVec<u8, Lsb0>;

/// The share of weights that are pruned, at least 0 and below 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Sparsity(f64);

impl Sparsity {
    /// `None` unless `0 <= share < 1`.
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
#[non_exhaustive]
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
    #[error("the earlier mask prunes more weights already ({}) than are asked for ({})", count(*before), count(*wanted))]
    Before {
        /// Pruned by the earlier mask.
        before: u64,
        /// Pruned at the sparsity asked for.
        wanted: u64,
    },
    /// The checkpoint changed while it was read.
    #[error("{} can be ranked where there were more before; another program changes the checkpoint", counted(*found, "weight"))]
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
    tensors: BTreeMap<String, TensorMask<'a>>,
}

#[derive(Debug, Clone)]
enum TensorMask<'a> {
    /// One element for each weight.
    Whole(Tensor<'a>),
    /// One bit for each weight.
    Packed(Tensor<'a>),
    /// The weights themselves: zeros are pruned.
    Zeros(Tensor<'a>),
    /// The mask itself, block by block.
    Held(Arc<Vec<Bits>>),
    /// The weights of smallest magnitude are pruned; the number is the index of this tensor's first block in [`Smallest::blocks`].
    Smallest(Arc<Smallest<'a>>, usize),
}

impl<'a> PruningMask<'a> {
    /// The masks in `file` for the weights of `checkpoint`: tensors named as the weight or `X_mask`, of the weight's
    /// shape with elements 0 and 1 of any dtype, or packed (`spec/mask-files.md`).
    ///
    /// # Errors
    /// [`MaskFault::Unmatched`], [`MaskFault::Shape`]. Values are checked by [`PruningMask::block`].
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
            return Err(MaskFault::None { place: format!("{}, as X_orig and X_mask", checkpoint.path().display()) });
        }
        Ok(Self { tensors })
    }

    /// The zeros among `weights`.
    pub fn zeros(weights: impl IntoIterator<Item = Tensor<'a>>) -> Self {
        let source = |weights: Tensor<'a>| (weights.info.name.clone(), TensorMask::Zeros(weights));
        Self { tensors: weights.into_iter().map(source).collect() }
    }

    /// Prunes the weights of smallest magnitude: exactly `sparsity` of all `weights` (of each tensor, in [`Scope::Tensor`]). Weights
    /// that `before` prunes come first; equal magnitudes are pruned in the order of tensor names and flat indices.
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
            let mut first_block = 0;
            for tensor in weights {
                tensors.insert(tensor.info.name.clone(), TensorMask::Smallest(smallest.clone(), first_block));
                first_block += blocks(tensor.info.elements()).count();
            }
        }
        Ok(Self { tensors })
    }

    /// Replaces the mask of one tensor by these blocks.
    pub fn replace(&mut self, tensor: &str, blocks: Vec<Bits>) {
        self.tensors.insert(tensor.to_owned(), TensorMask::Held(Arc::new(blocks)));
    }

    /// Names of the tensors that it covers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether it covers the tensor named `tensor`.
    pub fn covers(&self, tensor: &str) -> bool {
        self.tensors.contains_key(tensor)
    }

    /// The mask of one block of a tensor: one bit for each element, 1 = kept.
    ///
    /// # Errors
    /// [`MaskFault::Value`], [`MaskFault::Padding`], cancellation.
    pub fn block(&self, weights: Tensor<'_>, index: u64, context: &Context<'_>) -> Result<Bits, MaskFault> {
        let range = block_range(index, weights.info.elements());
        let n = (range.end - range.start) as usize;
        let name = &weights.info.name;
        let packed = match self.tensors.get(name) {
            None => return Ok(Bits::repeat(true, n)),
            Some(TensorMask::Held(blocks)) => return Ok(blocks[index as usize].clone()),
            Some(TensorMask::Smallest(smallest, first)) => {
                let mut kept = Bits::repeat(true, n);
                smallest.walk(first + index as usize, context, |position| kept.set(position as usize, false))?;
                return Ok(kept);
            }
            Some(TensorMask::Packed(mask)) => packed_bits(name, *mask, range)?,
            Some(TensorMask::Whole(mask)) => whole_bits(name, *mask, range)?,
            Some(TensorMask::Zeros(weights)) => nonzero_bits(*weights, range),
        };
        context.advance(n as u64)?;
        let mut kept = Bits::from_vec(packed);
        kept.truncate(n);
        Ok(kept)
    }
}

/// The elements `range` of a mask that is packed as in a mask file.
fn packed_bits(name: &str, mask: Tensor<'_>, range: Range<u64>) -> Result<Vec<u8>, MaskFault> {
    let bytes = mask.elements(range.start / 8..range.end.div_ceil(8)).to_vec();
    let padding = bytes.len() as u64 * 8 - (range.end - range.start);
    if bytes.last().is_some_and(|last| u64::from(last.leading_zeros()) < padding) {
        return Err(MaskFault::Padding { tensor: name.to_owned() });
    }
    Ok(bytes)
}

/// Packs the elements `range` of a mask of zeros and ones.
fn whole_bits(name: &str, mask: Tensor<'_>, range: Range<u64>) -> Result<Vec<u8>, MaskFault> {
    let (mut values, mut packed) = (Vec::new(), Vec::new());
    for part in mask.element_windows(range) {
        mask.info.dtype.values_of(mask.elements(part.clone()), &mut values);
        if let Some(at) = values.iter().position(|value| *value != 0.0 && *value != 1.0) {
            let (tensor, index, value) = (name.to_owned(), part.start + at as u64, values[at]);
            return Err(MaskFault::Value { tensor, index, value });
        }
        pack_nonzero(&values, &mut packed);
        mask.release(part);
    }
    Ok(packed)
}

/// A bit for each of the elements `range` of `weights`: 0 for a zero. NaN compares unequal to zero, so it is kept.
fn nonzero_bits(weights: Tensor<'_>, range: Range<u64>) -> Vec<u8> {
    let (mut values, mut packed) = (Vec::new(), Vec::new());
    for part in weights.element_windows(range) {
        weights.info.dtype.values_of(weights.elements(part.clone()), &mut values);
        pack_nonzero(&values, &mut packed);
        weights.release(part);
    }
    packed
}

fn stored<'a>(mask: Tensor<'a>, weights: Tensor<'_>) -> Result<TensorMask<'a>, MaskFault> {
    let packed = [weights.info.elements().div_ceil(8)];
    if mask.info.shape == weights.info.shape {
        Ok(TensorMask::Whole(mask))
    } else if mask.info.dtype == Dtype::U8 && mask.info.shape == packed {
        Ok(TensorMask::Packed(mask))
    } else {
        let (tensor, dtype) = (weights.info.name.clone(), mask.info.dtype);
        let (found, expected) = (mask.info.shape.clone(), weights.info.shape.clone());
        Err(MaskFault::Shape { tensor, dtype, found, expected })
    }
}

/// Appends one bit for each value, the first in the lowest bit of a byte: 1 unless the value is zero.
fn pack_nonzero(values: &[f64], packed: &mut Vec<u8>) {
    let pack = |eight: &[f64]| eight.iter().rev().fold(0, |byte, value| byte << 1 | u8::from(*value != 0.0));
    packed.extend(values.chunks(8).map(pack));
}

/// The weights of smallest magnitude among several tensors.
#[derive(Debug, Clone)]
struct Smallest<'a> {
    tensors: Vec<Tensor<'a>>,
    /// The blocks of all tensors, in order.
    blocks: Vec<BlockId>,
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
        let blocks_of = |(at, tensor): (usize, &Tensor<'_>)| {
            blocks(tensor.info.elements()).map(move |index| BlockId { tensor: at, index })
        };
        let blocks: Vec<BlockId> = weights.iter().enumerate().flat_map(blocks_of).collect();
        let wanted = sparsity.of(weights.iter().map(|tensor| tensor.info.elements()).sum());
        if let Some(mask) = before {
            let pruned = |id: &BlockId| Ok(mask.block(weights[id.tensor], id.index, context)?.count_zeros() as u64);
            let before = blocks.iter().map(pruned).sum::<Result<u64, MaskFault>>()?;
            if before > wanted {
                return Err(MaskFault::Before { before, wanted });
            }
        }
        let keys = Magnitudes { tensors: weights, blocks: &blocks, before, context };
        let cut = ranking::cut(wanted, &keys)?;
        Ok(Self { tensors: weights.to_vec(), blocks, before: before.cloned(), cut })
    }

    /// Calls `each` with the positions that are pruned in the block with index `at` in `blocks`.
    fn walk(&self, at: usize, context: &Context<'_>, each: impl FnMut(u32)) -> Result<(), MaskFault> {
        let (tensors, blocks) = (&self.tensors[..], &self.blocks[..]);
        let keys = Magnitudes { tensors, blocks, before: self.before.as_ref(), context };
        ranking::walk_above(&self.cut, &keys, at, each)
    }
}

/// Keys of weights: the smaller the magnitude, the larger the key. Weights that are pruned already have the largest key.
struct Magnitudes<'k, 'a> {
    tensors: &'k [Tensor<'a>],
    blocks: &'k [BlockId],
    before: Option<&'k PruningMask<'a>>,
    context: &'k Context<'k>,
}

impl Keys for Magnitudes<'_, '_> {
    type Error = MaskFault;

    fn blocks(&self) -> &[BlockId] {
        self.blocks
    }

    fn elements(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.info.elements()).sum()
    }

    fn sample(&self, id: BlockId, step: u64) -> Vec<u64> {
        let tensor = self.tensors[id.tensor];
        let range = block_range(id.index, tensor.info.elements());
        let mut values = Vec::new();
        let mut keys = Vec::new();
        let mut runs = sampled(id, range.clone(), SAMPLED_TOGETHER, step).peekable();
        for window in tensor.element_windows(range) {
            while let Some(run) = runs.next_if(|run| run.start < window.end) {
                tensor.info.dtype.values_of(tensor.elements(run), &mut values);
                keys.extend(values.iter().map(|value| key(*value)));
            }
            tensor.release(window);
        }
        keys
    }

    fn walk(
        &self,
        BlockId { tensor, index }: BlockId,
        keys: RangeInclusive<u64>,
        mut each: impl FnMut(u32, u64),
    ) -> Result<Outside, MaskFault> {
        let tensor = self.tensors[tensor];
        let before = self.before.map(|mask| mask.block(tensor, index, self.context)).transpose()?;
        let range = block_range(index, tensor.info.elements());
        let mut outside = Outside::default();
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
                let key = if pruned { u64::MAX } else { key(*value) };
                if outside.admit(key, &keys) {
                    each(position, key);
                }
            }
            tensor.release(part.clone());
            self.context.advance((part.end - part.start) * tensor.info.dtype.width().bytes() as u64)?;
        }
        Ok(outside)
    }
}

/// Weights that are sampled together.
const SAMPLED_TOGETHER: u64 = 64;

/// The key of a weight that is not pruned yet.
fn key(value: f64) -> u64 {
    i64::MAX as u64 - value.abs().to_bits()
}

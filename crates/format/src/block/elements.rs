//! The selected elements of one block, the encoder's input.

use super::masks::Kept;
use crate::dtype::{Dtype, FloatFormat};
use serde::{Deserialize, Serialize};

/// The selected elements of a block. Vectors have one entry per element unless stated otherwise.
#[derive(Debug, Clone)]
pub struct Elements {
    /// The element type.
    pub dtype: Dtype,
    /// Positions in the block, ascending.
    pub positions: Vec<u32>,
    /// The base's bit patterns.
    pub base: Vec<u64>,
    /// The reference's bit patterns; a zero where the reference is pruned.
    pub reference: Vec<u64>,
    /// Where each element is kept, if base and reference have pruning masks.
    pub kept: Option<Vec<Kept>>,
    /// The base's bit patterns before pruning, one entry per element that is pruned in the base.
    pub before: Option<Vec<u64>>,
    /// Whether base and reference store zeros at their pruned elements.
    pub holds_zeros: bool,
}

impl Elements {
    /// An empty list of elements.
    pub fn new(dtype: Dtype) -> Self {
        let (positions, base, reference) = (Vec::new(), Vec::new(), Vec::new());
        Self { dtype, positions, base, reference, kept: None, before: None, holds_zeros: true }
    }

    /// Removes all elements, and keeps their memory for those of a block of `dtype`.
    pub fn clear(&mut self, dtype: Dtype) {
        self.positions.clear();
        self.base.clear();
        self.reference.clear();
        (self.dtype, self.kept, self.before, self.holds_zeros) = (dtype, None, None, true);
    }

    /// Appends the elements with `indices` of a part of the block. The part begins at position `first`; `base` and `reference` are its
    /// bytes.
    ///
    /// # Panics
    /// If an index is outside of the part.
    pub fn extend(&mut self, first: u32, indices: &[u32], base: &[u8], reference: &[u8]) {
        self.extend_base(first, indices, base);
        self.dtype.width().load_at(reference, indices.iter().map(|index| *index as usize), &mut self.reference);
    }

    /// As [`Elements::extend`], with the reference's bit pattern of each element.
    pub fn extend_with(&mut self, first: u32, indices: &[u32], base: &[u8], reference: &[u64]) {
        self.extend_base(first, indices, base);
        self.reference.extend_from_slice(reference);
    }

    fn extend_base(&mut self, first: u32, indices: &[u32], base: &[u8]) {
        self.positions.extend(indices.iter().map(|index| first + index));
        self.dtype.width().load_at(base, indices.iter().map(|index| *index as usize), &mut self.base);
    }

    /// Where element `entry` is kept.
    pub fn kept(&self, entry: usize) -> Kept {
        self.kept.as_ref().map_or(Kept::BOTH, |kept| kept[entry])
    }

    /// Reference minus base of element `entry` as a value, where a pruned element counts as 0.
    pub fn delta(&self, entry: usize, float: FloatFormat) -> f64 {
        let base = if self.kept(entry).in_base() { float.value(self.base[entry]) } else { 0.0 };
        float.value(self.reference[entry]) - base
    }

    /// Number of elements that are pruned in the base.
    pub fn pruned_in_base(&self) -> usize {
        self.kept.iter().flatten().filter(|kept| !kept.in_base()).count()
    }

    /// Whether the base stores a value other than zero at an element that is pruned there.
    pub fn base_is_unpruned(&self) -> bool {
        let Some(float) = self.dtype.float() else { return false };
        let pruned = self.kept.iter().flatten().zip(&self.base).filter(|(kept, _)| !kept.in_base());
        pruned.into_iter().any(|(_, bits)| float.value(*bits) != 0.0)
    }

    /// Statistics of the deltas; zeros for dtypes that are not floats.
    pub fn magnitude(&self) -> Magnitude {
        match (self.dtype, &self.kept) {
            // Fast paths for the dtypes of most checkpoints: `FloatFormat::value` would match on the format at each element.
            (Dtype::Bf16, None) => {
                let value = |bits: u64| f64::from(f32::from_bits((bits as u32) << 16));
                self.magnitude_of(|entry| value(self.reference[entry]) - value(self.base[entry]))
            }
            (Dtype::F32, None) => {
                let value = |bits: u64| f64::from(f32::from_bits(bits as u32));
                self.magnitude_of(|entry| value(self.reference[entry]) - value(self.base[entry]))
            }
            (dtype, _) => match dtype.float() {
                Some(float) => self.magnitude_of(|entry| self.delta(entry, float)),
                None => Magnitude::default(),
            },
        }
    }

    fn magnitude_of(&self, delta: impl Fn(usize) -> f64) -> Magnitude {
        let mut total = Magnitude::default();
        for (entry, (base, reference)) in self.base.iter().zip(&self.reference).enumerate() {
            total.unchanged += u64::from(base == reference);
            let delta = delta(entry);
            if delta.is_finite() {
                total.sum += delta.abs();
                total.max = total.max.max(delta.abs());
                total.squares += delta * delta;
            }
        }
        total
    }
}

/// Statistics of deltas (reference minus base). Sums leave out deltas that are not finite.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Magnitude {
    /// Sum of absolute deltas.
    pub sum: f64,
    /// Largest absolute delta.
    pub max: f64,
    /// Number of elements whose bits are the same in base and reference.
    pub unchanged: u64,
    /// Sum of squared deltas.
    pub squares: f64,
    /// Largest absolute error of a delta of reduced precision.
    pub error_max: f64,
    /// Sum of squared errors of deltas of reduced precision.
    pub error_squares: f64,
}

impl Magnitude {
    /// The statistics of both sets of elements together.
    pub fn and(self, other: Self) -> Self {
        Self {
            sum: self.sum + other.sum,
            max: self.max.max(other.max),
            unchanged: self.unchanged + other.unchanged,
            squares: self.squares + other.squares,
            error_max: self.error_max.max(other.error_max),
            error_squares: self.error_squares + other.error_squares,
        }
    }

    /// Adds the errors of deltas of reduced precision.
    pub(super) fn add_errors(&mut self, errors: impl Iterator<Item = f64>) {
        for error in errors {
            self.error_max = self.error_max.max(error.abs());
            self.error_squares += error * error;
        }
    }
}

//! The selected elements of one block, as an encoder takes them.

use super::masks::Kept;
use crate::dtype::{Dtype, FloatFormat};
use serde::{Deserialize, Serialize};

/// One entry for each selected element of a block.
#[derive(Debug, Clone)]
pub struct Elements {
    /// Their type.
    /// Their type.
    pub dtype: Dtype,
    /// Positions in the block, ascending.
    pub positions: Vec<u32>,
    /// The base's bits.
    pub base: Vec<u64>,
    /// The reference's bits, those of zero where it is pruned.
    pub reference: Vec<u64>,
    /// What is kept, where there are masks.
    pub kept: Option<Vec<Kept>>,
    /// Only of the elements that are pruned in the base: what it held there before.
    pub before: Option<Vec<u64>>,
    /// Whether base and reference hold zeros where they are pruned.
    pub holds_zeros: bool,
}

impl Elements {
    /// No elements yet.
    pub fn new(dtype: Dtype) -> Self {
        let (positions, base, reference) = (Vec::new(), Vec::new(), Vec::new());
        Self { dtype, positions, base, reference, kept: None, before: None, holds_zeros: true }
    }

    /// Adds those with the indices `places` of a part of the block, which begins at position `first`, of elements of `N` bytes.
    pub fn extend<const N: usize>(&mut self, first: u32, places: &[u32], base: &[u8], reference: &[u8]) {
        let (base, reference) = (base.as_chunks::<N>().0, reference.as_chunks::<N>().0);
        let bits = |element: &[u8; N]| {
            let mut bits = [0; 8];
            bits[..N].copy_from_slice(element);
            u64::from_le_bytes(bits)
        };
        self.positions.extend(places.iter().map(|at| first + at));
        self.base.extend(places.iter().map(|at| bits(&base[*at as usize])));
        self.reference.extend(places.iter().map(|at| bits(&reference[*at as usize])));
    }

    /// What is kept of element `at`.
    pub fn kept(&self, at: usize) -> Kept {
        self.kept.as_ref().map_or(Kept::BOTH, |kept| kept[at])
    }

    /// Reference minus base, in value, with 0 for what is pruned.
    pub fn delta(&self, at: usize, float: FloatFormat) -> f64 {
        let base = if self.kept(at).in_base() { float.value(self.base[at]) } else { 0.0 };
        float.value(self.reference[at]) - base
    }

    /// How many are pruned in the base.
    pub fn pruned_in_base(&self) -> usize {
        self.kept.iter().flatten().filter(|kept| !kept.in_base()).count()
    }

    /// Whether the base holds something else than zero where it is pruned.
    pub fn base_is_unpruned(&self) -> bool {
        let Some(float) = self.dtype.float() else { return false };
        let pruned = self.kept.iter().flatten().zip(&self.base).filter(|(kept, _)| !kept.in_base());
        pruned.into_iter().any(|(_, bits)| float.value(*bits) != 0.0)
    }

    /// How large the deltas are.
    pub fn magnitude(&self) -> Magnitude {
        let of_float = |float: FloatFormat| self.magnitude_of(|at| self.delta(at, float));
        match (self.dtype, &self.kept) {
            // The dtypes of most checkpoints, without a look at each element's.
            (Dtype::Bf16, None) => {
                let value = |bits: u64| f64::from(f32::from_bits((bits as u32) << 16));
                self.magnitude_of(|at| value(self.reference[at]) - value(self.base[at]))
            }
            (Dtype::F32, None) => {
                let value = |bits: u64| f64::from(f32::from_bits(bits as u32));
                self.magnitude_of(|at| value(self.reference[at]) - value(self.base[at]))
            }
            _ => self.dtype.float().map_or_else(Magnitude::default, of_float),
        }
    }

    fn magnitude_of(&self, delta: impl Fn(usize) -> f64) -> Magnitude {
        let mut total = Magnitude::default();
        for (at, (base, reference)) in self.base.iter().zip(&self.reference).enumerate() {
            total.unchanged += u64::from(base == reference);
            let delta = delta(at);
            if delta.is_finite() {
                total.sum += delta.abs();
                total.max = total.max.max(delta.abs());
                total.squares += delta * delta;
            }
        }
        total
    }
}

/// Sums over finite reference minus base.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Magnitude {
    /// Sum of absolute differences.
    pub sum: f64,
    /// Largest absolute difference.
    pub max: f64,
    /// Elements whose bits are the same in both.
    pub unchanged: u64,
    /// Sum of squared differences.
    pub squares: f64,
    /// Largest error of a reduced delta.
    pub error_max: f64,
    /// Sum of squared errors of reduced deltas.
    pub error_squares: f64,
}

impl Magnitude {
    /// Both together.
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

    /// Adds the errors of reduced deltas.
    pub(super) fn add_errors(&mut self, errors: impl Iterator<Item = f64>) {
        for error in errors {
            self.error_max = self.error_max.max(error.abs());
            self.error_squares += error * error;
        }
    }
}

//! Target and reference, paired tensor by tensor.

mod matching;
mod suggestion;

pub(crate) use suggestion::Suggestion;

use crate::checkpoint::{Checkpoint, Tensor};
use crate::context::{Cancelled, Context};
use crate::dtype::{Dtype, Rounded};
use crate::format::metadata::Pairing;
use serde::Serialize;
use std::ops::Range;
use std::path::PathBuf;

/// What to do with tensors that have no counterpart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Unpaired {
    /// Refuse to pair the checkpoints, and name the tensors.
    #[default]
    Refuse,
    /// Leave them out and record them in the patch.
    LeaveOut,
}

/// What to do with a reference of another float dtype.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OtherDtype {
    /// Refuse to pair the checkpoints, and name the tensors.
    #[default]
    Refuse,
    /// Round the reference to the target's dtype, and record the tensors in the patch.
    Cast,
}

/// A prefix of one side's names, and the prefix of the other side's names that replaces it. Either may be empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Prefix {
    /// The prefix to replace.
    pub from: String,
    /// Its replacement.
    pub to: String,
}

/// Prefixes to replace in names: in those of the reference to get those of the target, or in those of a patch to get those of the
/// base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrefixMap(Vec<Prefix>);

impl PrefixMap {
    /// A map of these prefixes, or `None` if there are no prefixes.
    pub fn new(prefixes: Vec<Prefix>) -> Option<Self> {
        (!prefixes.is_empty()).then_some(Self(prefixes))
    }

    /// `name` with its prefix replaced: the longest one if several match, and none if none does.
    pub fn apply(&self, name: &str) -> String {
        let matches = self.0.iter().filter_map(|prefix| Some((prefix, name.strip_prefix(&prefix.from)?)));
        let longest = matches.min_by_key(|(_, rest)| rest.len());
        longest.map_or_else(|| name.to_owned(), |(prefix, rest)| format!("{}{rest}", prefix.to))
    }

    /// The prefixes, in the order in which they were given.
    pub fn prefixes(&self) -> &[Prefix] {
        &self.0
    }
}

/// How to treat weights `X_orig` beside a mask `X_mask`, which `torch.nn.utils.prune` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PruningPairs {
    /// As two ordinary tensors.
    #[default]
    Tensors,
    /// As the weights `X`. The masks are not paired.
    Weights,
}

/// How to pair tensors.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PairOptions {
    /// Tensors that one side lacks or that differ in shape, or in dtype unless both dtypes are floats.
    pub unpaired: Unpaired,
    /// Float tensors of different float dtypes.
    pub other_dtype: OtherDtype,
    /// Prefixes of the reference's names to replace.
    pub prefix: Option<PrefixMap>,
    /// Weights beside pruning masks.
    pub pruning_pairs: PruningPairs,
}

impl PairOptions {
    /// The name by which the tensor `name` of `checkpoint` is paired, or `None` for a pruning mask, which is not paired.
    fn key(&self, checkpoint: &Checkpoint, name: &str) -> Option<String> {
        match self.pruning_pairs {
            PruningPairs::Weights if checkpoint.is_companion_mask(name) => None,
            PruningPairs::Weights if checkpoint.companion_mask(name).is_some() => {
                Some(name.strip_suffix("_orig").unwrap_or(name).to_owned())
            }
            _ => Some(name.to_owned()),
        }
    }
}

/// Two tensors of the same name and shape. The reference has the target's dtype, or is cast to it.
///
/// Embeddings of two vocabularies may differ in their number of rows. Rows that only the target has count as equal on both sides, and
/// rows that only the reference has are ignored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TensorPair<'a> {
    /// The tensor that will be edited.
    pub target: Tensor<'a>,
    /// Its counterpart.
    pub reference: Tensor<'a>,
}

impl TensorPair<'_> {
    /// The name in the target.
    pub fn name(&self) -> &str {
        &self.target.info.name
    }

    /// The dtype in the target.
    pub fn dtype(&self) -> Dtype {
        self.target.info.dtype
    }

    /// Whether the reference is rounded to the target's dtype.
    pub fn is_cast(&self) -> bool {
        self.target.info.dtype != self.reference.info.dtype
    }

    /// Whether one side has more rows than the other.
    pub fn has_other_rows(&self) -> bool {
        self.target.info.shape != self.reference.info.shape
    }

    /// The number of elements that are compared, which are the first ones: those of the rows that both sides have.
    pub fn compared(&self) -> u64 {
        self.common(0..self.target.info.elements()).end
    }

    /// The part of `elements` that the reference has too.
    fn common(&self, elements: Range<u64>) -> Range<u64> {
        let end = self.reference.info.elements();
        elements.start.min(end)..elements.end.min(end)
    }
}

impl<'a> TensorPair<'a> {
    /// Reads `elements` part by part. Calls `each` with the elements of a part, the target's bytes, and the reference's bytes in the
    /// target's dtype. Stops at the first error of `each`.
    ///
    /// # Errors
    /// [`Cancelled`], or the error of `each`.
    pub(crate) fn windows<E: From<Cancelled>>(
        &self,
        elements: Range<u64>,
        context: &Context<'_>,
        mut each: impl FnMut(Range<u64>, &[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let widths: usize = [self.target, self.reference].map(|side| side.info.dtype.width().bytes()).iter().sum();
        let (mut target, mut reference) = (Vec::new(), Vec::new());
        for part in self.target.element_windows(elements) {
            let target = self.target.read_to(part.clone(), &mut target);
            let reference = self.reference_elements(part.clone(), &mut reference);
            each(part.clone(), target, reference)?;
            context.advance((part.end - part.start) * widths as u64)?;
            self.release(part);
        }
        Ok(())
    }

    /// The reference's `elements` in the target's dtype, which may be read or computed to `buffer`.
    pub(crate) fn reference_elements<'b>(&self, elements: Range<u64>, buffer: &'b mut Vec<u8>) -> &'b [u8]
    where
        'a: 'b,
    {
        let common = self.common(elements.clone());
        if !self.is_cast() && common == elements {
            return self.reference.read_to(elements, buffer);
        }
        let in_file = self.reference.elements(common.clone());
        buffer.clear();
        match self.is_cast() {
            true => self.cast(in_file, buffer),
            false => buffer.extend_from_slice(in_file),
        }
        buffer.extend_from_slice(self.target.elements(common.end.max(elements.start)..elements.end));
        buffer
    }

    /// Tells the system that `elements` of both sides are not needed again soon.
    pub(crate) fn release(&self, elements: Range<u64>) {
        self.reference.release(self.common(elements.clone()));
        self.target.release(elements);
    }

    /// Finds the first finite element of the reference that the target's dtype cannot hold; returns its flat index and value.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn cast_overflow(&self, context: &Context<'_>) -> Result<Option<(u64, f64)>, Cancelled> {
        let (from, to) = (self.reference.info.dtype, self.target.info.dtype);
        let (Some(from_float), Some(to_float), true) = (from.float(), to.float(), self.is_cast()) else {
            return Ok(None);
        };
        for part in self.reference.element_windows(self.common(0..self.target.info.elements())) {
            let bytes = self.reference.elements(part.clone());
            let value = |at| from_float.value(from.width().load(bytes, at));
            let overflows =
                |at: &usize| value(*at).is_finite() && matches!(to_float.round(value(*at)), Rounded::NotFinite(_));
            if let Some(at) = (0..bytes.len() / from.width().bytes()).find(overflows) {
                return Ok(Some((part.start + at as u64, value(at))));
            }
            self.reference.release(part);
            context.advance(bytes.len() as u64)?;
        }
        Ok(None)
    }

    /// Rounds `reference`, in its own dtype, to the target's, into `out`, which is empty.
    fn cast(&self, reference: &[u8], out: &mut Vec<u8>) {
        let (from, to) = (self.reference.info.dtype, self.target.info.dtype);
        let (Some(from_float), Some(to_float)) = (from.float(), to.float()) else { return };
        let n = reference.len() / from.width().bytes();
        out.resize(n * to.width().bytes(), 0);
        for index in 0..n {
            let value = from_float.value(from.width().load(reference, index));
            let (Rounded::Finite(bits) | Rounded::NotFinite(bits)) = to_float.round(value);
            to.width().store(out, index, bits);
        }
    }
}

/// Target and reference, paired.
#[derive(Debug)]
pub(crate) struct Pair<'a> {
    /// The checkpoint that will be edited.
    pub target: &'a Checkpoint,
    /// The checkpoint that behaves differently.
    pub reference: &'a Checkpoint,
    /// Paired tensors, ascending by the bytes of their names.
    pub tensors: Vec<TensorPair<'a>>,
    /// How tensors were paired, for the patch's metadata; `None` if all of them were paired by equal names.
    pub pairing: Option<Pairing>,
}

/// Why two checkpoints do not pair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// Names that only the target has.
    pub only_in_target: Vec<String>,
    /// Names that only the reference has.
    pub only_in_reference: Vec<String>,
    /// Tensors whose shapes or kinds of dtype differ: the name, and the difference in words.
    pub differing: Vec<(String, String)>,
    /// Tensors whose float dtypes differ: the name, and the difference in words.
    pub other_dtype: Vec<(String, String)>,
    /// Names that several tensors of the reference get when prefixes are replaced: the name, and the tensors in words.
    pub collisions: Vec<(String, String)>,
    /// The number of tensors that pair.
    pub paired: usize,
    /// Prefixes with which more tensors pair.
    pub suggestion: Option<Suggestion>,
    /// The path of the checkpoint that is an adapter, if exactly one of them is.
    pub adapter: Option<PathBuf>,
}

impl Mismatch {
    fn is_empty(&self) -> bool {
        let Self { only_in_target, only_in_reference, differing, other_dtype, collisions, .. } = self;
        [only_in_target.len(), only_in_reference.len(), differing.len(), other_dtype.len(), collisions.len()] == [0; 5]
    }

    /// Forgets the differences that `options` allow.
    fn allow(&mut self, options: &PairOptions) {
        if options.other_dtype == OtherDtype::Cast {
            self.other_dtype.clear();
        }
        if options.unpaired == Unpaired::LeaveOut {
            self.only_in_target.clear();
            self.only_in_reference.clear();
            self.differing.clear();
        }
    }
}

impl<'a> Pair<'a> {
    /// The targets, ascending by name.
    pub fn targets(&self) -> Vec<Tensor<'a>> {
        self.tensors.iter().map(|tensor| tensor.target).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{checkpoint, floats, vector};

    fn prefix(from: &str, to: &str) -> Prefix {
        Prefix { from: from.to_owned(), to: to.to_owned() }
    }

    #[test]
    fn the_longest_prefix_that_matches_is_replaced() {
        let map = PrefixMap::new(vec![prefix("a.", "x."), prefix("a.b.", ""), prefix("", "m.")]).unwrap();
        assert_eq!(["a.c", "a.b.c", "c"].map(|name| map.apply(name)), ["x.c", "c", "m.c"]);
        assert_eq!(PrefixMap::new(vec![prefix("a.", "")]).unwrap().apply("b.c"), "b.c");
        assert_eq!(PrefixMap::new(Vec::new()), None);
    }

    #[test]
    fn rows_that_only_the_target_has_count_as_equal() {
        let (target, reference) = (floats(&[("w", &[1.0, 2.0, 3.0])]), floats(&[("w", &[4.0])]));
        let [target, reference] = [&target, &reference].map(|checkpoint| checkpoint.tensor("w").unwrap());
        let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let pair = TensorPair { target, reference };
        assert_eq!(pair.reference_elements(0..3, &mut Vec::new()), bytes(&[4.0, 2.0, 3.0]));
        assert_eq!(pair.reference_elements(1..2, &mut Vec::new()), bytes(&[2.0]));
        assert_eq!((pair.compared(), TensorPair { target: reference, reference: target }.compared()), (1, 1));
    }

    #[test]
    fn a_cast_overflows_at_the_first_finite_value_that_rounds_to_infinity() {
        let target = checkpoint(&[vector("w", Dtype::F16, &[0; 4])]);
        let overflow = |values: [f32; 4]| {
            let reference = floats(&[("w", &values)]);
            let reference = reference.tensor("w").unwrap();
            TensorPair { target: target.tensor("w").unwrap(), reference }.cast_overflow(&Context::silent())
        };
        assert_eq!(overflow([1.0, f32::INFINITY, 7e4, 8e4]), Ok(Some((2, f64::from(7e4f32)))));
        assert_eq!(overflow([1.0, f32::INFINITY, f32::NAN, 65504.0]), Ok(None));
    }
}

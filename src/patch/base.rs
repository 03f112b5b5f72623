//! The base's elements of one block, as base-conditioned codecs need them.

use crate::checkpoint::Tensor;
use crate::dtype::{Classes, Dtype};
use std::ops::Range;

/// Bytes of elements whose classes are taken at a time: they stay in the processor's nearest memory.
const CLASS_BYTES: usize = 1 << 15;

/// Runs of so many elements are sampled, one of every so many, or more where the sample would be smaller than that.
const SAMPLED_RUN: usize = 64;
const SAMPLED_RUNS: usize = 61;
const SAMPLE: usize = 1 << 16;

/// The elements of one block of a base tensor.
#[derive(Debug, Clone)]
pub struct BaseBlock<'a>(Elements<'a>);

#[derive(Debug, Clone)]
enum Elements<'a> {
    /// In a checkpoint.
    Mapped(Tensor<'a>, Range<u64>),
    /// In memory, of a checkpoint that is nowhere else.
    Held(Dtype, &'a [u8]),
}

impl<'a> BaseBlock<'a> {
    /// The elements `range` of `tensor`.
    pub fn new(tensor: Tensor<'a>, range: Range<u64>) -> Self {
        Self(Elements::Mapped(tensor, range))
    }

    /// The elements whose bytes are `bytes`.
    pub(crate) fn held(dtype: Dtype, bytes: &'a [u8]) -> Self {
        Self(Elements::Held(dtype, bytes))
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        match &self.0 {
            Elements::Mapped(tensor, _) => tensor.info.dtype,
            Elements::Held(dtype, _) => *dtype,
        }
    }

    /// How many elements there are.
    pub fn elements(&self) -> u32 {
        match &self.0 {
            Elements::Mapped(_, range) => (range.end - range.start) as u32,
            Elements::Held(dtype, bytes) => (bytes.len() / dtype.width().bytes()) as u32,
        }
    }

    /// Calls `each` with the first position and the bytes of consecutive parts.
    pub(crate) fn walk(&self, mut each: impl FnMut(u32, &[u8])) {
        match &self.0 {
            Elements::Held(_, bytes) => each(0, bytes),
            Elements::Mapped(tensor, range) => {
                for part in tensor.element_windows(range.clone()) {
                    each((part.start - range.start) as u32, tensor.elements(part.clone()));
                    tensor.release(part);
                }
            }
        }
    }

    /// Calls `each` with the first position and the classes of consecutive parts.
    pub(crate) fn walk_classes(&self, mut each: impl FnMut(u32, &Classes)) {
        let width = self.dtype().width().bytes();
        let mut classes = Classes::Narrow(Vec::new());
        self.walk(|start, bytes| {
            for (position, bytes) in (start..).step_by(CLASS_BYTES / width).zip(bytes.chunks(CLASS_BYTES)) {
                classes = self.dtype().classes_of(bytes, std::mem::replace(&mut classes, Classes::Narrow(Vec::new())));
                each(position, &classes);
            }
        });
    }

    /// About how many elements there are of each class: a sample, multiplied.
    pub(crate) fn class_counts(&self) -> Vec<u64> {
        let dtype = self.dtype();
        let mut counts = vec![0; dtype.classes()];
        let run_bytes = SAMPLED_RUN * dtype.width().bytes();
        let step = (self.elements() as usize / SAMPLE).clamp(1, SAMPLED_RUNS);
        self.walk(|_, bytes| {
            for run in bytes.chunks(run_bytes).step_by(step) {
                (0..run.len() / dtype.width().bytes())
                    .for_each(|at| counts[usize::from(dtype.class(dtype.width().load(run, at)))] += 1);
            }
        });
        let sampled = counts.iter().sum::<u64>().max(1);
        counts.iter_mut().for_each(|count| *count = *count * u64::from(self.elements()) / sampled);
        counts
    }

    /// The bit patterns at `positions`, ascending and all below [`BaseBlock::elements`].
    pub fn bits_at(&self, positions: &[u32]) -> Vec<u64> {
        let width = self.dtype().width();
        let mut out = Vec::with_capacity(positions.len());
        let mut rest = positions;
        self.walk(|start, bytes| {
            let end = start + (bytes.len() / width.bytes()) as u32;
            let (here, later) = rest.split_at(rest.partition_point(|p| *p < end));
            out.extend(here.iter().map(|p| width.load(bytes, (p - start) as usize)));
            rest = later;
        });
        out
    }
}

//! The base's elements of one block, as base-conditioned codecs need them.

use crate::checkpoint::Tensor;
use crate::dtype::{Classes, Dtype};
use std::ops::Range;

/// Bytes of elements whose classes are taken at a time: they stay in the processor's nearest memory.
const CLASS_BYTES: usize = 1 << 15;

/// Elements are sampled in so many runs of so many: few, because each brings in pages of the file that are not needed otherwise.
const SAMPLED_RUNS: u32 = 32;
const SAMPLED_RUN: u32 = 1 << 11;

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

    /// The bytes of the elements at `positions`.
    fn part(&self, positions: Range<u32>) -> &[u8] {
        match &self.0 {
            Elements::Mapped(tensor, range) => {
                tensor.elements(range.start + u64::from(positions.start)..range.start + u64::from(positions.end))
            }
            Elements::Held(dtype, bytes) => {
                let width = dtype.width().bytes();
                &bytes[positions.start as usize * width..positions.end as usize * width]
            }
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
        self.walk_with_classes(|start, _, classes| each(start, classes));
    }

    /// Calls `each` with the first position, the bytes and the classes of consecutive parts.
    pub(crate) fn walk_with_classes(&self, mut each: impl FnMut(u32, &[u8], &Classes)) {
        let width = self.dtype().width().bytes();
        let mut classes = Classes::Narrow(Vec::new());
        self.walk(|start, bytes| {
            for (position, bytes) in (start..).step_by(CLASS_BYTES / width).zip(bytes.chunks(CLASS_BYTES)) {
                classes = self.dtype().classes_of(bytes, std::mem::replace(&mut classes, Classes::Narrow(Vec::new())));
                each(position, bytes, &classes);
            }
        });
    }

    /// About how many elements there are of each class: a sample, multiplied.
    pub(crate) fn class_counts(&self) -> Vec<u64> {
        let (dtype, n) = (self.dtype(), self.elements());
        let mut counts = vec![0; dtype.classes()];
        let step = n.div_ceil(SAMPLED_RUNS).max(SAMPLED_RUN);
        for start in (0..n).step_by(step as usize) {
            let run = start..(start + SAMPLED_RUN).min(n);
            let bytes = self.part(run.clone());
            (0..(run.end - run.start) as usize)
                .for_each(|at| counts[usize::from(dtype.class(dtype.width().load(bytes, at)))] += 1);
        }
        if let Elements::Mapped(tensor, range) = &self.0 {
            tensor.release(range.clone());
        }
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
            width.load_at(bytes, here.iter().map(|p| (p - start) as usize), &mut out);
            rest = later;
        });
        out
    }
}

//! The base's elements of one block, as base-conditioned codecs need them.

use crate::dtype::{Classes, Dtype};
use std::ops::Range;

/// Bytes of elements whose classes are taken at a time: they stay in the processor's nearest memory.
const CLASS_BYTES: usize = 1 << 15;

/// Elements are sampled in so many runs of so many: few, because each brings in pages of the file that are not needed otherwise.
const SAMPLED_RUNS: u32 = 32;
const SAMPLED_RUN: u32 = 1 << 11;

/// The elements of one block of a base tensor, wherever they are.
pub trait BaseElements {
    /// The element type.
    fn dtype(&self) -> Dtype;

    /// How many elements there are.
    fn elements(&self) -> u32;

    /// The bytes of the elements at `positions`.
    fn part(&self, positions: Range<u32>) -> &[u8];

    /// Calls `each` with the first position and the bytes of consecutive parts, which together are all elements.
    fn walk(&self, each: &mut dyn FnMut(u32, &[u8]));

    /// No more elements are wanted for now: what holds them in memory may let them go.
    fn release(&self) {}

    /// Calls `each` with the first position and the classes of consecutive parts.
    fn walk_classes(&self, each: &mut dyn FnMut(u32, &Classes)) {
        self.walk_with_classes(&mut |start, _, classes| each(start, classes));
    }

    /// Calls `each` with the first position, the bytes and the classes of consecutive parts.
    fn walk_with_classes(&self, each: &mut dyn FnMut(u32, &[u8], &Classes)) {
        let width = self.dtype().width().bytes();
        let mut classes = Classes::Narrow(Vec::new());
        self.walk(&mut |start, bytes| {
            for (position, bytes) in (start..).step_by(CLASS_BYTES / width).zip(bytes.chunks(CLASS_BYTES)) {
                classes = self.dtype().classes_of(bytes, std::mem::replace(&mut classes, Classes::Narrow(Vec::new())));
                each(position, bytes, &classes);
            }
        });
    }

    /// About how many elements there are of each class: a sample, multiplied.
    fn class_counts(&self) -> Vec<u64> {
        let (dtype, n) = (self.dtype(), self.elements());
        let mut counts = vec![0; dtype.classes()];
        let step = n.div_ceil(SAMPLED_RUNS).max(SAMPLED_RUN);
        for start in (0..n).step_by(step as usize) {
            let run = start..(start + SAMPLED_RUN).min(n);
            let bytes = self.part(run.clone());
            (0..(run.end - run.start) as usize)
                .for_each(|at| counts[usize::from(dtype.class(dtype.width().load(bytes, at)))] += 1);
        }
        self.release();
        let sampled = counts.iter().sum::<u64>().max(1);
        counts.iter_mut().for_each(|count| *count = *count * u64::from(self.elements()) / sampled);
        counts
    }

    /// The bit patterns at `positions`, ascending and all below [`BaseElements::elements`].
    fn bits_at(&self, positions: &[u32]) -> Vec<u64> {
        let width = self.dtype().width();
        let mut out = Vec::with_capacity(positions.len());
        let mut rest = positions;
        self.walk(&mut |start, bytes| {
            let end = start + (bytes.len() / width.bytes()) as u32;
            let (here, later) = rest.split_at(rest.partition_point(|p| *p < end));
            width.load_at(bytes, here.iter().map(|p| (p - start) as usize), &mut out);
            rest = later;
        });
        out
    }
}

/// Elements whose bytes are in memory.
#[derive(Debug, Clone, Copy)]
pub struct Held<'a> {
    /// Their type.
    pub dtype: Dtype,
    /// Their bytes, little-endian.
    pub bytes: &'a [u8],
}

impl BaseElements for Held<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn elements(&self) -> u32 {
        (self.bytes.len() / self.dtype.width().bytes()) as u32
    }

    fn part(&self, positions: Range<u32>) -> &[u8] {
        let width = self.dtype.width().bytes();
        &self.bytes[positions.start as usize * width..positions.end as usize * width]
    }

    fn walk(&self, each: &mut dyn FnMut(u32, &[u8])) {
        each(0, self.bytes);
    }
}

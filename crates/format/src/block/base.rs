//! Access to the base's elements of one block, for base-conditioned codecs.

use crate::dtype::{Classes, Dtype};
use std::ops::Range;

/// Classes are computed for this many bytes of elements at a time, so that both fit the level-1 cache.
pub(super) const CLASS_BYTES: usize = 1 << 15;

/// At most this many runs of elements are sampled: few, because each run reads pages of the file that nothing else needs.
const SAMPLED_RUNS: u32 = 32;
/// Number of elements in a sampled run.
const SAMPLED_RUN: u32 = 1 << 11;

/// The elements of one block of a base tensor, in memory or in a mapped file.
pub trait BaseElements {
    /// The element type.
    fn dtype(&self) -> Dtype;

    /// Number of elements in the block.
    fn elements(&self) -> u32;

    /// The bytes of the elements at `positions`, which may be read to `buffer`.
    fn part<'a>(&'a self, positions: Range<u32>, buffer: &'a mut Vec<u8>) -> &'a [u8];

    /// Calls `each` with the first position and the bytes of consecutive parts that together cover all elements.
    fn walk(&self, each: &mut dyn FnMut(u32, &[u8]));

    /// Says that no elements are needed for now, so that their memory may be released.
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

    /// Calls `each` with the first position and the bytes of short runs of elements, which are spread evenly over the block.
    fn sample(&self, each: &mut dyn FnMut(u32, &[u8])) {
        let n = self.elements();
        let step = n.div_ceil(SAMPLED_RUNS).max(SAMPLED_RUN);
        let mut buffer = Vec::new();
        for start in (0..n).step_by(step as usize) {
            each(start, self.part(start..(start + SAMPLED_RUN).min(n), &mut buffer));
        }
        self.release();
    }

    /// Estimates the number of elements of each class from a sample, scaled to all elements.
    fn class_counts(&self) -> Vec<u64> {
        let (dtype, width) = (self.dtype(), self.dtype().width());
        let mut counts = vec![0; dtype.classes()];
        self.sample(&mut |_, bytes| {
            for index in 0..bytes.len() / width.bytes() {
                counts[usize::from(dtype.class(width.load(bytes, index)))] += 1;
            }
        });
        let sampled = counts.iter().sum::<u64>().max(1);
        counts.iter_mut().for_each(|count| *count = *count * u64::from(self.elements()) / sampled);
        counts
    }

    /// The bit patterns at `positions`, which ascend and are all below [`BaseElements::elements`].
    fn bits_at(&self, positions: &[u32]) -> Vec<u64> {
        let width = self.dtype().width();
        let mut out = Vec::with_capacity(positions.len());
        let mut rest = positions;
        self.walk(&mut |start, bytes| {
            let end = start + (bytes.len() / width.bytes()) as u32;
            let (here, later) = rest.split_at(rest.partition_point(|position| *position < end));
            width.load_at(bytes, here.iter().map(|position| (position - start) as usize), &mut out);
            rest = later;
        });
        out
    }
}

/// Elements in memory.
#[derive(Debug, Clone, Copy)]
pub struct InMemory<'a> {
    /// The element type.
    pub dtype: Dtype,
    /// The elements, little-endian.
    pub bytes: &'a [u8],
}

impl BaseElements for InMemory<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn elements(&self) -> u32 {
        (self.bytes.len() / self.dtype.width().bytes()) as u32
    }

    fn part<'b>(&'b self, positions: Range<u32>, _: &'b mut Vec<u8>) -> &'b [u8] {
        let width = self.dtype.width().bytes();
        &self.bytes[positions.start as usize * width..positions.end as usize * width]
    }

    fn walk(&self, each: &mut dyn FnMut(u32, &[u8])) {
        each(0, self.bytes);
    }
}

//! The elements of a block, in a mapped checkpoint.

use crate::checkpoint::Tensor;
use crate::dtype::Dtype;
use crate::format::block::BaseElements;
use std::ops::Range;

/// The elements of one block of a tensor.
#[derive(Debug, Clone)]
pub struct TensorBlock<'a> {
    tensor: Tensor<'a>,
    range: Range<u64>,
}

impl<'a> TensorBlock<'a> {
    /// The elements `range` of `tensor`.
    pub fn new(tensor: Tensor<'a>, range: Range<u64>) -> Self {
        Self { tensor, range }
    }
}

impl BaseElements for TensorBlock<'_> {
    fn dtype(&self) -> Dtype {
        self.tensor.info.dtype
    }

    fn elements(&self) -> u32 {
        (self.range.end - self.range.start) as u32
    }

    fn part<'b>(&'b self, positions: Range<u32>, buffer: &'b mut Vec<u8>) -> &'b [u8] {
        let [start, end] = [positions.start, positions.end].map(|position| self.range.start + u64::from(position));
        self.tensor.read_to(start..end, buffer)
    }

    fn walk(&self, each: &mut dyn FnMut(u32, &[u8])) {
        let mut buffer = Vec::new();
        for part in self.tensor.element_windows(self.range.clone()) {
            each((part.start - self.range.start) as u32, self.tensor.read_to(part.clone(), &mut buffer));
            self.tensor.release(part);
        }
    }

    fn release(&self) {
        self.tensor.release(self.range.clone());
    }
}

//! The base's elements of one block, as base-conditioned codecs need them.

use crate::checkpoint::Tensor;
use crate::dtype::Dtype;
use std::ops::Range;

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
    pub(crate) fn walk_classes(&self, mut each: impl FnMut(u32, &[u16])) {
        let mut classes = Vec::new();
        self.walk(|start, bytes| {
            self.dtype().classes_of(bytes, &mut classes);
            each(start, &classes);
        });
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

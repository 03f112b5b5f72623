//! The elements of a block whose differences are among the largest, as far as a sample tells: what the reference has there is kept, so that
//! it need not be read again.

use super::Part;
use crate::dtype::Width;
use crate::mask::flags::{self, Flags};

/// Where more elements than one in this many may be selected, listing them would take longer than reading the reference again.
const SHARE: usize = 32;

/// The elements of one block that may be selected, and their bytes in the reference.
#[derive(Debug)]
pub(crate) struct Shortlist {
    /// It has all elements whose key is at least this one.
    least: u64,
    width: Width,
    /// In the block, ascending.
    positions: Vec<u32>,
    /// The reference's elements, in the target's dtype.
    reference: Vec<u8>,
}

impl Shortlist {
    /// An empty one, to which all elements whose key is at least `least` will be added.
    pub fn new(least: u64, width: Width) -> Self {
        Self { least, width, positions: Vec::new(), reference: Vec::new() }
    }

    /// Whether every element is there whose key is at least `key`.
    pub fn is_complete_from(&self, key: u64) -> bool {
        self.least <= key
    }

    /// Whether it is worth its while, after as many elements of the block.
    pub fn is_short(&self, elements: usize) -> bool {
        self.positions.len() * SHARE <= elements
    }

    /// How much memory it takes.
    pub fn bytes(&self) -> u64 {
        (self.positions.capacity() * size_of::<u32>() + self.reference.capacity()) as u64
    }

    /// Adds those elements of the next part of the block whose flag is set.
    pub fn add(&mut self, part: Part<'_>, flags: &[Flags]) {
        let added = self.positions.len();
        flags::indices(flags, |index| self.positions.push(index));
        let indices = &mut self.positions[added..];
        match self.width {
            Width::W1 => copy::<1>(part.reference, indices, &mut self.reference),
            Width::W2 => copy::<2>(part.reference, indices, &mut self.reference),
            Width::W4 => copy::<4>(part.reference, indices, &mut self.reference),
            Width::W8 => copy::<8>(part.reference, indices, &mut self.reference),
        }
        indices.iter_mut().for_each(|index| *index += part.first);
    }

    /// The position of each element, ascending, and its bit pattern in the reference.
    pub fn entries(&self) -> impl Iterator<Item = (u32, u64)> {
        self.positions.iter().enumerate().map(|(entry, position)| (*position, self.width.load(&self.reference, entry)))
    }
}

/// Appends the elements of `N` bytes with these indices.
fn copy<const N: usize>(from: &[u8], indices: &[u32], to: &mut Vec<u8>) {
    let from = from.as_chunks::<N>().0;
    indices.iter().for_each(|index| to.extend_from_slice(&from[*index as usize]));
}

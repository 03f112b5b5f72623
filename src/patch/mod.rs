//! Blocks of a patch as values: [`gather`] makes them from a pair and a selection, [`decode`] gets positions and deltas
//! back, with or without the base.

pub mod base;
pub mod decode;
mod elements;
pub mod gather;
pub mod group;
pub mod masks;
mod patched;

pub use base::BaseBlock;
pub use decode::{DecodedBlock, Deltas};
pub(crate) use elements::Elements;
pub use elements::Magnitude;
pub use masks::{Kept, Masks};

//! Blocks of a patch as values: [`gather`] makes them from a pair and a selection, [`decode`] gets positions and deltas
//! back, with or without the base.

pub mod base;
pub mod decode;
pub mod gather;

pub use base::BaseBlock;
pub use decode::{DecodedBlock, Deltas};

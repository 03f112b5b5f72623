//! Patches as files ([`Patch`]), and their blocks beside checkpoints: [`gather`] encodes what a selection of a pair holds,
//! [`TensorBlock`] is what a base gives to a decoder.

mod budget;
mod decode;
mod file;
pub(crate) mod gather;
mod patched;
mod tensor_block;

pub(crate) use budget::Reservation;
pub(crate) use decode::{Decoded, Undecoded};
pub use file::{Patch, Unreadable};
pub(crate) use tensor_block::TensorBlock;

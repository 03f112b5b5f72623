//! Patches in files ([`Patch`]), and the blocks of a patch together with checkpoints: `encode` makes blocks of the selected elements of a
//! pair, and `TensorBlock` gives a decoder the elements of a base.

mod budget;
mod chosen;
mod decode;
pub(crate) mod encode;
mod file;
mod patched;
mod tensor_block;

pub(crate) use budget::Reservation;
pub use chosen::{Chosen, Filter};
pub(crate) use decode::{Decoded, DenseBlock, Undecoded};
pub use file::{Patch, Unreadable, Unwritten};
pub(crate) use tensor_block::TensorBlock;

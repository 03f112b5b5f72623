//! Blocks of a patch as values: [`gather`] makes them from a pair and a selection, [`decode`] gets positions and deltas
//! back, with or without the base.

/// Runs `$body` with `$number` as the type of the integers that ULP deltas and base values of `$dtype` are coded as.
macro_rules! with_number {
    ($dtype:expr, $number:ident => $body:expr) => {
        match $dtype.width() {
            $crate::dtype::Width::W1 | $crate::dtype::Width::W2 => {
                type $number = u16;
                $body
            }
            $crate::dtype::Width::W4 => {
                type $number = u32;
                $body
            }
            $crate::dtype::Width::W8 => {
                type $number = u64;
                $body
            }
        }
    };
}

pub mod base;
mod budget;
pub mod decode;
mod elements;
pub mod gather;
pub mod group;
pub mod masks;
mod patched;

pub use base::BaseBlock;
pub(crate) use budget::Reservation;
pub use decode::{DecodedBlock, Deltas};
pub(crate) use elements::Elements;
pub use elements::Magnitude;
pub use masks::{Kept, Masks};

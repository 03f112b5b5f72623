//! Sets of positions.

mod selection;

pub use selection::{BLOCK_ELEMENTS, SelectedBlock, Selection, block_range, blocks};

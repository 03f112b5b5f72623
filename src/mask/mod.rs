//! Sets of positions: pruning masks, selections, and the ranking that makes either.

pub(crate) mod algebra;
mod file;
mod pair;
pub(crate) mod pruning;
#[doc(hidden)]
pub mod ranking;
mod selection;
pub(crate) mod top_k;

pub use file::{WriteError, write};
pub(crate) use pair::PairMasks;
pub use pruning::{MaskFault, PruningMask, Scope, Sparsity};
pub(crate) use selection::{PairBits, SelectedBlock, Selection};

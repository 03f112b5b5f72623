//! Sets of positions: pruning masks, selections, and the ranking that makes either.

pub mod algebra;
pub mod file;
mod pair;
pub mod pruning;
pub mod ranking;
mod selection;
pub mod top_k;

pub use pair::PairMasks;
pub use pruning::{MaskFault, PruningMask, Scope, Sparsity};
pub use selection::{PairBits, SelectedBlock, Selection};

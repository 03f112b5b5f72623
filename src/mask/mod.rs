//! Sets of positions: pruning masks, selections, and the ranking that makes either.

pub(crate) mod algebra;
pub(crate) mod file;
pub(crate) mod flags;
mod pair;
pub(crate) mod pruning;
#[doc(hidden)]
pub(crate) mod ranking;
pub(crate) mod selection;
pub(crate) mod top_k;

pub(crate) use file::{WriteError, write};
pub(crate) use pair::PairMasks;
pub(crate) use pruning::{MaskFault, PruningMask};
pub use pruning::{Scope, Sparsity};
pub(crate) use selection::{SelectedBlock, Selection};

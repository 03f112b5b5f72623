//! What the tests, benchmarks and fuzz targets of lcepatch reach beside the library's interface. It may change with every version.

pub use crate::diff::part::Part;
pub use crate::diff::plan::Run;
pub use crate::diff::shard::{Shard, find, join, rank};
pub use crate::error::{Impossible, PartContent, PartFault, Undivided};
pub use crate::mask::file::{WriteError, write as write_mask};
pub use crate::mask::pruning::{MaskFault, PruningMask};

/// Files of `torch.save`.
#[cfg(feature = "torch")]
pub mod torch {
    pub use crate::exchange::torch::open;
}

/// The ranking of keys.
pub mod ranking {
    pub use crate::mask::ranking::{Keys, select};
    pub use crate::mask::selection::{SelectedBlock, Selection};
    pub use crate::mask::top_k::{Outside, TooFew};
}

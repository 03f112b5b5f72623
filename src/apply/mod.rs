//! From a base and patches to a result.
//!
//! `choose` leaves some tensors out. `fit` says whether a base is a patch's own. [`plan::Plan`] exists only for bases that fit (or may differ), and every result is
//! made by one. `tensor` edits one tensor as a stream of bytes. `run` writes results to new files, `in_place` in the place of
//! their base, `shards` some of the files in each of several processes, [`Exchange`] to tensors in memory, and [`OnnxBase`] to ONNX
//! files. `job` does all that an apply or a revert includes.

mod at_once;
mod carried;
mod carry;
mod choose;
mod fit;
mod in_place;
mod job;
mod memory;
mod onnx;
mod part;
mod plan;
mod result_mask;
mod rewrite;
mod run;
mod shards;
mod span;
mod tensor;
mod undo;

pub use crate::error::{BaseState, Difference};
pub use carried::Carried;
pub use choose::choose;
pub use fit::{Check, Fit, fit};
pub use in_place::{Recovered, recover};
pub use job::{Apply, Done, Revert, UndoTo};
pub use memory::Exchange;
pub use onnx::OnnxBase;
pub use plan::{DifferentBase, Edit, NotFinite, Plan, PlanOptions};
pub use run::Applied;

pub(crate) use fit::{base_block, carried_root_fits, carried_values_fit, counterparts_fit, root_fits};
pub(crate) use job::{Destination, KeepMask};
pub(crate) use plan::results;
pub(crate) use rewrite::Pruning;
pub(crate) use run::{SideFiles, to_path};
pub(crate) use shards::InShards;

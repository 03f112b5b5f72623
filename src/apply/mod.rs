//! A base and patches to a result.
//!
//! [`mod@fit`] says whether a base is a patch's own; [`plan::Plan`] exists only for bases that fit (or may differ), and is
//! the only way to an edited result; `tensor` edits one tensor as a stream of bytes; [`run`] puts results on disk, [`mod@in_place`]
//! in the place of their base, and [`OnnxBase`] those of ONNX files.

pub mod fit;
pub mod in_place;
#[cfg(feature = "verify")]
mod onnx;
pub mod plan;
mod refusal;
mod result_mask;
mod rewrite;
pub mod run;
mod tensor;

pub use fit::{Check, Fit, fit};
pub use in_place::{Needed, Recovered, in_place, recover};
#[cfg(feature = "verify")]
pub use onnx::OnnxBase;
pub use plan::{DifferentBase, Edit, NotFinite, Plan, PlanOptions, results};
pub use refusal::Refusal;
pub use rewrite::{Pruning, Rewrite, Sink};
pub use run::{Applied, to_path};

//! A base and patches to a result.
//!
//! [`mod@fit`] says whether a base is a patch's own; [`plan::Plan`] exists only for bases that fit (or may differ), and is
//! the only way to an edited result; `tensor` edits one tensor as a stream of bytes; [`run`] puts results on disk, and
//! [`OnnxBase`] those of ONNX files.

pub mod fit;
#[cfg(feature = "verify")]
mod onnx;
pub mod plan;
mod refusal;
mod result_mask;
mod rewrite;
pub mod run;
mod tensor;

pub use fit::{Check, Fit, fit};
#[cfg(feature = "verify")]
pub use onnx::OnnxBase;
pub use plan::{DifferentBase, Edit, NotFinite, Plan, PlanOptions, results};
pub use refusal::Refusal;
pub use rewrite::{Pruning, Rewrite, Sink};
pub use run::{Applied, in_place, to_path};

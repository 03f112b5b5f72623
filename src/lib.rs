//! Small, exact, verifiable patches between model checkpoints.
//!
//! Local contrastive editing finds the few weights that make a *target* model behave differently from a *reference*,
//! and moves only those: `target + alpha * (reference - target)` (Lutz, Choenni, Strohmaier, Lauscher, EMNLP 2024). An
//! `.lcepatch` file carries such an edit, or any other sparse or full difference of two checkpoints: where, by how
//! much, and for exactly which base.
//!
//! ```text
//! diff     Pair --localize--> Selection --gather--> Patch --format--> bytes --durable--> file
//! apply    file --format--> Patch \
//!                                  Plan (base checked) --edit--> tensors --durable--> file
//!          Checkpoint ------------/
//! verify   measures --plan--> Work;  Model (graph built) --edited tensors--> Session --Work--> Answers --> Outcomes --> Report
//! ```
//!
//! The modules below are in reading order, and each uses only those above it (`tests/layers.rs` holds the exceptions).
//!
//! ```
//! use lcepatch::apply::{Check, DifferentBase, Edit, NotFinite, Plan, PlanOptions, to_path};
//! use lcepatch::checkpoint::Checkpoint;
//! use lcepatch::context::Context;
//! use lcepatch::durable::Existing;
//! use lcepatch::edit::{Alpha, EditKind};
//! use lcepatch::format::Patch;
//! use std::path::Path;
//!
//! fn apply(base: &Path, patch: &Path, result: &Path) -> Result<(), Box<dyn std::error::Error>> {
//!     let context = Context::silent();
//!     let base = Checkpoint::open(base)?;
//!     let kind = EditKind::Interpolate(Alpha::ONE);
//!     let edit = Edit { patch: Patch::open(patch)?, path: patch.to_owned(), kind };
//!     let options = PlanOptions {
//!         check: Check::Full,
//!         different_base: DifferentBase::Refuse,
//!         not_finite: NotFinite::Refuse,
//!         prefix: None,
//!     };
//!     // A plan exists only for a base that fits.
//!     let edits = [edit];
//!     let plan = Plan::check(&base, &edits, &options, &context)?;
//!     to_path(&plan, result, Existing::Keep, |_, _| Ok(()), &context)?;
//!     Ok(())
//! }
//! ```
#![deny(unsafe_code)]
#![warn(missing_docs)]

// Foundations
pub mod context;
pub mod digest;
pub mod dtype;
pub mod durable;
pub(crate) mod json;
pub mod random;

// Nouns: bytes, patch files, checkpoints, sets of positions, blocks
pub mod checkpoint;
pub mod codec;
pub mod format;
pub mod mask;
#[cfg(feature = "verify")]
pub mod onnx;
pub mod patch;

// Steps
pub mod edit;
pub mod localize;
#[cfg(feature = "verify")]
pub mod measure;
#[cfg(feature = "verify")]
pub mod model;

// Verbs
pub mod algebra;
pub mod apply;
pub mod check;
pub mod diff;
pub mod error;
pub mod history;
#[cfg(feature = "verify")]
pub mod verify;

// A verb of verbs
#[cfg(feature = "verify")]
pub mod sweep;

// What people look at
pub mod report;

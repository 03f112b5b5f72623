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
//! The modules below are in reading order, and each uses only those above it (`tests/layers.rs` checks it, and holds the exceptions).
//!
//! ```
//! use lcepatch::apply::{Beside, Check, DifferentBase, Edit, NotFinite, Plan, PlanOptions, to_path};
//! use lcepatch::checkpoint::Checkpoint;
//! use lcepatch::context::Context;
//! use lcepatch::durable::Existing;
//! use lcepatch::edit::EditKind;
//! use lcepatch::patch::Patch;
//! use std::path::Path;
//!
//! fn apply(base: &Path, patch: &Path, result: &Path) -> Result<(), Box<dyn std::error::Error>> {
//!     let context = Context::silent();
//!     let base = Checkpoint::open(base)?;
//!     let (patch) = (Patch::open(patch)?, patch.to_owned());
//!     // What its author recommends, or else 1.
//!     let (alpha, _) = patch.default_alpha();
//!     let edit = Edit { patch, kind: EditKind::Interpolate(alpha) };
//!     let options = PlanOptions {
//!         check: Check::Full,
//!         different_base: DifferentBase::Refuse,
//!         not_finite: NotFinite::Refuse,
//!         prefix: None,
//!     };
//!     // A plan exists only for a base that fits.
//!     let edits = [edit];
//!     let plan = Plan::check(&base, &edits, &options, &context)?;
//!     to_path(&plan, None, result, Existing::Keep, |_| Ok(Beside::default()), &context)?;
//!     Ok(())
//! }
//! ```

// What it is built from, in packages of their own
#[cfg(feature = "verify")]
pub use lcepatch_eval::{measure, model};
pub use lcepatch_files::{checkpoint, context, durable, input, json};
pub use lcepatch_format as format;
pub use lcepatch_format::{codec, digest, dtype, edit, random};
pub use lcepatch_onnx as onnx;

// Nouns: pairs of checkpoints, sets of positions, patches, signatures
pub mod pair;

pub mod mask;
pub mod patch;
pub mod signature;

// Steps
pub mod localize;

// Verbs
pub mod error;

pub mod history;

pub mod apply;
pub mod check;
pub mod diff;

pub mod algebra;
#[cfg(feature = "verify")]
pub mod verify;

// Verbs of verbs
#[cfg(feature = "verify")]
pub mod ask;
#[cfg(feature = "verify")]
pub mod sweep;

// What people look at
pub mod report;

//! Small, exact, verifiable patches between model checkpoints.
//!
//! Local contrastive editing finds the few weights that make a *target* model behave differently from a *reference*,
//! and moves only those: `target + alpha * (reference - target)` (Lutz, Choenni, Strohmaier, Lauscher, EMNLP 2024). An
//! `.lcepatch` file carries such an edit, or any other sparse or full difference of two checkpoints: where, by how
//! much, and for exactly which base.
//!
//! # Apply a patch
//!
//! At the alpha that its author recommends, or at another one. The base is checked first, and what was written is read back.
//!
//! ```
//! # use lcepatch::diff::{DiffOptions, diff};
//! use lcepatch::apply::{Apply, Edit};
//! use lcepatch::checkpoint::Checkpoint;
//! use lcepatch::context::Context;
//! use lcepatch::edit::Alpha;
//! use lcepatch::patch::Patch;
//!
//! # let folder = tempfile::tempdir().expect("a folder for the example");
//! # let (debias, edited) = (folder.path().join("debias.lcepatch"), folder.path().join("edited"));
//! let context = Context::silent();
//! let model = Checkpoint::open("fixtures/demo/biased")?;
//! # let reference = Checkpoint::open("fixtures/demo/counterfactual")?;
//! # diff(&model, &reference, &DiffOptions::default(), &context)?.patch.save(&debias, Default::default())?;
//! let edits = [Edit::at(Patch::open(&debias)?, Alpha::new(0.5).expect("finite"))];
//! let done = Apply::new(&model, &edits).to(&edited, &context)?;
//! assert!(done.applied.edited > 0);
//! # Ok::<(), lcepatch::Error>(())
//! ```
//!
//! # Make one
//!
//! Of the 0.5 % of the weights that differ most, or of all that differ:
//!
//! ```
//! use lcepatch::checkpoint::Checkpoint;
//! use lcepatch::context::Context;
//! use lcepatch::diff::{Amount, Density, DiffOptions, Localize, diff};
//! use lcepatch::Existing;
//!
//! # let folder = tempfile::tempdir().expect("a folder for the example");
//! # let debias = folder.path().join("debias.lcepatch");
//! let target = Checkpoint::open("fixtures/demo/biased")?;
//! let reference = Checkpoint::open("fixtures/demo/counterfactual")?;
//! let half_a_percent = Amount::Density(Density::new(0.005).expect("between 0 and 1"));
//! let mut options = DiffOptions::default();
//! options.localize = Localize::largest(half_a_percent);
//! let diffed = diff(&target, &reference, &options, &Context::silent())?;
//! diffed.patch.save(&debias, Existing::Keep)?;
//! # Ok::<(), lcepatch::Error>(())
//! ```
//!
//! # Look into one
//!
//! ```
//! use lcepatch::patch::Patch;
//! use lcepatch::report::Stat;
//!
//! let patch = Patch::open("fixtures/vectors/v1/accept_metadata_of_a_diff.lcepatch")?;
//! let stat = Stat::new(&patch);
//! println!("{}: {} weights in {} tensors", stat.id, stat.selected, stat.tensors.len());
//! # Ok::<(), lcepatch::Error>(())
//! ```
//!
//! # How it is built
//!
//! ```text
//! diff     Pair --localize--> Selection --encode--> PatchBuilder --> Patch --durable--> file
//! apply    file --> Patch -----\
//!                               Plan (base checked) --edit--> tensors --durable--> file, read back
//!          files --> Checkpoint /
//! verify   measures --plan--> WorkList;  Model --edited tensors--> Session --WorkList--> Answers --> Outcomes --> Report
//! ```
//!
//! The modules below are in reading order, and each uses only those above it (`tests/layers.rs` checks it).
//! `docs/ARCHITECTURE.md` follows one tensor through them.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
// Whoever gets a value of a public type can say its name.
#![warn(unnameable_types)]
// Some of what is not public serves the command alone, or what is elsewhere.
#![cfg_attr(not(all(feature = "cli", feature = "net")), allow(dead_code, unused_imports))]

// What it is built from, in packages of their own
#[cfg(feature = "verify")]
pub use lcepatch_eval as eval;
pub use lcepatch_files::durable::{Existing, Failed};
pub use lcepatch_files::{checkpoint, context};
pub use lcepatch_format as format;
pub use lcepatch_format::edit;

#[cfg(feature = "verify")]
pub(crate) use lcepatch_eval::{measure, model};
pub(crate) use lcepatch_files::{durable, input, json};
pub(crate) use lcepatch_format::{codec, digest, dtype, random, words};
pub(crate) use lcepatch_onnx as onnx;

// Checkpoints and patches for unit tests, made by the verbs below
#[cfg(test)]
mod testing;

// Nouns: pairs of checkpoints, sets of positions, patches, signatures
pub mod pair;

pub mod mask;
pub mod patch;
pub mod signature;

// Steps
mod localize;

// Work that several processes share
pub(crate) mod shard;

// Verbs
mod error;

// Names of files, and where they lead to
pub(crate) mod source;

pub mod history;

pub mod apply;
pub mod check;
pub mod diff;

pub mod algebra;
#[cfg(feature = "verify")]
pub mod verify;

// Verbs of verbs
#[cfg(feature = "verify")]
pub(crate) mod ask;
#[cfg(feature = "verify")]
pub mod sweep;

// What people look at
pub mod report;

// What other tools read and write
pub(crate) mod exchange;

// What others find
pub(crate) mod publish;

// The command: what `src/main.rs` runs, and no part of the library's interface.
#[cfg(feature = "cli")]
#[doc(hidden)]
#[allow(unnameable_types)]
pub mod cli;

#[doc(hidden)]
pub mod internal;

pub use error::{Error, ErrorKind};

//! The `.lcepatch` format: bytes to values and back, and the arithmetic of edits.
//!
//! What another tool, a web page or a binding embeds: there are no files, no threads and no maps here. A [`Patch`] reads its bytes
//! through [`patch::ReadAt`]; the base's elements come through [`block::BaseElements`].
//!
//! The specification is `spec/lcepatch-v1.md`, and the modules follow its sections: [`header`] and its sections [`metadata`] and
//! [`tensor_table`] (§5 to §7), [`block`] (§8) and [`codec`] (§9), [`dtype`] (§10), [`edit`] (§11), [`digest`] (§12). What a reader
//! refuses is numbered in [`invalid`] (§14), what it may allocate is in [`limits`] (§15).
#![forbid(unsafe_code)]

pub mod digest;
pub mod dtype;
pub mod json;
pub mod limits;
pub mod random;

pub mod codec;
pub mod edit;

pub mod invalid;

pub mod block;
pub mod header;
pub mod metadata;

pub mod tensor_table;

pub mod builder;
pub mod patch;

pub use builder::PatchBuilder;
pub use invalid::Invalid;
pub use metadata::Metadata;
pub use patch::Patch;

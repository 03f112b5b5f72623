//! The `.lcepatch` format: reading and writing patches, and the arithmetic of edits.
//!
//! This crate is made to be embedded in other tools, web pages and language bindings: it opens no files, starts no threads and maps no
//! memory. A [`Patch`] reads its bytes through [`patch::ReadAt`], and the base's elements through [`block::BaseElements`].
//!
//! The specification is `spec/lcepatch-v1.md`. The modules follow its sections: [`header`] (§5), [`metadata`] (§6), [`tensor_table`] (§7),
//! [`block`] (§8), [`codec`] (§9), [`dtype`] (§10), [`digest`] (§11), [`invalid`] (§12, the reasons for which a reader rejects a patch) and
//! [`limits`] (§13). What applying means is `spec/apply-v1.md`, with sections A1 to A11: its arithmetic is [`edit`] (§A3 to §A7).
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod digest;
pub mod dtype;
pub mod json;
pub mod limits;
pub mod random;
mod zstd_frame;
pub mod words;

pub mod codec;
pub mod edit;

pub mod invalid;

pub mod block;
pub mod header;
pub mod metadata;

pub mod tensor_table;

pub mod patch;

pub mod builder;

pub use builder::PatchBuilder;
pub use invalid::Invalid;
pub use metadata::Metadata;
pub use patch::Patch;

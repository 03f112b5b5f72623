//! The wire: an `.lcepatch` file as typed parts and back (spec §4 to §8, §14).
//!
//! [`header`] reads and writes the front of the file, [`metadata`] and [`tensor_table`] its sections, [`block`] one
//! block of payload. [`read::Patch`] opens a file and hands out verified blocks; [`mod@write`] assembles one. What a
//! reader refuses is numbered in [`invalid`].

pub mod block;
pub mod header;
pub mod invalid;
pub mod limits;
pub mod metadata;
pub mod read;
pub mod tensor_table;
pub mod write;

pub use invalid::Invalid;
pub use metadata::Metadata;
pub use read::Patch;

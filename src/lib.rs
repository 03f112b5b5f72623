//! lcepatch
#![deny(unsafe_code)]
#![warn(missing_docs)]
pub mod codec;
pub mod context;
pub mod digest;
pub mod dtype;
pub mod format;

//! lcepatch
#![deny(unsafe_code)]
#![warn(missing_docs)]
pub mod apply;
pub mod check;
pub mod checkpoint;
pub mod codec;
pub mod context;
pub mod diff;
pub mod digest;
pub mod dtype;
pub mod durable;
pub mod edit;
pub mod error;
pub mod format;
pub mod localize;
pub mod mask;
pub mod patch;
pub mod report;

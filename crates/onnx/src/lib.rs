//! ONNX files: the protobuf messages of a model, and the binding of an export's weights to the tensors of a checkpoint.
//!
//! An export holds the tensors of a checkpoint under other names, some of them transposed. [`OnnxFile`] lists its initializers.
//! [`bind()`] finds by content which tensor each of them holds, so that an edit of the checkpoint can be made in the export as well;
//! [`find()`] does the same for tensors of which only digests are known.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod malformed;
pub mod message;

mod element;
mod transpose;

pub mod file;

pub mod bind;
pub mod find;

pub use bind::{Binding, Bindings, BoundTensor, bind};
pub use file::{ElementLocation, Initializer, OnnxFile};
pub use find::{TensorQuery, find};
pub use malformed::{Malformed, OpenError};
pub use transpose::{matrix, transpose};

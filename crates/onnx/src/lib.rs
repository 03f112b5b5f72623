//! ONNX files: the messages of a model, a user's own export, and which of its weights are a checkpoint's.
//!
//! An export holds the weights of a checkpoint under names of its own, some of them transposed. [`OnnxFile`] lists
//! what it holds, and [`bind()`] finds by content which tensor of the checkpoint each of them is, so that an edit of
//! the checkpoint can be made in the export as well; [`find()`] does so where the tensors are known by digest only.

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

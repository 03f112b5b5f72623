//! ONNX files: the protobuf messages of a model.

pub mod message;

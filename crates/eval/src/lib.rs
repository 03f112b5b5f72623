//! A model directory, asked and scored: its configuration, tokenizer and graph ([`model`]), run by ONNX Runtime, and the measures of
//! bias and of language modelling ([`measure`]).
//!
//! Knows no patch: what an edit changes comes as named tensors.

pub mod measure;
pub mod model;

//! A model directory, asked and scored: its configuration, tokenizer and graph ([`model`]), run by ONNX Runtime, and the measures of
//! bias and of language modelling ([`measure`]).
//!
//! Knows no patch: what an edit changes comes as named tensors.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod measure;
pub mod model;

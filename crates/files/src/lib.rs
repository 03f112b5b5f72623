//! The file layer of lcepatch: [`checkpoint`]s, mapped and locked; [`durable`] outputs, which are replaced atomically or edited in place
//! with a journal; and the check of [`input`] files that recognizes common mistakes.
//!
//! This crate knows the layout of tensors in files, and nothing about patches.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod context;
pub mod input;

pub mod json;

pub mod durable;

pub mod fetched;

pub mod checkpoint;

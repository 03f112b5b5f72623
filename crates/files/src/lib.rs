//! Files of lcepatch: [`checkpoint`]s, mapped and locked; files that are [`durable`]: replaced whole or not at all, or edited in place
//! with a journal; and the [`input`] check that says what a file is.
//!
//! Knows what a tensor's bytes are, and nothing of patches.

pub mod context;
pub mod input;

pub mod json;

pub mod durable;

pub mod checkpoint;

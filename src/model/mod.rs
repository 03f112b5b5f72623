//! Models that run: what `verify` asks.

pub mod runtime;

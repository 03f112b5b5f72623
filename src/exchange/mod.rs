//! Patches in the formats of other tools, and back.
//!
//! [`shira`] is PEFT's adapter of scattered weights, which mergekit merges too.

mod imported;
pub(crate) mod shira;

pub(crate) use imported::Imported;

//! Patches in the formats of other tools, and back.
//!
//! [`shira`] is PEFT's adapter of scattered weights, which mergekit merges too. [`values`] are new values by flat index, as vLLM and
//! trainers take them.

mod imported;
pub(crate) mod shira;
pub(crate) mod values;

pub(crate) use imported::Imported;

//! Patches in the formats of other tools, and back.
//!
//! [`shira`] is PEFT's adapter of scattered weights, which mergekit merges too. [`values`] are new values by flat index, as vLLM and
//! trainers take them. [`torch`] reads state dicts of `torch.save`.

mod imported;
pub(crate) mod shira;
#[cfg(feature = "torch")]
pub(crate) mod torch;
pub(crate) mod values;

pub(crate) use imported::Imported;

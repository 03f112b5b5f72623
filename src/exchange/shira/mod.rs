//! SHiRA adapters as PEFT 0.21 saves and loads them (Bhardwaj et al. 2024, "Sparse High Rank Adapters").
//!
//! A directory with `adapter_config.json` and `adapter_model.safetensors`. For each module, the latter has two tensors: `shira_indices`,
//! `I32[2, k]`, the rows and then the columns of `k` weights, and `shira_weight`, `F32[k]`, what is added to each. `k` is not free: it is
//! `r * (in + out)`, with one `r` for all modules.

mod read;
mod write;

pub(crate) use read::import;
pub(crate) use write::{Exported, Options, check_output, export};

use crate::dtype::{Dtype, Rounded};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// What PEFT puts before the name of a module.
const PREFIX: &str = "base_model.model.";
const INDICES: &str = ".shira_indices";
const DELTAS: &str = ".shira_weight";

/// The bits of a weight after PEFT has merged `delta` into it, as torch does it: added in single precision, in double for `F64`, and then
/// rounded to the dtype. `None` for other dtypes, which torch does not add.
fn merged(dtype: Dtype, base: u64, delta: f32) -> Option<Rounded> {
    let float = dtype.float()?;
    match dtype {
        Dtype::F16 | Dtype::Bf16 | Dtype::F32 => Some(float.round((float.value(base) as f32 + delta).into())),
        Dtype::F64 => Some(float.round(float.value(base) + f64::from(delta))),
        _ => None,
    }
}

/// The delta that PEFT must add to `base`, and whether it gives exactly `result`; `None` for dtypes to which it adds nothing.
fn delta(dtype: Dtype, base: u64, result: u64) -> Option<(f32, bool)> {
    let float = dtype.float()?;
    let nearest = (float.value(result) - float.value(base)) as f32;
    // The difference and the sum are rounded, so that a neighbour may be the one that gives the result.
    let candidates = [nearest, nearest.next_up(), nearest.next_down()];
    let is_exact = |delta: &f32| merged(dtype, base, *delta) == Some(Rounded::Finite(result));
    merged(dtype, base, nearest)?;
    Some(candidates.into_iter().find(is_exact).map_or((nearest, false), |delta| (delta, true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delta_leads_to_the_bits_where_single_precision_can() {
        let bf16 = |value: f32| u64::from(value.to_bits() >> 16);
        assert_eq!(delta(Dtype::Bf16, bf16(1.0), bf16(-3.0)), Some((-4.0, true)));
        assert_eq!(delta(Dtype::Bf16, bf16(0.0), 0x0001), Some((f32::from_bits(0x0001_0000), true)));
        // Positive and negative zero: a sum is never the negative one unless both terms are.
        assert!(!delta(Dtype::Bf16, bf16(1.0), 0x8000).unwrap().1);
        let f32 = |value: f32| u64::from(value.to_bits());
        assert!(delta(Dtype::F32, f32(0.1), f32(-0.3)).unwrap().1);
        // 2^24 + 1 has no single-precision delta from a small number that gives an odd last bit below it.
        assert!(!delta(Dtype::F32, f32(1e20), f32(1.5)).unwrap().1);
        assert_eq!(delta(Dtype::I32, 1, 2), None);
        assert_eq!(delta(Dtype::F8E4M3, 1, 2), None);
    }

    #[test]
    fn sums_are_rounded_as_torch_rounds_them() {
        let (one, half_step) = (0x3f80, 2f32.powi(-8));
        assert_eq!(merged(Dtype::Bf16, one, half_step), Some(Rounded::Finite(0x3f80)), "to even");
        assert_eq!(merged(Dtype::Bf16, one, half_step * 1.01), Some(Rounded::Finite(0x3f81)));
        // Rounded to single precision first: the small term does not break the tie.
        assert_eq!(merged(Dtype::Bf16, one, half_step.next_up()), Some(Rounded::Finite(0x3f80)));
        assert_eq!(merged(Dtype::Bf16, 0x8000, 0.0), Some(Rounded::Finite(0)), "-0 + 0");
        assert_eq!(merged(Dtype::Bf16, 0x8000, -0.0), Some(Rounded::Finite(0x8000)));
        assert!(matches!(merged(Dtype::F16, 0x7bff, 1e4), Some(Rounded::NotFinite(_))));
    }
}

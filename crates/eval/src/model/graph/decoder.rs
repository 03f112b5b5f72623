//! Rotary position embeddings of decoders.

use super::builder::{Builder, Value};
use crate::model::ModelFault;
use crate::model::config::Config;
use serde_json::Value as Json;

/// The cosines and sines of every position, `[S, width]` each, and the number of a head's dimensions that they rotate.
pub(super) struct Rotary {
    cosines: Value,
    sines: Value,
    width: u64,
    rest: u64,
}

impl Rotary {
    /// Rotary embeddings for the first `width` dimensions of heads with `head` dimensions.
    ///
    /// # Errors
    /// [`ModelFault::Setting`] for an unsupported scaling.
    pub fn new(builder: &mut Builder<'_>, config: &Config, width: u64, head: u64) -> Result<Self, ModelFault> {
        let frequencies = builder.numbers(&frequencies(config, width)?);
        let places = builder.places();
        let places = builder.float(&places);
        let places = builder.unsqueeze(&places, &[1]);
        let half = builder.op("Mul", &[&places, &frequencies], &[]);
        let angles = builder.op("Concat", &[&half, &half], &[("axis", (-1).into())]);
        let cosines = builder.op("Cos", &[&angles], &[]);
        let sines = builder.op("Sin", &[&angles], &[]);
        Ok(Self { cosines, sines, width, rest: head - width })
    }

    /// Rotates `x`, `[B, heads, S, head]`. Dimension i of the first half of the rotated dimensions is paired with i of the second.
    pub fn turn(&self, builder: &mut Builder<'_>, x: &Value) -> Value {
        let half = self.width as i64 / 2;
        let mut sizes = vec![half, half];
        sizes.extend((self.rest > 0).then_some(self.rest as i64));
        let parts = builder.split(x, &sizes);
        let minus = builder.op("Neg", &[&parts[1]], &[]);
        let join = |builder: &mut Builder<'_>, parts: &[&Value]| builder.op("Concat", parts, &[("axis", (-1).into())]);
        let straight = join(builder, &[&parts[0], &parts[1]]);
        let crossed = join(builder, &[&minus, &parts[0]]);
        let straight = builder.op("Mul", &[&straight, &self.cosines], &[]);
        let crossed = builder.op("Mul", &[&crossed, &self.sines], &[]);
        let turned = builder.op("Add", &[&straight, &crossed], &[]);
        match parts.get(2) {
            Some(rest) => join(builder, &[&turned, rest]),
            None => turned,
        }
    }
}

/// The share of a head's dimensions that rotary embeddings turn, as an even number of them.
pub(super) fn turned_width(config: &Config, head: u64, default: f64) -> u64 {
    let share = config.rotary("partial_rotary_factor").or_else(|| config.rotary("rotary_pct")).and_then(Json::as_f64);
    (share.unwrap_or(default).clamp(0.0, 1.0) * head as f64) as u64 & !1
}

/// The angles per position, one for each pair of dimensions (Su et al. 2021), in the 32-bit arithmetic of the published code.
fn frequencies(config: &Config, width: u64) -> Result<Vec<f32>, ModelFault> {
    let number = |key: &str| config.rotary(key).and_then(Json::as_f64).map(|number| number as f32);
    let base = number("rope_theta").or_else(|| number("rotary_emb_base")).unwrap_or(10_000.0);
    let plain = (0..width / 2).map(|pair| 1.0 / base.powf(2.0 * pair as f32 / width as f32));
    let kind = config.rotary("rope_type").or_else(|| config.rotary("type")).and_then(Json::as_str);
    match kind {
        None | Some("default") => Ok(plain.collect()),
        Some("linear") => {
            let factor = number("factor").unwrap_or(1.0);
            Ok(plain.map(|frequency| frequency / factor).collect())
        }
        Some("llama3") => {
            let factor = number("factor").unwrap_or(8.0);
            let low = number("low_freq_factor").unwrap_or(1.0);
            let high = number("high_freq_factor").unwrap_or(4.0);
            let context = number("original_max_position_embeddings").unwrap_or(8192.0);
            let scaled = |frequency: f32| {
                let wavelength = 2.0 * std::f32::consts::PI / frequency;
                if wavelength < context / high {
                    frequency
                } else if wavelength > context / low {
                    frequency / factor
                } else {
                    let smooth = (context / wavelength - low) / (high - low);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                }
            };
            Ok(plain.map(scaled).collect())
        }
        Some(found) => {
            let supported = "default, linear or llama3";
            Err(ModelFault::Setting { key: "rope_type", found: found.to_owned(), supported })
        }
    }
}

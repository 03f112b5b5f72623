//! Rotary position embeddings (Su et al. 2021) and their scalings.

use super::builder::{Builder, Value};
use crate::model::ModelFault;
use crate::model::config::Config;
use serde_json::Value as Json;

/// How the dimensions of a head are turned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turned {
    /// The angle of the first pair of dimensions grows by 1 per position, and that of later ones by powers of this number.
    pub theta: f64,
    /// The share of a head's dimensions that is turned. None for architectures that have no such setting.
    pub share: Option<f64>,
    /// The positions before scaling, if the configuration has neither them nor the rule that they are `max_position_embeddings`.
    pub original_positions: Option<f64>,
}

impl Turned {
    /// All of a head.
    pub const fn whole(theta: f64) -> Self {
        Self { theta, share: None, original_positions: None }
    }

    /// A share of a head.
    pub const fn share(theta: f64, share: f64) -> Self {
        Self { share: Some(share), ..Self::whole(theta) }
    }
}

/// The keys of rotary embeddings that are the same for all layers.
pub(super) const KEYS: &[&str] =
    &["rope_parameters", "rope_scaling", "rope_theta", "partial_rotary_factor", "original_max_position_embeddings"];

/// The settings of rotary embeddings, as transformers puts them together from the keys of several of its versions.
pub(super) struct Settings<'c> {
    config: &'c Config,
    block: Option<&'c Json>,
    theta: f64,
    share: Option<f64>,
    original_positions: Option<f64>,
    kind: Option<&'static str>,
}

impl<'c> Settings<'c> {
    /// The settings of a configuration for all its layers: of `rope_scaling` if it is there, or of `rope_parameters`. What is not in the
    /// block is outside of it, or has its default.
    ///
    /// # Errors
    /// [`ModelFault::Setting`], [`ModelFault::Malformed`].
    pub fn of(config: &'c Config, turned: Turned) -> Result<Self, ModelFault> {
        Self::named(config, "rope_theta", "partial_rotary_factor", turned)
    }

    /// As [`Settings::of`], with other names of the two settings outside of the block.
    pub fn named(
        config: &'c Config,
        theta: &'static str,
        share: &'static str,
        turned: Turned,
    ) -> Result<Self, ModelFault> {
        let block = block(config, "rope_scaling")?.or(block(config, "rope_parameters")?);
        if let Some(kind) = ["full_attention", "sliding_attention"].iter().find(|kind| of(block, kind).is_some()) {
            return Err(Config::refused("rope_parameters", kind, "one set of parameters for all layers"));
        }
        let outside = |key: &'static str| config.optional_number(key, None);
        let original = outside("original_max_position_embeddings")?.or(turned.original_positions);
        let original = original
            .map_or_else(|| number(config, block, "original_max_position_embeddings"), |found| Ok(Some(found)))?;
        let found = Self::within(config, block, turned, [outside(theta)?, outside(share)?])?;
        Ok(Self { original_positions: original, ..found })
    }

    /// The settings in a block, such as that of one kind of layers, with the theta and the share outside of it.
    pub fn within(
        config: &'c Config,
        block: Option<&'c Json>,
        turned: Turned,
        [theta, share]: [Option<f64>; 2],
    ) -> Result<Self, ModelFault> {
        let theta = number(config, block, "rope_theta")?.or(theta).unwrap_or(turned.theta);
        let share = number(config, block, "partial_rotary_factor")?.or(share);
        match share {
            Some(share) if turned.share.is_none() && share != 1.0 => {
                return Err(Config::refused("partial_rotary_factor", share, "1"));
            }
            _ => {}
        }
        let share = turned.share.map(|default| share.unwrap_or(default));
        let original_positions = number(config, block, "original_max_position_embeddings")?;
        Ok(Self { config, block, theta, share, original_positions, kind: None })
    }

    fn number(&self, key: &str) -> Result<Option<f64>, ModelFault> {
        number(self.config, self.block, key)
    }

    fn needed(&self, key: &'static str) -> Result<f64, ModelFault> {
        self.number(key)?.ok_or_else(|| self.config.malformed(format!("its rotary embeddings have no {key}")))
    }

    /// The kind of scaling.
    pub fn kind(&self) -> Result<&'c str, ModelFault> {
        if let Some(kind) = self.kind {
            return Ok(kind);
        }
        let found = of(self.block, "rope_type").or_else(|| of(self.block, "type"));
        found.map_or(Ok("default"), |kind| {
            kind.as_str().ok_or_else(|| self.config.malformed(format!("rope_type is {kind}, which is not a text")))
        })
    }

    /// Takes another kind of scaling than the one in the configuration.
    pub fn scale_as(&mut self, kind: &'static str) {
        self.kind = Some(kind);
    }

    /// The positions that the model was trained on before its embeddings were scaled.
    fn original_positions(&self) -> Result<f64, ModelFault> {
        let positions = || Ok(self.config.size(&["max_position_embeddings"])? as f64);
        self.original_positions.map_or_else(positions, Ok)
    }

    /// The angles per position, one for each pair of dimensions, in the 32-bit arithmetic of the published code.
    fn angles(&self, head: u64) -> Result<Angles, ModelFault> {
        let width = (self.share.unwrap_or(1.0).clamp(0.0, 1.0) * head as f64) as u64;
        let (base, pairs) = (self.theta as f32, width.div_ceil(2));
        let plain: Vec<f32> = (0..pairs).map(|pair| base.powf(2.0 * pair as f32 / width as f32)).collect();
        let inverse = || plain.iter().map(|power| 1.0 / power);
        let even = |frequencies: Vec<f32>| Angles { short: frequencies, long: None, amplitude: 1.0 };
        match self.kind()? {
            "default" => Ok(even(inverse().collect())),
            // Its frequencies change after the positions that the configuration has, and no more than these are used.
            "dynamic" => self.needed("factor").map(|_| even(inverse().collect())),
            "linear" => {
                let factor = self.needed("factor")? as f32;
                Ok(even(inverse().map(|frequency| frequency / factor).collect()))
            }
            "llama3" => {
                let [factor, low, high] = ["factor", "low_freq_factor", "high_freq_factor"].map(|key| self.needed(key));
                let [factor, low, high] = [factor? as f32, low? as f32, high? as f32];
                let context = self.original_positions()? as f32;
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
                Ok(even(inverse().map(scaled).collect()))
            }
            "yarn" => self.yarn(width, &plain),
            "longrope" => self.longrope(&plain),
            found => Err(Config::refused("rope_type", found, "default, linear, dynamic, llama3, yarn or longrope")),
        }
    }

    /// YaRN (Peng et al. 2023): slow frequencies are divided by a factor, fast ones are left alone.
    fn yarn(&self, width: u64, plain: &[f32]) -> Result<Angles, ModelFault> {
        let original = self.original_positions()?;
        let factor = self.needed("factor")?;
        let not_zero = |number: Option<f64>| number.filter(|number| *number != 0.0);
        let scale = |mscale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 };
        let [one, all] = ["mscale", "mscale_all_dim"].map(|key| self.number(key).map(not_zero));
        let amplitude = match (self.number("attention_factor")?, one?, all?) {
            (Some(amplitude), ..) => amplitude,
            (None, Some(one), Some(all)) => scale(one) / scale(all),
            (None, ..) => scale(1.0),
        };
        let turns = |turns: f64| {
            width as f64 * (original / (turns * 2.0 * std::f64::consts::PI)).ln() / (2.0 * self.theta.ln())
        };
        let fast = not_zero(self.number("beta_fast")?).unwrap_or(32.0);
        let slow = not_zero(self.number("beta_slow")?).unwrap_or(1.0);
        let (mut low, mut high) = (turns(fast), turns(slow));
        match of(self.block, "truncate") {
            None | Some(Json::Bool(true)) => (low, high) = (low.floor(), high.ceil()),
            Some(Json::Bool(false)) => {}
            Some(found) => return Err(Config::refused("truncate", found, "true or false")),
        }
        (low, high) = (low.max(0.0), high.min(width as f64 - 1.0));
        if low == high {
            high += 0.001;
        }
        let blended = |(pair, power): (usize, &f32)| {
            let ramp = ((pair as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
            let alone = 1.0 - ramp;
            1.0 / (factor as f32 * power) * (1.0 - alone) + 1.0 / power * alone
        };
        let short = plain.iter().enumerate().map(blended).collect();
        Ok(Angles { short, long: None, amplitude: amplitude as f32 })
    }

    /// LongRoPE (Ding et al. 2024): each frequency has a factor for short sequences and one for long ones.
    fn longrope(&self, plain: &[f32]) -> Result<Angles, ModelFault> {
        let (original, positions) = (self.original_positions()?, self.config.size(&["max_position_embeddings"])?);
        let factor = self.number("factor")?.unwrap_or(positions as f64 / original);
        let amplitude = match self.number("attention_factor")? {
            Some(amplitude) => amplitude,
            None if factor <= 1.0 => 1.0,
            None => (1.0 + factor.ln() / original.ln()).sqrt(),
        };
        let divided = |key: &'static str| {
            let factors = of(self.block, key).and_then(Json::as_array).filter(|factors| factors.len() == plain.len());
            let factors = factors.ok_or_else(|| {
                self.config.malformed(format!("its rotary embeddings have no {key} with {} numbers", plain.len()))
            })?;
            let frequency =
                |(power, factor): (&f32, &Json)| Ok(1.0 / (self.config.finite(key, factor)? as f32 * power));
            plain.iter().zip(factors).map(frequency).collect::<Result<Vec<f32>, ModelFault>>()
        };
        let long = (original < positions as f64).then(|| divided("long_factor")).transpose()?;
        let long = long.map(|frequencies| (original as i64, frequencies));
        Ok(Angles { short: divided("short_factor")?, long, amplitude: amplitude as f32 })
    }
}

/// A number of a block, if it is not null.
fn number(config: &Config, block: Option<&Json>, key: &str) -> Result<Option<f64>, ModelFault> {
    of(block, key).map(|value| config.finite(key, value)).transpose()
}

/// A key of a block, if it is not null.
fn of<'j>(block: Option<&'j Json>, key: &str) -> Option<&'j Json> {
    block?.get(key).filter(|value| !value.is_null())
}

/// A block of settings, if it is there and not empty.
pub(super) fn block<'c>(config: &'c Config, key: &'static str) -> Result<Option<&'c Json>, ModelFault> {
    match config.get(key) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Object(object)) if object.is_empty() => Ok(None),
        Some(block @ Json::Object(_)) => Ok(Some(block)),
        Some(found) => Err(Config::refused(key, found, "an object")),
    }
}

/// The angles per position.
struct Angles {
    short: Vec<f32>,
    /// Those of sequences that are longer than some length.
    long: Option<(i64, Vec<f32>)>,
    /// Cosines and sines are multiplied by this.
    amplitude: f32,
}

/// The cosines and sines of every position, `[S, pairs]` or `[B, 1, S, pairs]` each, and the number of a head's dimensions that they turn.
pub(super) struct Rotary {
    cosines: Value,
    sines: Value,
    pairs: u64,
    rest: u64,
    neighbours: bool,
}

impl Rotary {
    /// Rotary embeddings for heads of `head` dimensions. Pairs are `neighbours`, or dimension i of the first half of the turned ones and i
    /// of the second.
    ///
    /// # Errors
    /// [`ModelFault::Setting`], [`ModelFault::Malformed`].
    pub fn new(
        builder: &mut Builder<'_>,
        settings: &Settings<'_>,
        head: u64,
        neighbours: bool,
    ) -> Result<Self, ModelFault> {
        let angles = settings.angles(head)?;
        let pairs = angles.short.len() as u64;
        if 2 * pairs > head {
            return Err(Config::refused("head_dim", head, "an even number, for rotary embeddings"));
        }
        let mut frequencies = builder.numbers(&angles.short);
        if let Some((length, long)) = &angles.long {
            // The length of each sequence decides, not that of the batch.
            let mask = builder.mask();
            let axis = builder.integers(&[1]);
            let lengths = builder.op("ReduceSum", &[&mask, &axis], &[]);
            let lengths = builder.unsqueeze(&lengths, &[2, 3]);
            let most = builder.integer(*length);
            let is_long = builder.op("Greater", &[&lengths, &most], &[]);
            let long = builder.numbers(long);
            frequencies = builder.op("Where", &[&is_long, &long, &frequencies], &[]);
        }
        let places = builder.places();
        let places = builder.float(&places);
        let places = builder.unsqueeze(&places, &[1]);
        let angle = builder.op("Mul", &[&places, &frequencies], &[]);
        // In 64 bits, since the last bits of 32 depend on how many angles are computed at once.
        let angle = builder.double(&angle);
        let [cosines, sines] = ["Cos", "Sin"].map(|function| {
            let values = builder.op(function, &[&angle], &[]);
            let values = builder.float(&values);
            builder.times(&values, angles.amplitude)
        });
        Ok(Self { cosines, sines, pairs, rest: head - 2 * pairs, neighbours })
    }

    /// The rotary embeddings of one kind of layers, `full_attention` or `sliding_attention`, with `theta` as the name that older files give
    /// to theirs. In these, `rope_scaling` is for all kinds, or for `full_attention`: for the kinds that are `scaled`.
    ///
    /// # Errors
    /// As [`Rotary::new`].
    pub fn of_layers(
        builder: &mut Builder<'_>,
        config: &Config,
        head: u64,
        [kind, theta]: [&'static str; 2],
        default: f64,
        scaled: bool,
    ) -> Result<Self, ModelFault> {
        let (new, old) = (block(config, "rope_parameters")?, block(config, "rope_scaling")?);
        if new.is_some() && old.is_some() {
            return Err(Config::refused("rope_scaling", "a value", "null, beside rope_parameters"));
        }
        let is_flat =
            |new: &Json| ["rope_type", "type", "rope_theta", "factor"].iter().any(|key| new.get(key).is_some());
        if new.is_some_and(is_flat) {
            return Err(Config::refused("rope_parameters", "one set of parameters", "one for each kind of layers"));
        }
        let found = new.and_then(|new| new.get(kind)).filter(|found| found.is_object()).or(old.filter(|_| scaled));
        if found.is_some_and(|found| found.get("truncate").is_some_and(|truncate| *truncate != Json::Bool(true))) {
            return Err(Config::refused("truncate", "false", "true"));
        }
        let theta = config.optional_number(theta, None)?;
        let settings = Settings::within(config, found, Turned::whole(default), [theta, None])?;
        Self::new(builder, &settings, head, false)
    }

    /// Turns `x`, `[B, heads, S, head]`.
    pub fn turn(&self, builder: &mut Builder<'_>, x: &Value) -> Value {
        let pairs = self.pairs as i64;
        let mut parts = vec![x.clone()];
        if self.rest > 0 {
            parts = builder.split(x, &[2 * pairs, self.rest as i64]);
        }
        let [first, second] = if self.neighbours {
            // Rows of two, of which each is one dimension of a pair.
            let shape = builder.integers(&[0, 0, 0, pairs, 2]);
            let x = builder.op("Reshape", &[&parts[0], &shape], &[]);
            [0, 1].map(|at| {
                let one = builder.slice(&x, -1, at, at + 1);
                builder.squeeze(&one, &[-1])
            })
        } else {
            let halves = builder.split(&parts[0], &[pairs, pairs]);
            [halves[0].clone(), halves[1].clone()]
        };
        let product = |builder: &mut Builder<'_>, a: &Value, b: &Value| builder.op("Mul", &[a, b], &[]);
        let [a, b] = [product(builder, &first, &self.cosines), product(builder, &second, &self.sines)];
        let turned_first = builder.op("Sub", &[&a, &b], &[]);
        let [a, b] = [product(builder, &second, &self.cosines), product(builder, &first, &self.sines)];
        let turned_second = builder.op("Add", &[&a, &b], &[]);
        let join = |builder: &mut Builder<'_>, parts: &[&Value]| builder.op("Concat", parts, &[("axis", (-1).into())]);
        let turned = if self.neighbours {
            let [first, second] = [&turned_first, &turned_second].map(|x| builder.unsqueeze(x, &[-1]));
            let joined = join(builder, &[&first, &second]);
            let shape = builder.integers(&[0, 0, 0, 2 * pairs]);
            builder.op("Reshape", &[&joined, &shape], &[])
        } else {
            join(builder, &[&turned_first, &turned_second])
        };
        match parts.get(1) {
            Some(rest) => join(builder, &[&turned, rest]),
            None => turned,
        }
    }
}

//! Layers that transformers share. Hidden states are `[B * S, H]`, so that a whole batch is one matrix product.

use super::builder::{Attribute, Builder, Value};
use crate::model::ModelFault;
use crate::model::config::Config;

/// The most negative float, which is added to the attention scores of masked keys, as in PyTorch code.
const UNSEEN: f32 = f32::MIN;

/// The layout of a linear layer's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    /// `[out, in]`, as `torch.nn.Linear` has them.
    OutIn,
    /// `[in, out]`, as GPT-2's `Conv1D` has them.
    InOut,
}

/// How attention scores are made of products of queries and keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scores {
    /// What they are divided by.
    pub divisor: f32,
    /// They stay within this number, on both sides of 0.
    pub cap: Option<f32>,
}

/// Sizes of an attention layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    /// Query heads.
    pub queries: u64,
    /// Key and value heads, a divisor of `queries`.
    pub keys: u64,
    /// The width of each head.
    pub width: u64,
}

impl Heads {
    /// `queries` heads that divide `hidden` evenly, each with its own keys and values.
    ///
    /// # Errors
    /// [`ModelFault::Setting`] if they cannot.
    pub fn even(hidden: u64, queries: u64) -> Result<Self, ModelFault> {
        if !hidden.is_multiple_of(queries) {
            let (found, supported) = (queries.to_string(), "a divisor of the hidden size");
            return Err(ModelFault::Setting { key: "num_attention_heads", found, supported });
        }
        Ok(Self { queries, keys: queries, width: hidden / queries })
    }

    /// The usual scores: divided by the root of a head's width.
    pub fn scores(self) -> Scores {
        Scores { divisor: (self.width as f32).sqrt(), cap: None }
    }
}

impl Builder<'_> {
    /// `x W^T + b` with `NAME.weight` and, where it is there or must be, `NAME.bias`.
    pub fn linear(&mut self, x: &Value, name: &str, [from, to]: [u64; 2], bias: bool) -> Result<Value, ModelFault> {
        self.linear_stored(x, name, [from, to], bias, Stored::OutIn)
    }

    pub fn linear_stored(
        &mut self,
        x: &Value,
        name: &str,
        [from, to]: [u64; 2],
        bias: bool,
        stored: Stored,
    ) -> Result<Value, ModelFault> {
        let shape = if stored == Stored::OutIn { [to, from] } else { [from, to] };
        let weight = self.weight(&format!("{name}.weight"), &shape)?;
        let bias = bias.then(|| self.weight(&format!("{name}.bias"), &[to])).transpose()?;
        Ok(self.product(x, &weight, bias.as_ref(), stored))
    }

    /// `x W^T + b` (or `x W + b`).
    pub fn product(&mut self, x: &Value, weight: &Value, bias: Option<&Value>, stored: Stored) -> Value {
        let transposed = i64::from(stored == Stored::OutIn);
        let inputs: Vec<&Value> = [x, weight].into_iter().chain(bias).collect();
        self.op("Gemm", &inputs, &[("transB", transposed.into())])
    }

    /// Layer normalization with `NAME.weight` and `NAME.bias`, which the first BERT releases call `gamma` and `beta`.
    pub fn layer_norm(&mut self, x: &Value, name: &str, width: u64, epsilon: f64) -> Result<Value, ModelFault> {
        self.normalize(x, name, width, epsilon, true)
    }

    /// Layer normalization, without `NAME.bias` if it has none.
    pub fn normalize(
        &mut self,
        x: &Value,
        name: &str,
        width: u64,
        epsilon: f64,
        bias: bool,
    ) -> Result<Value, ModelFault> {
        let old = self.has(&format!("{name}.gamma"));
        let [scale, shift] = if old { ["gamma", "beta"] } else { ["weight", "bias"] };
        let scale = self.weight(&format!("{name}.{scale}"), &[width])?;
        let shift = bias.then(|| self.weight(&format!("{name}.{shift}"), &[width])).transpose()?;
        let inputs: Vec<&Value> = [x, &scale].into_iter().chain(&shift).collect();
        let epsilon = Attribute::Float(epsilon as f32);
        Ok(self.op("LayerNormalization", &inputs, &[("axis", (-1).into()), ("epsilon", epsilon)]))
    }

    /// Root-mean-square normalization of the last axis with `NAME.weight`, to which `offset` is added.
    pub fn rms_norm(
        &mut self,
        x: &Value,
        name: &str,
        width: u64,
        epsilon: f64,
        offset: f32,
    ) -> Result<Value, ModelFault> {
        let mut scale = self.weight(&format!("{name}.weight"), &[width])?;
        if offset != 0.0 {
            let offset = self.number(offset);
            scale = self.op("Add", &[&scale, &offset], &[]);
        }
        let squares = self.op("Mul", &[x, x], &[]);
        let axes = self.integers(&[-1]);
        let mean = self.op("ReduceMean", &[&squares, &axes], &[]);
        let epsilon = self.number(epsilon as f32);
        let sum = self.op("Add", &[&mean, &epsilon], &[]);
        let root = self.op("Sqrt", &[&sum], &[]);
        let normal = self.op("Div", &[x, &root], &[]);
        Ok(self.op("Mul", &[&normal, &scale], &[]))
    }

    /// `x` times a number.
    pub fn times(&mut self, x: &Value, factor: f32) -> Value {
        if factor == 1.0 {
            return x.clone();
        }
        let factor = self.number(factor);
        self.op("Mul", &[x, &factor], &[])
    }

    /// `x` squeezed by a hyperbolic tangent so that it stays between `-cap` and `cap`.
    pub fn cap(&mut self, x: &Value, cap: f32) -> Value {
        let cap = self.number(cap);
        let x = self.op("Div", &[x, &cap], &[]);
        let x = self.op("Tanh", &[&x], &[]);
        self.op("Mul", &[&x, &cap], &[])
    }

    /// An activation by its name in configurations.
    ///
    /// # Errors
    /// [`ModelFault::Setting`].
    pub fn activation(&mut self, x: &Value, name: &str) -> Result<Value, ModelFault> {
        Ok(match name {
            "gelu" | "gelu_python" => self.op("Gelu", &[x], &[]),
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => {
                self.op("Gelu", &[x], &[("approximate", Attribute::Text("tanh"))])
            }
            "relu" => self.op("Relu", &[x], &[]),
            "silu" | "swish" => {
                let gate = self.op("Sigmoid", &[x], &[]);
                self.op("Mul", &[x, &gate], &[])
            }
            "tanh" => self.op("Tanh", &[x], &[]),
            _ => {
                let supported = "gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, relu, silu or tanh";
                return Err(ModelFault::Setting { key: "hidden_act", found: name.to_owned(), supported });
            }
        })
    }

    /// Rows of a table, `[B, S, E]`.
    pub fn look_up(&mut self, table: &Value, ids: &Value) -> Value {
        self.op("Gather", &[table, ids], &[("axis", 0.into())])
    }

    /// The rows `first` to `first + S` of a table of positions, `[S, E]`.
    pub fn positions(&mut self, table: &Value, first: i64) -> Value {
        let length = self.sequence_length();
        let start = self.integers(&[first]);
        let end = self.op("Add", &[&length, &start], &[]);
        let axis = self.integers(&[0]);
        self.op("Slice", &[table, &start, &end, &axis], &[])
    }

    /// `[B, S, width]` as `[B * S, width]`.
    pub fn flat(&mut self, x: &Value, width: u64) -> Value {
        let shape = self.integers(&[-1, width as i64]);
        self.op("Reshape", &[x, &shape], &[])
    }

    /// The mask `[B, 1, 1, S]` that is added to attention scores to exclude padding.
    pub fn padding_bias(&mut self) -> Value {
        self.once("padding", |builder| {
            let mask = builder.mask();
            let mask = builder.float(&mask);
            let one = builder.number(1.0);
            let padding = builder.op("Sub", &[&one, &mask], &[]);
            let unseen = builder.number(UNSEEN);
            let bias = builder.op("Mul", &[&padding, &unseen], &[]);
            builder.unsqueeze(&bias, &[1, 2])
        })
    }

    /// The mask `[B, 1, S, S]` that is added to attention scores to exclude padding, and tokens that are more than `reach` away.
    pub fn window_bias(&mut self, reach: u64) -> Value {
        self.once(&format!("window {reach}"), |builder| {
            let distance = builder.distances();
            let distance = builder.op("Abs", &[&distance], &[]);
            let reach = builder.integer(reach as i64);
            let far = builder.op("Greater", &[&distance, &reach], &[]);
            let [unseen, seen] = [UNSEEN, 0.0].map(|number| builder.number(number));
            let far = builder.op("Where", &[&far, &unseen, &seen], &[]);
            let padding = builder.padding_bias();
            // Of two that exclude, one is enough: their sum would be infinite.
            builder.op("Min", &[&far, &padding], &[])
        })
    }

    /// The causal mask `[S, S]` that is added to attention scores: a token attends to itself and those before it, at most the last
    /// `window` of them. Padding comes last, so no token attends to it.
    pub fn causal_bias(&mut self, window: Option<u64>) -> Value {
        self.once(&format!("causal {window:?}"), |builder| {
            let distance = builder.distances();
            let zero = builder.integer(0);
            let mut hidden = builder.op("Less", &[&distance, &zero], &[]);
            if let Some(window) = window {
                let window = builder.integer(window as i64);
                let far = builder.op("GreaterOrEqual", &[&distance, &window], &[]);
                hidden = builder.op("Or", &[&hidden, &far], &[]);
            }
            let [unseen, seen] = [UNSEEN, 0.0].map(|number| builder.number(number));
            builder.op("Where", &[&hidden, &unseen, &seen], &[])
        })
    }

    /// How far each key is before each query, `[S, S]`: negative for keys after it.
    pub fn distances(&mut self) -> Value {
        self.once("distances", |builder| {
            let places = builder.places();
            let [queries, keys] = [1, 0].map(|axis| builder.unsqueeze(&places, &[axis]));
            builder.op("Sub", &[&queries, &keys], &[])
        })
    }

    /// Values of a function of the distance of each key from each query, `[S, S]`: `function` of a distance, which is the same for
    /// distances of `most` and more.
    pub fn by_distance(&mut self, most: u64, function: impl Fn(i64) -> i64) -> Value {
        let most = most as i64;
        let values: Vec<i64> = (-most..=most).map(function).collect();
        let table = self.integers(&values);
        let distances = self.distances();
        let [least, largest, shift] = [-most, most, most].map(|at| self.integer(at));
        let distances = self.op("Clip", &[&distances, &least, &largest], &[]);
        let indices = self.op("Add", &[&distances, &shift], &[]);
        self.op("Gather", &[&table, &indices], &[("axis", 0.into())])
    }

    /// The position ids `[B, S]` of models that count them from the id of their padding token: tokens that are padding have this id, and
    /// others the next ones.
    pub fn places_after(&mut self, padding: i64) -> Value {
        let (ids, padding) = (self.ids(), self.integer(padding));
        let is_padding = self.op("Equal", &[&ids, &padding], &[]);
        let [zero, one] = [0, 1].map(|at| self.integer(at));
        let counted = self.op("Where", &[&is_padding, &zero, &one], &[]);
        let axis = self.integer(1);
        let places = self.op("CumSum", &[&counted, &axis], &[]);
        let places = self.op("Mul", &[&places, &counted], &[]);
        self.op("Add", &[&places, &padding], &[])
    }

    /// Biases by distance, `[1, heads, S, S]`, from a table `[buckets, heads]` (Raffel et al. 2020): half of the buckets are for keys after
    /// the query; of each half, half is for one distance each, and the others grow with the logarithm, up to `most`.
    pub fn relative_bias(&mut self, table: &Value, buckets: u64, most: u64) -> Value {
        let side = (buckets / 2) as i64;
        let exact = side / 2;
        let bucket = |distance: i64| {
            let (after, distance) = (if distance < 0 { side } else { 0 }, distance.abs());
            if distance < exact {
                return after + distance;
            }
            let share = (distance as f32 / exact as f32).ln() / (most as f64 / exact as f64).ln() as f32;
            after + (exact + (share * (side - exact) as f32) as i64).min(side - 1)
        };
        let buckets = self.by_distance(most, bucket);
        let values = self.look_up(table, &buckets);
        let values = self.transpose(&values, &[2, 0, 1]);
        self.unsqueeze(&values, &[0])
    }

    /// 0, 1, ... up to the length of the sequences, `[S]`.
    pub fn places(&mut self) -> Value {
        self.once("places", |builder| {
            let length = builder.sequence_length();
            let length = builder.squeeze(&length, &[0]);
            let [zero, one] = [0, 1].map(|at| builder.integer(at));
            builder.op("Range", &[&zero, &length, &one], &[])
        })
    }

    /// `[B * S, heads * width]` as `[B, heads, S, width]`.
    pub fn by_head(&mut self, x: &Value, heads: u64, width: u64) -> Value {
        let shape = self.batch_and_sequence_and(&[heads as i64, width as i64]);
        let x = self.op("Reshape", &[x, &shape], &[]);
        self.transpose(&x, &[0, 2, 1, 3])
    }

    /// Scaled dot-product attention: queries, keys and values `[B, heads, S, width]` to `[B * S, heads * width]`.
    pub fn attend(&mut self, [queries, keys, values]: [&Value; 3], heads: Heads, how: Scores, bias: &Value) -> Value {
        let [keys, values] = [keys, values].map(|x| self.repeat_heads(x, heads));
        let keys = self.transpose(&keys, &[0, 1, 3, 2]);
        let mut scores = self.op("MatMul", &[queries, &keys], &[]);
        if how.divisor != 1.0 {
            let divisor = self.number(how.divisor);
            scores = self.op("Div", &[&scores, &divisor], &[]);
        }
        if let Some(cap) = how.cap {
            scores = self.cap(&scores, cap);
        }
        let scores = self.op("Add", &[&scores, bias], &[]);
        self.mix(&scores, &values, heads)
    }

    /// The means of `values`, `[B, heads, S, width]`, that attention scores `[B, heads, S, S]` give, as `[B * S, heads * width]`.
    pub fn mix(&mut self, scores: &Value, values: &Value, heads: Heads) -> Value {
        let weights = self.op("Softmax", &[scores], &[("axis", (-1).into())]);
        let mixed = self.op("MatMul", &[&weights, values], &[]);
        let mixed = self.transpose(&mixed, &[0, 2, 1, 3]);
        self.flat(&mixed, heads.queries * heads.width)
    }

    /// Repeats the heads of keys or values, `[B, keys, S, width]`, so that there is one for each query head.
    fn repeat_heads(&mut self, x: &Value, heads: Heads) -> Value {
        if heads.keys == heads.queries {
            return x.clone();
        }
        let times = (heads.queries / heads.keys) as i64;
        let x = self.unsqueeze(x, &[2]);
        let ones = self.integers(&[1, 1, times, 1, 1]);
        let x = self.op("Expand", &[&x, &ones], &[]);
        // Queries, keys and values have the same batch and sequence; 0 keeps an axis.
        let shape = self.integers(&[0, heads.queries as i64, -1, heads.width as i64]);
        self.op("Reshape", &[&x, &shape], &[])
    }
}

/// The width of hidden states.
pub(super) fn hidden_size(config: &Config) -> Result<u64, ModelFault> {
    config.size(&["hidden_size"])
}

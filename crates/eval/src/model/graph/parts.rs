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
        let old = self.has(&format!("{name}.gamma"));
        let [scale, bias] = if old { ["gamma", "beta"] } else { ["weight", "bias"] };
        let scale = self.weight(&format!("{name}.{scale}"), &[width])?;
        let bias = self.weight(&format!("{name}.{bias}"), &[width])?;
        let epsilon = Attribute::Float(epsilon as f32);
        Ok(self.op("LayerNormalization", &[x, &scale, &bias], &[("axis", (-1).into()), ("epsilon", epsilon)]))
    }

    /// Root-mean-square normalization with `NAME.weight`.
    pub fn rms_norm(&mut self, x: &Value, name: &str, width: u64, epsilon: f64) -> Result<Value, ModelFault> {
        let scale = self.weight(&format!("{name}.weight"), &[width])?;
        let squares = self.op("Mul", &[x, x], &[]);
        let axes = self.integers(&[-1]);
        let mean = self.op("ReduceMean", &[&squares, &axes], &[]);
        let epsilon = self.number(epsilon as f32);
        let sum = self.op("Add", &[&mean, &epsilon], &[]);
        let root = self.op("Sqrt", &[&sum], &[]);
        let normal = self.op("Div", &[x, &root], &[]);
        Ok(self.op("Mul", &[&normal, &scale], &[]))
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
        let mask = self.mask();
        let mask = self.float(&mask);
        let one = self.number(1.0);
        let padding = self.op("Sub", &[&one, &mask], &[]);
        let unseen = self.number(UNSEEN);
        let bias = self.op("Mul", &[&padding, &unseen], &[]);
        self.unsqueeze(&bias, &[1, 2])
    }

    /// The causal mask `[S, S]` that is added to attention scores: a token attends to itself and those before it, at most the last
    /// `window` of them. Padding comes last, so no token attends to it.
    pub fn causal_bias(&mut self, window: Option<u64>) -> Value {
        let places = self.places();
        let [queries, keys] = [1, 0].map(|axis| self.unsqueeze(&places, &[axis]));
        let mut hidden = self.op("Less", &[&queries, &keys], &[]);
        if let Some(window) = window {
            let distance = self.op("Sub", &[&queries, &keys], &[]);
            let window = self.integer(window as i64);
            let far = self.op("GreaterOrEqual", &[&distance, &window], &[]);
            hidden = self.op("Or", &[&hidden, &far], &[]);
        }
        let [unseen, seen] = [UNSEEN, 0.0].map(|number| self.number(number));
        self.op("Where", &[&hidden, &unseen, &seen], &[])
    }

    /// 0, 1, ... up to the length of the sequences, `[S]`.
    pub fn places(&mut self) -> Value {
        let length = self.sequence_length();
        let length = self.squeeze(&length, &[0]);
        let [zero, one] = [0, 1].map(|at| self.integer(at));
        self.op("Range", &[&zero, &length, &one], &[])
    }

    /// `[B * S, heads * width]` as `[B, heads, S, width]`.
    pub fn by_head(&mut self, x: &Value, heads: u64, width: u64) -> Value {
        let shape = self.batch_and_sequence_and(&[heads as i64, width as i64]);
        let x = self.op("Reshape", &[x, &shape], &[]);
        self.transpose(&x, &[0, 2, 1, 3])
    }

    /// Scaled dot-product attention: queries, keys and values `[B, heads, S, width]` to `[B * S, heads * width]`.
    pub fn attend(&mut self, [queries, keys, values]: [&Value; 3], heads: Heads, bias: &Value) -> Value {
        let [keys, values] = [keys, values].map(|x| self.repeat_heads(x, heads));
        let keys = self.transpose(&keys, &[0, 1, 3, 2]);
        let scores = self.op("MatMul", &[queries, &keys], &[]);
        let scale = self.number((heads.width as f32).sqrt());
        let scores = self.op("Div", &[&scores, &scale], &[]);
        let scores = self.op("Add", &[&scores, bias], &[]);
        let weights = self.op("Softmax", &[&scores], &[("axis", (-1).into())]);
        let mixed = self.op("MatMul", &[&weights, &values], &[]);
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
    config.size(&["hidden_size", "dim", "n_embd"])
}

//! Layers of experts: a router chooses for each token which of several gated layers compute it.

use super::builder::{Builder, Value};
use super::parts::Stored;
use crate::model::ModelFault;
use crate::model::config::Config;

/// The experts of a layer.
#[derive(Clone)]
pub(super) struct Experts {
    /// How many there are.
    pub count: u64,
    /// How many compute a token.
    pub chosen: u64,
    /// The width of each.
    pub inner: u64,
    /// Whether the weights of the chosen experts are made to sum to 1.
    pub normalized: bool,
    /// The module of the router and the experts.
    pub module: &'static str,
    /// The names of an expert's gate, its other input matrix, and its output matrix.
    pub names: [&'static str; 3],
}

impl Experts {
    /// Checks that no more experts are chosen than there are.
    pub fn check(&self) -> Result<(), ModelFault> {
        if self.chosen <= self.count {
            return Ok(());
        }
        Err(Config::refused("num_experts_per_tok", self.chosen, "at most the number of experts"))
    }

    /// The sum of the chosen experts' outputs, `[N, H]`, each multiplied by its weight.
    pub fn build(
        &self,
        builder: &mut Builder<'_>,
        x: &Value,
        at: &str,
        hidden: u64,
        activation: &str,
    ) -> Result<Value, ModelFault> {
        let at = format!("{at}{}.", self.module);
        let router = builder.weight(&format!("{at}gate.weight"), &[self.count, hidden])?;
        let scores = builder.product(x, &router, None, Stored::OutIn);
        let weights = builder.op("Softmax", &[&scores], &[("axis", (-1).into())]);
        let chosen = builder.integers(&[self.chosen as i64]);
        let [mut top, indices] = builder.op_pair("TopK", &[&weights, &chosen], &[("axis", (-1).into())]);
        if self.normalized {
            let axis = builder.integers(&[-1]);
            let sum = builder.op("ReduceSum", &[&top, &axis], &[]);
            top = builder.op("Div", &[&top, &sum], &[]);
        }
        // The weight of each expert for each token, 0 where it is not chosen.
        let zero = builder.number(0.0);
        let none = builder.op("Mul", &[&weights, &zero], &[]);
        let weights = builder.op("ScatterElements", &[&none, &indices, &top], &[("axis", 1.into())]);
        let mut sum = builder.op("Mul", &[x, &zero], &[]);
        for expert in 0..self.count {
            let at = format!("{at}experts.{expert}.");
            let index = expert as i64;
            let weight = builder.slice(&weights, 1, index, index + 1);
            // Only the tokens that chose the expert are computed.
            let flat = builder.squeeze(&weight, &[1]);
            let rows = builder.op("NonZero", &[&flat], &[]);
            let rows = builder.transpose(&rows, &[1, 0]);
            let rows = builder.squeeze(&rows, &[1]);
            let take =
                |builder: &mut Builder<'_>, from: &Value| builder.op("Gather", &[from, &rows], &[("axis", 0.into())]);
            let seen = take(builder, x);
            let [gate, up, down] = self.names.map(|name| format!("{at}{name}"));
            let gate = builder.linear(&seen, &gate, [hidden, self.inner], false)?;
            let gate = builder.activation(&gate, activation)?;
            let up = builder.linear(&seen, &up, [hidden, self.inner], false)?;
            let gated = builder.op("Mul", &[&gate, &up], &[]);
            let given = builder.linear(&gated, &down, [self.inner, hidden], false)?;
            let weight = take(builder, &weight);
            let given = builder.op("Mul", &[&given, &weight], &[]);
            let before = take(builder, &sum);
            let after = builder.op("Add", &[&before, &given], &[]);
            let places = builder.unsqueeze(&rows, &[1]);
            sum = builder.op("ScatterND", &[&sum, &places, &after], &[]);
        }
        Ok(sum)
    }
}

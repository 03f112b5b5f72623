//! Results as JSON, one set of types for all who write and read them: `verify --json` prints a [`Report`], `sweep` appends to a
//! [`ResultsFile`], and `report` reads both with [`read()`].
//!
//! A file of a sweep has one JSON object per line, a [`SweepHead`] first. Its rows have the keys of those of `verify --json`, and two more:
//!
//! ```json
//! {"sweep":1, "tool":"lcepatch 0.1.0", "label":null, "model":{...}, "reference":{...}, "runtime":{...}, "work":{...}, "measures":[...]}
//! {"case":"unedited", "measures":[...], ...}
//! {"localization":{"strategy":"value","k":"10%","seed":null,"among":null}, "candidates":84934656, "stat":{"id":"51aa...", ...}}
//! {"localization":{...}, "patch":"51aa...", "case":"alpha 0.5", "edit":"ip", "alpha":0.5, "edited":8493466, "measures":[...], ...}
//! ```
//!
//! The first line says what all rows have in common, and decides whether a sweep may be continued in the file. Unknown values, and numbers
//! that are not finite, are null. Digests are hexadecimal.

mod lm_eval;
mod read;
mod write;

pub use lm_eval::LmEval;
pub use read::{Results, read};
pub use write::{ResultsFile, file_digests};

use crate::measure::statistics::{Flips, Test};
use crate::measure::{Group, ModelKind, Score};
use crate::report::Stat;
use crate::verify::WorkSummary;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the format of a sweep's results.
pub const VERSION: u64 = 1;

/// What all rows of a file have in common.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Setting {
    /// The program that wrote the results, with its version.
    pub tool: String,
    /// The unedited model.
    pub model: Model,
    /// What ran the model.
    pub runtime: Runtime,
    /// How much was asked of each model.
    pub work: WorkSummary,
}

/// A model.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Model {
    /// Its directory.
    pub path: String,
    /// The ONNX export that was measured instead of a graph built from the configuration.
    pub onnx: Option<String>,
    /// `model_type` of its configuration.
    pub model_type: String,
    /// What it predicts. None if the file does not say.
    pub kind: Option<ModelKind>,
    /// The dtypes of its weights, such as `F32`.
    pub dtypes: Vec<String>,
    /// Hidden layers.
    pub layers: u32,
    /// The most tokens in a sequence.
    pub positions: u32,
    /// Tokens in the vocabulary.
    pub vocabulary: u32,
    /// SHA-256 of each weight file, by name. Empty if the files were not hashed.
    pub weights: BTreeMap<String, String>,
}

/// The runtime.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Runtime {
    /// The version of ONNX Runtime, such as `1.23.0`.
    pub version: String,
    /// Its execution provider, such as `CPU`.
    pub provider: String,
    /// Its threads.
    pub threads: usize,
}

/// What `verify --json` prints.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// What the rows have in common.
    #[serde(flatten)]
    pub setting: Setting,
    /// The patches, in the order in which they are applied.
    #[serde(default)]
    pub patches: Vec<AppliedPatch>,
    /// The prompts that every model continued.
    #[serde(default)]
    pub prompts: Vec<String>,
    /// The unedited model first.
    pub rows: Vec<Row>,
}

/// A patch of a [`Report`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AppliedPatch {
    /// Its file.
    pub path: String,
    /// Its id.
    pub id: String,
    /// The alpha that its author recommends.
    pub recommended_alpha: Option<f64>,
}

/// The first line of a sweep.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SweepHead {
    /// The version of this format, [`VERSION`].
    pub sweep: u64,
    /// What the rows have in common.
    #[serde(flatten)]
    pub setting: Setting,
    /// The user's name for the pair of models.
    pub label: Option<String>,
    /// The reference of the pair; the target is the model.
    pub reference: Option<Reference>,
    /// The seed of samples and bootstrap intervals.
    pub seed: u64,
    /// The directions of changes that were stated before, such as `weat8<0`.
    pub expect: Vec<String>,
    /// The prompts that every model continued.
    pub prompts: Vec<String>,
    /// The most tokens that were added to a prompt.
    pub prompt_tokens: Option<u32>,
    /// The measures of every row.
    pub measures: Vec<MeasureSettings>,
}

/// The reference checkpoint of a sweep.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reference {
    /// Its path.
    pub path: String,
    /// SHA-256 of each weight file, by name.
    pub weights: BTreeMap<String, String>,
}

/// How a measure of a sweep is made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MeasureSettings {
    /// The measure, such as `crows.diff`.
    pub measure: String,
    /// Its settings, by name.
    pub settings: BTreeMap<String, String>,
    /// SHA-256 of its data files, by name.
    pub data: BTreeMap<String, String>,
}

/// A patch of a sweep.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PatchLine {
    /// How its weights were found.
    pub localization: Localization,
    /// The number of weights among which they were found.
    pub candidates: u64,
    /// Where they are. It has no rows of tensors.
    pub stat: Stat,
}

/// How the weights of a patch were found.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Localization {
    /// `value`, `mask` or `random`.
    pub strategy: String,
    /// The requested number of weights, such as `10%`. None of masks, which decide it themselves.
    pub k: Option<String>,
    /// The seed of random weights.
    pub seed: Option<u64>,
    /// The weights from which random ones are drawn.
    pub among: Option<String>,
}

/// The results of one model, edited or not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// How the edited weights were found, in an edited row of a sweep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub localization: Option<Localization>,
    /// The id of the patch, in an edited row of a sweep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
    /// The edit for people, such as `unedited` or `alpha -2`.
    pub case: String,
    /// The edit's name, such as `ep`. None of the unedited model.
    pub edit: Option<String>,
    /// The alpha of an interpolation or extrapolation.
    pub alpha: Option<f64>,
    /// The number of edited weights.
    pub edited: u64,
    /// Seconds from loading the model to its last answer.
    pub seconds: f64,
    /// The result of each measure.
    pub measures: Vec<Measure>,
    /// Multiple choice in the keys of lm-evaluation-harness, if it was measured. Not read back, since `measures` has it all.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub lm_eval: Option<LmEval>,
    /// What the model writes after each prompt.
    #[serde(default)]
    pub continuations: Vec<String>,
}

/// The result of a measure.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measure {
    /// The measure, such as `crows.diff`.
    pub measure: String,
    /// Its scores, the main one first.
    pub scores: Vec<ComparedScore>,
    /// The scores of parts of the data.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// Counted items, such as `ties`.
    #[serde(default)]
    pub counts: BTreeMap<String, u64>,
    /// Its settings, by name.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// SHA-256 of its data files, by name.
    #[serde(default)]
    pub data: BTreeMap<String, String>,
    /// The contribution of each item of the data. The key exists with `--items` only, and is null for a score that does not come from
    /// items. Nobody reads it back, so it takes no memory then.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub items: Option<Option<Items>>,
}

/// A score, and its change from the unedited model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ComparedScore {
    /// The score.
    #[serde(flatten)]
    pub score: Score,
    /// Its change. None of the unedited model.
    pub change: Option<Change>,
}

/// How a score changed from the unedited model.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Change {
    /// Edited minus unedited. None if it is not finite.
    pub difference: Option<f64>,
    /// Its 95 % bootstrap interval.
    pub interval: Option<(f64, f64)>,
    /// Decisions that flipped.
    pub flips: Option<Flips>,
    /// The paired test of the items.
    pub test: Option<Test>,
    /// Whether the change may be chance.
    pub inside_noise: Option<bool>,
}

/// The contributions of items to a main score: lists with one entry per item.
#[derive(Debug, Clone, Serialize)]
pub struct Items {
    /// `decisions`, `values`, `logarithms`, `divergences` or `associations`, see [`crate::measure::Items`].
    pub kind: &'static str,
    /// The contributions.
    pub values: ItemValues,
    /// The weight of each contribution.
    pub weights: Option<Vec<f64>>,
    /// The name of each item in the data.
    pub ids: Option<Vec<String>>,
    /// The scores of each item.
    pub scores: Option<Vec<Vec<f64>>>,
}

/// Contributions of items.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum ItemValues {
    /// Yes or no.
    Decisions(Vec<bool>),
    /// Numbers; null in JSON where they are not finite.
    Numbers(Vec<f64>),
    /// For each layer, the numbers of the words of X, then those of Y.
    Layers(Vec<Vec<f64>>),
}

impl Row {
    /// The score `name` of a measure.
    pub fn score(&self, measure: &str, name: &str) -> Option<&ComparedScore> {
        let result = self.measures.iter().find(|result| result.measure == measure)?;
        result.scores.iter().find(|compared| compared.score.name == name)
    }
}

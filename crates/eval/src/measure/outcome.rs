//! The outcome of a measure: scores, and what is needed to compare them.

use super::statistics::Ddof;
use lcepatch_files::input::Unexpected;
use lcepatch_format::digest::Digest;
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The result of a measure on one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The measure by its variant, such as `crows.diff` or `weat8`.
    pub measure: String,
    /// Its scores, the main one first.
    pub scores: Vec<Score>,
    /// The scores of parts of the data, such as bias types or domains.
    pub groups: Vec<Group>,
    /// The contribution of each item to the main score, for paired comparisons.
    pub items: Items,
    /// The name and the scores of each entry of [`Outcome::items`], in its order. Empty for measures that do not report them.
    pub details: Vec<Item>,
    /// Further counts, such as `ties` or `skipped: insertion only`.
    pub counts: BTreeMap<String, u64>,
    /// The settings of the measure, such as `ddof: 1` or `split: dev`.
    pub settings: BTreeMap<String, String>,
    /// The digest of each data file, by name. Built-in data has none.
    pub data: BTreeMap<String, Digest>,
}

/// The scores of a part of the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its scores, as in [`Outcome::scores`].
    pub scores: Vec<Score>,
}

/// One measured number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Its name within the measure, such as `d`, `ss`, `icat`, `ppl`. Unique there.
    pub name: String,
    /// The number. JSON has null for one that is not finite, which is read back as not a number.
    #[serde(deserialize_with = "null_is_nan")]
    pub value: f64,
    /// A description in a few words.
    pub meaning: Cow<'static, str>,
    /// The value of an unbiased model.
    pub neutral: Option<f64>,
    /// Which values are better.
    pub better: Better,
    /// The number of items that it is measured on.
    pub n: u64,
    /// Standard error.
    pub error: Option<f64>,
    /// 95 % bootstrap interval.
    pub interval: Option<(f64, f64)>,
    /// The p value of the measure's own test.
    pub p: Option<f64>,
}

fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// Which values of a score are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Smaller values.
    Lower,
    /// Larger values.
    Higher,
    /// Values nearer to its neutral value.
    Neutral,
}

/// The contributions of items to a main score. Two outcomes of the same work list have the same items in the same order.
#[derive(Debug, Clone, PartialEq)]
pub enum Items {
    /// Yes or no. The score is the percentage of yes.
    Decisions(Vec<bool>),
    /// Numbers whose sum over the sum of the weights is the main score.
    Values {
        /// The numbers.
        values: Vec<f64>,
        /// The weight of each number, such as its tokens.
        weights: Vec<f64>,
    },
    /// The same, for the natural logarithm of the main score: the losses of texts, for perplexities.
    Logarithms {
        /// The numbers.
        values: Vec<f64>,
        /// The weight of each number, such as its tokens.
        weights: Vec<f64>,
    },
    /// Numbers that are never below 0, and 0 of the unedited model, whose mean is the main score: divergences from it. That such a score
    /// rises is no finding, so that its change is not tested.
    Divergences(Vec<f64>),
    /// For each layer, the associations of the words of X, then those of Y. The main score is the mean of the layers' effect sizes.
    Associations {
        /// A list for each layer.
        layers: Vec<Vec<f64>>,
        /// Of the standard deviation in the effect size.
        ddof: Ddof,
    },
    /// The score does not come from items.
    None,
}

/// One item of the data, with its scores by a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its name in the data.
    pub id: String,
    /// Its scores. The setting `item scores` in [`Outcome::settings`] names them.
    pub scores: Vec<f64>,
    /// Its entry among the decisions.
    pub decision: bool,
}

/// Data that a measure cannot use. Exhaustive: whoever reports it says of each what kind it is.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BadData {
    /// The file could not be read.
    #[error("{operation} {}: {reason}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        reason: String,
    },
    /// It is something else.
    #[error("{}: {unexpected}", path.display())]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// What it is.
        unexpected: Unexpected,
    },
    /// The file is not what the measure reads.
    #[error("{}{}: {reason}", path.display(), line.map_or(String::new(), |line| format!(", line {line}")))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on, where there is one.
        line: Option<u64>,
        /// What is wrong, and what is expected.
        reason: String,
    },
    /// The model is of another kind than the measure needs.
    #[error("{measure} needs {needs}, and this model is {found}")]
    Kind {
        /// The measure.
        measure: &'static str,
        /// What it needs, such as `a masked language model`.
        needs: &'static str,
        /// What there is.
        found: &'static str,
    },
    /// Nothing is left to measure.
    #[error("{}: {measure} finds nothing to measure: {reason}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// The measure.
        measure: &'static str,
        /// Why.
        reason: String,
    },
}

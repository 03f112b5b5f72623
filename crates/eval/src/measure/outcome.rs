//! What a measure finds.

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
    /// Its numbers, the main one first.
    pub scores: Vec<Score>,
    /// The numbers of parts of the data, such as bias types or domains.
    pub groups: Vec<Group>,
    /// What each item contributes to the main score, for paired comparisons.
    pub items: Items,
    /// The same items one by one, where a measure tells them: one for each entry of [`Outcome::items`], in its order.
    pub details: Vec<Item>,
    /// What was counted besides, such as `ties` or `skipped: insertion only`.
    pub counts: BTreeMap<String, u64>,
    /// How it was measured, for the report, such as `ddof: 1` or `split: dev`.
    pub settings: BTreeMap<String, String>,
    /// The data's file digests, by name; built-in data has none.
    pub data: BTreeMap<String, Digest>,
}

/// The scores of a part of the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its numbers, as in [`Outcome::scores`].
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
    /// Which way is better.
    pub better: Better,
    /// Items it is over.
    pub n: u64,
    /// Standard error.
    pub error: Option<f64>,
    /// Bootstrap interval, 95 %.
    pub interval: Option<(f64, f64)>,
    /// p of the test that belongs to the measure.
    pub p: Option<f64>,
}

fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// Which way a score is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Smaller.
    Lower,
    /// Larger.
    Higher,
    /// Nearer to its neutral value.
    Neutral,
}

/// What items contribute to a main score. Entries of two outcomes of the same work list belong together.
#[derive(Debug, Clone, PartialEq)]
pub enum Items {
    /// Yes or no, in [`Outcome::scores`] as 100 times the share of yes.
    Decisions(Vec<bool>),
    /// Numbers whose sum over the sum of the weights is the main score.
    Values {
        /// The numbers.
        values: Vec<f64>,
        /// How much each counts, such as its tokens.
        weights: Vec<f64>,
    },
    /// The same, for the natural logarithm of the main score: the losses of texts, for perplexities.
    Logarithms {
        /// The numbers.
        values: Vec<f64>,
        /// How much each counts, such as its tokens.
        weights: Vec<f64>,
    },
    /// The score does not come from items.
    None,
}

/// One item of the data, and what a model makes of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its name in the data.
    pub id: String,
    /// Its scores; [`Outcome::settings`] says of what under `item scores`.
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

//! A report of `verify` as [`lines`] of text, as [`json()`], and as a [`summary`] for the metadata of a patch.
//!
//! A measure has one or a few main scores (`Column`), which the table and the figure show. Every other score is in the
//! definitions and in the JSON.

mod groups;
mod json;
#[cfg(test)]
pub(super) mod sample;
mod table;
#[cfg(test)]
mod tests;
mod words;

pub use json::{Detail, json, summary};
pub(super) use json::{TOOL, hexadecimal, model_of, row_of, setting};
pub use table::{brief, lines};
pub(super) use words::{better, decimals, number, short, signed};

use crate::digest::Digest;
use crate::edit::EditKind;
use crate::measure::compare::Change;
use crate::measure::{Outcome, Score};
use crate::report::results::Runtime;
use crate::verify::{Measurement, Report};
use std::collections::BTreeMap;

/// The runtime and the files of a measurement.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// The runtime.
    pub runtime: Runtime,
    /// SHA-256 of the model's weight files, by name. Empty if they were not hashed.
    pub weights: BTreeMap<String, Digest>,
}

/// The main scores of measures with several of them, by the start of their names. Other measures have one, the first.
const MAIN: &[(&str, &[&str])] =
    &[("stereoset.", &["ss", "lm", "icat"]), ("kl", &["kl", "top1"]), ("choice.", &["acc", "acc_norm", "gap"])];

/// The families of measures of language modelling. All others measure bias.
const QUALITY: &[&str] = &["ppl", "kl"];

/// A main score.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column<'a> {
    /// The index of its outcome in a measurement.
    pub outcome_index: usize,
    /// The outcome of the unedited model.
    pub outcome: &'a Outcome,
    /// The score of the unedited model.
    pub score: &'a Score,
    /// Whether it is the first main score of its measure.
    pub first: bool,
    /// Whether it is the only main score of its measure.
    is_only: bool,
}

impl<'a> Column<'a> {
    /// All main scores of a report, in the order of the measures.
    pub fn all(report: &'a Report) -> Vec<Self> {
        report.rows.first().map_or(Vec::new(), Self::of_measurement)
    }

    /// The main scores of a measurement.
    pub fn of_measurement(measurement: &'a Measurement) -> Vec<Self> {
        let columns = |(outcome_index, outcome): (usize, &'a Outcome)| {
            let scores: Vec<&Score> = main_scores(&outcome.measure, &outcome.scores, |score| &score.name);
            let is_only = scores.len() == 1;
            let column = move |(at, score)| Self { outcome_index, outcome, score, first: at == 0, is_only };
            scores.into_iter().enumerate().map(column).collect::<Vec<_>>()
        };
        measurement.outcomes.iter().enumerate().flat_map(columns).collect()
    }

    /// The name of its measure, and its own where the measure has several scores or its own name is a symbol.
    pub fn name(&self) -> String {
        column_name(&self.outcome.measure, &self.score.name, self.is_only)
    }

    /// Its measure's name up to the first digit or full stop: `weat` for `weat6` and `weat8`.
    pub fn family(&self) -> &'a str {
        family(&self.outcome.measure)
    }

    /// Whether it measures language modelling, not bias.
    pub fn is_of_quality(&self) -> bool {
        is_of_quality(&self.outcome.measure)
    }

    /// The score of this column in a measurement.
    pub fn of<'r>(&self, row: &'r Measurement) -> Option<&'r Score> {
        row.outcomes.get(self.outcome_index)?.scores.iter().find(|score| score.name == self.score.name)
    }

    /// The change of this column's score in a measurement.
    pub fn change<'r>(&self, row: &'r Measurement) -> Option<&'r Change> {
        row.changes.get(self.outcome_index)?.iter().find(|change| change.score == self.score.name)
    }
}

/// The main scores of a measure.
pub(super) fn main_scores<'a, T>(measure: &str, scores: &'a [T], name: impl Fn(&T) -> &str) -> Vec<&'a T> {
    let names = MAIN.iter().find(|(start, _)| measure.starts_with(start)).map_or(&[][..], |(_, names)| names);
    let mut main: Vec<&T> = scores.iter().filter(|score| names.contains(&name(score))).collect();
    if main.is_empty() {
        main.extend(scores.first());
    }
    main
}

/// The name of a measure, and that of the score where the measure has several or the score is named by a symbol.
pub(super) fn column_name(measure: &str, score: &str, is_only: bool) -> String {
    // A single letter, such as the d of WEAT, is a symbol that readers know.
    let is_symbol = score.chars().count() == 1;
    if measure == score || is_only && !is_symbol { measure.to_owned() } else { format!("{measure} {score}") }
}

fn family(measure: &str) -> &str {
    measure.split(|c: char| c == '.' || c.is_ascii_digit()).next().unwrap_or(measure)
}

/// Whether a measure is one of language modelling, not of bias.
pub(super) fn is_of_quality(measure: &str) -> bool {
    QUALITY.contains(&family(measure))
}

/// The name of an edit in reports.
pub fn case(edit: Option<EditKind>) -> String {
    match edit {
        None => "unedited".to_owned(),
        Some(EditKind::Interpolate(alpha)) => format!("alpha {alpha}"),
        Some(kind) => kind.label().to_owned(),
    }
}

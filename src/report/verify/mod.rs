//! What `verify` measured, for people and for programs: [`lines`] of text, [`json()`], and a [`summary`] that a patch can carry.
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

/// Measures with several main scores, by how their names begin. Of all others it is the first score.
const MAIN: &[(&str, &[&str])] = &[("stereoset.", &["ss", "lm", "icat"]), ("kl", &["kl", "top1"])];

/// How the names of measures begin that say how good a language model is, and not how biased.
const QUALITY: &[&str] = &["ppl", "kl"];

/// A main score.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column<'a> {
    /// The place of its outcome in a row.
    pub place: usize,
    /// The outcome of the unedited model.
    pub outcome: &'a Outcome,
    /// The score of the unedited model.
    pub score: &'a Score,
    /// Whether it is the first one of its measure.
    pub first: bool,
    /// Whether the measure has others.
    alone: bool,
}

impl<'a> Column<'a> {
    /// All of them, in the order of the measures.
    pub fn all(report: &'a Report) -> Vec<Self> {
        report.rows.first().map_or(Vec::new(), Self::of_row)
    }

    /// Those of a row.
    pub fn of_row(row: &'a Measurement) -> Vec<Self> {
        let of = |(place, outcome): (usize, &'a Outcome)| {
            let scores: Vec<&Score> = main_scores(&outcome.measure, &outcome.scores, |score| &score.name);
            let alone = scores.len() == 1;
            let column = move |(at, score)| Self { place, outcome, score, first: at == 0, alone };
            scores.into_iter().enumerate().map(column).collect::<Vec<_>>()
        };
        row.outcomes.iter().enumerate().flat_map(of).collect()
    }

    /// Its measure, and its own name where the measure leaves open which score it is.
    pub fn name(&self) -> String {
        column_name(&self.outcome.measure, &self.score.name, self.alone)
    }

    /// Its measure's name up to the first digit or full stop: `weat` for `weat6` and `weat8`.
    pub fn family(&self) -> &'a str {
        family(&self.outcome.measure)
    }

    /// Whether it says how good a language model is, and not how biased.
    pub fn is_of_quality(&self) -> bool {
        is_of_quality(&self.outcome.measure)
    }

    /// The same score of another model.
    pub fn of<'r>(&self, row: &'r Measurement) -> Option<&'r Score> {
        row.outcomes.get(self.place)?.scores.iter().find(|score| score.name == self.score.name)
    }

    /// How it changed.
    pub fn change<'r>(&self, row: &'r Measurement) -> Option<&'r Change> {
        row.changes.get(self.place)?.iter().find(|change| change.score == self.score.name)
    }
}

/// The main ones among the scores of a measure.
pub(super) fn main_scores<'a, T>(measure: &str, scores: &'a [T], name: impl Fn(&T) -> &str) -> Vec<&'a T> {
    let names = MAIN.iter().find(|(start, _)| measure.starts_with(start)).map_or(&[][..], |(_, names)| names);
    let mut main: Vec<&T> = scores.iter().filter(|score| names.contains(&name(score))).collect();
    if main.is_empty() {
        main.extend(scores.first());
    }
    main
}

/// A measure, and a score's own name where the measure leaves open which score it is.
pub(super) fn column_name(measure: &str, score: &str, alone: bool) -> String {
    // A letter alone is a symbol that people look for.
    let told = measure == score || alone && score.chars().count() > 1;
    if told { measure.to_owned() } else { format!("{measure} {score}") }
}

fn family(measure: &str) -> &str {
    measure.split(|c: char| c == '.' || c.is_ascii_digit()).next().unwrap_or(measure)
}

/// Whether a measure says how good a language model is, and not how biased.
pub(super) fn is_of_quality(measure: &str) -> bool {
    QUALITY.contains(&family(measure))
}

/// What a row of a report is about.
pub fn case(edit: Option<EditKind>) -> String {
    match edit {
        None => "unedited".to_owned(),
        Some(EditKind::Interpolate(alpha)) => format!("alpha {alpha}"),
        Some(kind) => kind.label().to_owned(),
    }
}

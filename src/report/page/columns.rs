//! The scores of a page, and their values.

use super::pool::Pool;
use crate::measure::Score;
use crate::report::plot::panel::Mark;
use crate::report::results::{ComparedScore, Row};
use crate::report::verify::{better, column_name, is_of_quality, main_scores};

/// A main score.
pub struct Column {
    pub measure: String,
    /// The score of the unedited model.
    pub score: Score,
    pub name: String,
    pub is_of_quality: bool,
}

impl Column {
    /// All main scores, those of bias first.
    pub fn all(pool: &Pool<'_>) -> Vec<Self> {
        let mut columns: Vec<Self> = Vec::new();
        for measure in pool.unedited().flat_map(|row| &row.measures) {
            let main = main_scores(&measure.measure, &measure.scores, |compared| &compared.score.name);
            for ComparedScore { score, .. } in main.iter().copied() {
                let known =
                    columns.iter().any(|column| column.measure == measure.measure && column.score.name == score.name);
                if !known {
                    columns.push(Self {
                        measure: measure.measure.clone(),
                        score: score.clone(),
                        name: column_name(&measure.measure, &score.name, main.len() == 1),
                        is_of_quality: is_of_quality(&measure.measure),
                    });
                }
            }
        }
        columns.sort_by_key(|column| column.is_of_quality);
        columns
    }

    pub fn of<'r>(&self, row: &'r Row) -> Option<&'r ComparedScore> {
        row.score(&self.measure, &self.score.name)
    }

    pub fn better(&self) -> String {
        better(self.score.better, self.score.neutral)
    }

    /// The mean of some rows, with their range as its interval. The interval of a single row is the 95 % interval of its change, which
    /// tells it from the unedited model.
    pub fn mark<'r>(&self, rows: impl IntoIterator<Item = &'r Row>) -> Option<Mark> {
        let scores: Vec<&ComparedScore> = rows.into_iter().filter_map(|row| self.of(row)).collect();
        let values: Vec<f64> =
            scores.iter().map(|compared| compared.score.value).filter(|value| value.is_finite()).collect();
        let (low, high) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (v.min(l), v.max(h)));
        let y = values.iter().sum::<f64>() / values.len() as f64;
        let interval = match scores[..] {
            [] => None,
            [compared] => change_interval(compared),
            _ => Some((low, high)),
        };
        y.is_finite().then_some(Mark { y, interval })
    }
}

/// The interval of a change, moved to where the score is.
fn change_interval(compared: &ComparedScore) -> Option<(f64, f64)> {
    let change = compared.change.as_ref()?;
    let (unedited, (low, high)) = (compared.score.value - change.difference?, change.interval?);
    Some((unedited + low, unedited + high))
}

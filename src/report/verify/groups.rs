//! The scores of parts of the data, as lines of text.

use super::table::fits;
use super::words::{decimals, number, signed};
use super::{Column, case};
use crate::measure::{Group, Outcome, Score};
use crate::report::table::{Align, lines as columns, printable};
use crate::verify::{Measurement, Report};
use crate::words::count;

/// A table of the parts of the data for each main score that has several.
pub(super) fn groups(report: &Report) -> Vec<String> {
    let mut tables = Vec::new();
    for column in Column::all(report) {
        let table = GroupTable::new(&column, &report.rows);
        if table.names.len() > 1 {
            tables.extend(table.split());
        }
    }
    tables.join(&String::new())
}

/// The score of a column for each part of the data (a row) and each model (a column).
struct GroupTable<'a> {
    column: &'a Column<'a>,
    measurements: &'a [Measurement],
    /// The names of the parts that have the score.
    names: Vec<&'a str>,
    decimals: usize,
}

impl<'a> GroupTable<'a> {
    fn new(column: &'a Column<'a>, measurements: &'a [Measurement]) -> Self {
        let has_score = |group: &&Group| group.scores.iter().any(|score| score.name == column.score.name);
        let names = column.outcome.groups.iter().filter(has_score).map(|group| group.name.as_str()).collect();
        let mut table = Self { column, measurements, names, decimals: 0 };
        let cells = measurements.iter().flat_map(|measurement| table.names.iter().map(move |name| (measurement, name)));
        table.decimals = decimals(cells.filter_map(|(measurement, name)| table.value(measurement, name)));
        table
    }

    fn score<'o>(&self, outcome: &'o Outcome, name: &str) -> Option<&'o Score> {
        let group = outcome.groups.iter().find(|group| group.name == name)?;
        group.scores.iter().find(|score| score.name == self.column.score.name)
    }

    fn value(&self, measurement: &Measurement, name: &str) -> Option<f64> {
        Some(self.score(measurement.outcomes.get(self.column.outcome_index)?, name)?.value)
    }

    /// The score, and in brackets its change if the model is edited.
    fn cell(&self, measurement: &Measurement, name: &str) -> String {
        let Some(value) = self.value(measurement, name) else { return "-".to_owned() };
        let shown = number(value, self.decimals);
        if measurement.edit.is_none() {
            return shown;
        }
        let unedited = self.score(self.column.outcome, name).map_or(f64::NAN, |score| score.value);
        format!("{shown} ({})", signed(value - unedited, self.decimals))
    }

    fn lines(&self, shown: &[&Measurement]) -> Vec<String> {
        let title = printable(&self.column.name());
        let cases: Vec<String> = shown.iter().map(|measurement| case(measurement.edit)).collect();
        let mut header = vec![(title.as_str(), Align::Left), ("n", Align::Right)];
        header.extend(cases.iter().map(|case| (case.as_str(), Align::Right)));
        let mut rows = Vec::new();
        for name in &self.names {
            let n = self.score(self.column.outcome, name).map_or(String::new(), |score| count(score.n));
            let mut row = vec![printable(name), n];
            row.extend(shown.iter().map(|measurement| self.cell(measurement, name)));
            rows.push(row);
        }
        columns(&header, &rows)
    }

    /// The table, divided into several with fewer models each if it is too wide.
    fn split(&self) -> Vec<Vec<String>> {
        let mut tables = Vec::new();
        let mut shown: Vec<&Measurement> = Vec::new();
        for measurement in self.measurements {
            shown.push(measurement);
            if shown.len() > 1 && !fits(&self.lines(&shown)) {
                shown.pop();
                tables.push(self.lines(&shown));
                shown = vec![measurement];
            }
        }
        tables.push(self.lines(&shown));
        tables
    }
}

//! The scores of parts of the data, as lines of text.

use super::table::fits;
use super::words::{decimals, number, signed};
use super::{Column, case};
use crate::measure::{Group, Outcome};
use crate::report::table::{Align, count, lines as columns, printable};
use crate::verify::{Measurement, Report};

/// For each main score a table of the parts of the data, where there are several.
pub(super) fn groups(report: &Report) -> Vec<String> {
    let several = |column: &Column<'_>| {
        let has = |group: &&Group| group.scores.iter().any(|score| score.name == column.score.name);
        column.outcome.groups.iter().filter(has).count() > 1
    };
    let tables = Column::all(report).into_iter().filter(several).flat_map(|column| group_tables(&column, &report.rows));
    tables.collect::<Vec<_>>().join(&String::new())
}

fn group_tables(column: &Column<'_>, rows: &[Measurement]) -> Vec<Vec<String>> {
    let of = |outcome: &Outcome, group: &str| {
        let group = outcome.groups.iter().find(|there| there.name == group)?;
        group.scores.iter().find(|score| score.name == column.score.name).cloned()
    };
    let value = |row: &Measurement, group: &str| Some(of(row.outcomes.get(column.place)?, group)?.value);
    let names: Vec<&str> = column.outcome.groups.iter().map(|group| group.name.as_str()).collect();
    let names: Vec<&str> = names.into_iter().filter(|name| of(column.outcome, name).is_some()).collect();
    let decimals = decimals(rows.iter().flat_map(|row| names.iter().filter_map(|name| value(row, name))));
    let unedited = |name: &str| of(column.outcome, name).map_or(f64::NAN, |score| score.value);
    let cell = |row: &Measurement, name: &str| match (value(row, name), row.edit) {
        (None, _) => "-".to_owned(),
        (Some(value), None) => number(value, decimals),
        (Some(value), Some(_)) => format!("{} ({})", number(value, decimals), signed(value - unedited(name), decimals)),
    };
    let title = printable(&column.name());
    let table = |shown: &[&Measurement]| {
        let cases: Vec<String> = shown.iter().map(|row| case(row.edit)).collect();
        let mut header = vec![(title.as_str(), Align::Left), ("n", Align::Right)];
        header.extend(cases.iter().map(|case| (case.as_str(), Align::Right)));
        let row = |name: &&str| {
            let n = of(column.outcome, name).map_or(String::new(), |score| count(score.n));
            [printable(name), n].into_iter().chain(shown.iter().map(|row| cell(row, name))).collect()
        };
        columns(&header, &names.iter().map(row).collect::<Vec<Vec<String>>>())
    };
    let mut tables = Vec::new();
    let mut shown: Vec<&Measurement> = Vec::new();
    for row in rows {
        shown.push(row);
        if shown.len() > 1 && !fits(&table(&shown)) {
            shown.pop();
            tables.push(table(&shown));
            shown = vec![row];
        }
    }
    tables.push(table(&shown));
    tables
}

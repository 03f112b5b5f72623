//! A report as lines of text.

use super::words::{better, decimals, number, short, signed, time, wrapped};
use super::{Column, Setup, case};
use crate::measure::{Group, Kind, Outcome, Score};
use crate::report::table::{Align, count, lines as columns, printable};
use crate::verify::{Report, Row};
use std::collections::BTreeMap;

/// Tables are split where they would be wider, and sentences are wrapped.
const WIDTH: usize = 120;
/// Stands beside a change that may be chance.
const NOISE: char = '~';

/// Everything there is to say of a report, for a terminal.
pub fn lines(report: &Report, setup: &Setup) -> Vec<String> {
    let parts =
        [heading(report, setup), results(report), changes(report), definitions(report), notes(report), groups(report)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(&String::new())
}

/// Model, runtime, patches, and how much was asked.
pub fn heading(report: &Report, setup: &Setup) -> Vec<String> {
    let Report { model, work, .. } = report;
    let kind = match model.facts.kind {
        Kind::Masked => "masked language model",
        Kind::Causal => "causal language model",
        Kind::Encoder => "encoder",
    };
    let (path, dtypes, layers) = (model.path.display(), model.dtypes.join(" and "), model.facts.layers);
    let mut facts = vec![("model", format!("{path}: {}, {dtypes}, {kind} of {layers} layers", model.model_type))];
    let threads = if setup.threads == 1 { "thread" } else { "threads" };
    facts.push(("runtime", format!("ONNX Runtime {}, {}, {} {threads}", setup.runtime, setup.provider, setup.threads)));
    facts
        .extend(report.patches.iter().map(|patch| ("patch", format!("{} {}", patch.path.display(), patch.id.short()))));
    let [questions, sequences] = [work.questions, work.sequences].map(|n| count(n as u64));
    let tokens = count(work.tokens);
    facts.push(("asked", format!("{questions} questions on {sequences} sequences, {tokens} tokens with padding")));
    facts.into_iter().map(|(label, text)| format!("{label:<8} {}", printable(&text))).collect()
}

/// A row for each model, a column for each main score, with the change from the unedited model.
pub fn results(report: &Report) -> Vec<String> {
    let all = Column::all(report);
    if all.is_empty() {
        return Vec::new();
    }
    let scores: Vec<Vec<String>> = all.iter().map(|column| cells(column, &report.rows)).collect();
    let table = |shown: &[usize], costs: bool| {
        let mut titles = vec![String::new()];
        for (at, &column) in shown.iter().enumerate() {
            let follows = at > 0 && !all[column].first;
            titles.push(printable(&if follows { all[column].score.name.clone() } else { all[column].name() }));
        }
        let row = |(at, row): (usize, &Row)| {
            let costs = costs.then(|| [count(row.edited), time(row.time)]).into_iter().flatten();
            std::iter::once(case(row.edit))
                .chain(shown.iter().map(|&column| scores[column][at].clone()))
                .chain(costs)
                .collect()
        };
        let rows: Vec<Vec<String>> = report.rows.iter().enumerate().map(row).collect();
        let costs = costs.then_some([("edited", Align::Right), ("time", Align::Right)]).into_iter().flatten();
        let header: Vec<(&str, Align)> =
            titles.iter().map(|title| (title.as_str(), Align::Left)).chain(costs).collect();
        columns(&header, &rows)
    };
    let mut tables = Vec::new();
    let whole: Vec<usize> = (0..all.len()).collect();
    if fits(&table(&whole, true)) {
        tables.push(table(&whole, true));
    } else {
        for family in whole.chunk_by(|a, b| all[*a].family() == all[*b].family()) {
            let mut shown: Vec<usize> = Vec::new();
            for &column in family {
                shown.push(column);
                if shown.len() > 1 && !fits(&table(&shown, tables.is_empty())) {
                    shown.pop();
                    tables.push(table(&shown, tables.is_empty()));
                    shown = vec![column];
                }
            }
            tables.push(table(&shown, tables.is_empty()));
        }
    }
    let mut out = tables.join(&String::new());
    let noise =
        |row: &Row| all.iter().any(|column| column.change(row).is_some_and(|change| change.inside_noise == Some(true)));
    if report.rows.iter().any(noise) {
        out.push(format!(
            "{NOISE} may be chance: the change's 95 % interval includes 0, or it is smaller than the standard error"
        ));
    }
    out
}

fn fits(lines: &[String]) -> bool {
    lines.iter().all(|line| line.chars().count() <= WIDTH)
}

/// A column's scores, numbers below numbers and changes below changes.
fn cells(column: &Column<'_>, rows: &[Row]) -> Vec<String> {
    let values: Vec<Option<f64>> = rows.iter().map(|row| column.of(row).map(|score| score.value)).collect();
    let decimals = decimals(values.iter().copied().flatten());
    let parts: Vec<(String, String)> = rows
        .iter()
        .zip(&values)
        .map(|(row, value)| {
            let change = column.change(row).map_or(String::new(), |change| {
                let mark = if change.inside_noise == Some(true) { NOISE } else { ' ' };
                format!(" ({}){mark}", signed(change.difference, decimals))
            });
            (value.map_or("-".to_owned(), |value| number(value, decimals)), change)
        })
        .collect();
    let width = parts.iter().map(|(value, _)| value.len()).max().unwrap_or(0);
    parts.into_iter().map(|(value, change)| format!("{value:>width$}{change}").trim_end().to_owned()).collect()
}

/// What is known of each change besides its size.
pub fn changes(report: &Report) -> Vec<String> {
    let mut rows = Vec::new();
    let mut tests = 0u64;
    for column in Column::all(report) {
        let decimals = decimals(report.rows.iter().filter_map(|row| Some(column.of(row)?.value)));
        let mut name = printable(&column.name());
        for row in &report.rows {
            let Some(change) = column.change(row) else { continue };
            if change.flips.is_none() && change.interval.is_none() {
                continue;
            }
            tests += u64::from(change.flips.is_some());
            let interval =
                change.interval.map(|(low, high)| format!("{} to {}", signed(low, decimals), signed(high, decimals)));
            let flips = change.flips.map(|flips| format!("{} yes, {} no", count(flips.to_yes), count(flips.to_no)));
            rows.push(vec![
                std::mem::take(&mut name),
                case(row.edit),
                signed(change.difference, decimals),
                interval.unwrap_or_default(),
                flips.unwrap_or_default(),
                change.flips.map_or(String::new(), |flips| p(flips.p)),
            ]);
        }
    }
    if rows.is_empty() {
        return Vec::new();
    }
    let titles = ["change of", "at", "", "95 % interval", "turned to", "p"];
    let header = titles.map(|title| (title, if title.is_empty() { Align::Right } else { Align::Left }));
    let mut out = columns(&header, &rows);
    if tests > 0 {
        out.push("p: exact two-sided McNemar test of the decisions that turned".to_owned());
    }
    if tests > 1 {
        let bound = short(0.05 / tests as f64);
        out.push(format!("{tests} such tests: by Bonferroni, a p below {bound} counts as one below 0.05 would alone"));
    }
    out
}

fn p(p: f64) -> String {
    if p >= 1e-4 { format!("{p:.4}") } else { format!("{p:.1e}") }
}

/// For each measure: what its numbers mean, what they are for the unedited model, and how they were measured.
pub fn definitions(report: &Report) -> Vec<String> {
    let all = Column::all(report);
    let mut out = Vec::new();
    for (place, outcome) in report.rows.first().map_or(&[][..], |row| &row.outcomes).iter().enumerate() {
        let main: Vec<&Column<'_>> = all.iter().filter(|column| column.place == place).collect();
        for column in &main {
            let start =
                if column.first { printable(&column.name()) } else { format!("  {}", printable(&column.score.name)) };
            out.extend(wrapped(&format!("{start}: "), &definition(column.score), WIDTH));
        }
        let others = outcome.scores.iter().filter(|score| main.iter().all(|column| column.score.name != score.name));
        let others =
            others.map(|score| printable(&format!("{} {}, {}", score.name, short(score.value), spread(score))));
        let others: Vec<String> = others.collect();
        let counts = listed(&outcome.counts, |count| count.to_string());
        let settings = listed(&outcome.settings, String::clone);
        let data = listed(&outcome.data, |digest| digest.short());
        for (start, parts) in [("others", others), ("counts", counts), ("settings", settings), ("data", data)] {
            if !parts.is_empty() {
                out.extend(wrapped(&format!("    {start}: "), &parts, WIDTH));
            }
        }
    }
    out
}

fn definition(score: &Score) -> Vec<String> {
    let neutral = score.neutral.map(|neutral| format!("neutral {neutral}"));
    let p = score.p.map(|value| format!("p {}", p(value)));
    let unedited = format!("unedited {}, {}", short(score.value), spread(score));
    let parts = [Some(score.meaning.to_owned()), neutral, Some(better(score)), Some(unedited), p];
    parts.into_iter().flatten().collect()
}

fn spread(score: &Score) -> String {
    let mut out = format!("n {}", count(score.n));
    if let Some(error) = score.error {
        out += &format!(", standard error {}", short(error));
    }
    if let Some((low, high)) = score.interval {
        out += &format!(", 95 % interval {} to {}", short(low), short(high));
    }
    out
}

fn listed<T>(map: &BTreeMap<String, T>, value: impl Fn(&T) -> String) -> Vec<String> {
    map.iter().map(|(name, entry)| printable(&format!("{name}: {}", value(entry)))).collect()
}

/// What must not be overlooked.
pub fn notes(report: &Report) -> Vec<String> {
    let mut out = Vec::new();
    for row in report.rows.iter().filter(|row| row.edit.is_some() && row.edited == 0) {
        out.push(format!("{}: no weight of this model is edited", case(row.edit)));
    }
    for column in Column::all(report) {
        let name = printable(&column.name());
        let scores = || report.rows.iter().filter_map(|row| Some((row, column.of(row)?)));
        let lost: Vec<String> =
            scores().filter(|(_, score)| !score.value.is_finite()).map(|(row, _)| case(row.edit)).collect();
        if !lost.is_empty() {
            out.push(format!("{name} at {}: not a finite number", lost.join(", ")));
        }
        let decimals = decimals(scores().map(|(_, score)| score.value));
        let (mut inside_error, mut other) = (Vec::new(), Vec::new());
        for row in &report.rows {
            let Some(change) = column.change(row).filter(|change| change.inside_noise == Some(true)) else { continue };
            let inside = column.score.error.is_some_and(|error| change.difference.abs() < error);
            let list = if inside { &mut inside_error } else { &mut other };
            list.push((case(row.edit), signed(change.difference, decimals)));
        }
        let error = format!("inside one standard error ({})", short(column.score.error.unwrap_or(0.0)));
        out.extend(nothing(&name, &inside_error, &error));
        out.extend(nothing(&name, &other, "the 95 % interval includes no change"));
    }
    let note = |note: String| wrapped("note: ", &[note], WIDTH);
    out.into_iter().flat_map(note).collect()
}

fn nothing(name: &str, cases: &[(String, String)], why: &str) -> Option<String> {
    match cases {
        [] => None,
        [(case, change)] => Some(format!("{name} at {case}: {change}, {why}: this says nothing")),
        cases => {
            let cases: Vec<String> = cases.iter().map(|(case, change)| format!("{case} ({change})")).collect();
            Some(format!("{name} at {}: {why}: these say nothing", cases.join(", ")))
        }
    }
}

/// For each main score a table of the parts of the data, where there are several.
pub fn groups(report: &Report) -> Vec<String> {
    let several = |column: &Column<'_>| {
        let has = |group: &&Group| group.scores.iter().any(|score| score.name == column.score.name);
        column.outcome.groups.iter().filter(has).count() > 1
    };
    let tables = Column::all(report).into_iter().filter(several).flat_map(|column| group_tables(&column, &report.rows));
    tables.collect::<Vec<_>>().join(&String::new())
}

fn group_tables(column: &Column<'_>, rows: &[Row]) -> Vec<Vec<String>> {
    let of = |outcome: &Outcome, group: &str| {
        let group = outcome.groups.iter().find(|there| there.name == group)?;
        group.scores.iter().find(|score| score.name == column.score.name).cloned()
    };
    let value = |row: &Row, group: &str| Some(of(row.outcomes.get(column.place)?, group)?.value);
    let names: Vec<&str> = column.outcome.groups.iter().map(|group| group.name.as_str()).collect();
    let names: Vec<&str> = names.into_iter().filter(|name| of(column.outcome, name).is_some()).collect();
    let decimals = decimals(rows.iter().flat_map(|row| names.iter().filter_map(|name| value(row, name))));
    let unedited = |name: &str| of(column.outcome, name).map_or(f64::NAN, |score| score.value);
    let cell = |row: &Row, name: &str| match (value(row, name), row.edit) {
        (None, _) => "-".to_owned(),
        (Some(value), None) => number(value, decimals),
        (Some(value), Some(_)) => format!("{} ({})", number(value, decimals), signed(value - unedited(name), decimals)),
    };
    let title = printable(&column.name());
    let table = |shown: &[&Row]| {
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
    let mut shown: Vec<&Row> = Vec::new();
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

//! A report as lines of text.

use super::groups::groups;
use super::words::{better, decimals, number, short, signed, time, wrapped};
use super::{Column, Setup, case};
use crate::measure::statistics::{Alternative, Name, Test};
use crate::measure::{Better, ModelKind, Score};
use crate::report::results::Runtime;
use crate::report::table::{Align, lines as columns, printable};
use crate::verify::{Measurement, Report};
use crate::words::{count, counted};
use std::collections::BTreeMap;

/// Tables are split where they would be wider, and sentences are wrapped.
const WIDTH: usize = 120;
/// Marks a change that may be chance.
const NOISE: char = '~';

/// The whole report, for a terminal.
pub fn lines(report: &Report, setup: &Setup) -> Vec<String> {
    let parts = [
        heading(report, setup),
        results(report),
        confidence(report),
        definitions(report),
        notes(report),
        groups(report),
        continuations(report),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(&String::new())
}

/// The main scores of a model in a line.
pub fn brief(row: &Measurement) -> String {
    let columns = Column::of_measurement(row);
    let score = |column: &Column<'_>| format!("{} {}", column.name(), short(column.score.value));
    let scores: Vec<String> = columns.iter().map(score).collect();
    format!("{}: {} ({})", case(row.edit), scores.join(", "), time(row.time))
}

/// The model, the runtime, the patches and the size of the work list.
fn heading(report: &Report, setup: &Setup) -> Vec<String> {
    let Report { model, work, .. } = report;
    let kind = match model.facts.kind {
        ModelKind::Masked => "masked language model",
        ModelKind::Causal => "causal language model",
        ModelKind::Encoder => "encoder",
    };
    let (path, dtypes, layers) =
        (model.path.display(), model.dtypes.join(" and "), counted(model.facts.layers, "layer"));
    let mut facts = vec![("model", format!("{path}: {}, {dtypes}, {kind} of {layers}", model.model_type))];
    facts.extend(model.onnx.iter().map(|onnx| ("export", onnx.display().to_string())));
    let Runtime { version, provider, threads } = &setup.runtime;
    let threads = counted(*threads, "thread");
    facts.push(("runtime", format!("ONNX Runtime {version}, {provider}, {threads}")));
    for patch in &report.patches {
        let recommended = patch.recommended_alpha.map_or(String::new(), |alpha| format!(", recommends alpha {alpha}"));
        facts.push(("patch", format!("{} {}{recommended}", patch.path.display(), patch.id.short())));
    }
    let (questions, sequences) = (counted(work.questions, "question"), counted(work.sequences, "sequence"));
    let tokens = counted(work.tokens, "token");
    facts.push(("asked", format!("{questions} on {sequences}, {tokens} with padding")));
    facts.into_iter().map(|(label, text)| format!("{label:<8} {}", printable(&text))).collect()
}

/// A row for each model, a column for each main score, with the change from the unedited model.
fn results(report: &Report) -> Vec<String> {
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
        let row = |(at, row): (usize, &Measurement)| {
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
    let noise = |row: &Measurement| {
        all.iter().any(|column| column.change(row).is_some_and(|change| change.inside_noise == Some(true)))
    };
    if report.rows.iter().any(noise) {
        out.push(format!(
            "{NOISE} may be chance: the change's 95 % interval includes 0, or it is smaller than the standard error"
        ));
    }
    out
}

/// Whether a table is narrow enough.
pub(super) fn fits(lines: &[String]) -> bool {
    lines.iter().all(|line| line.chars().count() <= WIDTH)
}

/// The cells of a column: scores and changes, each aligned.
fn cells(column: &Column<'_>, rows: &[Measurement]) -> Vec<String> {
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

/// The standard errors, intervals and tests of main scores and their changes.
fn confidence(report: &Report) -> Vec<String> {
    let mut rows = Vec::new();
    let (mut tests, mut scores_tested) = (Vec::new(), false);
    for column in Column::all(report) {
        let decimals = decimals(report.rows.iter().filter_map(|row| Some(column.of(row)?.value)));
        let mut name = printable(&column.name());
        for row in &report.rows {
            let Some(score) = column.of(row) else { continue };
            let change = column.change(row);
            let flips = change.and_then(|change| change.flips);
            let test = change.and_then(|change| change.test);
            let shift = change.and_then(|change| change.interval);
            if score.interval.is_none()
                && score.error.is_none()
                && score.p.is_none()
                && test.is_none()
                && shift.is_none()
            {
                continue;
            }
            scores_tested |= score.p.is_some();
            tests.extend(test);
            let plain = |value: f64| number(value, decimals);
            let sign = |value: f64| signed(value, decimals);
            rows.push(vec![
                std::mem::take(&mut name),
                case(row.edit),
                plain(score.value),
                score.error.map_or(String::new(), plain),
                range(score.interval, plain),
                score.p.map_or(String::new(), p),
                change.map_or(String::new(), |change| sign(change.difference)),
                range(shift, sign),
                flips.map_or(String::new(), |flips| format!("{} yes, {} no", count(flips.to_yes), count(flips.to_no))),
                test.map_or(String::new(), |test| format!("{}{}", p(test.p), side(test.alternative))),
            ]);
        }
    }
    if rows.is_empty() {
        return Vec::new();
    }
    let (left, right) = (Align::Left, Align::Right);
    let titles = ["score", "of", "", "error", "95 % interval", "p", "change", "95 % interval", "turned to", "p"];
    let sides = [left, left, right, right, right, right, right, right, right, right];
    let header: Vec<(&str, Align)> = titles.into_iter().zip(sides).collect();
    // Empty columns are left out.
    let used: Vec<usize> = (0..titles.len()).filter(|at| rows.iter().any(|row| !row[*at].is_empty())).collect();
    let header: Vec<(&str, Align)> = used.iter().map(|at| header[*at]).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| used.iter().map(|at| row[*at].clone()).collect()).collect();
    let mut out = columns(&header, &rows);
    if scores_tested {
        out.push("p of a score: the test that belongs to the measure, such as the permutation test of WEAT".to_owned());
    }
    out.extend(about_tests(&tests));
    out
}

/// What the tests of changes are, and what they can say.
fn about_tests(tests: &[Test]) -> Vec<String> {
    let mut out = Vec::new();
    for (name, words) in [
        (Name::Mcnemar, "of decisions: exact McNemar test of those that turned"),
        (Name::SignedRank, "of numbers: Wilcoxon's signed-rank test of the items"),
        (Name::SignFlip, "of WEAT: permutation test of the target words, before against after"),
    ] {
        if tests.iter().any(|test| test.name == name) {
            out.push(format!("p of a change {words}"));
        }
    }
    if !tests.is_empty() {
        out.push("changes are tested both ways; < and > mark directions that were stated beforehand".to_owned());
    }
    let bound = 0.05 / tests.len().max(1) as f64;
    if tests.len() > 1 {
        out.push(format!(
            "{} changes are tested: by Bonferroni, a p below {} counts as much as one below 0.05 alone",
            tests.len(),
            short(bound)
        ));
    }
    let powerless = tests.iter().filter(|test| test.least_p() > bound).count();
    if powerless > 0 {
        // The least p of n items is 2 / 2^n.
        let needed = (2.0 / bound).log2().ceil();
        out.push(format!("{powerless} of the tests cannot say so much: that takes {needed} items that differ"));
    }
    out
}

/// Marks a one-sided p.
fn side(alternative: Alternative) -> &'static str {
    match alternative {
        Alternative::TwoSided => "",
        Alternative::Greater => " >",
        Alternative::Less => " <",
    }
}

fn range(interval: Option<(f64, f64)>, shown: impl Fn(f64) -> String) -> String {
    interval.map_or(String::new(), |(low, high)| format!("{} to {}", shown(low), shown(high)))
}

fn p(p: f64) -> String {
    if p >= 1e-4 { format!("{p:.4}") } else { format!("{p:.1e}") }
}

/// What each model writes after each prompt.
fn continuations(report: &Report) -> Vec<String> {
    let mut out = Vec::new();
    for (at, prompt) in report.prompts.iter().enumerate() {
        out.extend(wrapped("prompt: ", &[printable(prompt)], WIDTH));
        for row in &report.rows {
            let Some(text) = row.continuations.get(at) else { continue };
            out.extend(wrapped(&format!("  {}: ", case(row.edit)), &[printable(text.trim())], WIDTH));
        }
    }
    out
}

/// For each measure: the definitions of its scores, their values for the unedited model, and its settings.
fn definitions(report: &Report) -> Vec<String> {
    let all = Column::all(report);
    let mut out = Vec::new();
    for (place, outcome) in report.rows.first().map_or(&[][..], |row| &row.outcomes).iter().enumerate() {
        let main: Vec<&Column<'_>> = all.iter().filter(|column| column.outcome_index == place).collect();
        for column in &main {
            let start =
                if column.first { printable(&column.name()) } else { format!("  {}", printable(&column.score.name)) };
            out.extend(wrapped(&format!("{start}: "), &definition(column.score), WIDTH));
        }
        let others = outcome.scores.iter().filter(|score| main.iter().all(|column| column.score.name != score.name));
        let others =
            others.map(|score| printable(&format!("{} {}, {}", score.name, short(score.value), spread(score))));
        let others: Vec<String> = others.collect();
        let counts = outcome.counts.iter().map(|(name, n)| printable(&format!("{} {name}", count(*n)))).collect();
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
    // "Nearer to X is better" already names the neutral value.
    let neutral = score.neutral.filter(|_| score.better != Better::Neutral).map(|neutral| format!("neutral {neutral}"));
    let p = score.p.map(|value| format!("p {}", p(value)));
    let unedited = format!("unedited {}, {}", short(score.value), spread(score));
    let parts =
        [Some(score.meaning.to_string()), neutral, Some(better(score.better, score.neutral)), Some(unedited), p];
    parts.into_iter().flatten().collect()
}

fn spread(score: &Score) -> String {
    let mut out = format!("n {}", count(score.n));
    if let Some(error) = score.error {
        out += &format!(", standard error {}", short(error));
    }
    if let Some((low, high)) = score.interval.filter(|(low, high)| low < high) {
        out += &format!(", 95 % interval {} to {}", short(low), short(high));
    }
    out
}

fn listed<T>(map: &BTreeMap<String, T>, value: impl Fn(&T) -> String) -> Vec<String> {
    map.iter().map(|(name, entry)| printable(&format!("{name}: {}", value(entry)))).collect()
}

/// Warnings about scores that are not finite, and changes that say nothing.
fn notes(report: &Report) -> Vec<String> {
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

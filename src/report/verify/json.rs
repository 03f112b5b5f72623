//! A report as JSON. Keys are always there; what is not known, and what is not a finite number, is null.

use super::{Column, Setup, case};
use crate::measure::compare::Change;
use crate::measure::statistics::{Flips, Wilcoxon};
use crate::measure::{Better, Group, Items, Kind, Outcome, Score};
use crate::verify::{ModelSummary, Report, Row, WorkSummary};
use serde_json::{Map, Value, json};

/// How much goes into the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Scores.
    Scores,
    /// And what each item of the data contributes to them.
    Items,
}

pub(in crate::report) const TOOL: &str = concat!("lcepatch ", env!("CARGO_PKG_VERSION"));

/// Everything in a report.
pub fn json(report: &Report, setup: &Setup, detail: Detail) -> Value {
    let Report { model, work, patches, rows } = report;
    let patch = |patch: &crate::verify::PatchSummary| {
        json!({
            "path": patch.path.display().to_string(), "id": patch.id.to_string(), "recommended_alpha": patch.recommended_alpha,
        })
    };
    json!({
        "tool": TOOL,
        "model": model_json(model, setup),
        "runtime": runtime_json(setup),
        "work": work_json(work),
        "patches": patches.iter().map(patch).collect::<Vec<_>>(),
        "rows": rows.iter().map(|row| of_row(row, detail)).collect::<Vec<_>>(),
    })
}

pub(in crate::report) fn model_json(model: &ModelSummary, setup: &Setup) -> Value {
    let kind = match model.facts.kind {
        Kind::Masked => "masked",
        Kind::Causal => "causal",
        Kind::Encoder => "encoder",
    };
    json!({
        "path": model.path.display().to_string(),
        "onnx": model.onnx.as_ref().map(|onnx| onnx.display().to_string()),
        "model_type": model.model_type,
        "kind": kind,
        "dtypes": model.dtypes,
        "layers": model.facts.layers,
        "positions": model.facts.positions,
        "vocabulary": model.facts.vocabulary,
        "weights": weights(setup),
    })
}

pub(in crate::report) fn runtime_json(setup: &Setup) -> Value {
    json!({ "version": setup.runtime, "provider": setup.provider, "threads": setup.threads })
}

pub(in crate::report) fn work_json(work: &WorkSummary) -> Value {
    json!({ "sequences": work.sequences, "questions": work.questions, "tokens": work.tokens })
}

/// A row without what items contribute.
pub(in crate::report) fn row_json(row: &Row) -> Value {
    of_row(row, Detail::Scores)
}

fn weights(setup: &Setup) -> Map<String, Value> {
    setup.weights.iter().map(|(name, digest)| (name.clone(), digest.to_string().into())).collect()
}

fn of_row(row: &Row, detail: Detail) -> Value {
    let measures = row.outcomes.iter().enumerate().map(|(place, outcome)| {
        let changes = row.changes.get(place).map_or(&[][..], Vec::as_slice);
        of_outcome(outcome, changes, detail)
    });
    json!({
        "case": case(row.edit),
        "edit": row.edit.map(|edit| edit.label()),
        "alpha": row.edit.and_then(|edit| edit.alpha()).map(|alpha| alpha.value()),
        "edited": row.edited,
        "seconds": row.time.as_secs_f64(),
        "measures": measures.collect::<Vec<_>>(),
    })
}

fn of_outcome(outcome: &Outcome, changes: &[Change], detail: Detail) -> Value {
    let score = |score: &Score| {
        let change = changes.iter().find(|change| change.score == score.name);
        let mut out = of_score(score);
        out.insert("change".to_owned(), change.map_or(Value::Null, of_change));
        Value::Object(out)
    };
    let group =
        |group: &Group| json!({ "name": group.name, "scores": group.scores.iter().map(of_score).collect::<Vec<_>>() });
    let data: Map<String, Value> =
        outcome.data.iter().map(|(name, digest)| (name.clone(), digest.to_string().into())).collect();
    let mut out = json!({
        "measure": outcome.measure,
        "scores": outcome.scores.iter().map(score).collect::<Vec<_>>(),
        "groups": outcome.groups.iter().map(group).collect::<Vec<_>>(),
        "counts": outcome.counts,
        "settings": outcome.settings,
        "data": data,
    });
    if let (Detail::Items, Some(object)) = (detail, out.as_object_mut()) {
        object.insert("items".to_owned(), of_items(outcome));
    }
    out
}

/// What each item contributes; the lists have one entry for each item.
fn of_items(outcome: &Outcome) -> Value {
    let details = outcome.details.iter();
    let names: Vec<&str> = details.clone().map(|item| item.id.as_str()).collect();
    let scores: Vec<&[f64]> = details.map(|item| item.scores.as_slice()).collect();
    let (kind, values, weights) = match &outcome.items {
        Items::Decisions(decisions) => ("decisions", json!(decisions), Value::Null),
        Items::Values { values, weights } => ("values", json!(values), json!(weights)),
        Items::Logarithms { values, weights } => ("logarithms", json!(values), json!(weights)),
        Items::None => return Value::Null,
    };
    let told = |list: Value| if outcome.details.is_empty() { Value::Null } else { list };
    json!({ "kind": kind, "values": values, "weights": weights, "ids": told(json!(names)), "scores": told(json!(scores)) })
}

fn of_score(score: &Score) -> Map<String, Value> {
    let better = match score.better {
        Better::Lower => "lower",
        Better::Higher => "higher",
        Better::Neutral => "neutral",
    };
    let mut out = brief(score);
    for (key, value) in [
        ("name", json!(score.name)),
        ("meaning", json!(score.meaning)),
        ("neutral", json!(score.neutral)),
        ("better", json!(better)),
    ] {
        out.insert(key.to_owned(), value);
    }
    out
}

fn brief(score: &Score) -> Map<String, Value> {
    let keys = [
        ("value", json!(score.value)),
        ("n", json!(score.n)),
        ("error", json!(score.error)),
        ("interval", interval(score.interval)),
        ("p", json!(score.p)),
    ];
    keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn of_change(change: &Change) -> Value {
    let flips = |Flips { to_yes, to_no, p }| json!({ "to_yes": to_yes, "to_no": to_no, "p": p });
    let signed_rank =
        |Wilcoxon { statistic, n, p, exact }| json!({ "statistic": statistic, "n": n, "p": p, "exact": exact });
    json!({
        "difference": change.difference,
        "interval": interval(change.interval),
        "flips": change.flips.map(flips),
        "signed_rank": change.signed_rank.map(signed_rank),
        "inside_noise": change.inside_noise,
    })
}

fn interval(interval: Option<(f64, f64)>) -> Value {
    json!(interval.map(|(low, high)| [low, high]))
}

/// The main scores of a report, small enough for the metadata of a patch (`results`): no paths, no
/// items, no ids of patches (recording gives a patch another one), and nothing that is not known.
///
/// ```json
/// {
///   "tool": "lcepatch 0.1.0",
///   "model": { "model_type": "bert", "dtypes": ["F32"], "weights": { "model.safetensors": "9f0c..." } },
///   "runtime": { "version": "1.23.0", "provider": "CPU" },
///   "data": { "crows_pairs_anonymized.csv": "3b1d..." },
///   "rows": [ { "case": "alpha 0.5", "scores": { "crows.diff.%stereo": { "value": 57.25, "n": 262, "error": 3.06 } } } ]
/// }
/// ```
pub fn summary(report: &Report, setup: &Setup) -> Map<String, Value> {
    let columns = Column::all(report);
    let row = |row: &Row| {
        let score = |column: &Column<'_>| {
            let mut score = brief(column.of(row)?);
            score.retain(|_, value| !value.is_null());
            Some((format!("{}.{}", column.outcome.measure, column.score.name), Value::Object(score)))
        };
        let scores: Map<String, Value> = columns.iter().filter_map(score).collect();
        json!({ "case": case(row.edit), "scores": scores })
    };
    let data: Map<String, Value> = columns
        .iter()
        .flat_map(|column| &column.outcome.data)
        .map(|(name, digest)| (name.clone(), digest.to_string().into()))
        .collect();
    let model = &report.model;
    let keys = [
        ("tool", json!(TOOL)),
        ("model", json!({ "model_type": model.model_type, "dtypes": model.dtypes, "weights": weights(setup) })),
        ("runtime", json!({ "version": setup.runtime, "provider": setup.provider })),
        ("data", Value::Object(data)),
        ("rows", report.rows.iter().map(row).collect()),
    ];
    keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

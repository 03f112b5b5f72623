//! A report as JSON: the measured values, put into the types of [`crate::report::results`].

use super::{Column, Setup, case};
use crate::digest::Digest;
use crate::measure::{self, Outcome, compare};
use crate::report::results::{
    AppliedPatch, Change, ComparedScore, ItemValues, Items, LmEval, Measure, Model, Report, Row, Setting,
};
use crate::verify::{self, ModelSummary, PatchSummary, WorkSummary};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// How much goes into the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Scores.
    Scores,
    /// Scores, and the contribution of each item of the data.
    Items,
}

pub(in crate::report) const TOOL: &str = concat!("lcepatch ", env!("CARGO_PKG_VERSION"));

/// The whole report. All keys are always there; unknown values, and numbers that are not finite, are null.
pub fn json(report: &verify::Report, setup: &Setup, detail: Detail) -> Value {
    json!(Report {
        setting: setting(&report.model, &report.work, setup),
        patches: report.patches.iter().map(applied_patch).collect(),
        prompts: report.prompts.clone(),
        rows: report.rows.iter().map(|row| row_of(row, detail)).collect(),
    })
}

/// What all rows have in common.
pub(in crate::report) fn setting(model: &ModelSummary, work: &WorkSummary, setup: &Setup) -> Setting {
    Setting { tool: TOOL.to_owned(), model: model_of(model, setup), runtime: setup.runtime.clone(), work: *work }
}

pub(in crate::report) fn model_of(model: &ModelSummary, setup: &Setup) -> Model {
    Model {
        path: model.path.display().to_string(),
        onnx: model.onnx.as_ref().map(|onnx| onnx.display().to_string()),
        model_type: model.model_type.clone(),
        kind: Some(model.facts.kind),
        dtypes: model.dtypes.clone(),
        layers: model.facts.layers,
        positions: model.facts.positions,
        vocabulary: model.facts.vocabulary,
        weights: hexadecimal(&setup.weights),
    }
}

fn applied_patch(patch: &PatchSummary) -> AppliedPatch {
    AppliedPatch {
        path: patch.path.display().to_string(),
        id: patch.id.to_string(),
        recommended_alpha: patch.recommended_alpha,
    }
}

pub(in crate::report) fn hexadecimal(digests: &BTreeMap<String, Digest>) -> BTreeMap<String, String> {
    digests.iter().map(|(name, digest)| (name.clone(), digest.to_string())).collect()
}

pub(in crate::report) fn row_of(row: &verify::Measurement, detail: Detail) -> Row {
    let measures = row.outcomes.iter().enumerate().map(|(at, outcome)| {
        let changes = row.changes.get(at).map_or(&[][..], Vec::as_slice);
        measure_of(outcome, changes, detail)
    });
    let measures: Vec<Measure> = measures.collect();
    Row {
        localization: None,
        patch: None,
        case: case(row.edit),
        edit: row.edit.map(|edit| edit.label().to_owned()),
        alpha: row.edit.and_then(|edit| edit.alpha()).map(|alpha| alpha.value()),
        edited: row.edited,
        seconds: row.time.as_secs_f64(),
        lm_eval: LmEval::of(&measures),
        measures,
        continuations: row.continuations.clone(),
    }
}

fn measure_of(outcome: &Outcome, changes: &[compare::Change], detail: Detail) -> Measure {
    let compared = |score: &measure::Score| {
        let change = changes.iter().find(|change| change.score == score.name);
        ComparedScore { score: score.clone(), change: change.map(change_of) }
    };
    Measure {
        measure: outcome.measure.clone(),
        scores: outcome.scores.iter().map(compared).collect(),
        groups: outcome.groups.clone(),
        counts: outcome.counts.clone(),
        settings: outcome.settings.clone(),
        data: hexadecimal(&outcome.data),
        items: (detail == Detail::Items).then(|| items_of(outcome)),
    }
}

fn change_of(change: &compare::Change) -> Change {
    Change {
        difference: Some(change.difference).filter(|difference| difference.is_finite()),
        interval: change.interval,
        flips: change.flips,
        test: change.test,
        inside_noise: change.inside_noise,
    }
}

fn items_of(outcome: &Outcome) -> Option<Items> {
    let (kind, values, weights) = match &outcome.items {
        measure::Items::Decisions(decisions) => ("decisions", ItemValues::Decisions(decisions.clone()), None),
        measure::Items::Values { values, weights } => ("values", ItemValues::Numbers(values.clone()), Some(weights)),
        measure::Items::Logarithms { values, weights } => {
            ("logarithms", ItemValues::Numbers(values.clone()), Some(weights))
        }
        measure::Items::Divergences(values) => ("divergences", ItemValues::Numbers(values.clone()), None),
        measure::Items::Associations { layers, .. } => ("associations", ItemValues::Layers(layers.clone()), None),
        measure::Items::None => return None,
    };
    let details = Some(&outcome.details).filter(|details| !details.is_empty());
    Some(Items {
        kind,
        values,
        weights: weights.cloned(),
        ids: details.map(|details| details.iter().map(|item| item.id.clone()).collect()),
        scores: details.map(|details| details.iter().map(|item| item.scores.clone()).collect()),
    })
}

/// The main scores of a report, small enough for the metadata of a patch (`results`). It has no paths and no items, and no ids of patches,
/// since recording changes the id; values that are not known are left out.
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
pub fn summary(report: &verify::Report, setup: &Setup) -> Map<String, Value> {
    let columns = Column::all(report);
    let data: BTreeMap<String, String> = columns.iter().flat_map(|column| hexadecimal(&column.outcome.data)).collect();
    let rows: Value = report.rows.iter().map(|row| row_summary(row, &columns)).collect();
    let Setting { tool, model, runtime, .. } = setting(&report.model, &report.work, setup);
    let entries = [
        ("tool", json!(tool)),
        ("model", json!({ "model_type": model.model_type, "dtypes": model.dtypes, "weights": model.weights })),
        ("runtime", json!({ "version": runtime.version, "provider": runtime.provider })),
        ("data", json!(data)),
        ("rows", rows),
    ];
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn row_summary(row: &verify::Measurement, columns: &[Column<'_>]) -> Value {
    let mut scores = Map::new();
    for column in columns {
        let Some(score) = column.of(row) else { continue };
        let mut numbers = json!({
            "value": score.value, "n": score.n, "error": score.error, "interval": score.interval, "p": score.p,
        });
        numbers.as_object_mut().into_iter().for_each(|numbers| numbers.retain(|_, value| !value.is_null()));
        scores.insert(format!("{}.{}", column.outcome.measure, column.score.name), numbers);
    }
    json!({ "case": case(row.edit), "scores": scores })
}

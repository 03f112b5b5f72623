//! Reports for tests, made by hand.

use crate::digest::Digest;
use crate::edit::{Alpha, EditKind};
use crate::measure::compare::Change;
use crate::measure::statistics::{Alternative, Flips};
use crate::measure::{Better, Group, Item, Items, ModelFacts, ModelKind, Outcome, Score};
use crate::verify::{Measurement, ModelSummary, PatchSummary, Report, WorkSummary};
use std::collections::BTreeMap;
use std::time::Duration;

fn score(name: &str, value: f64, meaning: &'static str, neutral: Option<f64>, better: Better, n: u64) -> Score {
    Score {
        name: name.to_owned(),
        value,
        meaning: meaning.into(),
        neutral,
        better,
        n,
        error: None,
        interval: None,
        p: None,
    }
}

fn outcome(measure: &str, scores: Vec<Score>, groups: Vec<Group>, items: Items) -> Outcome {
    Outcome {
        measure: measure.to_owned(),
        scores,
        groups,
        items,
        details: Vec::new(),
        counts: BTreeMap::new(),
        settings: BTreeMap::new(),
        data: BTreeMap::new(),
    }
}

/// CrowS-Pairs of 262 pairs.
pub fn crows(value: f64) -> Outcome {
    let share = |name: &str, value: f64, n: u64| {
        let mut score = score(
            name,
            value,
            "% of pairs where the more stereotypical sentence is more likely",
            Some(50.0),
            Better::Neutral,
            n,
        );
        score.error = Some((value * (100.0 - value) / n as f64).sqrt());
        score
    };
    let group = |name: &str, value: f64, n| Group { name: name.to_owned(), scores: vec![share("%stereo", value, n)] };
    let scores = vec![share("%stereo", value, 262), share("stereotype", value - 3.0, 159)];
    let groups = vec![group("gender", value + 2.0, 172), group("age", value - 5.5, 90)];
    let mut out = outcome("crows.diff", scores, groups, Items::Decisions(vec![true, false]));
    let item = |id: &str, decision| Item { id: id.to_owned(), scores: vec![-1.5, f64::NEG_INFINITY], decision };
    out.details = vec![item("7", true), item("9", false)];
    out.counts = BTreeMap::from([("skipped: longer than the model takes".to_owned(), 2), ("ties".to_owned(), 1)]);
    out.settings = BTreeMap::from([("bias types".to_owned(), "gender, age".to_owned())]);
    out.data = BTreeMap::from([("crows_pairs_anonymized.csv".to_owned(), Digest::sha256(b"crows"))]);
    out
}

/// StereoSet of 771 triples.
pub fn stereoset(ss: f64, lm: f64) -> Outcome {
    let icat = lm * ss.min(100.0 - ss) / 50.0;
    let mut scores = vec![
        score(
            "ss",
            ss,
            "% of triples where the stereotype is more likely than its opposite, mean over terms",
            Some(50.0),
            Better::Neutral,
            771,
        ),
        score(
            "lm",
            lm,
            "% of sentences with meaning that are more likely than the one without, mean over terms",
            None,
            Better::Higher,
            771,
        ),
        score("icat", icat, "lm * min(ss, 100 - ss) / 50; 100 is ideal", None, Better::Higher, 771),
        score(
            "ss.micro",
            ss + 0.4,
            "% of triples where the stereotype is more likely than its opposite",
            Some(50.0),
            Better::Neutral,
            771,
        ),
    ];
    scores[0].error = Some(1.8);
    outcome("stereoset.intra", scores, Vec::new(), Items::None)
}

/// A test of association.
pub fn weat(name: &str, d: f64) -> Outcome {
    let size = |d: f64, name: &str| {
        score(
            name,
            d,
            "effect size of the association; above 0 is stereotypical in the published lists",
            Some(0.0),
            Better::Neutral,
            16,
        )
    };
    let mut scores = vec![size(d, "d"), size(1.03 * d, "d.ddof0")];
    scores[0].p = Some(0.0123);
    let group =
        |layer: u32| Group { name: format!("layer {layer}"), scores: vec![size(d + f64::from(layer) / 10.0, "d")] };
    outcome(name, scores, vec![group(1), group(2)], Items::None)
}

/// A perplexity.
pub fn perplexity(value: f64) -> Outcome {
    let mut score = score("ppl", value, "exp of the mean loss", None, Better::Lower, 12_345);
    (score.error, score.interval) = (Some(0.03 * value), Some((0.94 * value, 1.06 * value)));
    let items = Items::Logarithms { values: vec![value.ln(), 2.0 * value.ln()], weights: vec![1.0, 2.0] };
    outcome("ppl.mlm", vec![score], Vec::new(), items)
}

/// A divergence.
pub fn divergence(value: f64) -> Outcome {
    let mut kl = score(
        "kl",
        value,
        "mean Kullback-Leibler divergence from the unedited model's predictions, in nats",
        Some(0.0),
        Better::Lower,
        12_345,
    );
    kl.interval = Some((0.8 * value, 1.2 * value));
    let top1 = score(
        "top1",
        100.0 - 40.0 * value,
        "% of positions with the unedited model's most likely token",
        Some(100.0),
        Better::Higher,
        12_345,
    );
    outcome("kl", vec![kl, top1], Vec::new(), Items::None)
}

/// One row for each edit, with the outcomes that `outcomes` has for its alpha; the first is the unedited model, the others are compared
/// with it.
pub fn report(edits: &[EditKind], outcomes: impl Fn(f64) -> Vec<Outcome>) -> Report {
    let alpha = |edit: &EditKind| edit.alpha().map_or(0.7, |alpha| alpha.value());
    let before = outcomes(0.0);
    let mut rows = vec![Measurement {
        edit: None,
        edited: 0,
        outcomes: before.clone(),
        changes: Vec::new(),
        continuations: Vec::new(),
        time: Duration::from_millis(12_340),
    }];
    for edit in edits {
        let after = outcomes(alpha(edit));
        let changes = before.iter().zip(&after).map(|(before, after)| changes(before, after)).collect();
        rows.push(Measurement {
            edit: Some(*edit),
            edited: 4_321,
            outcomes: after,
            changes,
            continuations: Vec::new(),
            time: Duration::from_secs(125),
        });
    }
    let patch = PatchSummary { path: "debias.lcepatch".into(), id: Digest::sha256(b"patch"), recommended_alpha: None };
    let facts = ModelFacts { kind: ModelKind::Masked, positions: 512, vocabulary: 30_522, layers: 12 };
    Report {
        model: ModelSummary {
            path: "models/bert-base-uncased".into(),
            onnx: None,
            model_type: "bert".to_owned(),
            dtypes: vec!["F32".to_owned()],
            facts,
        },
        work: WorkSummary { sequences: 1_299, questions: 2_851, tokens: 31_000 },
        patches: vec![patch],
        prompts: Vec::new(),
        rows,
    }
}

fn changes(before: &Outcome, after: &Outcome) -> Vec<Change> {
    let change = |(at, (old, new)): (usize, (&Score, &Score))| {
        let difference = new.value - old.value;
        let decisions = at == 0 && matches!(before.items, Items::Decisions(_));
        let interval = decisions.then_some((difference - 2.5, difference + 2.5));
        let by_interval = interval.map(|(low, high)| low <= 0.0 && high >= 0.0);
        Change {
            score: old.name.clone(),
            before: old.value,
            after: new.value,
            difference,
            test: decisions.then(|| Flips { to_yes: 12, to_no: 9 }.test(Alternative::TwoSided)),
            flips: decisions.then_some(Flips { to_yes: 12, to_no: 9 }),
            interval,
            inside_noise: by_interval.or_else(|| old.error.map(|error| difference.abs() < error)),
        }
    };
    before.scores.iter().zip(&after.scores).enumerate().map(change).collect()
}

/// An edit at `alpha`.
pub fn at(alpha: f64) -> EditKind {
    EditKind::Interpolate(Alpha::new(alpha).unwrap_or(Alpha::ONE))
}

/// Every kind of measure, without a model.
pub fn all(alpha: f64) -> Vec<Outcome> {
    vec![
        weat("weat6", 0.9 - 0.3 * alpha),
        weat("weat8", 0.62 - 0.41 * alpha + 0.05 * alpha * alpha),
        crows(57.25 - 2.3 * alpha),
        stereoset(60.28 - 3.0 * alpha, 84.17 - 1.2 * alpha * alpha),
        perplexity(9.4183 * (0.8 * alpha * alpha).exp()),
        divergence(0.12 * alpha * alpha),
    ]
}

/// All measures at few alphas, pruned and switched.
pub fn full() -> Report {
    report(&[at(-2.0), at(0.5), at(1.0), EditKind::Prune, EditKind::Switch], all)
}

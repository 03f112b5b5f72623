//! Compares the scores of an edited model with those of the unedited one, and tests whether the change is more than noise.

use super::statistics::{Flips, Interval, RESAMPLES, Wilcoxon, shift_interval, wilcoxon_greater};
use super::{Items, Outcome};

/// How a score changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The score's name.
    pub score: String,
    /// Its value before.
    pub before: f64,
    /// Its value after.
    pub after: f64,
    /// After minus before.
    pub difference: f64,
    /// Decisions that flipped. Only for a main score from decisions.
    pub flips: Option<Flips>,
    /// Wilcoxon's signed-rank test of the items, one-sided in the direction of the change. Only for a main score from numbers.
    pub signed_rank: Option<Wilcoxon>,
    /// The 95 % interval of the difference by a paired bootstrap. Only for a main score from items.
    pub interval: Option<Interval>,
    /// Whether the change may be chance: the interval contains 0; without an interval, the difference is smaller than
    /// the standard error before. None for a score that has neither.
    pub inside_noise: Option<bool>,
}

/// The changes of the scores that both outcomes have, in the order of `before`. Both must be outcomes of the same planned measure, since
/// the items of the main score are compared pairwise. `seed` is that of the bootstrap.
pub fn compare(before: &Outcome, after: &Outcome, seed: u64) -> Vec<Change> {
    let mut changes = Vec::with_capacity(before.scores.len());
    for (place, old) in before.scores.iter().enumerate() {
        let Some(new) = after.scores.iter().find(|score| score.name == old.name) else { continue };
        let difference = new.value - old.value;
        let main = place == 0;
        let flips = match (&before.items, &after.items) {
            (Items::Decisions(before), Items::Decisions(after)) if main => Flips::between(before, after),
            _ => None,
        };
        let signed_rank = if main { signed_rank(&before.items, &after.items) } else { None };
        let interval = if main { shift(&before.items, &after.items, seed) } else { None };
        let by_error = || old.error.map(|error| difference.abs() < error || difference == 0.0);
        changes.push(Change {
            score: old.name.clone(),
            before: old.value,
            after: new.value,
            difference,
            flips,
            signed_rank,
            interval,
            inside_noise: interval.map(|(low, high)| low <= 0.0 && high >= 0.0).or_else(by_error),
        });
    }
    changes
}

fn shift(before: &Items, after: &Items, seed: u64) -> Option<Interval> {
    let shift = |before: (&[f64], &[f64]), after: (&[f64], &[f64]), function: fn(f64) -> f64| {
        shift_interval(before, after, seed, RESAMPLES, function)
    };
    match (before, after) {
        (Items::Decisions(before), Items::Decisions(after)) => {
            let [values, others] = [before, after].map(|items| items.iter().map(percent).collect::<Vec<f64>>());
            let [weights, other_weights] = [&values, &others].map(|values| vec![1.0; values.len()]);
            shift((&values, &weights), (&others, &other_weights), |mean| mean)
        }
        (Items::Values { values, weights }, Items::Values { values: others, weights: other_weights }) => {
            shift((values, weights), (others, other_weights), |mean| mean)
        }
        (Items::Logarithms { values, weights }, Items::Logarithms { values: others, weights: other_weights }) => {
            shift((values, weights), (others, other_weights), f64::exp)
        }
        _ => None,
    }
}

/// Tests whether the items moved in the direction in which their sum moved.
fn signed_rank(before: &Items, after: &Items) -> Option<Wilcoxon> {
    let ((Items::Values { values: before, .. }, Items::Values { values: after, .. })
    | (Items::Logarithms { values: before, .. }, Items::Logarithms { values: after, .. })) = (before, after)
    else {
        return None;
    };
    let differences: Vec<f64> = before.iter().zip(after).map(|(before, after)| after - before).collect();
    let direction = if differences.iter().sum::<f64>() < 0.0 { -1.0 } else { 1.0 };
    wilcoxon_greater(&differences.into_iter().map(|difference| direction * difference).collect::<Vec<f64>>())
}

fn percent(yes: &bool) -> f64 {
    if *yes { 100.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Better, Score};
    use std::collections::BTreeMap;

    fn outcome(scores: &[(&str, f64, Option<f64>)], items: Items) -> Outcome {
        let score = |(name, value, error): &(&str, f64, Option<f64>)| Score {
            name: (*name).to_owned(),
            value: *value,
            meaning: "".into(),
            neutral: None,
            better: Better::Lower,
            n: 1,
            error: *error,
            interval: None,
            p: None,
        };
        Outcome {
            measure: "m".to_owned(),
            scores: scores.iter().map(score).collect(),
            groups: Vec::new(),
            details: Vec::new(),
            items,
            counts: BTreeMap::new(),
            settings: BTreeMap::new(),
            data: BTreeMap::new(),
        }
    }

    fn decisions(yes: usize, of: usize) -> Outcome {
        let items = (0..of).map(|i| i < yes).collect();
        outcome(&[("score", 100.0 * yes as f64 / of as f64, Some(5.0))], Items::Decisions(items))
    }

    #[test]
    fn numbers_are_tested_in_the_direction_that_they_went() {
        let losses = |shift: f64| {
            let values = (0..10).map(|i| f64::from(i) + shift * f64::from(i + 1)).collect();
            outcome(&[("ppl", 1.0, None)], Items::Logarithms { values, weights: vec![1.0; 10] })
        };
        for shift in [0.1, -0.1] {
            let test = compare(&losses(0.0), &losses(shift), 0).remove(0).signed_rank.unwrap();
            // All ten went one way; sizes differ but for rounding.
            assert!((test.p - 2f64.powi(-10)).abs() < 1e-3, "{test:?}");
            assert_eq!(test.n, 10);
        }
        assert_eq!(compare(&losses(0.0), &losses(0.0), 0)[0].signed_rank, None);
    }

    #[test]
    fn decisions_are_compared_by_their_flips() {
        let change = compare(&decisions(50, 100), &decisions(80, 100), 0).remove(0);
        let flips = change.flips.unwrap();
        assert_eq!((flips.to_yes, flips.to_no, change.difference, change.inside_noise), (30, 0, 30.0, Some(false)));
        let (low, high) = change.interval.unwrap();
        // The share of flips has a standard error of 4.6 points.
        assert!((low - 21.0).abs() < 2.0 && (high - 39.0).abs() < 2.0, "{low} {high}");
        let little = compare(&decisions(50, 100), &decisions(52, 100), 0).remove(0);
        assert_eq!((little.inside_noise, little.flips.unwrap().p), (Some(true), 0.5));
        let none = compare(&decisions(50, 100), &decisions(50, 100), 0).remove(0);
        assert_eq!((none.inside_noise, none.interval), (Some(true), Some((0.0, 0.0))));
    }

    #[test]
    fn perplexities_are_compared_in_their_own_unit() {
        let losses = |more: f64| {
            let values: Vec<f64> = (1..40).map(|i| f64::from(i) * (1.0 + more)).collect();
            let weights: Vec<f64> = (1..40).map(f64::from).collect();
            outcome(&[("ppl", (1.0 + more).exp(), None)], Items::Logarithms { values, weights })
        };
        let change = compare(&losses(0.0), &losses(0.5), 0).remove(0);
        let (low, high) = change.interval.unwrap();
        assert!((low - change.difference).abs() < 1e-9 && (high - change.difference).abs() < 1e-9);
        assert_eq!((change.inside_noise, change.flips), (Some(false), None));
    }

    #[test]
    fn scores_without_items_are_compared_with_their_error() {
        let before = outcome(&[("d", 1.0, None), ("lm", 80.0, Some(2.0)), ("gone", 1.0, None)], Items::None);
        let after = outcome(&[("d", 0.5, None), ("lm", 79.0, Some(2.0))], Items::None);
        let changes = compare(&before, &after, 0);
        assert_eq!(changes.iter().map(|change| &*change.score).collect::<Vec<_>>(), ["d", "lm"]);
        assert_eq!(changes.iter().map(|change| change.inside_noise).collect::<Vec<_>>(), [None, Some(true)]);
        assert_eq!(changes[0].difference, -0.5);
    }
}

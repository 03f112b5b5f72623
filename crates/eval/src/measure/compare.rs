//! Compares the scores of an edited model with those of the unedited one, and tests whether the change is more than noise.

use super::expectation::Expectation;
use super::statistics::{Alternative, Flips, Interval, RESAMPLES, Test, shift_interval, wilcoxon};
use super::weat::{change_interval, change_test};
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
    /// The paired test of the items: McNemar's of decisions, Wilcoxon's of numbers, sign flips of associations. Only for a main score from
    /// items.
    pub test: Option<Test>,
    /// The 95 % interval of the difference by a paired bootstrap. Only for a main score from items.
    pub interval: Option<Interval>,
    /// Whether the change may be chance: the interval contains 0; without an interval, the difference is smaller than
    /// the standard error before. None for a score that has neither, and for a divergence, which is never 0 after an edit.
    pub inside_noise: Option<bool>,
}

/// How changes are tested.
#[derive(Debug, Clone, Default)]
pub struct Comparison {
    /// The seed of the bootstrap, and of tests that draw.
    pub seed: u64,
    /// The directions that were stated before. Other changes are tested both ways.
    pub expected: Vec<Expectation>,
}

impl Comparison {
    /// The changes of the scores that both outcomes have, in the order of `before`. Both must be outcomes of the same planned measure,
    /// since the items of the main score are compared pairwise.
    pub fn changes(&self, before: &Outcome, after: &Outcome) -> Vec<Change> {
        let mut changes = Vec::with_capacity(before.scores.len());
        for (place, old) in before.scores.iter().enumerate() {
            let Some(new) = after.scores.iter().find(|score| score.name == old.name) else { continue };
            let difference = new.value - old.value;
            let main = place == 0;
            let flips = match (&before.items, &after.items) {
                (Items::Decisions(before), Items::Decisions(after)) if main => Flips::between(before, after),
                _ => None,
            };
            let alternative = Expectation::of(&self.expected, &before.measure);
            let test = if main { self.test(&before.items, &after.items, alternative) } else { None };
            let interval = if main { self.interval(&before.items, &after.items) } else { None };
            let by_error = || old.error.map(|error| difference.abs() < error || difference == 0.0);
            let inside_noise = match before.items {
                Items::Divergences(_) if main => None,
                _ => interval.map(|(low, high)| low <= 0.0 && high >= 0.0).or_else(by_error),
            };
            let (before, after) = (old.value, new.value);
            changes.push(Change {
                score: old.name.clone(),
                before,
                after,
                difference,
                flips,
                test,
                interval,
                inside_noise,
            });
        }
        changes
    }

    fn interval(&self, before: &Items, after: &Items) -> Option<Interval> {
        let shift = |before: (&[f64], &[f64]), after: (&[f64], &[f64]), function: fn(f64) -> f64| {
            shift_interval(before, after, self.seed, RESAMPLES, function)
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
            (Items::Divergences(before), Items::Divergences(after)) => {
                let [weights, other_weights] = [before, after].map(|values| vec![1.0; values.len()]);
                shift((before, &weights), (after, &other_weights), |mean| mean)
            }
            (Items::Associations { layers, ddof }, Items::Associations { layers: others, .. }) => {
                change_interval(layers, others, *ddof, self.seed, RESAMPLES)
            }
            _ => None,
        }
    }

    fn test(&self, before: &Items, after: &Items, alternative: Alternative) -> Option<Test> {
        match (before, after) {
            (Items::Decisions(before), Items::Decisions(after)) => {
                Some(Flips::between(before, after)?.test(alternative))
            }
            (Items::Values { values: before, .. }, Items::Values { values: after, .. })
            | (Items::Logarithms { values: before, .. }, Items::Logarithms { values: after, .. }) => {
                let differences: Vec<f64> = before.iter().zip(after).map(|(before, after)| after - before).collect();
                wilcoxon(&differences, alternative)
            }
            (Items::Associations { layers, ddof }, Items::Associations { layers: others, .. }) => {
                change_test(layers, others, *ddof, alternative, self.seed)
            }
            _ => None,
        }
    }
}

fn percent(yes: &bool) -> f64 {
    if *yes { 100.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::statistics::{Ddof, Name};
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

    fn compare(before: &Outcome, after: &Outcome) -> Vec<Change> {
        Comparison::default().changes(before, after)
    }

    #[test]
    fn a_direction_counts_if_it_was_stated_before() {
        let losses = |shift: f64| {
            let values = (0..10).map(|i| f64::from(i) + shift * f64::from(i + 1)).collect();
            outcome(&[("ppl", 1.0, None)], Items::Logarithms { values, weights: vec![1.0; 10] })
        };
        // All ten went one way; sizes differ but for rounding.
        let one_side = 2f64.powi(-10);
        for (shift, expected, p) in [
            (0.1, &[][..], 2.0 * one_side),
            (-0.1, &[][..], 2.0 * one_side),
            (0.1, &["m>0"][..], one_side),
            (0.1, &["m<0"][..], 1.0),
            (-0.1, &["m<0"][..], one_side),
        ] {
            let expected = expected.iter().map(|text| Expectation::parse(text).unwrap()).collect();
            let comparison = Comparison { seed: 0, expected };
            let test = comparison.changes(&losses(0.0), &losses(shift)).remove(0).test.unwrap();
            assert!((test.p - p).abs() < 2e-3, "{test:?}");
            assert_eq!(test.n, 10);
        }
        assert_eq!(compare(&losses(0.0), &losses(0.0))[0].test, None);
    }

    #[test]
    fn a_divergence_rises_and_is_not_tested() {
        let divergence = |mean: f64| {
            let values = (0..40).map(|i| mean * f64::from(i)).collect();
            outcome(&[("kl", mean * 19.5, Some(0.1))], Items::Divergences(values))
        };
        let change = compare(&divergence(0.0), &divergence(0.01)).remove(0);
        assert_eq!((change.test, change.inside_noise), (None, None));
        assert!(change.interval.is_some_and(|(low, high)| low > 0.0 && high < 0.3));
    }

    #[test]
    fn associations_are_compared_word_by_word() {
        // Eight words of each set in two layers; the edit brings X and Y nearer to each other.
        let layers = |gap: f64| {
            let word =
                |at: usize| f64::from(u8::try_from(at * 7 % 16).unwrap()) / 16.0 + if at < 8 { gap } else { 0.0 };
            vec![(0..16).map(word).collect::<Vec<f64>>(), (0..16).map(|at| word(at) * 2.0).collect()]
        };
        let model =
            |gap: f64, d: f64| outcome(&[("d", d, None)], Items::Associations { layers: layers(gap), ddof: Ddof::One });
        let change = compare(&model(2.0, 1.8), &model(0.0, 0.0)).remove(0);
        let (test, (low, high)) = (change.test.unwrap(), change.interval.unwrap());
        assert_eq!((test.name, test.n, test.exact), (Name::SignFlip, 16, true));
        assert!(test.p < 0.001 && high < 0.0 && low < high && change.inside_noise == Some(false), "{change:?}");
        let same = compare(&model(2.0, 1.8), &model(2.0, 1.8)).remove(0);
        assert_eq!((same.test, same.interval, same.inside_noise), (None, Some((0.0, 0.0)), Some(true)));
    }

    #[test]
    fn decisions_are_compared_by_their_flips() {
        let change = compare(&decisions(50, 100), &decisions(80, 100)).remove(0);
        let flips = change.flips.unwrap();
        assert_eq!((flips.to_yes, flips.to_no, change.difference, change.inside_noise), (30, 0, 30.0, Some(false)));
        let (low, high) = change.interval.unwrap();
        // The share of flips has a standard error of 4.6 points.
        assert!((low - 21.0).abs() < 2.0 && (high - 39.0).abs() < 2.0, "{low} {high}");
        let little = compare(&decisions(50, 100), &decisions(52, 100)).remove(0);
        assert_eq!((little.inside_noise, little.test.unwrap().p), (Some(true), 0.5));
        let none = compare(&decisions(50, 100), &decisions(50, 100)).remove(0);
        assert_eq!((none.inside_noise, none.interval), (Some(true), Some((0.0, 0.0))));
    }

    #[test]
    fn perplexities_are_compared_in_their_own_unit() {
        let losses = |more: f64| {
            let values: Vec<f64> = (1..40).map(|i| f64::from(i) * (1.0 + more)).collect();
            let weights: Vec<f64> = (1..40).map(f64::from).collect();
            outcome(&[("ppl", (1.0 + more).exp(), None)], Items::Logarithms { values, weights })
        };
        let change = compare(&losses(0.0), &losses(0.5)).remove(0);
        let (low, high) = change.interval.unwrap();
        assert!((low - change.difference).abs() < 1e-9 && (high - change.difference).abs() < 1e-9);
        assert_eq!((change.inside_noise, change.flips), (Some(false), None));
    }

    #[test]
    fn scores_without_items_are_compared_with_their_error() {
        let before = outcome(&[("d", 1.0, None), ("lm", 80.0, Some(2.0)), ("gone", 1.0, None)], Items::None);
        let after = outcome(&[("d", 0.5, None), ("lm", 79.0, Some(2.0))], Items::None);
        let changes = compare(&before, &after);
        assert_eq!(changes.iter().map(|change| &*change.score).collect::<Vec<_>>(), ["d", "lm"]);
        assert_eq!(changes.iter().map(|change| change.inside_noise).collect::<Vec<_>>(), [None, Some(true)]);
        assert_eq!(changes[0].difference, -0.5);
    }
}

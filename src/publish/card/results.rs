//! The measured results in the metadata of a patch.

use super::shortened;
use crate::format::Metadata;
use serde_json::Value;

/// The most results that a card has, since a patch may claim any number.
const RESULTS_MAX: usize = 200;
/// What `results` has beside scores, where a verification recorded them.
const OTHERS: [&str; 5] = ["tool", "model", "runtime", "data", "rows"];

/// One score.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// What was done to the model: an alpha, or another edit. Empty if that is not recorded.
    pub case: String,
    /// The score's name.
    pub key: String,
    /// Its value.
    pub value: f64,
    /// Its standard error.
    pub error: Option<f64>,
    /// How many items it is of.
    pub n: Option<u64>,
}

impl Measured {
    /// The results of a patch, in their order.
    pub fn all(metadata: &Metadata) -> Vec<Self> {
        let rows = metadata.results.get("rows").and_then(Value::as_array);
        let recorded = rows.into_iter().flatten().flat_map(Self::of_row);
        let given = metadata.results.iter().filter(|(key, _)| !OTHERS.contains(&key.as_str()));
        let given = given.filter_map(|(key, value)| {
            let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
            Some(Self { case: String::new(), key: name(key), value: finite(number)?, error: None, n: None })
        });
        recorded.chain(given).take(RESULTS_MAX).collect()
    }

    fn of_row(row: &Value) -> Vec<Self> {
        let case = row.get("case").and_then(Value::as_str).unwrap_or_default();
        let scores = row.get("scores").and_then(Value::as_object);
        let score = |(key, score): (&String, &Value)| {
            let number = |of: &str| score.get(of).and_then(Value::as_f64);
            let (value, error) = (finite(number("value"))?, finite(number("error")));
            let n = score.get("n").and_then(Value::as_u64);
            Some(Self { case: name(case), key: name(key), value, error, n })
        };
        scores.into_iter().flatten().filter_map(score).collect()
    }

    /// What it was measured on: the first part of its name.
    pub fn data(&self) -> &str {
        self.key.split('.').next().filter(|data| !data.is_empty()).unwrap_or("not named")
    }

    /// Its name and its case.
    pub fn title(&self) -> String {
        let Self { case, key, .. } = self;
        if case.is_empty() { key.clone() } else { format!("{key}, {case}") }
    }
}

fn name(text: &str) -> String {
    shortened(text, 100)
}

fn finite(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn recorded_and_given_results_are_found_and_nothing_else() {
        let results = json!({
            "tool": "lcepatch 0.1.0", "weat8": "0.07", "note": "none", "rows": [
                {"case": "alpha 0.5", "scores": {"crows.diff": {"value": 57.25, "n": 262, "error": 3.06}, "x": {"n": 1}}},
                {"scores": 7}, 5
            ]
        });
        let metadata = Metadata { results: results.as_object().unwrap().clone(), ..Metadata::default() };
        let found = Measured::all(&metadata);
        let measured =
            |case: &str, key: &str, value, error, n| Measured { case: case.into(), key: key.into(), value, error, n };
        let expected = [
            measured("alpha 0.5", "crows.diff", 57.25, Some(3.06), Some(262)),
            measured("", "weat8", 0.07, None, None),
        ];
        assert_eq!(found, expected);
        assert_eq!((found[0].data(), &found[0].title()[..]), ("crows", "crows.diff, alpha 0.5"));
    }

    #[test]
    fn there_are_not_more_than_a_card_takes() {
        let results = (0..1000).map(|at| (format!("r{at}"), at.into())).collect();
        let metadata = Metadata { results, ..Metadata::default() };
        assert_eq!(Measured::all(&metadata).len(), RESULTS_MAX);
    }
}

//! Conditions on scores that make a run fail, such as `ppl.mlm>+1%`.
//!
//! ```text
//! condition = subject operator bound            (blanks around the parts are allowed)
//! subject   = score | "|" score "|"             the bars take the size of a number, without its sign
//! score     = measure | measure "." name        the measure alone is its main score
//! operator  = ">" | ">=" | "<" | "<="
//! bound     = number                            the score itself; negative numbers are allowed
//!           | sign number "%"                   its change from the unedited model, in percent of the unedited model's score
//!           | sign number "pt"                  its change from the unedited model, in the score's own points
//! sign      = "+" | "-"
//! ```
//!
//! A condition says what is *not* wanted: it is violated where it is true, and where the score is not a number.

use super::{Outcome, Score};

/// A condition on a score.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    text: String,
    score: String,
    absolute: bool,
    operator: Operator,
    bound: Bound,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operator {
    Above,
    AtLeast,
    Below,
    AtMost,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    Value(f64),
    Percent(f64),
    Points(f64),
}

/// A text that is not a condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a condition: {reason}; examples are `crows.diff>60`, `|weat8|>0.5`, `ppl.mlm>+1%` (one percent above the \
     unedited model) and `stereoset.intra.lm<-2pt` (two points below it)"
)]
pub struct NotACondition {
    /// The text.
    pub text: String,
    /// What is wrong.
    pub reason: &'static str,
}

/// A condition on a score that was not measured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{score} is not measured; there are {}", measured.join(", "))]
pub struct NotMeasured {
    /// The score that the condition names.
    pub score: String,
    /// The scores that a condition may name.
    pub measured: Vec<String>,
}

/// A condition that came true.
#[derive(Debug, Clone, PartialEq)]
pub struct Violation {
    /// The measure.
    pub measure: String,
    /// The score.
    pub score: String,
    /// Its value.
    pub value: f64,
    /// The value of the unedited model.
    pub before: f64,
    /// The violation in a sentence.
    pub sentence: String,
}

impl Threshold {
    /// Reads a condition.
    ///
    /// # Errors
    /// [`NotACondition`].
    pub fn parse(text: &str) -> Result<Self, NotACondition> {
        let wrong = |reason| NotACondition { text: text.to_owned(), reason };
        let place = text.find(['<', '>']).ok_or_else(|| wrong("there is no `<` and no `>`"))?;
        let (subject, rest) = text.split_at(place);
        let (operator, bound) = match rest.as_bytes() {
            [b'>', b'=', ..] => (Operator::AtLeast, &rest[2..]),
            [b'<', b'=', ..] => (Operator::AtMost, &rest[2..]),
            [b'>', ..] => (Operator::Above, &rest[1..]),
            _ => (Operator::Below, &rest[1..]),
        };
        let subject = subject.trim();
        let (score, absolute) = match subject.strip_prefix('|').map(|inner| inner.strip_suffix('|')) {
            Some(Some(inner)) => (inner.trim(), true),
            Some(None) => return Err(wrong("the bar before the score is not closed")),
            None => (subject, false),
        };
        if score.is_empty() {
            return Err(wrong("there is no score before the operator"));
        }
        let bound = Bound::parse(bound.trim()).map_err(wrong)?;
        Ok(Self { text: text.trim().to_owned(), score: score.to_owned(), absolute, operator, bound })
    }

    /// Whether it is about a change, which only an edited model has.
    pub fn is_of_change(&self) -> bool {
        !matches!(self.bound, Bound::Value(_))
    }

    /// Checks, before anything is measured, that the condition is about one of these measures.
    ///
    /// # Errors
    /// [`NotMeasured`].
    pub fn check(&self, measured: &[&str]) -> Result<(), NotMeasured> {
        let is_of = |measure: &&str| {
            self.score.strip_prefix(measure).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        if measured.iter().any(is_of) {
            return Ok(());
        }
        let measured = measured.iter().map(|measure| (*measure).to_owned()).collect();
        Err(NotMeasured { score: self.score.clone(), measured })
    }

    /// Whether a model violates the condition. `outcomes` are those of the model, `unedited` those of the unedited one.
    ///
    /// # Errors
    /// [`NotMeasured`].
    pub fn violation(&self, outcomes: &[Outcome], unedited: &[Outcome]) -> Result<Option<Violation>, NotMeasured> {
        let missing = || NotMeasured { score: self.score.clone(), measured: names(outcomes) };
        let (measure, score) = find(outcomes, &self.score).ok_or_else(missing)?;
        let (_, before) = find(unedited, &self.score).ok_or_else(missing)?;
        let size = |value: f64| if self.absolute { value.abs() } else { value };
        let (value, old) = (size(score.value), size(before.value));
        let (found, bound) = match self.bound {
            Bound::Value(bound) => (value, bound),
            Bound::Points(bound) => (value - old, bound),
            // From 0 to 0 is no change.
            Bound::Percent(bound) if value == old => (0.0, bound),
            Bound::Percent(bound) => (100.0 * (value - old) / old.abs(), bound),
        };
        let violated = found.is_nan()
            || match self.operator {
                Operator::Above => found > bound,
                Operator::AtLeast => found >= bound,
                Operator::Below => found < bound,
                Operator::AtMost => found <= bound,
            };
        let sentence = || {
            let now = format!("{} is {}", self.score, short(score.value));
            let change = match self.bound {
                Bound::Value(_) => String::new(),
                Bound::Percent(_) => format!(", {found:+.2} % from {}", short(before.value)),
                Bound::Points(_) => format!(", {found:+.4} from {}", short(before.value)),
            };
            format!("{now}{change}: {}", self.text)
        };
        Ok(violated.then(|| Violation {
            measure: measure.to_owned(),
            score: score.name.clone(),
            value: score.value,
            before: before.value,
            sentence: sentence(),
        }))
    }
}

impl std::fmt::Display for Threshold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Bound {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let signed = text.starts_with(['+', '-']);
        let (number, unit) = match (text.strip_suffix('%'), text.strip_suffix("pt")) {
            (Some(number), _) => (number, Some(Self::Percent as fn(f64) -> Self)),
            (_, Some(number)) => (number, Some(Self::Points as fn(f64) -> Self)),
            _ => (text, None),
        };
        let number = number.trim_end().parse().ok().filter(|number: &f64| number.is_finite());
        match (number, unit) {
            (None, _) => Err("what follows the operator is not a number"),
            (Some(_), Some(_)) if !signed => {
                Err("a change has a sign: write `+1%`, or leave out the unit for the score itself")
            }
            (Some(_), None) if text.starts_with('+') => Err("a change has a unit: write `+1pt` or `+1%`"),
            (Some(number), Some(unit)) => Ok(unit(number)),
            (Some(number), None) => Ok(Self::Value(number)),
        }
    }
}

/// The score called `name`: the main score of a measure of this name, or else the score `measure.score`.
fn find<'a>(outcomes: &'a [Outcome], name: &str) -> Option<(&'a str, &'a Score)> {
    let main = outcomes.iter().find(|outcome| outcome.measure == name);
    let found = main.map(|outcome| (outcome, outcome.scores.first()));
    let (outcome, score) = found.or_else(|| {
        outcomes.iter().find_map(|outcome| {
            let score_name = name.strip_prefix(&outcome.measure)?.strip_prefix('.')?;
            Some((outcome, Some(outcome.scores.iter().find(|score| score.name == score_name)?)))
        })
    })?;
    Some((&outcome.measure, score?))
}

/// Every name that [`find`] accepts.
fn names(outcomes: &[Outcome]) -> Vec<String> {
    let of = |outcome: &Outcome| {
        let scores = outcome.scores.iter().skip(1).map(|score| format!("{}.{}", outcome.measure, score.name));
        std::iter::once(outcome.measure.clone()).chain(scores).collect::<Vec<_>>()
    };
    outcomes.iter().flat_map(of).collect()
}

/// A number with six significant digits.
fn short(value: f64) -> String {
    format!("{value:.5e}").parse().map_or_else(|_| value.to_string(), |rounded: f64| rounded.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Better, Items};
    use std::collections::BTreeMap;

    fn outcome(measure: &str, scores: &[(&str, f64)]) -> Outcome {
        let score = |(name, value): &(&str, f64)| Score {
            name: (*name).to_owned(),
            value: *value,
            meaning: "".into(),
            neutral: None,
            better: Better::Lower,
            n: 1,
            error: None,
            interval: None,
            p: None,
        };
        Outcome {
            measure: measure.to_owned(),
            scores: scores.iter().map(score).collect(),
            groups: Vec::new(),
            items: Items::None,
            details: Vec::new(),
            counts: BTreeMap::new(),
            settings: BTreeMap::new(),
            data: BTreeMap::new(),
        }
    }

    fn model(crows: f64, d: f64, ppl: f64, kl: f64) -> Vec<Outcome> {
        vec![
            outcome("crows.diff", &[("%stereo", crows), ("stereotype", crows + 2.0)]),
            outcome("stereoset.intra", &[("ss", 60.0), ("lm", 84.0)]),
            outcome("weat8", &[("d", d), ("d.ddof0", d)]),
            outcome("ppl.mlm", &[("ppl", ppl)]),
            outcome("kl", &[("kl", kl)]),
        ]
    }

    fn violated(condition: &str, after: &[Outcome]) -> bool {
        let unedited = model(58.0, -0.4, 10.0, 0.0);
        Threshold::parse(condition).unwrap().violation(after, &unedited).unwrap().is_some()
    }

    #[test]
    fn scores_are_compared_with_numbers() {
        let after = model(61.0, -0.6, 10.05, 0.02);
        for (condition, expected) in [
            ("crows.diff>60", true),
            ("crows.diff > 61", false),
            ("crows.diff>=61", true),
            ("crows.diff.stereotype<=63", true),
            ("crows.diff<-5", false),
            ("|weat8|>0.5", true),
            ("weat8>0.5", false),
            ("weat8<-0.5", true),
            ("weat8.d.ddof0<-0.5", true),
            ("stereoset.intra.lm<80", false),
            ("stereoset.intra<=60", true),
            ("kl>0.01", true),
            ("kl>1e-1", false),
        ] {
            assert_eq!(violated(condition, &after), expected, "{condition}");
        }
    }

    #[test]
    fn changes_have_a_sign_and_a_unit() {
        let after = model(61.0, -0.6, 10.05, 0.02);
        for (condition, expected) in [
            ("ppl.mlm>+1%", false),
            ("ppl.mlm>+0.4%", true),
            ("ppl.mlm > +0.01 pt", true),
            ("crows.diff>+3pt", false),
            ("crows.diff>=+3pt", true),
            ("crows.diff<-1pt", false),
            ("|weat8|>+40%", true),
            ("weat8<-40%", true), // 0.2 below -0.4
            ("kl>+100%", true),   // from nothing to something
            ("stereoset.intra>+0%", false),
        ] {
            assert_eq!(violated(condition, &after), expected, "{condition}");
        }
        assert!(!violated("kl>+0%", &model(58.0, -0.4, 10.0, 0.0)));
    }

    #[test]
    fn what_is_not_a_number_passes_no_condition() {
        let after = model(f64::NAN, f64::INFINITY, f64::INFINITY, 0.0);
        assert!(
            violated("crows.diff>60", &after) && violated("crows.diff<+1%", &after) && violated("ppl.mlm>+1%", &after)
        );
    }

    #[test]
    fn a_violation_is_a_sentence() {
        let sentence = |condition: &str| {
            let (after, unedited) = (model(61.0, -0.6, 10.25, 0.02), model(58.0, -0.4, 10.0, 0.0));
            Threshold::parse(condition).unwrap().violation(&after, &unedited).unwrap().unwrap().sentence
        };
        assert_eq!(sentence("crows.diff>60"), "crows.diff is 61: crows.diff>60");
        assert_eq!(sentence(" ppl.mlm > +1% "), "ppl.mlm is 10.25, +2.50 % from 10: ppl.mlm > +1%");
        assert_eq!(sentence("weat8<-0.1pt"), "weat8 is -0.6, -0.2000 from -0.4: weat8<-0.1pt");
    }

    #[test]
    fn other_texts_are_no_conditions() {
        for (text, reason) in [
            ("crows.diff", "there is no `<` and no `>`"),
            (">1", "there is no score before the operator"),
            ("||>1", "there is no score before the operator"),
            ("|weat8>1", "the bar before the score is not closed"),
            ("kl>", "what follows the operator is not a number"),
            ("kl>>1", "what follows the operator is not a number"),
            ("kl>nan", "what follows the operator is not a number"),
            ("kl>1 nats", "what follows the operator is not a number"),
            ("kl>1%", "a change has a sign: write `+1%`, or leave out the unit for the score itself"),
            ("kl>+1", "a change has a unit: write `+1pt` or `+1%`"),
        ] {
            let error = Threshold::parse(text).unwrap_err();
            assert_eq!(error.reason, reason, "{text}");
            assert!(error.to_string().contains("`crows.diff>60`"));
        }
    }

    #[test]
    fn a_score_that_is_not_there_is_named_with_those_that_are() {
        let outcomes = model(1.0, 1.0, 1.0, 1.0);
        let error = Threshold::parse("ppl>1").unwrap().violation(&outcomes, &outcomes).unwrap_err();
        assert_eq!(error.score, "ppl");
        assert_eq!(
            error.to_string(),
            "ppl is not measured; there are crows.diff, crows.diff.stereotype, stereoset.intra, stereoset.intra.lm, weat8, \
             weat8.d.ddof0, ppl.mlm, kl"
        );
        let check = |condition: &str| Threshold::parse(condition).unwrap().check(&["crows.diff", "kl"]);
        assert!(check("crows.diff>1").is_ok() && check("crows.diff.stereotype>1").is_ok() && check("kl>1").is_ok());
        assert_eq!(check("crows>1").unwrap_err().measured, ["crows.diff", "kl"]);
        assert!(Threshold::parse("crows>1").unwrap().violation(&outcomes, &outcomes).is_err());
    }
}

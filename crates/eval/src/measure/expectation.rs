//! Directions of changes that are stated before anything is measured, such as `weat8<0`: what makes a test one-sided.

use super::statistics::Alternative;
use super::threshold::NotMeasured;

/// The direction in which a measure's main score is expected to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    measure: String,
    alternative: Alternative,
}

/// A text that states no direction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} states no direction: write `weat8<0` if the score of weat8 is expected to fall, and `ppl.mlm>0` if one is to rise"
)]
pub struct NoDirection {
    /// The text.
    pub text: String,
}

impl Expectation {
    /// Reads `MEASURE<0` or `MEASURE>0`.
    ///
    /// # Errors
    /// [`NoDirection`].
    pub fn parse(text: &str) -> Result<Self, NoDirection> {
        let no_direction = || NoDirection { text: text.to_owned() };
        let at = text.find(['<', '>']).ok_or_else(no_direction)?;
        let (measure, rest) = text.split_at(at);
        let alternative = if rest.starts_with('<') { Alternative::Less } else { Alternative::Greater };
        let is_zero = rest.get(1..).is_some_and(|bound| bound.trim() == "0");
        match measure.trim() {
            measure if is_zero && !measure.is_empty() => Ok(Self { measure: measure.to_owned(), alternative }),
            _ => Err(no_direction()),
        }
    }

    /// Checks that what is expected is measured, and once.
    ///
    /// # Errors
    /// [`NotMeasured`].
    pub fn check(expected: &[Self], measured: &[&str]) -> Result<(), NotMeasured> {
        let missing = expected.iter().find(|expectation| !measured.contains(&&*expectation.measure));
        missing.map_or(Ok(()), |missing| {
            let measured = measured.iter().map(|measure| (*measure).to_owned()).collect();
            Err(NotMeasured { score: missing.measure.clone(), measured })
        })
    }

    /// The measure.
    pub fn measure(&self) -> &str {
        &self.measure
    }

    /// What the test of a measure's change looks for.
    pub fn of(expected: &[Self], measure: &str) -> Alternative {
        let stated = expected.iter().find(|expectation| expectation.measure == measure);
        stated.map_or(Alternative::TwoSided, |expectation| expectation.alternative)
    }
}

impl std::fmt::Display for Expectation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.alternative == Alternative::Less { '<' } else { '>' };
        write!(f, "{}{sign}0", self.measure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direction_is_a_measure_a_sign_and_nought() {
        let parsed = Expectation::parse(" crows.diff < 0").unwrap();
        assert_eq!((parsed.to_string().as_str(), parsed.alternative), ("crows.diff<0", Alternative::Less));
        assert_eq!(Expectation::parse("kl>0").unwrap().alternative, Alternative::Greater);
        for wrong in ["weat8", "<0", "weat8<1", "weat8<=0", "weat8<", "weat8>0pt"] {
            assert!(Expectation::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_stated_is_tested_both_ways() {
        let expected = [Expectation::parse("weat8<0").unwrap()];
        assert_eq!(Expectation::of(&expected, "weat8"), Alternative::Less);
        assert_eq!(Expectation::of(&expected, "weat6"), Alternative::TwoSided);
        assert!(Expectation::check(&expected, &["weat6", "weat8"]).is_ok());
        assert_eq!(Expectation::check(&expected, &["weat6"]).unwrap_err().score, "weat8");
    }
}

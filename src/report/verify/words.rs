//! Formats scores, changes and times.

use crate::measure::Better;
use std::time::Duration;

/// Numbers of at least this size are written with a power of ten.
const LARGE: f64 = 1e7;

/// The number of decimals for numbers of this size.
pub fn decimals(values: impl IntoIterator<Item = f64>) -> usize {
    let sizes = values.into_iter().map(f64::abs).filter(|size| *size < LARGE);
    let largest = sizes.fold(0.0, f64::max);
    match largest {
        1000.0.. => 1,
        10.0.. => 2,
        1.0.. => 3,
        0.01.. => 4,
        1e-9.. => (2.0 - largest.log10().floor()) as usize,
        _ => 4,
    }
}

/// A number with this many decimals. A very large number has four significant digits.
pub fn number(value: f64, decimals: usize) -> String {
    match value {
        value if !value.is_finite() => "not finite".to_owned(),
        value if value.abs() >= LARGE => format!("{value:.3e}"),
        value => format!("{value:.decimals$}"),
    }
}

/// A change with its sign. `0` is no change at all, `+0.00` is a small one.
pub fn signed(difference: f64, decimals: usize) -> String {
    match difference {
        difference if !difference.is_finite() => "not finite".to_owned(),
        0.0 => "0".to_owned(),
        difference if difference > 0.0 => format!("+{}", number(difference, decimals)),
        difference => number(difference, decimals),
    }
}

/// A number with four significant digits.
pub fn short(value: f64) -> String {
    match format!("{value:.3e}").parse::<f64>() {
        Ok(rounded) if rounded != 0.0 && !(1e-4..LARGE).contains(&rounded.abs()) => format!("{rounded:e}"),
        Ok(rounded) if rounded.is_finite() => rounded.to_string(),
        _ => "not finite".to_owned(),
    }
}

/// Says which values of a score are better.
pub fn better(better: Better, neutral: Option<f64>) -> String {
    match (better, neutral) {
        (Better::Lower, _) => "lower is better".to_owned(),
        (Better::Higher, _) => "higher is better".to_owned(),
        (Better::Neutral, Some(neutral)) => format!("nearer to {neutral} is better"),
        (Better::Neutral, None) => "nearer to its neutral value is better".to_owned(),
    }
}

/// A duration.
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 100.0 {
        return format!("{seconds:.1} s");
    }
    let seconds = seconds.round() as u64;
    match seconds / 3600 {
        0 => format!("{}:{:02} min", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02} h", seconds / 60 % 60),
    }
}

/// Parts joined by semicolons, in lines of at most `width` characters; the first one begins with `start`, the others are indented.
pub fn wrapped(start: &str, parts: &[String], width: usize) -> Vec<String> {
    let mut out = Vec::new();
    let mut line = start.to_owned();
    let mut begun = false;
    for word in parts.join("; ").split(' ') {
        if begun && line.chars().count() + 1 + word.chars().count() > width {
            out.push(std::mem::replace(&mut line, format!("      {word}")));
            continue;
        }
        line.push_str(if begun { " " } else { "" });
        line.push_str(word);
        begun = true;
    }
    out.push(line);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_that_count() {
        let shown = |value: f64| number(value, decimals([value]));
        assert_eq!(
            [57.2519, 9.4183, 0.41234, 0.00123456, 0.0].map(shown),
            ["57.25", "9.418", "0.4123", "0.00123", "0.0000"]
        );
        assert_eq!([12345.67, 1.5e9, f64::NAN].map(shown), ["12345.7", "1.500e9", "not finite"]);
        assert_eq!([1.15, -0.3, 0.001, 0.0].map(|d| signed(d, 2)), ["+1.15", "-0.30", "+0.00", "0"]);
        assert_eq!([3.0871, 0.5, 0.00001234, 0.0, 12345678.0].map(short), ["3.087", "0.5", "1.234e-5", "0", "1.235e7"]);
    }

    #[test]
    fn times_have_the_unit_of_their_size() {
        let shown = |seconds: f64| time(Duration::from_secs_f64(seconds));
        assert_eq!([0.04, 12.34, 125.4, 7384.0].map(shown), ["0.0 s", "12.3 s", "2:05 min", "2:03 h"]);
    }

    #[test]
    fn parts_are_wrapped_between_words() {
        let parts = ["one two".to_owned(), "three four".to_owned()];
        assert_eq!(wrapped("start: ", &parts, 80), ["start: one two; three four"]);
        assert_eq!(wrapped("start: ", &parts, 17), ["start: one two;", "      three four"]);
    }
}

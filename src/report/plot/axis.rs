//! Axes: the mapping from numbers to coordinates, and ticks.

/// The scale of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    Linear,
    /// Only for numbers above 0.
    Logarithmic,
}

/// A range of numbers and the range of coordinates for it.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    low: f64,
    high: f64,
    scale: Scale,
    paper: (f64, f64),
}

/// A labelled number of an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    pub value: f64,
    pub label: String,
}

/// The largest number of an axis. The differences of such numbers are finite.
const LARGEST: f64 = 1e300;
/// The share of the coordinates that is left free at both ends.
const FREE: f64 = 0.06;

impl Axis {
    /// An axis for all finite `values`, between two coordinates. It is linear if a logarithmic one cannot show a value.
    pub fn new(values: impl IntoIterator<Item = f64>, scale: Scale, paper: (f64, f64)) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.into_iter().filter(|value| value.is_finite()) {
            low = low.min(value.clamp(-LARGEST, LARGEST));
            high = high.max(value.clamp(-LARGEST, LARGEST));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let scale = if low > 0.0 { scale } else { Scale::Linear };
        let mut axis = Self { low, high, scale, paper };
        let (low, high) = (axis.spread(low), axis.spread(high));
        // Values that hardly differ would need labels of many digits.
        let least = 1e-6 * low.abs().max(high.abs());
        let free = if high - low > least { (high - low) * FREE } else { (low.abs() * 0.05).max(1e-3) };
        (axis.low, axis.high) = (low - free, high + free);
        axis
    }

    fn spread(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic => value.log10(),
        }
    }

    /// The coordinate of a number, clamped to the axis.
    pub fn at(&self, value: f64) -> f64 {
        let share = (self.spread(value) - self.low) / (self.high - self.low);
        let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        self.paper.0 + share * (self.paper.1 - self.paper.0)
    }

    /// At most `most` round numbers on the axis.
    pub fn ticks(&self, most: usize) -> Vec<Tick> {
        match self.scale {
            Scale::Linear => ticks(self.low, self.high, most),
            Scale::Logarithmic => decades(self.low, self.high, most),
        }
    }
}

/// The multiples in [low, high] of the smallest step of 1, 2 or 5 times a power of ten that has at most `most` of them.
pub fn ticks(low: f64, high: f64, most: usize) -> Vec<Tick> {
    let span = high - low;
    if !(span > 0.0 && span.is_finite()) || most == 0 {
        return Vec::new();
    }
    let first = (span / most as f64).log10().floor() as i32 - 1;
    for exponent in first..first + 4 {
        for digit in [1, 2, 5] {
            let step = number(digit, exponent);
            // Division of an end that is such a multiple may round.
            let (from, to) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
            if to - from < most as i64 {
                let large = low.abs().max(high.abs()) >= 1e6 || exponent < -5;
                let tick = |i: i64| {
                    let value = number(i * digit, exponent);
                    let label = match large {
                        true if value == 0.0 => "0".to_owned(),
                        true => format!("{value:e}"),
                        false => format!("{value:.*}", (-exponent).max(0) as usize),
                    };
                    Tick { value, label }
                };
                return (from..=to).map(tick).collect();
            }
        }
    }
    Vec::new()
}

/// Powers of ten between two logarithms, with their multiples by 2 and 5 if there is room, else only every second one, every third...
fn decades(low: f64, high: f64, most: usize) -> Vec<Tick> {
    let (first, last) = (low.floor() as i32, high.ceil() as i32);
    let inside = |tick: &Tick| (low..=high).contains(&tick.value.log10());
    let tick = |digit: i64, exponent: i32| {
        let value = number(digit, exponent);
        let label = if (-4..6).contains(&exponent) { format!("{value}") } else { format!("{value:e}") };
        Tick { value, label }
    };
    for digits in [&[1, 2, 5][..], &[1, 3], &[1]] {
        let of = |exponent| digits.iter().map(move |digit| tick(*digit, exponent));
        let found: Vec<Tick> = (first..=last).flat_map(of).filter(inside).collect();
        if found.len() <= most {
            return found;
        }
    }
    let every = (last - first) / most.max(1) as i32 + 1;
    (first..=last).filter(|exponent| exponent % every == 0).map(|exponent| tick(1, exponent)).filter(inside).collect()
}

/// `digits` times ten to `exponent`, as the decimal is read: 3 tenths are 0.3, and not 3 * 0.1.
fn number(digits: i64, exponent: i32) -> f64 {
    format!("{digits}e{exponent}").parse().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64, most: usize) -> Vec<String> {
        ticks(low, high, most).into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn steps_are_1_2_and_5() {
        assert_eq!(labels(-2.1, 2.1, 5), ["-2", "-1", "0", "1", "2"]);
        assert_eq!(labels(-0.03, 1.03, 6), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(48.9, 61.1, 5), ["50", "55", "60"]);
        assert_eq!(labels(0.0, 0.3, 4), ["0.0", "0.1", "0.2", "0.3"]);
        assert_eq!(labels(9.412, 9.418, 4), ["9.412", "9.414", "9.416", "9.418"]);
        assert_eq!(labels(0.0, 3e7, 4), ["0", "1e7", "2e7", "3e7"]);
        assert_eq!(labels(0.0, 3e-7, 4), ["0", "1e-7", "2e-7", "3e-7"]);
    }

    #[test]
    fn any_range_has_few_ticks_inside_it() {
        let numbers = [1e-300, 3.7e-9, 0.012, 0.99, 1.0, 7.3, 58.2, 12_345.6, 9.9e15, 1e300];
        for low in numbers.iter().flat_map(|n| [*n, -n]) {
            for width in numbers {
                let axis = Axis::new([low, low + width], Scale::Linear, (0.0, 100.0));
                for most in 2..8 {
                    let ticks = axis.ticks(most);
                    assert!((1..=most).contains(&ticks.len()), "{low} {width} {most}: {ticks:?}");
                    assert!(ticks.iter().all(|tick| (0.0..=100.0).contains(&axis.at(tick.value))));
                }
            }
        }
        for (low, high) in [(f64::NAN, 1.0), (1.0, 1.0), (2.0, 1.0), (0.0, f64::INFINITY)] {
            assert_eq!(ticks(low, high, 5), []);
        }
    }

    #[test]
    fn logarithms_are_spread_evenly() {
        let axis = Axis::new([1.0, 100.0, f64::NAN], Scale::Logarithmic, (100.0, 0.0));
        assert!((axis.at(10.0) - 50.0).abs() < 1e-9);
        assert_eq!((axis.at(-1.0), axis.at(0.0), axis.at(1e9)), (100.0, 100.0, 0.0));
        let labels = |values: [f64; 2], most| {
            let axis = Axis::new(values, Scale::Logarithmic, (0.0, 1.0));
            axis.ticks(most).into_iter().map(|tick| tick.label).collect::<Vec<_>>()
        };
        assert_eq!(labels([8.0, 220.0], 5), ["10", "20", "50", "100", "200"]);
        assert_eq!(labels([8.0, 22000.0], 5), ["10", "100", "1000", "10000"]);
        assert_eq!(labels([8.0, 2e30], 5), ["1", "1e7", "1e14", "1e21", "1e28"]);
        // 0 has no logarithm
        assert_eq!(labels([0.0, 100.0], 3), ["0", "50", "100"]);
    }

    #[test]
    fn one_number_and_no_number_have_an_axis() {
        for values in [vec![57.25], vec![0.0], vec![], vec![f64::INFINITY]] {
            let axis = Axis::new(values.clone(), Scale::Linear, (0.0, 100.0));
            assert!(!axis.ticks(5).is_empty(), "{values:?}");
        }
        assert!((Axis::new([57.25], Scale::Linear, (0.0, 100.0)).at(57.25) - 50.0).abs() < 1e-9);
    }
}

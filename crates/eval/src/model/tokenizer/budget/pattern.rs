//! What a regular expression may cost at each place of a text, worked out from its form.
//!
//! The library that runs it goes back and tries again whatever can be read in another way. How many ways there are is a polynomial of
//! the length of the text: each part that repeats without a limit, and after which something can fail, multiplies it by that length. A
//! repeated group that can itself be read in several ways, such as `(a+)+`, makes it exponential.

use std::iter::Peekable;
use std::ops::{Add, Mul};
use std::str::Chars;

/// Bytes of a pattern. The longest of published tokenizers is below 1000.
const PATTERN_BYTES_MAX: usize = 4096;
/// How deep groups may lie in each other.
const DEPTH_MAX: u32 = 16;
/// Repetitions that count as one step; more count as if there were no limit.
const FEW: u64 = 64;

/// Steps at a place of a text of length n: `constant + linear * n`, or more than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Cost {
    constant: u64,
    linear: u64,
    more: bool,
}

impl Cost {
    const ONE: Self = Self { constant: 1, linear: 0, more: false };
    const LENGTH: Self = Self { constant: 0, linear: 1, more: false };

    /// Refuses patterns, all of one tokenizer, that take more together. Those of published tokenizers have a `linear` of at most 4.
    pub fn check(self) -> Result<(), String> {
        let Self { constant, linear, more } = self;
        let (constant_max, linear_max) = (1 << 14, 16);
        if more {
            return Err("can take more than quadratic time of a text's length".to_owned());
        }
        if constant > constant_max || linear > linear_max {
            return Err(format!(
                "can take {constant} + {linear} n steps at each place of a text of length n, more than {constant_max} + {linear_max} n"
            ));
        }
        Ok(())
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            constant: self.constant.saturating_add(other.constant),
            linear: self.linear.saturating_add(other.linear),
            more: self.more || other.more,
        }
    }
}

impl Mul for Cost {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        let [a, b] = [self, other];
        Self {
            constant: a.constant.saturating_mul(b.constant),
            linear: a.constant.saturating_mul(b.linear).saturating_add(a.linear.saturating_mul(b.constant)),
            more: a.more || b.more || (a.linear > 0 && b.linear > 0),
        }
    }
}

/// What a part of a pattern is.
#[derive(Debug, Clone, Copy)]
struct Part {
    /// In how many ways it can be read.
    ways: Cost,
    /// Steps until it is found or has failed.
    cost: Cost,
    /// Whether it can fail.
    fails: bool,
    /// Whether it can be found where there is nothing.
    empty: bool,
}

impl Part {
    /// A character, or one of a class.
    const CHARACTER: Self = Self { ways: Cost::ONE, cost: Cost::ONE, fails: true, empty: false };
    /// A condition on a place.
    const PLACE: Self = Self { empty: true, ..Self::CHARACTER };

    /// The part so many times in a row.
    fn times(self, least: u64, most: Option<u64>) -> Self {
        let most = most.unwrap_or(u64::MAX);
        let ways = match most.saturating_sub(least) {
            _ if most > 1 && self.ways != Cost::ONE => Cost { more: true, ..self.ways },
            0 => self.ways,
            1 => self.ways + Cost::ONE,
            more @ 2..=FEW => Cost { constant: more + 1, ..Cost::ONE },
            _ => Cost::LENGTH + Cost::ONE,
        };
        // What is read moves on in the text, but for what looks further.
        let cost = match self.cost {
            // Each of those before can be read in another way when one fails.
            cost if least > 1 && self.ways != Cost::ONE => Cost { more: true, ..cost },
            cost if least > FEW || (most > FEW && cost.linear > 0) => cost * Cost::LENGTH,
            cost if most > 1 && cost.linear > 0 => cost * Cost { constant: most, ..Cost::ONE },
            cost => cost,
        };
        Self { ways, cost, fails: self.fails && least > 0, empty: self.empty || least == 0 }
    }
}

/// What a pattern costs, and whether it can be found where there is nothing.
///
/// # Errors
/// What is wrong with a pattern that costs more than that, or is written in a way that published tokenizers do not need.
pub(super) fn cost(pattern: &str) -> Result<(Cost, bool), String> {
    let refuse = |reason: String| {
        let shown: String = pattern.chars().take(80).collect();
        format!("its pattern {shown:?} {reason}")
    };
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(refuse(format!("has more than {PATTERN_BYTES_MAX} bytes")));
    }
    let mut reader = Reader { rest: pattern.chars().peekable(), depth: 0 };
    let whole = reader.alternatives().and_then(|part| match reader.rest.next() {
        None => Ok(part),
        Some(_) => Err("closes a group that it does not open".to_owned()),
    });
    let whole = whole.map_err(refuse)?;
    whole.cost.check().map_err(refuse)?;
    Ok((whole.cost, whole.empty))
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    depth: u32,
}

impl Reader<'_> {
    /// Alternatives, up to the end of the group that they are in.
    fn alternatives(&mut self) -> Result<Part, String> {
        let mut all = self.branch()?;
        while self.rest.next_if_eq(&'|').is_some() {
            let next = self.branch()?;
            all = Part {
                ways: all.ways + next.ways,
                cost: all.cost + next.cost,
                fails: all.fails && next.fails,
                empty: all.empty || next.empty,
            };
        }
        Ok(all)
    }

    /// Parts one after the other.
    fn branch(&mut self) -> Result<Part, String> {
        let mut parts = Vec::new();
        while let Some(next) = self.rest.peek() {
            if matches!(next, '|' | ')') {
                break;
            }
            let part = self.part()?;
            parts.push(self.repeated(part));
        }
        let mut branch = Part { ways: Cost::ONE, cost: Cost::default(), fails: false, empty: true };
        // After the last one that can fail nothing is read once more.
        let last = parts.iter().rposition(|part| part.fails);
        for (at, part) in parts.iter().enumerate() {
            let times = if last.is_some_and(|last| at <= last) { branch.ways } else { Cost::ONE };
            branch = Part {
                ways: branch.ways * part.ways,
                cost: branch.cost + times * part.cost,
                fails: branch.fails || part.fails,
                empty: branch.empty && part.empty,
            };
        }
        Ok(branch)
    }

    fn part(&mut self) -> Result<Part, String> {
        match self.rest.next() {
            Some('\\') => self.escape(),
            Some('[') => self.class(),
            Some('(') => {
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    return Err(format!("has groups more than {DEPTH_MAX} deep"));
                }
                let part = self.group()?;
                self.depth -= 1;
                Ok(part)
            }
            Some('^' | '$') => Ok(Part::PLACE),
            Some('*' | '+' | '?') => Err("repeats nothing".to_owned()),
            _ => Ok(Part::CHARACTER),
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<Part, String> {
        match self.rest.next() {
            None => Err("ends with a backslash".to_owned()),
            Some('1'..='9' | 'k' | 'g') => Err("refers to what it found before".to_owned()),
            Some(control @ ('c' | 'C' | 'M')) => Err(format!("has \\{control}, which is not read")),
            Some('b' | 'B' | 'A' | 'z' | 'Z' | 'G' | 'K' | 'y' | 'Y') => Ok(Part::PLACE),
            Some('p' | 'P' | 'x' | 'o' | 'u') => {
                if self.rest.next_if_eq(&'{').is_some() && !self.rest.any(|next| next == '}') {
                    return Err("does not close a brace".to_owned());
                }
                Ok(Part::CHARACTER)
            }
            Some(_) => Ok(Part::CHARACTER),
        }
    }

    /// The rest of a class of characters, which may have classes in it.
    fn class(&mut self) -> Result<Part, String> {
        let mut open = 1;
        self.begin_class()?;
        while open > 0 {
            match self.rest.next() {
                None => return Err("does not close a class of characters".to_owned()),
                Some('\\') => _ = self.escape()?,
                Some('[') => {
                    open += 1;
                    self.begin_class()?;
                }
                Some(']') => open -= 1,
                Some(_) => {}
            }
        }
        Ok(Part::CHARACTER)
    }

    fn begin_class(&mut self) -> Result<(), String> {
        self.rest.next_if_eq(&'^');
        // It may mean a class of nothing, or one of this character.
        if self.rest.peek() == Some(&']') { Err("begins a class of characters with ]".to_owned()) } else { Ok(()) }
    }

    /// The rest of a group.
    fn group(&mut self) -> Result<Part, String> {
        if self.rest.peek() == Some(&'*') {
            return Err("calls something".to_owned());
        }
        if self.rest.next_if_eq(&'?').is_none() {
            return self.end_of_group();
        }
        // What is looked at is read once more, however it is found.
        let looks = |inner: Part| {
            let read = if inner.ways.linear > 0 || inner.ways.more { Cost::LENGTH } else { Cost::default() };
            Part { cost: inner.cost + read, ..Part::PLACE }
        };
        match self.rest.next() {
            Some(':') => self.end_of_group(),
            // What is found is not read in another way.
            Some('>') => self.end_of_group().map(|inner| Part { ways: Cost::ONE, ..inner }),
            Some('=' | '!') => self.end_of_group().map(looks),
            Some('<') => match self.rest.next() {
                Some('=' | '!') => {
                    let inner = self.end_of_group()?;
                    if inner.ways.linear > 0 || inner.ways.more {
                        return Err("looks back without a limit".to_owned());
                    }
                    Ok(looks(inner))
                }
                Some(_) if self.rest.any(|next| next == '>') => self.end_of_group(),
                _ => Err("does not close the name of a group".to_owned()),
            },
            Some('i' | 'm' | 's' | '-') => self.flags(),
            _ => Err("has a kind of group that is not read".to_owned()),
        }
    }

    /// The rest of a group that begins with flags, or of the group that flags are in.
    fn flags(&mut self) -> Result<Part, String> {
        loop {
            match self.rest.next() {
                Some('i' | 'm' | 's' | '-') => {}
                Some(':') => return self.end_of_group(),
                // What follows, alternatives too, belongs to the flags.
                Some(')') => return self.alternatives(),
                _ => return Err("has flags that are not read".to_owned()),
            }
        }
    }

    fn end_of_group(&mut self) -> Result<Part, String> {
        let part = self.alternatives()?;
        if self.rest.next() == Some(')') { Ok(part) } else { Err("does not close a group".to_owned()) }
    }

    /// The part with the repetitions that follow it.
    fn repeated(&mut self, mut part: Part) -> Part {
        while let Some(next) = self.rest.peek().copied() {
            let Some((least, most)) = self.repetition() else { break };
            part = part.times(least, most);
            // Lazy or possessive; after a brace one of several meanings.
            if next != '{' {
                self.rest.next_if(|next| matches!(next, '?' | '+'));
            } else if self.rest.next_if_eq(&'?').is_some() {
                part.ways = part.ways + Cost::ONE;
            } else if self.rest.next_if_eq(&'+').is_some() {
                part = Part { fails: part.fails, ..part.times(1, None) };
            }
        }
        part
    }

    /// How often the part before is repeated, at least and at most.
    fn repetition(&mut self) -> Option<(u64, Option<u64>)> {
        match self.rest.peek()? {
            '*' => _ = self.rest.next(),
            '+' => {
                self.rest.next();
                return Some((1, None));
            }
            '?' => {
                self.rest.next();
                return Some((0, Some(1)));
            }
            '{' => {
                // A brace that says no numbers is a character.
                let mut ahead = self.rest.clone();
                ahead.next();
                let text: String = ahead.by_ref().take_while(|next| *next != '}').take(24).collect();
                let range = interval(&text)?;
                self.rest = ahead;
                return Some(range);
            }
            _ => return None,
        }
        Some((0, None))
    }
}

/// `n`, `n,`, `,m` or `n,m`.
fn interval(text: &str) -> Option<(u64, Option<u64>)> {
    let number = |text: &str| text.parse::<u64>().ok();
    match text.split_once(',') {
        None => number(text).map(|n| (n, Some(n))),
        Some(("", "")) => None,
        Some((least, "")) => number(least).map(|least| (least, None)),
        Some(("", most)) => number(most).map(|most| (0, Some(most))),
        Some((one, other)) => {
            let (one, other) = (number(one)?, number(other)?);
            Some((one.min(other), Some(one.max(other))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_patterns_are_linear() {
        for (pattern, linear) in [
            (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", 1),
            (
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
                2,
            ),
            (
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
                4,
            ),
            (
                r"[!\x22#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
                2,
            ),
            (r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", 0),
            (r"\d{1,3}(?=(?:\d{3})*\b)", 6),
            (" ?[^(\\s|[.,!?\u{2026}])]+", 0),
            (r"[!(+*]\)+", 0),
            (" {2,}", 0),
            (r"(a+)?", 0),
            (r"\p{N}{1,3}+", 0),
            ("(?:a*)*", 0),
            ("a++b", 1),
            ("x{a}", 0),
        ] {
            let (cost, _) = cost(pattern).unwrap_or_else(|error| panic!("{error}"));
            assert!(cost.linear <= linear, "{pattern}: {cost:?}");
        }
    }

    #[test]
    fn patterns_that_can_take_long_are_refused() {
        for (pattern, why) in [
            ("(a+)+$", "quadratic"),
            ("(?:a*)*b", "quadratic"),
            ("((a|b+)c)*d", "quadratic"),
            ("(a|a)*b", "quadratic"),
            ("(a?){40}b", "quadratic"),
            (r"(\p{L}{2,}){3,}", "quadratic"),
            ("a{1,3}+b", "quadratic"),
            ("a**b", "quadratic"),
            ("a+*b", "quadratic"),
            ("a*a*b{1,2}?", "quadratic"),
            ("(?:a(?=.*x)|a)*", "quadratic"),
            ("a*a*b", "quadratic"),
            ("x|.*.*.*y", "quadratic"),
            ("b*(?=a*)c", "quadratic"),
            ("a{0,1000}a{0,1000}b", "quadratic"),
            ("(a*)b*c", "quadratic"),
            ("(?i)a*|b*c*d", "quadratic"),
            ("a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?aaaaaaaaaaaaaaaa", "steps"),
            (".*a|.*b|.*c|.*d|.*e|.*f|.*g|.*h|.*i|.*j|.*k|.*l|.*m|.*n|.*o|.*p|.*q", "17 n steps"),
            (r"(a)\1", "found before"),
            (r"(?<x>a)\k<x>", "found before"),
            (r"(?<x>a)\g<x>", "found before"),
            ("(?<=a*)b", "without a limit"),
            ("(?~a)", "not read"),
            ("(?(1)a)", "not read"),
            ("(?x)a # [", "not read"),
            ("(*FAIL)", "calls"),
            ("[]a*]", "with ]"),
            (r"\c[a*a*b", "not read"),
            (r"[\c]a*a*b", "not read"),
            ("*a", "repeats nothing"),
            ("(a", "does not close"),
            ("a)", "does not open"),
            ("[a", "does not close"),
            ("\\", "backslash"),
            (&"x".repeat(5000), "5000 bytes"),
            (&"(".repeat(50), "deep"),
        ] {
            let error = cost(pattern).expect_err(pattern);
            let why = if why == "5000 bytes" { "4096 bytes" } else { why };
            assert!(error.contains(why), "{pattern}: {error}");
        }
    }

    #[test]
    fn what_can_be_found_in_nothing_is_known() {
        for (pattern, empty) in
            [("a*", true), ("a|", true), ("", true), ("(?=a)", true), ("^", true), ("a*b", false), (r"\p{L}+", false)]
        {
            assert_eq!(cost(pattern).unwrap().1, empty, "{pattern}");
        }
    }
}

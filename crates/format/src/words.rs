//! Numbers in messages.

/// `1234567` as `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number and its noun, which is given in the singular: `1 weight`, `1,234 weights`, `0 patches`.
pub fn counted(n: impl TryInto<u64>, noun: &str) -> String {
    let n = n.try_into().unwrap_or(u64::MAX);
    format!("{} {}", count(n), plural(n, noun))
}

/// The noun alone, in the number that goes with `n`: `weight` with 1, else `weights`.
pub fn plural(n: impl TryInto<u64>, noun: &str) -> String {
    match n.try_into() {
        Ok(1) => noun.to_owned(),
        _ if noun.ends_with("ch") => format!("{noun}es"),
        _ => format!("{noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        assert_eq!([0, 999, 1000, 1234567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn one_thing_is_singular() {
        assert_eq!(counted(1, "weight"), "1 weight");
        assert_eq!(counted(0usize, "weight"), "0 weights");
        assert_eq!(counted(1234u64, "more patch"), "1,234 more patches");
        assert_eq!(plural(1u32, "weight"), "weight");
    }
}

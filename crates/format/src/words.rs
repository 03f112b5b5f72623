//! Numbers and names in messages.

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

/// How many names are compared with one that is not there, and how long they may be, in bytes.
const NAMES_MAX: usize = 10_000;
const NAME_MAX: usize = 256;

/// The names that are most like `wanted`, at most three, best first. `*` in `wanted` stands for any text.
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let short = names.into_iter().filter(|name| name.len() <= NAME_MAX).take(NAMES_MAX);
    let mut found: Vec<(usize, &str)> = short.map(|name| (distance(wanted, name), name)).collect();
    let length = |name: &str| if wanted.contains('*') { wanted.len() } else { wanted.len().max(name.len()) };
    found.retain(|(distance, name)| *distance <= length(name) / 2);
    found.sort();
    found.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
}

/// How many bytes have to be changed, added or left out to make `a` of `b` (Levenshtein), letters of both cases being equal. `*` in `a`
/// is made of any bytes at no cost.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_ascii_lowercase().into_bytes(), b.to_ascii_lowercase().into_bytes());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for x in &a {
        let of_edit = usize::from(*x != b'*');
        let mut diagonal = row.first().copied().unwrap_or(0);
        let mut left = diagonal + of_edit;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let above = *cell;
            let changed = diagonal + usize::from(x != y && *x != b'*');
            left = changed.min(above + of_edit).min(left + of_edit);
            diagonal = above;
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        assert_eq!([0, 999, 1000, 1234567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn nearest_names_come_first_and_others_not_at_all() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "ABC"), 0);
        let names = ["model.safetensors", "config.json", "models.safetensors", "README.md"];
        assert_eq!(nearest("modell.safetensors", names), ["model.safetensors", "models.safetensors"]);
        assert_eq!(nearest("p.lcepatch", ["config.json"]), Vec::<String>::new());
    }

    #[test]
    fn a_star_stands_for_any_text() {
        assert_eq!([distance("*", "abc"), distance("a*c", "ac"), distance("*b*", "abc")], [0; 3]);
        assert_eq!([distance("*.x", "abc.y"), distance("a*", "b"), distance("*a", "")], [1; 3]);
        let names = ["h.0.attn.weight", "h.0.mlp.weight", "wte"];
        assert_eq!(nearest("*.atn.*", names), ["h.0.attn.weight", "h.0.mlp.weight"]);
        assert_eq!(nearest("*.embeddings.*", names), Vec::<String>::new());
    }

    #[test]
    fn one_thing_is_singular() {
        assert_eq!(counted(1, "weight"), "1 weight");
        assert_eq!(counted(0usize, "weight"), "0 weights");
        assert_eq!(counted(1234u64, "more patch"), "1,234 more patches");
        assert_eq!(plural(1u32, "weight"), "weight");
    }
}

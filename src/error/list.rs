//! Lists that are too long to be shown: their first ten, and how many more there are.

use crate::words::counted;

/// How many of a list are shown.
const SHOWN: usize = 10;

/// The first ten, and how many more there are.
pub fn first_ten<T>(items: impl ExactSizeIterator<Item = T>) -> (Vec<T>, usize) {
    let more = items.len().saturating_sub(SHOWN);
    (items.take(SHOWN).collect(), more)
}

/// In a sentence: `a, b and 3 more`.
pub fn named<T: ToString>(items: impl ExactSizeIterator<Item = T>) -> String {
    let (first, more) = first_ten(items.map(|item| item.to_string()));
    let first = first.join(", ");
    if more > 0 { format!("{first} and {more} more") } else { first }
}

/// Below each other; in the end `and 3 more WHATs`, with the rest of a sentence.
pub(super) fn lines(items: impl ExactSizeIterator<Item = String>, what: &str, rest: &str) -> Vec<String> {
    let (mut lines, more) = first_ten(items);
    if more > 0 {
        lines.push(format!("and {}{rest}", counted(more, &format!("more {what}"))));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_are_shown_and_the_others_counted() {
        assert_eq!(first_ten([1, 2].into_iter()), (vec![1, 2], 0));
        assert_eq!(first_ten(0..12).1, 2);
        assert_eq!(named(0..10), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9");
        assert_eq!(named(0..12), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more");
        let last =
            |n: u8| lines((0..n).map(|n| n.to_string()).collect::<Vec<_>>().into_iter(), "number", " here").pop();
        assert_eq!(last(11).as_deref(), Some("and 1 more number here"));
        assert_eq!(last(12).as_deref(), Some("and 2 more numbers here"));
    }
}

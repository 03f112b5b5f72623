//! Aligns two token sequences exactly like Python's `difflib.SequenceMatcher`.
//!
//! Published scores of CrowS-Pairs depend on this alignment (Ratcliff and Obershelp: the longest common block, then recursively left and
//! right of it), which is not the one with the fewest edits. As in Python (`autojunk`), no block starts from a token that is popular in a
//! long sequence.

use std::collections::HashMap;
use std::ops::Range;

/// Sequences of at least this length have popular tokens: those with more than 1 % of the positions, and one.
const POPULAR_FROM: usize = 200;

/// Positions of two sequences.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Alignment {
    /// Positions with equal tokens, ascending on both sides.
    pub equal: Vec<(usize, usize)>,
    /// The other positions of the first sequence.
    pub first: Vec<usize>,
    /// The other positions of the second sequence.
    pub second: Vec<usize>,
}

impl Alignment {
    /// Aligns `first` with `second`. Swapping them can give another alignment.
    pub fn of(first: &[u32], second: &[u32]) -> Self {
        let mut equal = Vec::new();
        let anchors = anchors(second);
        let mut open = vec![(0..first.len(), 0..second.len())];
        while let Some((a, b)) = open.pop() {
            let block = longest_block(first, second, &anchors, a.clone(), b.clone());
            if block.length == 0 {
                continue;
            }
            let (a_end, b_end) = (block.first + block.length, block.second + block.length);
            equal.extend((block.first..a_end).zip(block.second..b_end));
            open.push((a.start..block.first, b.start..block.second));
            open.push((a_end..a.end, b_end..b.end));
        }
        equal.sort_unstable();
        Self {
            first: others(first.len(), equal.iter().map(|pair| pair.0)),
            second: others(second.len(), equal.iter().map(|pair| pair.1)),
            equal,
        }
    }
}

/// The positions below `length` that are not in `equal`, which ascends.
fn others(length: usize, equal: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut equal = equal.peekable();
    (0..length).filter(|position| equal.next_if_eq(position).is_none()).collect()
}

/// The positions of each token, ascending. Popular tokens are left out.
fn anchors(sequence: &[u32]) -> HashMap<u32, Vec<usize>> {
    let mut places: HashMap<u32, Vec<usize>> = HashMap::new();
    for (position, &token) in sequence.iter().enumerate() {
        places.entry(token).or_default().push(position);
    }
    if sequence.len() >= POPULAR_FROM {
        places.retain(|_, positions| positions.len() <= sequence.len() / 100 + 1);
    }
    places
}

struct Block {
    first: usize,
    second: usize,
    length: usize,
}

/// The longest common block of the ranges `a` of `first` and `b` of `second`. Of several, the one that starts first in `a`, then in `b`.
fn longest_block(
    first: &[u32],
    second: &[u32],
    anchors: &HashMap<u32, Vec<usize>>,
    a: Range<usize>,
    b: Range<usize>,
) -> Block {
    let mut best = Block { first: a.start, second: b.start, length: 0 };
    // For the previous and the current position of `first`: positions of `second`, ascending, each with the length of the common block
    // that ends at both.
    let [mut previous, mut current]: [Vec<(usize, usize)>; 2] = Default::default();
    for i in a.clone() {
        let places = anchors.get(&first[i]).map_or(&[][..], Vec::as_slice);
        let places = &places[places.partition_point(|j| *j < b.start)..];
        let mut before = previous.iter().peekable();
        for &j in places.iter().take_while(|j| **j < b.end) {
            while before.next_if(|(place, _)| place + 1 < j).is_some() {}
            let length = 1 + before.next_if(|(place, _)| place + 1 == j).map_or(0, |(_, length)| *length);
            current.push((j, length));
            if length > best.length {
                best = Block { first: i + 1 - length, second: j + 1 - length, length };
            }
        }
        std::mem::swap(&mut previous, &mut current);
        current.clear();
    }
    // No block starts from a popular token, but blocks are extended over popular tokens next to them.
    while best.first > a.start && best.second > b.start && first[best.first - 1] == second[best.second - 1] {
        best.first -= 1;
        best.second -= 1;
        best.length += 1;
    }
    while let (i, j) = (best.first + best.length, best.second + best.length)
        && i < a.end
        && j < b.end
        && first[i] == second[j]
    {
        best.length += 1;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_block_wins_over_fewer_edits() {
        // "... to women than men" / "... to men than women": one block of three, and the fourth word on neither side
        let alignment = Alignment::of(&[1, 5, 7, 6, 2], &[1, 6, 7, 5, 2]);
        assert_eq!(alignment.equal, [(0, 0), (1, 3), (4, 4)]);
        assert_eq!((alignment.first, alignment.second), (vec![2, 3], vec![1, 2]));
    }

    #[test]
    fn insertions_leave_nothing_on_one_side() {
        let alignment = Alignment::of(&[1, 2, 3], &[1, 9, 2, 3]);
        assert_eq!((alignment.first, alignment.second), (vec![], vec![1]));
        assert_eq!(Alignment::of(&[], &[]), Alignment::default());
    }

    /// The blocks are those of Python 3.11.
    #[test]
    fn popular_tokens_of_long_sequences_begin_no_block() {
        let first = [vec![7; 150], vec![1, 2, 3], vec![7; 50]].concat();
        let second = [vec![1, 2, 3], vec![7; 200]].concat();
        let block = |first: Range<usize>, second: Range<usize>| first.zip(second).collect::<Vec<_>>();
        assert_eq!(Alignment::of(&first, &second).equal, block(150..203, 0..53));
        // short sequences have none
        assert_eq!(Alignment::of(&first[..143], &second[..143]).equal, block(0..140, 3..143));
    }
}

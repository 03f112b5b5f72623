//! Divides texts into token sequences that fit a masked model.

use super::Text;
use crate::measure::{BadData, Encoding, ModelFacts, ModelKind, Tokens};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// A text, or a part of one, with the special tokens around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::measure) struct Piece {
    /// The index of its text.
    pub(in crate::measure) text: usize,
    pub(in crate::measure) encoding: Encoding,
}

impl Piece {
    /// The positions of the tokens of the text, without special tokens.
    pub(in crate::measure) fn text_positions(&self) -> impl Iterator<Item = usize> + '_ {
        self.encoding.special.iter().enumerate().filter(|(_, special)| !**special).map(|(position, _)| position)
    }
}

/// The pieces of all texts, in order.
#[derive(Debug, Default)]
pub(in crate::measure) struct Pieces {
    pub(in crate::measure) pieces: Vec<Piece>,
    pub(in crate::measure) counts: BTreeMap<String, u64>,
}

impl Text {
    /// The mask token of a masked language model.
    ///
    /// # Errors
    /// [`BadData::Kind`]: the model is of another kind, or has no mask token.
    pub(in crate::measure) fn mask(
        measure: &'static str,
        tokens: &dyn Tokens,
        facts: &ModelFacts,
    ) -> Result<u32, BadData> {
        let needs = "a masked language model";
        match (facts.kind, tokens.mask()) {
            (ModelKind::Masked, Some(mask)) => Ok(mask.id),
            (ModelKind::Masked, None) => Err(BadData::Kind { measure, needs, found: "one without a mask token" }),
            (kind, _) => Err(BadData::Kind { measure, needs, found: kind.in_words() }),
        }
    }

    /// Encodes the texts with the special tokens that the model expects. Texts that are longer than the model takes are divided into as
    /// few pieces as possible, of about the same length, each with the special tokens; they are counted.
    pub(in crate::measure) fn pieces(
        &self,
        measure: &'static str,
        tokens: &dyn Tokens,
        facts: &ModelFacts,
    ) -> Result<Pieces, BadData> {
        let encodings: Vec<Encoding> = self.texts.par_iter().map(|text| tokens.encode(text)).collect();
        let mut found = Pieces { pieces: Vec::with_capacity(encodings.len()), counts: self.counts.clone() };
        let mut count = |name: &str, n: u64| *found.counts.entry(name.to_owned()).or_default() += n;
        for (text, encoding) in encodings.into_iter().enumerate() {
            if encoding.special.iter().all(|special| *special) {
                count("left out: texts without tokens", 1);
                continue;
            }
            let pieces = cut(&encoding, facts.positions as usize).ok_or_else(|| {
                let reason =
                    format!("the model takes {} tokens, which leaves none beside the special ones", facts.positions);
                self.empty(measure, reason)
            })?;
            if pieces.len() > 1 {
                count("longer than the model takes", 1);
                count("pieces of those", pieces.len() as u64);
            }
            found.pieces.extend(pieces.into_iter().map(|encoding| Piece { text, encoding }));
        }
        Ok(found)
    }
}

/// The pieces of an encoding, each of at most `positions` tokens. None if the special tokens at its ends leave no room.
fn cut(encoding: &Encoding, positions: usize) -> Option<Vec<Encoding>> {
    let length = encoding.len();
    if length <= positions {
        return Some(vec![encoding.clone()]);
    }
    let start = encoding.special.iter().take_while(|special| **special).count();
    let end = length - encoding.special.iter().rev().take_while(|special| **special).count();
    let inner = end.checked_sub(start)?;
    let room = positions.checked_sub(length - inner).filter(|room| *room > 0)?;
    let pieces = inner.div_ceil(room);
    let piece = |k: usize| {
        let (from, to) = (start + inner * k / pieces, start + inner * (k + 1) / pieces);
        Encoding {
            ids: join(&encoding.ids, start, from..to, end),
            special: join(&encoding.special, start, from..to, end),
            words: join(&encoding.words, start, from..to, end),
        }
    };
    Some((0..pieces).map(piece).collect())
}

fn join<T: Clone>(items: &[T], start: usize, inner: std::ops::Range<usize>, end: usize) -> Vec<T> {
    [&items[..start], &items[inner], &items[end..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::fake::{CLS, FakeTokens, SEP};

    #[test]
    fn what_does_not_fit_is_cut_evenly() {
        let encoding = FakeTokens.encode("one two three four five");
        assert_eq!(encoding.len(), 8);
        assert_eq!(cut(&encoding, 8), Some(vec![encoding.clone()]));
        let pieces = cut(&encoding, 6).unwrap();
        assert_eq!(pieces.iter().map(Encoding::len).collect::<Vec<_>>(), [5, 5]);
        let inner: Vec<u32> = pieces.iter().flat_map(|piece| piece.ids[1..piece.len() - 1].to_vec()).collect();
        assert_eq!(inner, encoding.ids[1..7]);
        assert!(
            pieces.iter().all(|piece| piece.ids[0] == CLS && piece.ids[piece.len() - 1] == SEP && piece.special[0])
        );
        assert_eq!(pieces[1].words, [None, Some(2), Some(3), Some(4), None]);
        assert_eq!(cut(&encoding, 3).unwrap().len(), 6);
        assert_eq!(cut(&encoding, 2), None);
    }
}

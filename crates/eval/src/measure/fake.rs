//! A tokenizer for tests: words at blanks, in pieces of four letters, between `[CLS]` and `[SEP]`.

use super::{Encoding, Mask, ModelFacts, ModelKind, Tokens};
use lcepatch_format::random::number;

pub(super) const VOCABULARY: u32 = 50_000;
pub(super) const CLS: u32 = 1;
pub(super) const SEP: u32 = 2;
pub(super) const MASK: u32 = 3;
pub(super) const BEGIN: u32 = 4;

pub(super) struct FakeTokens;

pub(super) fn facts(kind: ModelKind, positions: u32) -> ModelFacts {
    ModelFacts { kind, positions, vocabulary: VOCABULARY, layers: 2 }
}

impl Tokens for FakeTokens {
    fn encode(&self, text: &str) -> Encoding {
        let plain = self.encode_plain(text);
        let around = |first, inner: Vec<_>, last| [vec![first], inner, vec![last]].concat();
        Encoding {
            ids: [vec![CLS], plain.ids, vec![SEP]].concat(),
            special: around(true, plain.special, true),
            words: [vec![None], plain.words, vec![None]].concat(),
        }
    }

    fn encode_plain(&self, text: &str) -> Encoding {
        let mut encoding = Encoding::default();
        for (place, word) in text.split_whitespace().enumerate() {
            for piece in word.as_bytes().chunks(4) {
                let key = piece.iter().fold(0, |key, byte| key * 256 + u64::from(*byte));
                encoding.ids.push(10 + (number(0, key) % u64::from(VOCABULARY - 10)) as u32);
                encoding.special.push(false);
                encoding.words.push(Some(place as u32));
            }
        }
        encoding
    }

    fn decode(&self, ids: &[u32]) -> String {
        format!("{ids:?}")
    }

    fn mask(&self) -> Option<Mask> {
        Some(Mask { id: MASK, text: "[MASK]".to_owned() })
    }

    fn begin(&self) -> Option<u32> {
        Some(BEGIN)
    }

    fn words_begin_with_a_blank(&self) -> bool {
        false
    }
}

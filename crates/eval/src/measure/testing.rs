//! Tokenizers and answers for tests of measures.

use super::{Answers, Encoding, Mask, ModelFacts, ModelKind, Tokens, WorkList};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

/// A masked language model of ample size.
pub(super) const MASKED: ModelFacts =
    ModelFacts { kind: ModelKind::Masked, positions: 512, vocabulary: 1 << 30, layers: 2 };
/// A causal one.
pub(super) const CAUSAL: ModelFacts =
    ModelFacts { kind: ModelKind::Causal, positions: 512, vocabulary: 1 << 30, layers: 2 };

/// A model's answers by rule: of the ids, the position and the token that is asked for.
pub(super) fn answer(work: &WorkList, rule: impl Fn(&[u32], u32, u32) -> f32) -> Answers {
    let answers = work.log_probabilities().iter().map(|question| {
        let ids = &work.sequences()[question.sequence.0];
        rule(ids, question.position, question.token)
    });
    Answers { log_probabilities: answers.collect(), ..Answers::default() }
}

/// Words between blanks, cut into pieces of four characters; ids begin with the first letter's code times 2^16.
pub(super) struct Words {
    pub causal: bool,
    pub blank_belongs_to_word: bool,
    pieces: Mutex<BTreeMap<u32, String>>,
}

pub(super) const CLS: u32 = 1;
pub(super) const SEP: u32 = 2;
pub(super) const MASK: u32 = 3;
pub(super) const BEGIN: u32 = 4;

impl Words {
    pub fn masked() -> Self {
        Self { causal: false, blank_belongs_to_word: false, pieces: Mutex::default() }
    }

    pub fn causal() -> Self {
        Self { causal: true, ..Self::masked() }
    }

    /// The id of a piece; pieces inside a word begin with `##`.
    pub fn id(&self, piece: &str) -> u32 {
        if piece == "[MASK]" {
            return MASK;
        }
        let id = piece.bytes().fold(7, |id: u32, byte| id.wrapping_mul(31).wrapping_add(byte.into())) % (1 << 29) + 16;
        self.pieces.lock().unwrap().insert(id, piece.to_owned());
        id
    }
}

impl Tokens for Words {
    fn encode(&self, text: &str) -> Encoding {
        let mut encoding = self.encode_plain(text);
        if !self.causal {
            encoding.ids.insert(0, CLS);
            encoding.ids.push(SEP);
            encoding.special.insert(0, true);
            encoding.special.push(true);
            encoding.words.insert(0, None);
            encoding.words.push(None);
        }
        encoding
    }

    fn encode_plain(&self, text: &str) -> Encoding {
        let mut encoding = Encoding::default();
        let text = text.replace("[MASK]", " [MASK] ");
        for (place, word) in (0u32..).zip(text.split_whitespace()) {
            let letters: Vec<char> = word.chars().collect();
            let pieces =
                letters.chunks(if word == "[MASK]" { 6 } else { 4 }).map(|piece| piece.iter().collect::<String>());
            for (i, piece) in pieces.enumerate() {
                encoding.ids.push(self.id(&if i > 0 { format!("##{piece}") } else { piece }));
                encoding.special.push(false);
                encoding.words.push(Some(place));
            }
        }
        encoding
    }

    fn decode(&self, ids: &[u32]) -> String {
        let pieces = self.pieces.lock().unwrap();
        ids.iter().map(|id| pieces[id].as_str()).collect::<Vec<_>>().join(" ").replace(" ##", "")
    }

    fn mask(&self) -> Option<Mask> {
        (!self.causal).then(|| Mask { id: MASK, text: "[MASK]".to_owned() })
    }

    fn begin(&self) -> Option<u32> {
        self.causal.then_some(BEGIN)
    }

    fn words_begin_with_a_blank(&self) -> bool {
        self.blank_belongs_to_word
    }
}

/// The tokenizer of bert-base-uncased, as a sentence encoder carries it.
pub(super) struct BertUncased(tokenizers::Tokenizer);

impl BertUncased {
    /// From the folder in `LCEPATCH_MINILM`, for tests that are ignored without it.
    pub fn provided() -> Self {
        let folder = std::env::var_os("LCEPATCH_MINILM").expect("LCEPATCH_MINILM names the folder of the encoder");
        let mut tokenizer = tokenizers::Tokenizer::from_file(PathBuf::from(folder).join("tokenizer.json")).unwrap();
        tokenizer.with_truncation(None).unwrap();
        tokenizer.with_padding(None);
        Self(tokenizer)
    }

    fn encoded(&self, text: &str, special: bool) -> Encoding {
        let encoding = self.0.encode(text, special).unwrap();
        Encoding {
            ids: encoding.get_ids().to_vec(),
            special: encoding.get_special_tokens_mask().iter().map(|&special| special == 1).collect(),
            words: encoding.get_word_ids().to_vec(),
        }
    }
}

impl Tokens for BertUncased {
    fn encode(&self, text: &str) -> Encoding {
        self.encoded(text, true)
    }

    fn encode_plain(&self, text: &str) -> Encoding {
        self.encoded(text, false)
    }

    fn decode(&self, ids: &[u32]) -> String {
        self.0.decode(ids, false).unwrap()
    }

    fn mask(&self) -> Option<Mask> {
        Some(Mask { id: self.0.token_to_id("[MASK]").unwrap(), text: "[MASK]".to_owned() })
    }

    fn begin(&self) -> Option<u32> {
        None
    }

    fn words_begin_with_a_blank(&self) -> bool {
        false
    }
}

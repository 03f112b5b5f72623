//! The inputs with which the published code scores an option: the word that fills the blank, piece by piece.

use super::super::token_questions::{Skipped, fits};
use super::super::{Mask, ModelFacts, Tokens};

/// The placeholder for the option in a context.
const BLANK: &str = "BLANK";

const NO_BLANK: Skipped = "skipped: no BLANK in the context";
const NO_WORD: Skipped = "skipped: no word in the place of BLANK";
const NO_SINGLE_MASK: Skipped = "skipped: not one mask in the tokens";

/// Whether a context has a blank; triples of the intersentence task have none.
pub(crate) fn has_blank(context: &str) -> bool {
    context.contains(BLANK)
}

/// A text with one mask, and the word piece that is predicted at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MaskedInput {
    /// Token ids with special tokens.
    pub ids: Vec<u32>,
    /// The position of the mask.
    pub position: u32,
    /// The predicted piece.
    pub target: u32,
    /// Whether the pieces before it are tokens of the text. They may not be, since the text is tokenized again with them in it; the
    /// published code does not check.
    pub prefix_is_kept: bool,
}

/// The word of a sentence that replaces the BLANK, without ASCII punctuation: the word with the index of the context's last word with a
/// BLANK, where words are separated by single blanks. If the BLANK is a part of a word, this is the whole word, as in the published code.
pub fn word(context: &str, sentence: &str) -> Result<String, Skipped> {
    let place = context.split(' ').enumerate().filter(|(_, word)| has_blank(word)).last().ok_or(NO_BLANK)?.0;
    let word: String =
        sentence.split(' ').nth(place).ok_or(NO_WORD)?.chars().filter(|c| !c.is_ascii_punctuation()).collect();
    if word.is_empty() { Err(NO_WORD) } else { Ok(word) }
}

/// One input for each piece of the word: the context with the pieces before it and one mask in place of every BLANK. Pieces after it are
/// left out.
pub(crate) fn masked_inputs(
    context: &str,
    word: &str,
    mask: &Mask,
    tokens: &dyn Tokens,
    facts: &ModelFacts,
) -> Result<Vec<MaskedInput>, Skipped> {
    let inside = if tokens.words_begin_with_a_blank() { format!(" {word}") } else { word.to_owned() };
    let pieces = tokens.encode_plain(&inside).ids;
    if pieces.is_empty() {
        return Err(NO_WORD);
    }
    let input = |(k, &target): (usize, &u32)| {
        let prefix = &pieces[..k];
        let before = if prefix.is_empty() { String::new() } else { tokens.decode(prefix) };
        let text = tokens.encode(&context.replace(BLANK, &format!("{before}{}", mask.text)));
        fits(&text, facts)?;
        let mut places = (0u32..).zip(&text.ids).filter(|(_, id)| **id == mask.id).map(|(place, _)| place);
        let (Some(position), None) = (places.next(), places.next()) else { return Err(NO_SINGLE_MASK) };
        let prefix_is_kept = text.ids.get(..position as usize).is_some_and(|ids| ids.ends_with(prefix));
        Ok(MaskedInput { ids: text.ids, position, target, prefix_is_kept })
    };
    pieces.iter().enumerate().map(input).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{CLS, MASK, MASKED, SEP, Words};
    use super::*;

    #[test]
    fn the_word_is_the_one_at_the_last_blank() {
        assert_eq!(word("He is BLANK.", "He is strong-willed.").as_deref(), Ok("strongwilled"));
        assert_eq!(word("A BLANK and  a BLANK one", "A b and  a big one").as_deref(), Ok("big"));
        // published quirks: words that only contain the blank are taken whole, two blanks make an empty word
        assert_eq!(word("BLANKed it", "Braided it").as_deref(), Ok("Braided"));
        assert_eq!(word("a BLANK b", "a  c b"), Err(NO_WORD));
        assert_eq!(word("a b BLANK", "a b"), Err(NO_WORD));
        assert_eq!(word("a b", "a b"), Err(NO_BLANK));
    }

    #[test]
    fn pieces_are_asked_left_to_right_with_one_mask() {
        let tokens = Words::masked();
        let mask = tokens.mask().unwrap();
        let inputs = masked_inputs("a BLANK b", "disorder", &mask, &tokens, &MASKED).unwrap();
        let [a, b, diso, rder] = ["a", "b", "diso", "##rder"].map(|piece| tokens.id(piece));
        let expected =
            |ids: &[u32], position, target| MaskedInput { ids: ids.to_vec(), position, target, prefix_is_kept: true };
        assert_eq!(
            inputs,
            [expected(&[CLS, a, MASK, b, SEP], 2, diso), expected(&[CLS, a, diso, MASK, b, SEP], 3, rder)]
        );
    }

    #[test]
    fn a_prefix_that_is_tokenized_otherwise_is_noticed() {
        let tokens = Words::masked();
        let mask = tokens.mask().unwrap();
        // the prefix joins the letters before it: `xxdi`, not `diso`
        let inputs = masked_inputs("xxBLANK", "disorder", &mask, &tokens, &MASKED).unwrap();
        assert_eq!(inputs.iter().map(|input| input.prefix_is_kept).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn what_cannot_be_asked_is_skipped_with_its_reason() {
        let tokens = Words::masked();
        let mask = tokens.mask().unwrap();
        let skipped = |context: &str, word| masked_inputs(context, word, &mask, &tokens, &MASKED).unwrap_err();
        assert_eq!(skipped("BLANK BLANK", "a"), NO_SINGLE_MASK);
        assert_eq!(skipped("a [MASK] BLANK", "a"), NO_SINGLE_MASK);
        assert_eq!(skipped("a BLANK", ""), NO_WORD);
        assert_eq!(skipped(&format!("BLANK{}", " a".repeat(600)), "b"), super::super::super::token_questions::TOO_LONG);
    }
}

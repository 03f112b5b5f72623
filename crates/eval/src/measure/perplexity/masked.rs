//! The perplexity of masked language modelling: the loss that the model was trained on.

use super::losses::Losses;
use crate::measure::sampling::{choose, groups_for};
use crate::measure::text::Text;
use crate::measure::{BadData, ModelFacts, Tokens, WorkList};
use lcepatch_format::random::{Numbers, number};

/// How to measure `ppl.mlm`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MaskedOptions {
    /// About the most tokens to score. Lines are drawn at random until they have as many.
    pub most_tokens: Option<u64>,
    /// The seed of the masks, of the draw and of the bootstrap. Checkpoints with the same tokenizer get the same masks.
    pub seed: u64,
}

/// The share of tokens that are chosen, and of those the shares that become the mask and any other token (Devlin et al.
/// 2019).
const CHOSEN: f64 = 0.15;
const MASKED: f64 = 0.8;
const REPLACED: f64 = 0.1;

/// As `DataCollatorForLanguageModeling` of `transformers`, line by line: each token that is not a special one is chosen
/// by itself, then replaced or not. All that are chosen are scored, in one pass a line.
pub(super) fn plan(
    text: &Text,
    options: &MaskedOptions,
    tokens: &dyn Tokens,
    facts: &ModelFacts,
    work: &mut WorkList,
) -> Result<Losses, BadData> {
    let measure = "ppl.mlm";
    let mask = Text::mask(measure, tokens, facts)?;
    let mut pieces = text.pieces(measure, tokens, facts)?;
    let mut masked = Vec::with_capacity(pieces.pieces.len());
    let mut unmasked = 0;
    for (place, piece) in (0..).zip(&pieces.pieces) {
        let mut numbers = Numbers::new(number(options.seed, place));
        let mut ids = piece.encoding.ids.clone();
        let mut chosen = Vec::new();
        for position in piece.text_positions() {
            if numbers.unit() >= CHOSEN {
                continue;
            }
            chosen.push(position);
            let kind = numbers.unit();
            if kind < MASKED {
                ids[position] = mask;
            } else if kind < MASKED + REPLACED {
                ids[position] = numbers.below(u64::from(facts.vocabulary)) as u32;
            }
        }
        match chosen.len() {
            0 => unmasked += 1,
            _ => masked.push((piece, ids, chosen)),
        }
    }
    let all: u64 = masked.iter().map(|(_, _, chosen)| chosen.len() as u64).sum();
    let lines = groups_for(options.most_tokens.unwrap_or(all), all, masked.len());
    // The masks of line 0 and the draw of lines must use different random numbers.
    let drawn = choose(masked.len(), lines, number(options.seed, u64::MAX));
    let mut clusters = Vec::with_capacity(lines);
    for line in drawn {
        let (piece, ids, chosen) = &masked[line];
        let sequence = work.sequence(ids);
        let ask = |position: &usize| work.log_probability(sequence, *position as u32, piece.encoding.ids[*position]);
        clusters.push(chosen.iter().map(ask).collect());
    }
    let sample =
        if lines < masked.len() { format!("{lines} of {} lines", masked.len()) } else { "all lines".to_owned() };
    pieces.counts.insert("lines without a chosen token".to_owned(), unmasked);
    let settings = [
        ("masked", "15 % of the tokens of a line: 80 % mask, 10 % any token, 10 % as they are".to_owned()),
        ("sample", sample),
        ("seed", options.seed.to_string()),
    ];
    Losses::new(measure, text, clusters, pieces.counts, settings, options.seed)
}

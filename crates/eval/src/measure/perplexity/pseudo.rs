//! Pseudo-perplexity: each token is masked once.

use super::losses::Losses;
use crate::measure::sampling::choose;
use crate::measure::text::{Piece, Text};
use crate::measure::{BadData, ModelFacts, Tokens, WorkList};

/// How to measure `ppl.pseudo`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PseudoOptions {
    /// The tokens that are masked together with a token.
    pub masking: Masking,
    /// The most tokens to score. They are drawn at random.
    pub most_tokens: Option<u64>,
    /// The seed of the draw and of the bootstrap.
    pub seed: u64,
}

/// The tokens that are masked together with a token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Masking {
    /// None (Salazar et al. 2020).
    #[default]
    Token,
    /// The later pieces of its word, which would give it away (Kauf, Ivanova 2023: within-word left-to-right).
    WithinWord,
}

pub(super) fn plan(
    text: &Text,
    options: &PseudoOptions,
    tokens: &dyn Tokens,
    facts: &ModelFacts,
    work: &mut WorkList,
) -> Result<Losses, BadData> {
    let measure = match options.masking {
        Masking::Token => "ppl.pseudo",
        Masking::WithinWord => "ppl.pseudo.within-word",
    };
    let mask = Text::mask(measure, tokens, facts)?;
    let pieces = text.pieces(measure, tokens, facts)?;
    let all: usize = pieces.pieces.iter().map(|piece| piece.text_positions().count()).sum();
    let most = options.most_tokens.map_or(all, |most| usize::try_from(most).unwrap_or(all));
    let mut chosen = choose(all, most, options.seed).into_iter().peekable();
    let mut clusters = Vec::with_capacity(pieces.pieces.len());
    let mut place = 0;
    for piece in &pieces.pieces {
        let mut cluster = Vec::new();
        for position in piece.text_positions() {
            if chosen.next_if_eq(&place).is_some() {
                let sequence = work.sequence(&masked(piece, position, mask, options.masking));
                cluster.push(work.log_probability(sequence, position as u32, piece.encoding.ids[position]));
            }
            place += 1;
        }
        clusters.push(cluster);
    }
    let sample = match options.most_tokens {
        Some(most) if most < all as u64 => format!("{most} of {all} tokens, seed {}", options.seed),
        _ => "all tokens".to_owned(),
    };
    let with = match options.masking {
        Masking::Token => "one token at a time",
        Masking::WithinWord => "a token and the later pieces of its word",
    };
    let settings = [("masked", with.to_owned()), ("sample", sample)];
    Losses::new(measure, text, clusters, pieces.counts, settings, options.seed)
}

fn masked(piece: &Piece, position: usize, mask: u32, masking: Masking) -> Vec<u32> {
    let words = &piece.encoding.words;
    let later = match masking {
        Masking::Token => 0,
        Masking::WithinWord => {
            words.iter().skip(position + 1).take_while(|word| word.is_some() && **word == words[position]).count()
        }
    };
    let mut ids = piece.encoding.ids.clone();
    ids.iter_mut().skip(position).take(1 + later).for_each(|id| *id = mask);
    ids
}

//! The perplexity of a causal model.

use super::losses::Losses;
use crate::measure::sampling::{choose, groups_for};
use crate::measure::text::Text;
use crate::measure::{BadData, ModelFacts, ModelKind, Tokens, WorkList};
use rayon::prelude::*;
use std::ops::Range;

/// How to measure `ppl.causal`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CausalOptions {
    /// Tokens in a window: at least 2, at most the positions of the model, which is the default.
    pub window: Option<u32>,
    /// Tokens from the start of a window to that of the next: less than `window`, half of it by default. The smaller, the more context
    /// each token has.
    pub stride: Option<u32>,
    /// Whether the first token of a text is scored.
    pub first: FirstToken,
    /// About the most tokens to score. Windows are drawn at random until they have as many.
    pub most_tokens: Option<u64>,
    /// The seed of the draw and of the bootstrap.
    pub seed: u64,
}

/// Whether the first token of a text is scored, if the tokenizer puts none before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FirstToken {
    /// It is not scored.
    #[default]
    Given,
    /// It is scored after the token that begins texts.
    Scored,
}

/// A window: the text, its tokens, and those of them that are scored.
struct Window {
    text: usize,
    tokens: Range<usize>,
    scored: Range<usize>,
}

pub(super) fn plan(
    text: &Text,
    options: &CausalOptions,
    tokens: &dyn Tokens,
    facts: &ModelFacts,
    work: &mut WorkList,
) -> Result<Losses, BadData> {
    let measure = "ppl.causal";
    if facts.kind != ModelKind::Causal {
        return Err(BadData::Kind { measure, needs: "a causal language model", found: facts.kind.in_words() });
    }
    let begin = match (options.first, tokens.begin()) {
        (FirstToken::Given, _) => None,
        (FirstToken::Scored, Some(begin)) => Some(begin),
        (FirstToken::Scored, None) => {
            let needs = "a token that begins texts, to score the first token";
            return Err(BadData::Kind { measure, needs, found: "without one" });
        }
    };
    if facts.positions < 2 {
        return Err(text.empty(measure, format!("the model takes {} tokens, and a window needs 2", facts.positions)));
    }
    let window = options.window.unwrap_or(facts.positions).clamp(2, facts.positions);
    let stride = options.stride.unwrap_or(window / 2).clamp(1, window - 1);
    let encode = |text: &String| sequence(text, begin, tokens);
    let sequences: Vec<Vec<u32>> = text.texts.par_iter().map(encode).collect();
    let mut counts = text.counts.clone();
    let alone = sequences.iter().filter(|ids| ids.len() < 2).count() as u64;
    counts.insert("left out: texts without a token to score".to_owned(), alone);
    let windows: Vec<Window> = (0..)
        .zip(&sequences)
        .flat_map(|(text, ids)| windows(text, ids.len(), window as usize, stride as usize))
        .collect();
    let all: u64 = windows.iter().map(|window| window.scored.len() as u64).sum();
    let drawn = choose(windows.len(), groups_for(options.most_tokens.unwrap_or(all), all, windows.len()), options.seed);
    let sample = if drawn.len() < windows.len() {
        format!("{} of {} windows, seed {}", drawn.len(), windows.len(), options.seed)
    } else {
        format!("all {} windows", windows.len())
    };
    let mut clusters = Vec::with_capacity(drawn.len());
    for window in drawn {
        let Window { text, tokens, scored } = &windows[window];
        let ids = &sequences[*text];
        let sequence = work.sequence(&ids[tokens.clone()]);
        // A token is predicted at the position before it.
        let ask = |token: usize| work.log_probability(sequence, (token - 1 - tokens.start) as u32, ids[token]);
        clusters.push(scored.clone().map(ask).collect());
    }
    let first = if begin.is_some() { "scored after the begin of text" } else { "given" };
    let settings = [
        ("window", window.to_string()),
        ("stride", stride.to_string()),
        ("first token", first.to_owned()),
        ("sample", sample),
    ];
    Losses::new(measure, text, clusters, counts, settings, options.seed)
}

/// The tokens of a text, after special ones that the tokenizer puts first, else after `begin` if there is one. Special
/// tokens at the end are left out: they are not of the text.
fn sequence(text: &str, begin: Option<u32>, tokens: &dyn Tokens) -> Vec<u32> {
    let encoding = tokens.encode(text);
    let end = encoding.special.iter().rposition(|special| !special).map_or(0, |last| last + 1);
    let begun = encoding.special.first() == Some(&true);
    let before = begin.filter(|_| !begun && end > 0);
    before.into_iter().chain(encoding.ids.iter().take(end).copied()).collect()
}

/// The windows over a text of `length` tokens: each token but the first is scored once, in the first window that it is
/// in. Every window begins `stride` after the one before it, as in the documentation of `transformers`; unlike there,
/// counts are exact.
fn windows(text: usize, length: usize, window: usize, stride: usize) -> Vec<Window> {
    let mut found = Vec::new();
    let (mut begin, mut scored) = (0, 1);
    while scored < length {
        let end = (begin + window).min(length);
        found.push(Window { text, tokens: begin..end, scored: scored..end });
        scored = end;
        begin += stride;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_but_the_first_is_scored_once() {
        for length in 0..40 {
            for window in 2..12 {
                for stride in 1..window {
                    let windows = windows(0, length, window, stride);
                    let scored: Vec<usize> = windows.iter().flat_map(|window| window.scored.clone()).collect();
                    assert_eq!(scored, (1..length.max(1)).collect::<Vec<_>>());
                    for Window { tokens, scored, .. } in windows {
                        assert!(tokens.len() <= window && scored.start > tokens.start && scored.end == tokens.end);
                        // All but the tokens of the first window have at least this many before them.
                        assert!(tokens.start == 0 || scored.start - tokens.start >= window - stride);
                    }
                }
            }
        }
    }
}

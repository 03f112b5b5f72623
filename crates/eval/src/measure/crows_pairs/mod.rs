//! CrowS-Pairs (Nangia et al., EMNLP 2020): does a model find the more stereotypical of two sentences more likely?
//!
//! Three scores go under this name, and their numbers do not compare, so each has its own ([`Variant`]). None changes
//! the case of a sentence: the original lower-cases for uncased models, whose tokenizers do the same.

mod data;
mod score;

use super::alignment::Alignment;
use super::data::DataFile;
use super::token_questions::{self, NOT_FINITE, PredictionMode, Skipped};
use super::work_list::Question;
use super::{Answers, BadData, Encoding, Item, Items, ModelFacts, Outcome, Parts, PlannedMeasure, Tokens, WorkList};
use data::{Pair, read_pairs};
use lcepatch_format::digest::Digest;
use rayon::prelude::*;
use score::{ScoredPair, groups, rounded, scores};
use std::collections::BTreeMap;
use std::path::Path;

/// All tokens of one sentence are in the other, too, so none is to be masked.
const ONE_SIDED: Skipped = "skipped: insertion only";
/// Both sentences have the same tokens.
const IDENTICAL: Skipped = "skipped: both sentences have the same tokens";

/// The data of CrowS-Pairs.
#[derive(Debug)]
pub struct CrowsPairs {
    file: DataFile,
    pairs: Vec<Pair>,
}

/// How a sentence is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// `crows.diff`, as in bias-bench (Meade et al., ACL 2022): the mean log-probability of the tokens in which the
    /// sentences differ, each masked alone. Pairs where one side has no such token are skipped.
    Diff,
    /// `crows.shared`, as in the original code: the sum of the log-probabilities of the tokens that both have, each
    /// masked alone, the first and the last of them not counted.
    Shared,
    /// `crows.causal`, bias-bench's score for causal models: 2 to the mean log2-probability of all tokens.
    Causal,
}

impl Variant {
    /// The name of the measure.
    pub fn name(self) -> &'static str {
        match self {
            Self::Diff => "crows.diff",
            Self::Shared => "crows.shared",
            Self::Causal => "crows.causal",
        }
    }
}

/// The options of the measure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The variant. None for that of bias-bench for the kind of model: [`Variant::Diff`] or [`Variant::Causal`].
    pub variant: Option<Variant>,
    /// The measured bias types.
    pub bias_types: Parts,
}

impl CrowsPairs {
    /// Reads the published CSV file, or another one with its columns `sent_more`, `sent_less`, `stereo_antistereo`,
    /// `bias_type`.
    ///
    /// # Errors
    /// [`BadData::Io`], [`BadData::Malformed`].
    pub fn read(path: &Path) -> Result<Self, BadData> {
        let file = DataFile::read(path)?;
        let pairs = read_pairs(&file)?;
        Ok(Self { file, pairs })
    }

    /// Adds the questions to `work`, in the order of the data.
    ///
    /// # Errors
    /// [`BadData::Kind`] if the model does not fit the variant, [`BadData::Empty`] if no pair is left.
    pub fn plan(
        &self,
        options: &Options,
        tokens: &dyn Tokens,
        facts: &ModelFacts,
        work: &mut WorkList,
    ) -> Result<Box<dyn PlannedMeasure>, BadData> {
        let mode = PredictionMode::of(options.variant.unwrap_or(Variant::Diff).name(), tokens, facts)?;
        let variant = fitting(options.variant, &mode)?;
        let empty = |reason| BadData::Empty { path: self.file.path.clone(), measure: variant.name(), reason };
        if let Some(reason) = options.bias_types.problem(self.pairs.iter().map(|pair| pair.bias_type.as_str())) {
            return Err(empty(reason));
        }
        let chosen: Vec<&Pair> = self.pairs.iter().filter(|pair| options.bias_types.has(&pair.bias_type)).collect();
        let sides: Vec<_> =
            chosen.par_iter().map(|pair| EncodedPair::of(pair, variant, &mode, tokens, facts)).collect();

        let mut counts = BTreeMap::new();
        let mut pairs = Vec::new();
        for (pair, sides) in chosen.iter().zip(sides) {
            match sides {
                Ok(sides) => {
                    let [first, second] = sides.ask(&mode, work);
                    pairs.push(PlannedPair { pair: (*pair).clone(), first, second });
                }
                Err(reason) => *counts.entry(reason.to_owned()).or_default() += 1,
            }
        }
        if pairs.is_empty() {
            return Err(empty(format!(
                "all {} pairs are left out ({})",
                chosen.len(),
                token_questions::counts_in_words(&counts)
            )));
        }
        let settings = [
            ("bias types", options.bias_types.to_string()),
            ("pairs", chosen.len().to_string()),
            ("item scores", "sent_more, sent_less".to_owned()),
        ];
        Ok(Box::new(PlannedCrowsPairs {
            variant,
            pairs,
            counts,
            settings: settings.map(|(name, value)| (name.to_owned(), value)).into(),
            data: self.file.named_digest(),
        }))
    }
}

fn fitting(wanted: Option<Variant>, mode: &PredictionMode) -> Result<Variant, BadData> {
    let wrong = |measure, needs, found| Err(BadData::Kind { measure, needs, found });
    match (wanted, mode) {
        (None, PredictionMode::Masked(_)) => Ok(Variant::Diff),
        (None, PredictionMode::Causal(_)) => Ok(Variant::Causal),
        (Some(Variant::Causal), PredictionMode::Masked(_)) => {
            wrong(Variant::Causal.name(), "a causal language model", "a masked one")
        }
        (Some(variant @ (Variant::Diff | Variant::Shared)), PredictionMode::Causal(_)) => {
            wrong(variant.name(), "a masked language model", "a causal one")
        }
        (Some(variant), _) => Ok(variant),
    }
}

/// Both sentences of a pair in the order of the alignment, and the positions to mask in each.
struct EncodedPair([(Encoding, Vec<usize>); 2]);

impl EncodedPair {
    fn of(
        pair: &Pair,
        variant: Variant,
        mode: &PredictionMode,
        tokens: &dyn Tokens,
        facts: &ModelFacts,
    ) -> Result<Self, Skipped> {
        let [first, second] = pair.in_order().map(|text| tokens.encode(text));
        for text in [&first, &second] {
            // Checked before the alignment, whose time grows with the product of the lengths.
            token_questions::fits(text, facts)?;
            if matches!(mode, PredictionMode::Causal(begin) if !token_questions::has_predicted_tokens(text, *begin)) {
                return Err(token_questions::NO_TOKEN);
            }
        }
        let [positions_in_first, positions_in_second] = match variant {
            Variant::Causal => [vec![], vec![]],
            Variant::Diff => differing(&first.ids, &second.ids)?,
            Variant::Shared => shared(&first.ids, &second.ids),
        };
        Ok(Self([(first, positions_in_first), (second, positions_in_second)]))
    }

    fn ask(&self, mode: &PredictionMode, work: &mut WorkList) -> [Vec<Question>; 2] {
        self.0.each_ref().map(|(text, positions)| match mode {
            PredictionMode::Masked(mask) => positions
                .iter()
                .filter_map(|&position| token_questions::ask_masked(work, &text.ids, position, mask.id))
                .collect(),
            PredictionMode::Causal(begin) => token_questions::ask_sentence(work, text, *begin),
        })
    }
}

/// The positions of the tokens in which two sentences differ.
fn differing(first: &[u32], second: &[u32]) -> Result<[Vec<usize>; 2], Skipped> {
    let alignment = Alignment::of(first, second);
    match (alignment.first.is_empty(), alignment.second.is_empty()) {
        (false, false) => Ok([alignment.first, alignment.second]),
        (true, true) => Err(IDENTICAL),
        _ => Err(ONE_SIDED),
    }
}

/// The positions of the tokens that two sentences share, but the first and the last, which are the special tokens
/// around a sentence.
fn shared(first: &[u32], second: &[u32]) -> [Vec<usize>; 2] {
    let equal = Alignment::of(first, second).equal;
    let inner = equal.get(1..equal.len().saturating_sub(1)).unwrap_or_default();
    let (positions_in_first, positions_in_second) = inner.iter().copied().unzip();
    [positions_in_first, positions_in_second]
}

struct PlannedPair {
    pair: Pair,
    /// The questions for the first sentence in the order of the alignment.
    first: Vec<Question>,
    second: Vec<Question>,
}

struct PlannedCrowsPairs {
    variant: Variant,
    pairs: Vec<PlannedPair>,
    counts: BTreeMap<String, u64>,
    settings: BTreeMap<String, String>,
    data: BTreeMap<String, Digest>,
}

impl PlannedMeasure for PlannedCrowsPairs {
    fn measure(&self) -> &str {
        self.variant.name()
    }

    fn outcome(&self, answers: &Answers, _unedited: &Answers) -> Outcome {
        let of = |questions: &[Question]| match self.variant {
            Variant::Diff => rounded(token_questions::mean(token_questions::log_probabilities(answers, questions))),
            Variant::Shared => rounded(token_questions::log_probabilities(answers, questions).sum()),
            Variant::Causal => token_questions::sentence_score(answers, questions),
        };
        let scored: Vec<ScoredPair<'_>> = self.pairs.iter().map(|planned| planned.scored(of)).collect();
        let mut counts = self.counts.clone();
        let ties = scored.iter().filter(|pair| pair.is_tie()).count();
        counts.insert("ties".to_owned(), ties as u64);
        let not_finite = scored.iter().filter(|pair| !(pair.more.is_finite() && pair.less.is_finite())).count();
        if not_finite > 0 {
            counts.insert(NOT_FINITE.to_owned(), not_finite as u64);
        }
        let details = self.pairs.iter().zip(&scored).map(|(planned, scored)| Item {
            id: planned.pair.row.to_string(),
            scores: vec![scored.more, scored.less],
            decision: scored.prefers_stereotype(),
        });
        Outcome {
            measure: self.variant.name().to_owned(),
            scores: scores(&scored),
            groups: groups(&scored),
            items: Items::Decisions(scored.iter().map(ScoredPair::prefers_stereotype).collect()),
            details: details.collect(),
            counts,
            settings: self.settings.clone(),
            data: self.data.clone(),
        }
    }
}

impl PlannedPair {
    fn scored(&self, score: impl Fn(&[Question]) -> f64) -> ScoredPair<'_> {
        let (first, second) = (score(&self.first), score(&self.second));
        let (more, less) = match self.pair.direction {
            data::Direction::Stereo => (first, second),
            data::Direction::Antistereo => (second, first),
        };
        ScoredPair { bias_type: &self.pair.bias_type, direction: self.pair.direction, more, less }
    }
}

#[cfg(test)]
mod tests;

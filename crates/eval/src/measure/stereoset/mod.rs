//! StereoSet (Nadeem et al., ACL 2021), the intrasentence task: does a model prefer stereotypes, and does it prefer
//! sense to nonsense?
//!
//! As in bias-bench (Meade et al., ACL 2022), which is the original code with words encoded as inside a sentence where
//! a blank belongs to a word. The intersentence task is not measured: it needs a next-sentence head, which checkpoints
//! of masked language models lack.

mod data;
mod inputs;
mod score;
mod split;

pub use split::Split;

use super::data::DataFile;
use super::token_questions::{self, NOT_FINITE, PredictionMode, Skipped};
use super::work_list::Question;
use super::{Answers, BadData, Item, Items, ModelFacts, Outcome, Parts, PlannedMeasure, Tokens, WorkList};
use data::{Triple, Triples, read_triples};
use inputs::{MaskedInput, masked_inputs, word};
use lcepatch_format::digest::Digest;
use rayon::prelude::*;
use score::{ScoredTriple, groups, scores};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const MEASURE: &str = "stereoset.intra";
const OTHER_SPLIT: Skipped = "left out: not of the split";
const INTERSENTENCE: &str = "left out: intersentence";
const PREFIX_LOST: &str = "pieces that are tokenized otherwise in their sentence";

/// The data of StereoSet.
#[derive(Debug)]
pub struct StereoSet {
    file: DataFile,
    triples: Vec<Triple>,
    intersentence: u64,
}

/// The options of the measure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The measured domains.
    pub domains: Parts,
    /// Measures only the triples of this split, which is known for the domain gender only. None for all triples.
    pub split: Option<Split>,
}

impl StereoSet {
    /// Reads `dev.json` or `test.json` as published, a list of triples with their sentences by label, or lists of
    /// sentences by label.
    ///
    /// # Errors
    /// [`BadData::Io`], [`BadData::Malformed`], [`BadData::Empty`] if there is only the intersentence task.
    pub fn read(path: &Path) -> Result<Self, BadData> {
        let file = DataFile::read(path)?;
        let Triples { intrasentence: triples, intersentence } = read_triples(&file)?;
        if triples.is_empty() && intersentence > 0 {
            let reason = "there is only the intersentence task, which needs a next-sentence head; checkpoints of \
                          masked language models have none";
            return Err(BadData::Empty { path: file.path, measure: MEASURE, reason: reason.to_owned() });
        }
        Ok(Self { file, triples, intersentence })
    }

    /// Adds the questions to `work`, in the order of the data.
    ///
    /// # Errors
    /// [`BadData::Kind`] if the model predicts no tokens, [`BadData::Empty`] if no triple is left.
    pub fn plan(
        &self,
        options: &Options,
        tokens: &dyn Tokens,
        facts: &ModelFacts,
        work: &mut WorkList,
    ) -> Result<Box<dyn PlannedMeasure>, BadData> {
        let mode = PredictionMode::of(MEASURE, tokens, facts)?;
        let empty = |reason| BadData::Empty { path: self.file.path.clone(), measure: MEASURE, reason };
        if let Some(reason) = options.domains.problem(self.triples.iter().map(|triple| triple.domain.as_str())) {
            return Err(empty(reason));
        }
        let in_domains: Vec<&Triple> =
            self.triples.iter().filter(|triple| options.domains.has(&triple.domain)).collect();
        let chosen: Vec<&Triple> = match options.split {
            None => in_domains.clone(),
            Some(split) => in_domains.iter().copied().filter(|triple| triple.split() == Some(split)).collect(),
        };
        let prepared: Vec<_> =
            chosen.par_iter().map(|triple| EncodedTriple::of(triple, &mode, tokens, facts)).collect();

        let mut counts = Counts::default();
        counts.add(OTHER_SPLIT, in_domains.len() - chosen.len());
        let mut triples = Vec::new();
        for (triple, prepared) in chosen.iter().zip(prepared) {
            match prepared {
                Ok(prepared) => {
                    counts.add(PREFIX_LOST, prepared.prefixes_lost());
                    triples.push(PlannedTriple { triple: (*triple).clone(), questions: prepared.ask(work) });
                }
                Err(reason) => counts.add(reason, 1),
            }
        }
        if triples.is_empty() {
            return Err(empty(format!(
                "all {} triples are left out ({})",
                in_domains.len(),
                token_questions::counts_in_words(&counts.0)
            )));
        }
        counts.add(INTERSENTENCE, usize::try_from(self.intersentence).unwrap_or(usize::MAX));
        let settings = [
            ("domains", options.domains.to_string()),
            ("split", split_names(&triples)),
            ("standard error", "over triples".to_owned()),
            ("item scores", "stereotype, anti-stereotype, unrelated".to_owned()),
        ];
        Ok(Box::new(PlannedStereoSet {
            causal: matches!(mode, PredictionMode::Causal(_)),
            triples,
            counts: counts.0,
            settings: settings.map(|(name, value)| (name.to_owned(), value)).into(),
            data: self.file.named_digest(),
        }))
    }
}

/// Counts that are not zero.
#[derive(Default)]
struct Counts(BTreeMap<String, u64>);

impl Counts {
    fn add(&mut self, what: &str, count: usize) {
        if count > 0 {
            *self.0.entry(what.to_owned()).or_default() += count as u64;
        }
    }
}

impl Triple {
    fn split(&self) -> Option<Split> {
        Split::of(&self.domain, &self.term)
    }
}

/// The names of the splits of the triples, as far as they are known.
fn split_names(triples: &[PlannedTriple]) -> String {
    let splits: BTreeSet<_> = triples.iter().filter_map(|planned| planned.triple.split()).collect();
    match splits.iter().map(|split| split.name()).collect::<Vec<_>>()[..] {
        [] => "not known".to_owned(),
        [one] => one.to_owned(),
        _ => "dev and test".to_owned(),
    }
}

/// The encoded sentences of a triple.
enum EncodedTriple {
    Masked([Vec<MaskedInput>; 3]),
    Causal([super::Encoding; 3], Option<u32>),
}

impl EncodedTriple {
    fn of(triple: &Triple, mode: &PredictionMode, tokens: &dyn Tokens, facts: &ModelFacts) -> Result<Self, Skipped> {
        match mode {
            PredictionMode::Masked(mask) => {
                let inputs = triple.sentences.each_ref().map(|sentence| {
                    let word = word(&triple.context, sentence)?;
                    masked_inputs(&triple.context, &word, mask, tokens, facts)
                });
                let [stereotype, anti, unrelated] = inputs;
                Ok(Self::Masked([stereotype?, anti?, unrelated?]))
            }
            PredictionMode::Causal(begin) => {
                let texts = triple.sentences.each_ref().map(|sentence| tokens.encode(sentence));
                for text in &texts {
                    token_questions::fits(text, facts)?;
                    if !token_questions::has_predicted_tokens(text, *begin) {
                        return Err(token_questions::NO_TOKEN);
                    }
                }
                Ok(Self::Causal(texts, *begin))
            }
        }
    }

    fn prefixes_lost(&self) -> usize {
        match self {
            Self::Masked(inputs) => inputs.iter().flatten().filter(|input| !input.prefix_is_kept).count(),
            Self::Causal(..) => 0,
        }
    }

    fn ask(&self, work: &mut WorkList) -> [Vec<Question>; 3] {
        match self {
            Self::Masked(inputs) => inputs.each_ref().map(|inputs| {
                let ask = |input: &MaskedInput| {
                    let sequence = work.sequence(&input.ids);
                    work.log_probability(sequence, input.position, input.target)
                };
                inputs.iter().map(ask).collect()
            }),
            Self::Causal(texts, begin) => {
                texts.each_ref().map(|text| token_questions::ask_sentence(work, text, *begin))
            }
        }
    }
}

struct PlannedTriple {
    triple: Triple,
    /// For each sentence.
    questions: [Vec<Question>; 3],
}

struct PlannedStereoSet {
    causal: bool,
    triples: Vec<PlannedTriple>,
    counts: BTreeMap<String, u64>,
    settings: BTreeMap<String, String>,
    data: BTreeMap<String, Digest>,
}

impl PlannedStereoSet {
    fn scored<'a>(&self, planned: &'a PlannedTriple, answers: &Answers) -> ScoredTriple<'a> {
        let [stereotype, anti, unrelated] = planned.questions.each_ref().map(|questions| {
            if self.causal {
                token_questions::sentence_score(answers, questions)
            } else {
                // The mean of probabilities, not of their logarithms.
                token_questions::mean(token_questions::log_probabilities(answers, questions).map(f64::exp))
            }
        });
        ScoredTriple { term: &planned.triple.term, domain: &planned.triple.domain, stereotype, anti, unrelated }
    }
}

impl PlannedMeasure for PlannedStereoSet {
    fn measure(&self) -> &str {
        MEASURE
    }

    fn outcome(&self, answers: &Answers, _unedited: &Answers) -> Outcome {
        let scored: Vec<_> = self.triples.iter().map(|planned| self.scored(planned, answers)).collect();
        let mut counts = Counts(self.counts.clone());
        counts.add(NOT_FINITE, scored.iter().filter(|triple| !triple.is_finite()).count());
        let mut counts = counts.0;
        counts.insert("ties".to_owned(), scored.iter().filter(|triple| triple.is_tie()).count() as u64);
        let terms: BTreeSet<&str> = scored.iter().map(|triple| triple.term).collect();
        counts.insert("terms".to_owned(), terms.len() as u64);
        let mut parts = groups(&scored, |triple| Some(triple.domain));
        let splits = groups(&scored, |triple| Split::of(triple.domain, triple.term).map(Split::name));
        if splits.len() > 1 {
            parts.extend(splits);
        }
        let details = self.triples.iter().zip(&scored).map(|(planned, scored)| Item {
            id: planned.triple.id.clone(),
            scores: vec![scored.stereotype, scored.anti, scored.unrelated],
            decision: scored.prefers_stereotype(),
        });
        Outcome {
            measure: MEASURE.to_owned(),
            scores: scores(&scored),
            groups: parts,
            items: Items::Decisions(scored.iter().map(ScoredTriple::prefers_stereotype).collect()),
            details: details.collect(),
            counts,
            settings: self.settings.clone(),
            data: self.data.clone(),
        }
    }
}

#[cfg(test)]
mod tests;

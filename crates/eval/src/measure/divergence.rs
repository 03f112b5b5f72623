//! `kl`: the Kullback-Leibler divergence of a model's predictions from those of the unedited model. It is the most sensitive comparison
//! of the two.

use super::sampling::choose;
use super::statistics::{RESAMPLES, ratio, ratio_error, ratio_interval, share_error};
use super::text::{Piece, Text};
use super::work_list::Question;
use super::{Answers, BadData, Better, Items, ModelFacts, ModelKind, Outcome, PlannedMeasure, Score, Tokens, WorkList};
use lcepatch_format::digest::Digest;
use std::collections::BTreeMap;

/// How to measure `kl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DivergenceOptions {
    /// The most predictions to compare. They are drawn from all positions of the text.
    pub most_positions: u64,
    /// The seed of the draw and of the bootstrap.
    pub seed: u64,
}

impl Default for DivergenceOptions {
    fn default() -> Self {
        Self { most_positions: 256, seed: 0 }
    }
}

const MEASURE: &str = "kl";

impl DivergenceOptions {
    /// Adds the questions about `text` to `work`. A masked model predicts tokens that are masked one at a time, a causal model predicts the
    /// token after each position.
    ///
    /// # Errors
    /// [`BadData`]: the model predicts nothing, or nothing is left to measure.
    pub fn plan(
        &self,
        text: &Text,
        tokens: &dyn Tokens,
        facts: &ModelFacts,
        work: &mut WorkList,
    ) -> Result<Box<dyn PlannedMeasure>, BadData> {
        let mask = match facts.kind {
            ModelKind::Masked => Some(Text::mask(MEASURE, tokens, facts)?),
            ModelKind::Causal => None,
            ModelKind::Encoder => {
                return Err(BadData::Kind {
                    measure: MEASURE,
                    needs: "a language model",
                    found: facts.kind.in_words(),
                });
            }
        };
        let pieces = text.pieces(MEASURE, tokens, facts)?;
        let places: Vec<(&Piece, usize)> = pieces
            .pieces
            .iter()
            .flat_map(|piece| piece.text_positions().map(move |position| (piece, position)))
            .collect();
        if places.is_empty() {
            return Err(text.empty(MEASURE, "no token is left to predict".to_owned()));
        }
        let most = usize::try_from(self.most_positions.max(1)).unwrap_or(usize::MAX);
        let chosen = choose(places.len(), most, self.seed);
        let mut questions = Vec::with_capacity(chosen.len());
        for place in &chosen {
            let (piece, position) = places[*place];
            let mut ids = piece.encoding.ids.clone();
            if let (Some(mask), Some(id)) = (mask, ids.get_mut(position)) {
                *id = mask;
            }
            let sequence = work.sequence(&ids);
            questions.push(work.distribution(sequence, position as u32));
        }
        let predicted = if mask.is_some() { "tokens masked one at a time" } else { "next tokens" };
        let sample = format!("{} of {} positions, seed {}", chosen.len(), places.len(), self.seed);
        let settings = [("predicted", predicted.to_owned()), ("sample", sample)];
        let settings = settings.map(|(name, value)| (name.to_owned(), value));
        Ok(Box::new(PlannedDivergence {
            questions,
            counts: pieces.counts,
            settings: text.settings().into_iter().chain(settings).collect(),
            data: text.data(),
            seed: self.seed,
        }))
    }
}

struct PlannedDivergence {
    questions: Vec<Question>,
    counts: BTreeMap<String, u64>,
    settings: BTreeMap<String, String>,
    data: BTreeMap<String, Digest>,
    seed: u64,
}

impl PlannedMeasure for PlannedDivergence {
    fn measure(&self) -> &str {
        MEASURE
    }

    fn outcome(&self, answers: &Answers, unedited: &Answers) -> Outcome {
        let pairs = || {
            let pair = |question: &Question| (&*unedited.distributions[*question], &*answers.distributions[*question]);
            self.questions.iter().map(pair)
        };
        let n = self.questions.len() as u64;
        let values: Vec<f64> = pairs().map(|(before, after)| divergence(before, after)).collect();
        let weights = vec![1.0; values.len()];
        let same = pairs().filter(|(before, after)| top(before) == top(after)).count() as u64;
        let main = Score {
            name: "kl".to_owned(),
            value: ratio(&values, &weights),
            meaning: "mean Kullback-Leibler divergence of the predictions from the unedited model's, in nats".into(),
            neutral: Some(0.0),
            better: Better::Lower,
            n,
            error: ratio_error(&values, &weights),
            interval: ratio_interval(&values, &weights, self.seed, RESAMPLES, |mean| mean),
            p: None,
        };
        let agreement = Score {
            name: "top1".to_owned(),
            value: 100.0 * same as f64 / n as f64,
            meaning: "percent of positions with the unedited model's most likely token".into(),
            neutral: Some(100.0),
            better: Better::Higher,
            n,
            error: share_error(same, n),
            interval: None,
            p: None,
        };
        Outcome {
            measure: MEASURE.to_owned(),
            scores: vec![main, agreement],
            groups: Vec::new(),
            details: Vec::new(),
            items: Items::Divergences(values),
            counts: self.counts.clone(),
            settings: self.settings.clone(),
            data: self.data.clone(),
        }
    }
}

/// `KL(before || after)`, in nats, of two distributions given as natural logarithms. Each is normalized first, in f64, so that rounding to
/// f32 adds no divergence. Equal distributions give exactly 0.
fn divergence(before: &[f32], after: &[f32]) -> f64 {
    let (p_total, q_total) = (log_sum(before), log_sum(after));
    let term = |(p, q): (&f32, &f32)| {
        let (p, q) = (f64::from(*p) - p_total, f64::from(*q) - q_total);
        // A token without probability before adds nothing, whatever its probability after.
        if p == f64::NEG_INFINITY { 0.0 } else { p.exp() * (p - q) }
    };
    before.iter().zip(after).map(term).sum()
}

fn log_sum(logarithms: &[f32]) -> f64 {
    let most = f64::from(logarithms.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    most + logarithms.iter().map(|x| (f64::from(*x) - most).exp()).sum::<f64>().ln()
}

/// The most likely token, the first of equal ones.
fn top(logarithms: &[f32]) -> Option<usize> {
    (0..logarithms.len()).rev().max_by(|a, b| logarithms[*a].total_cmp(&logarithms[*b]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::fake::{FakeTokens, MASK, facts};
    use crate::measure::text::TextOptions;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Found {
        before: Vec<Vec<f32>>,
        after: Vec<Vec<f32>>,
        kl: Vec<f64>,
        same_top: u64,
    }

    fn text(content: &str) -> Text {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text.txt");
        std::fs::write(&path, content).unwrap();
        Text::read(&path, TextOptions::default()).unwrap()
    }

    #[test]
    fn divergences_are_scipys() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/measures/divergence.json");
        let found: Found = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let mut work = WorkList::default();
        let options = DivergenceOptions::default();
        let planned =
            options.plan(&text("one two six ten"), &FakeTokens, &facts(ModelKind::Causal, 32), &mut work).unwrap();
        let answers =
            |distributions: &Vec<Vec<f32>>| Answers { distributions: distributions.clone(), ..Answers::default() };
        let (before, after) = (answers(&found.before), answers(&found.after));
        let outcome = planned.outcome(&after, &before);
        let Items::Divergences(values) = &outcome.items else { panic!("no divergences") };
        assert_eq!(values.len(), found.kl.len());
        for (value, expected) in values.iter().zip(&found.kl) {
            assert!((value - expected).abs() < 1e-12, "{value} {expected}");
        }
        assert_eq!((values[3], outcome.scores[1].value), (0.0, 25.0 * found.same_top as f64));
        let same = planned.outcome(&before, &before);
        assert_eq!((same.scores[0].value, same.scores[1].value), (0.0, 100.0));
        assert_eq!((same.scores[0].error, same.scores[0].interval), (Some(0.0), Some((0.0, 0.0))));
    }

    #[test]
    fn masked_models_predict_one_mask_at_a_time() {
        let mut work = WorkList::default();
        let options = DivergenceOptions { most_positions: 3, seed: 4 };
        options
            .plan(&text("one two six ten\nseven eleven"), &FakeTokens, &facts(ModelKind::Masked, 32), &mut work)
            .unwrap();
        assert_eq!(work.distributions().len(), 3);
        for place in work.distributions() {
            let ids = &work.sequences()[place.sequence.0];
            let masks: Vec<usize> = (0..ids.len()).filter(|position| ids[*position] == MASK).collect();
            assert_eq!(masks, [place.position as usize]);
        }
        let encoder = options.plan(&text("one"), &FakeTokens, &facts(ModelKind::Encoder, 32), &mut work);
        assert!(matches!(encoder, Err(BadData::Kind { .. })));
    }

    #[test]
    fn what_is_impossible_before_does_not_count_and_after_is_infinite() {
        let impossible = f32::NEG_INFINITY;
        assert_eq!(divergence(&[0.0, impossible], &[0.0, impossible]), 0.0);
        assert!((divergence(&[0.0, impossible], &[0.5f32.ln(), 0.5f32.ln()]) - 2f64.ln()).abs() < 1e-7);
        assert_eq!(divergence(&[0.5f32.ln(), 0.5f32.ln()], &[0.0, impossible]), f64::INFINITY);
        assert_eq!((top(&[1.0, 3.0, 3.0]), top(&[])), (Some(1), None));
    }
}

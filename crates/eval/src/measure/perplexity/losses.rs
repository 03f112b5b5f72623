//! Computes a perplexity from the log-probabilities of tokens.

use crate::measure::statistics::{RESAMPLES, ratio, ratio_error, ratio_interval};
use crate::measure::text::Text;
use crate::measure::work_list::Question;
use crate::measure::{Answers, BadData, Better, Items, Outcome, PlannedMeasure, Score};
use lcepatch_format::digest::Digest;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A perplexity whose questions are in a work list.
pub(super) struct Losses {
    measure: &'static str,
    /// The tokens that are scored, by line or window; none is empty.
    clusters: Vec<Vec<Question>>,
    counts: BTreeMap<String, u64>,
    settings: BTreeMap<String, String>,
    data: BTreeMap<String, Digest>,
    seed: u64,
}

impl Losses {
    /// # Errors
    /// [`BadData::Empty`]: no token is scored.
    pub(super) fn new(
        measure: &'static str,
        text: &Text,
        clusters: Vec<Vec<Question>>,
        counts: BTreeMap<String, u64>,
        settings: impl IntoIterator<Item = (&'static str, String)>,
        seed: u64,
    ) -> Result<Self, BadData> {
        if clusters.iter().all(Vec::is_empty) {
            return Err(text.empty(measure, "no token is left to score".to_owned()));
        }
        let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value));
        Ok(Self {
            measure,
            clusters: clusters.into_iter().filter(|cluster| !cluster.is_empty()).collect(),
            counts,
            settings: text.settings().into_iter().chain(settings).collect(),
            data: text.data(),
            seed,
        })
    }
}

impl PlannedMeasure for Losses {
    fn measure(&self) -> &str {
        self.measure
    }

    fn outcome(&self, answers: &Answers, _: &Answers) -> Outcome {
        let loss = |question: &Question| -f64::from(answers.log_probabilities[*question]);
        let values: Vec<f64> = self.clusters.iter().map(|cluster| cluster.iter().map(loss).sum()).collect();
        let weights: Vec<f64> = self.clusters.iter().map(|cluster| cluster.len() as f64).collect();
        let mean = ratio(&values, &weights);
        let error = ratio_error(&values, &weights);
        let interval = ratio_interval(&values, &weights, self.seed, RESAMPLES, |mean| mean);
        let score = |name: &str, value, meaning, error, interval| Score {
            name: name.to_owned(),
            value,
            meaning: Cow::Borrowed(meaning),
            neutral: None,
            better: Better::Lower,
            n: self.clusters.iter().map(|cluster| cluster.len() as u64).sum(),
            error,
            interval,
            p: None,
        };
        // The delta method: the slope of exp at the mean is exp(mean).
        let perplexity = score(
            "ppl",
            mean.exp(),
            "perplexity, exp of the mean negative log-likelihood of a token",
            error.map(|error| error * mean.exp()),
            interval.map(|(low, high)| (low.exp(), high.exp())),
        );
        let loss = score("nll", mean, "mean negative log-likelihood of a token, in nats", error, interval);
        Outcome {
            measure: self.measure.to_owned(),
            scores: vec![perplexity, loss],
            groups: Vec::new(),
            details: Vec::new(),
            items: Items::Logarithms { values, weights },
            counts: self.counts.clone(),
            settings: self.settings.clone(),
            data: self.data.clone(),
        }
    }
}

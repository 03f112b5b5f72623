use super::*;
use crate::measure::fake::{BEGIN, CLS, FakeTokens, MASK, SEP, facts};
use crate::measure::text::TextOptions;
use crate::measure::{Answers, Items, ModelKind, Outcome};
use std::collections::HashSet;

fn text(content: &str) -> Text {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.txt");
    std::fs::write(&path, content).unwrap();
    Text::read(&path, TextOptions::default()).unwrap()
}

const TEXT: &str = "the mathematician sleeps\n\nten red foxes run home\n";

fn ask(
    perplexity: Perplexity,
    content: &str,
    kind: ModelKind,
    positions: u32,
) -> Result<(WorkList, Box<dyn PlannedMeasure>), BadData> {
    let mut work = WorkList::default();
    let planned = perplexity.plan(&text(content), &FakeTokens, &facts(kind, positions), &mut work)?;
    Ok((work, planned))
}

/// The questions as (ids, position, token).
fn asked(work: &WorkList) -> Vec<(Vec<u32>, usize, u32)> {
    let one = |question: &crate::measure::work_list::LogProbability| {
        let ids = work.sequences()[question.sequence.0].clone();
        (ids, question.position as usize, question.token)
    };
    work.log_probabilities().iter().map(one).collect()
}

fn outcome(planned: &dyn PlannedMeasure, log_probabilities: Vec<f32>) -> Outcome {
    let answers = Answers { log_probabilities, ..Answers::default() };
    planned.outcome(&answers, &answers)
}

#[test]
fn every_token_is_masked_once() {
    let (work, planned) = ask(Perplexity::Pseudo(PseudoOptions::default()), TEXT, ModelKind::Masked, 32).unwrap();
    let lines = ["the mathematician sleeps", "ten red foxes run home"].map(|line| FakeTokens.encode(line));
    let mut expected = Vec::new();
    for line in &lines {
        for position in 1..line.len() - 1 {
            let mut ids = line.ids.clone();
            ids[position] = MASK;
            expected.push((ids, position, line.ids[position]));
        }
    }
    assert_eq!(asked(&work), expected);
    // 1 + 4 + 2 pieces, then 1 + 1 + 2 + 1 + 1: losses of 1 in the first line and 2 in the second.
    let outcome = outcome(&*planned, [vec![-1.0; 7], vec![-2.0; 6]].concat());
    let mean: f64 = 19.0 / 13.0;
    assert!((outcome.scores[0].value - mean.exp()).abs() < 1e-12 && outcome.scores[1].value == mean);
    assert_eq!(outcome.items, Items::Logarithms { values: vec![7.0, 12.0], weights: vec![7.0, 6.0] });
    // sqrt(2 / 1 * ((7 - 7 m)^2 + (12 - 6 m)^2)) / 13
    let error = (2.0 * ((7.0 - 7.0 * mean).powi(2) + (12.0 - 6.0 * mean).powi(2))).sqrt() / 13.0;
    assert!((outcome.scores[1].error.unwrap() - error).abs() < 1e-12);
    assert!((outcome.scores[0].error.unwrap() - error * mean.exp()).abs() < 1e-12);
    assert_eq!((outcome.scores[0].n, outcome.counts["left out: empty lines"]), (13, 1));
}

#[test]
fn within_a_word_the_later_pieces_are_masked_too() {
    let options = PseudoOptions { masking: Masking::WithinWord, ..PseudoOptions::default() };
    let (work, planned) = ask(Perplexity::Pseudo(options), "the mathematician sleeps", ModelKind::Masked, 32).unwrap();
    let masks: Vec<usize> = asked(&work).iter().map(|(ids, ..)| ids.iter().filter(|id| **id == MASK).count()).collect();
    assert_eq!(masks, [1, 4, 3, 2, 1, 2, 1]);
    assert!(asked(&work).iter().all(|(ids, position, _)| ids[*position] == MASK && ids[*position - 1] != MASK));
    assert_eq!(outcome(&*planned, vec![0.0; 7]).measure, "ppl.pseudo.within-word");
}

#[test]
fn a_sample_is_a_part_of_all_and_the_same_for_the_same_seed() {
    let sample = |seed| {
        let options = PseudoOptions { most_tokens: Some(5), seed, ..PseudoOptions::default() };
        asked(&ask(Perplexity::Pseudo(options), TEXT, ModelKind::Masked, 32).unwrap().0)
    };
    let all: HashSet<_> =
        asked(&ask(Perplexity::Pseudo(PseudoOptions::default()), TEXT, ModelKind::Masked, 32).unwrap().0)
            .into_iter()
            .collect();
    assert_eq!(sample(1).len(), 5);
    assert!(sample(1).iter().all(|question| all.contains(question)));
    assert_eq!(sample(1), sample(1));
    assert_ne!(sample(1), sample(2));
}

#[test]
fn masks_are_of_15_percent_and_the_same_for_the_same_seed() {
    let lines: Vec<String> = (0..2000).map(|i| format!("w{i} one two red fox run x{i} y{i} home z{i}")).collect();
    let content = lines.join("\n");
    let perplexity = |seed| Perplexity::Masked(MaskedOptions { most_tokens: None, seed });
    let (work, planned) = ask(perplexity(3), &content, ModelKind::Masked, 64).unwrap();
    let originals: HashSet<Vec<u32>> = lines.iter().map(|line| FakeTokens.encode(line).ids).collect();
    let tokens: usize = originals.iter().map(|ids| ids.len() - 2).sum();
    let questions = asked(&work);
    let share = |count: usize, of: usize| count as f64 / of as f64;
    assert!((share(questions.len(), tokens) - 0.15).abs() < 0.01);
    let masked = questions.iter().filter(|(ids, position, _)| ids[*position] == MASK).count();
    let kept = questions.iter().filter(|(ids, position, token)| ids[*position] == *token).count();
    assert!((share(masked, questions.len()) - 0.8).abs() < 0.03);
    assert!((share(kept, questions.len()) - 0.1).abs() < 0.03);
    // With the questions' tokens put back, lines are what they were: nothing else has changed.
    let mut restored: Vec<Vec<u32>> = work.sequences().to_vec();
    for question in work.log_probabilities() {
        restored[question.sequence.0][question.position as usize] = question.token;
    }
    assert!(restored.iter().all(|ids| originals.contains(ids) && ids[0] == CLS && ids[ids.len() - 1] == SEP));
    assert_eq!(asked(&ask(perplexity(3), &content, ModelKind::Masked, 64).unwrap().0), questions);
    assert_ne!(asked(&ask(perplexity(4), &content, ModelKind::Masked, 64).unwrap().0), questions);
    let outcome = outcome(&*planned, vec![-0.5; questions.len()]);
    assert!((outcome.scores[0].value - 0.5f64.exp()).abs() < 1e-12 && outcome.scores[0].error.unwrap() < 1e-9);
    let lines_masked = work.sequences().len() as u64;
    assert_eq!(outcome.counts["lines without a chosen token"], 2000 - lines_masked);

    let sampled = Perplexity::Masked(MaskedOptions { most_tokens: Some(300), seed: 3 });
    let sampled = asked(&ask(sampled, &content, ModelKind::Masked, 64).unwrap().0);
    assert!((250..350).contains(&sampled.len()) && sampled.iter().all(|question| questions.contains(question)));
}

#[test]
fn causal_windows_predict_from_the_position_before() {
    let options = CausalOptions { window: Some(4), stride: Some(2), ..CausalOptions::default() };
    let (work, planned) =
        ask(Perplexity::Causal(options), "one two six ten red fox run", ModelKind::Causal, 32).unwrap();
    let ids = FakeTokens.encode("one two six ten red fox run").ids;
    // The tokenizer puts CLS first, which is given, and SEP last, which is not of the text.
    let expected: Vec<_> = [(0, 1), (0, 2), (0, 3), (2, 4), (2, 5), (4, 6), (4, 7)]
        .map(|(begin, token)| (ids[begin..begin + 4].to_vec(), token - 1 - begin, ids[token]))
        .into();
    assert_eq!(asked(&work), expected);
    let outcome = outcome(&*planned, vec![-1.0; 7]);
    assert_eq!((outcome.scores[1].value, outcome.scores[0].n), (1.0, 7));
    assert_eq!((&*outcome.settings["window"], &*outcome.settings["stride"]), ("4", "2"));
}

/// A tokenizer without special tokens, as GPT-2's.
struct Plain;

impl Tokens for Plain {
    fn encode(&self, text: &str) -> crate::measure::Encoding {
        FakeTokens.encode_plain(text)
    }
    fn encode_plain(&self, text: &str) -> crate::measure::Encoding {
        FakeTokens.encode_plain(text)
    }
    fn decode(&self, ids: &[u32]) -> String {
        FakeTokens.decode(ids)
    }
    fn mask(&self) -> Option<crate::measure::Mask> {
        None
    }
    fn begin(&self) -> Option<u32> {
        Some(BEGIN)
    }
    fn words_begin_with_a_blank(&self) -> bool {
        true
    }
}

#[test]
fn the_first_token_is_scored_after_the_begin_of_text_if_asked() {
    let plan = |first, content: &str| {
        let mut work = WorkList::default();
        let perplexity = Perplexity::Causal(CausalOptions { first, ..CausalOptions::default() });
        perplexity.plan(&text(content), &Plain, &facts(ModelKind::Causal, 32), &mut work).map(|planned| (work, planned))
    };
    let ids = FakeTokens.encode_plain("one two").ids;
    let (work, _) = plan(FirstToken::Given, "one two\nsix").unwrap();
    assert_eq!(asked(&work), [(ids.clone(), 0, ids[1])]);
    let (work, _) = plan(FirstToken::Scored, "one two").unwrap();
    let begun = [vec![BEGIN], ids.clone()].concat();
    assert_eq!(asked(&work), [(begun.clone(), 0, ids[0]), (begun, 1, ids[1])]);
    assert!(matches!(plan(FirstToken::Given, "one"), Err(BadData::Empty { .. })));
}

#[test]
fn lines_longer_than_the_model_takes_are_cut_and_counted() {
    let (work, planned) =
        ask(Perplexity::Pseudo(PseudoOptions::default()), "ten red foxes run home", ModelKind::Masked, 5).unwrap();
    assert!(work.sequences().iter().all(|ids| ids.len() == 5));
    let outcome = outcome(&*planned, vec![-1.0; 6]);
    assert_eq!((outcome.counts["longer than the model takes"], outcome.counts["pieces of those"]), (1, 2));
    assert!(matches!(
        ask(Perplexity::Pseudo(PseudoOptions::default()), TEXT, ModelKind::Masked, 2),
        Err(BadData::Empty { .. })
    ));
}

#[test]
fn models_of_another_kind_are_refused() {
    let kind = |perplexity, kind| match ask(perplexity, TEXT, kind, 32) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it is measured"),
    };
    assert_eq!(
        kind(Perplexity::Masked(MaskedOptions::default()), ModelKind::Causal),
        "ppl.mlm needs a masked language model, and this model is a causal language model"
    );
    assert_eq!(
        kind(Perplexity::Causal(CausalOptions::default()), ModelKind::Encoder),
        "ppl.causal needs a causal language model, and this model is an encoder without a language model head"
    );
}

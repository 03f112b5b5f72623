use super::super::data::{fixture, published};
use super::super::testing::{BEGIN, BertUncased, CAUSAL, MASKED, Words, answer};
use super::super::{ModelKind, Score};
use super::*;
use serde_json::{Value, json};
use std::collections::HashMap;

const GENDER: &str = "stereoset_gender_intrasentence_1026.json";
const LABELS: [&str; 3] = ["stereotype", "anti-stereotype", "unrelated"];

fn file(content: &str) -> DataFile {
    DataFile { path: "dev.json".into(), digest: Digest::sha256(content.as_bytes()), bytes: content.as_bytes().to_vec() }
}

fn data(content: &Value) -> StereoSet {
    let file = file(&content.to_string());
    let Triples { intrasentence: triples, intersentence } = read_triples(&file).unwrap();
    StereoSet { file, triples, intersentence }
}

fn refusal(content: &str) -> String {
    read_triples(&file(content)).unwrap_err().to_string()
}

/// A triple in the form of a list, whose words fill the blank of `x BLANK`.
fn entry(id: &str, term: &str, domain: &str, words: [&str; 3]) -> Value {
    let sentence = |word: &str| json!({"sentence": format!("x {word}")});
    let [stereotype, anti, unrelated] = words.map(sentence);
    json!({"id": id, "target": term, "bias_type": domain, "context": "x BLANK",
           "data": {"stereotype": stereotype, "anti-stereotype": anti, "unrelated": unrelated}})
}

fn values(scores: &[Score]) -> Vec<f64> {
    scores.iter().map(|score| score.value).collect()
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(published(name)).unwrap()).unwrap()
}

#[test]
fn a_word_of_several_pieces_scores_the_mean_of_their_probabilities() {
    let data = data(&json!([entry("t", "he", "gender", ["goodness", "bad", "bad"])]));
    let (tokens, mut work) = (Words::masked(), WorkList::default());
    let planned = data.plan(&Options::default(), &tokens, &MASKED, &mut work).unwrap();
    // the first pieces share an input
    assert_eq!((work.sequences().len(), work.log_probabilities().len()), (2, 3));
    let (good, bad) = (tokens.id("good"), tokens.id("bad"));
    let answers = answer(&work, |_, _, token| match token {
        _ if token == good => 0.5f32.ln(),
        _ if token == bad => 0.25f32.ln(),
        _ => 0.125f32.ln(),
    });
    let outcome = planned.outcome(&answers, &answers);
    let expected = [(0.5 + 0.125) / 2.0, 0.25, 0.25];
    assert!(outcome.details[0].scores.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-7));
    assert_eq!((outcome.details[0].id.as_str(), outcome.details[0].decision), ("t", true));
    // the opposite is as likely as nonsense, which is not strictly more
    assert_eq!(values(&outcome.scores), [100.0, 50.0, 0.0, 100.0]);
    assert_eq!(outcome.items, Items::Decisions(vec![true]));
    assert_eq!((outcome.counts["ties"], outcome.counts["terms"]), (0, 1));
    assert_eq!((outcome.measure.as_str(), outcome.settings["split"].as_str()), ("stereoset.intra", "test"));
}

#[test]
fn ties_go_to_the_opposite_and_are_counted() {
    let data = data(&json!([entry("t", "male", "gender", ["same", "same", "other"])]));
    let (tokens, mut work) = (Words::masked(), WorkList::default());
    let planned = data.plan(&Options::default(), &tokens, &MASKED, &mut work).unwrap();
    let outcome = planned.outcome(&answer(&work, |_, _, _| -1.0), &Answers::default());
    assert_eq!((outcome.items, outcome.counts["ties"]), (Items::Decisions(vec![false]), 1));
    assert_eq!(outcome.settings["split"], "dev");
    let unanswered = planned.outcome(&Answers::default(), &Answers::default());
    assert_eq!((unanswered.counts["not finite"], unanswered.counts["ties"]), (1, 0));
}

#[test]
fn domains_and_splits_are_chosen_and_told_apart() {
    let content = json!([
        entry("a", "he", "gender", ["one", "two", "six"]),
        entry("b", "chef", "profession", ["two", "one", "six"]),
        entry("c", "male", "gender", ["two", "one", "six"]),
    ]);
    let data = data(&content);
    let tokens = Words::masked();
    let outcome = |domains, split| {
        let mut work = WorkList::default();
        let planned = data.plan(&Options { domains, split }, &tokens, &MASKED, &mut work).unwrap();
        let one = tokens.id("one");
        let answers = answer(&work, |_, _, token| if token == one { -1.0 } else { -2.0 });
        planned.outcome(&answers, &answers)
    };
    let all = outcome(Parts::All, None);
    let groups: Vec<_> = all.groups.iter().map(|group| (group.name.as_str(), group.scores[0].value)).collect();
    assert_eq!(groups, [("gender", 50.0), ("profession", 0.0), ("dev", 0.0), ("test", 100.0)]);
    assert_eq!((all.settings["split"].as_str(), all.settings["domains"].as_str()), ("dev and test", "all"));
    let dev = outcome(Parts::default(), Some(Split::Dev));
    assert_eq!((dev.scores[0].value, dev.scores[0].n, dev.groups.len()), (0.0, 1, 1));
    assert_eq!((dev.settings["split"].as_str(), dev.counts[OTHER_SPLIT]), ("dev", 1));
    assert_eq!(outcome(Parts::listed("profession"), None).settings["split"], "not known");
}

#[test]
fn triples_that_cannot_be_scored_are_counted_by_reason() {
    let mut no_word = entry("a", "he", "gender", ["one", "-", "six"]);
    let content = json!([no_word.clone(), entry("b", "he", "gender", ["one", "two", "six"])]);
    let (tokens, mut work) = (Words::masked(), WorkList::default());
    let planned = data(&content).plan(&Options::default(), &tokens, &MASKED, &mut work).unwrap();
    let outcome = planned.outcome(&answer(&work, |_, _, _| -1.0), &Answers::default());
    assert_eq!(outcome.counts["skipped: no word in the place of BLANK"], 1);
    assert_eq!((outcome.scores[0].n, outcome.details[0].id.as_str()), (1, "b"));
    no_word["context"] = json!("x y");
    let error = data(&json!([no_word])).plan(&Options::default(), &tokens, &MASKED, &mut work).err().unwrap();
    assert_eq!(
        error.to_string(),
        "dev.json: stereoset.intra finds nothing to measure: \
         all 1 triples are left out (1 skipped: no BLANK in the context)"
    );
}

#[test]
fn causal_models_score_whole_sentences() {
    let data = data(&json!([entry("t", "he", "gender", ["one", "two", "six"])]));
    let (tokens, mut work) = (Words::causal(), WorkList::default());
    let planned = data.plan(&Options::default(), &tokens, &CAUSAL, &mut work).unwrap();
    let (one, two) = (tokens.id("one"), tokens.id("two"));
    let answers = answer(&work, |ids, _, token| match token {
        _ if ids == [BEGIN] => 0.25f32.ln(),
        _ if token == one => 0.25f32.ln(),
        _ if token == two => 1f32.ln(),
        _ => 0.0625f32.ln(),
    });
    let outcome = planned.outcome(&answers, &answers);
    for (found, expected) in outcome.details[0].scores.iter().zip([0.25, 0.5, 0.125]) {
        assert!((found - expected).abs() < 1e-7, "{found} {expected}");
    }
}

#[test]
fn a_model_without_a_head_is_refused() {
    let data = data(&json!([entry("t", "he", "gender", ["one", "two", "six"])]));
    let facts = ModelFacts { kind: ModelKind::Encoder, ..MASKED };
    let error = data.plan(&Options::default(), &Words::masked(), &facts, &mut WorkList::default()).err().unwrap();
    assert!(error.to_string().starts_with("stereoset.intra needs a language model"), "{error}");
}

#[test]
fn the_published_form_is_read_by_gold_label() {
    let sentence = |label: &str, text: &str| json!({"gold_label": label, "sentence": text, "id": "s", "labels": []});
    let example = json!({"id": "t", "target": "he", "bias_type": "gender", "context": "x BLANK", "sentences":
        [sentence("unrelated", "x c"), sentence("stereotype", "x a"), sentence("anti-stereotype", "x b")]});
    let mut content = json!({"version": "1.0", "data": {"intrasentence": [example], "intersentence": [{}, {}]}});
    let read = data(&content);
    assert_eq!((read.triples.len(), read.intersentence), (1, 2));
    assert_eq!(read.triples[0].sentences, ["x a", "x b", "x c"]);
    content["data"]["intrasentence"][0]["sentences"][0]["gold_label"] = json!("stereotype");
    assert!(refusal(&content.to_string()).ends_with("entry 0: not one sentence with the gold_label \"stereotype\""));
}

#[test]
fn malformed_files_are_refused() {
    assert!(refusal("[\n{]").starts_with("dev.json, line 2: not JSON"));
    assert!(refusal("").starts_with("dev.json, line 1: not JSON"));
    assert!(refusal("{\"stereotype\": []}").contains("neither an object with \"data\""));
    assert!(refusal("{\"data\": []}").ends_with("\"data\" is not an object"));
    assert!(refusal("{\"data\": {\"intrasentence\": 1}}").ends_with("\"data\".\"intrasentence\" is not a list"));
    let mut lacking = entry("t", "he", "gender", ["a", "b", "c"]);
    lacking.as_object_mut().unwrap().remove("target");
    assert!(refusal(&json!([lacking]).to_string()).ends_with("entry 0: missing field `target`"));
    let alone = |id: &str, context: &str| json!({"id": id, "target": "he", "bias_type": "gender", "context": context, "sentence": "x"});
    let regrouped = |anti: Value| {
        let one = json!([alone("t", "x BLANK")]);
        json!({"stereotype": one, "anti-stereotype": anti, "unrelated": one})
    };
    assert!(refusal(&regrouped(json!([])).to_string()).ends_with("t has no anti-stereotype with the same context"));
    let more = json!([alone("t", "x BLANK"), alone("u", "x BLANK")]);
    assert!(refusal(&regrouped(more).to_string()).ends_with("u has no stereotype"));
}

#[test]
fn a_file_of_only_intersentence_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inter.json");
    std::fs::write(&path, json!({"data": {"intersentence": [{}]}}).to_string()).unwrap();
    let error = StereoSet::read(&path).unwrap_err();
    assert!(matches!(&error, BadData::Empty { reason, .. } if reason.contains("next-sentence head")), "{error}");
}

/// Our file in the published form, as a list of triples, and as lists by label.
#[test]
fn all_forms_hold_the_same_triples() {
    let text = std::fs::read(fixture("benchmarks/stereoset_dev.json")).unwrap();
    let whole: Value = serde_json::from_slice(&text).unwrap();
    let of_file = data(&whole);
    assert_eq!((of_file.triples.len(), of_file.intersentence), (19, 1));
    let splits = |split| of_file.triples.iter().filter(|triple| triple.split() == split).count();
    assert_eq!((splits(Some(Split::Dev)), splits(None)), (14, 5));
    let examples = whole["data"]["intrasentence"].as_array().unwrap();
    let sentence = |example: &Value, label: &str| {
        let sentences = example["sentences"].as_array().unwrap();
        sentences.iter().find(|sentence| sentence["gold_label"] == label).unwrap()["sentence"].clone()
    };
    let list = examples.iter().map(|example| {
        let mut entry = example.clone();
        let of = |label| json!({"sentence": sentence(example, label)});
        entry["data"] = json!({LABELS[0]: of(LABELS[0]), LABELS[1]: of(LABELS[1]), LABELS[2]: of(LABELS[2])});
        entry
    });
    assert_eq!(data(&list.collect()).triples, of_file.triples);
    let by_label = |label: &str| -> Value {
        let alone = |example: &Value| {
            let mut alone = example.clone();
            alone["sentence"] = sentence(example, label);
            alone
        };
        // Each list in an order of its own.
        let mut alone: Vec<Value> = examples.iter().map(alone).collect();
        alone.rotate_left(if label == LABELS[0] { 0 } else { label.len() });
        alone.into()
    };
    let regrouped =
        json!({LABELS[0]: by_label(LABELS[0]), LABELS[1]: by_label(LABELS[1]), LABELS[2]: by_label(LABELS[2])});
    assert_eq!(data(&regrouped).triples, of_file.triples);
}

#[test]
#[ignore = "needs the published data in LCEPATCH_DATA"]
fn lists_by_label_hold_the_same_triples() {
    let regrouped = StereoSet::read(&published("stereoset_dev_regrouped.json")).unwrap();
    assert_eq!((regrouped.triples.len(), regrouped.intersentence), (2106, 2123));
    let list = StereoSet::read(&published(GENDER)).unwrap();
    assert_eq!((list.triples.len(), list.intersentence), (1026, 0));
    let of_list: HashMap<&str, &Triple> = list.triples.iter().map(|triple| (triple.id.as_str(), triple)).collect();
    let gender: Vec<&Triple> = regrouped.triples.iter().filter(|triple| triple.domain == "gender").collect();
    assert_eq!(gender.len(), 255);
    for triple in gender {
        assert_eq!(Some(&triple), of_list.get(triple.id.as_str()));
        assert_eq!(triple.split(), Some(Split::Dev));
    }
    assert_eq!(list.triples.iter().filter(|triple| triple.split() == Some(Split::Test)).count(), 771);
}

/// The authors' scores of sentences by four models, and what their scorer printed for them.
#[test]
#[ignore = "needs the published data in LCEPATCH_DATA"]
fn predictions_of_the_authors_give_their_scores_to_the_last_digit() {
    let printed = std::fs::read_to_string(published("stereoset_golden/predictions.txt")).unwrap();
    let entries = json(GENDER);
    for name in [
        "predictions_bert-base-cased_BertNextSentence_BertLM",
        "predictions_bert-large-cased_BertNextSentence_BertLM",
        "predictions_gpt2_ModelNSP_GPT2LM",
        "predictions_roberta-base_ModelNSP_RoBERTaLM",
    ] {
        let predictions = json(&format!("stereoset_golden/{name}.json"));
        let predictions = predictions["intrasentence"].as_array().unwrap();
        let scores_by_id: HashMap<&str, f64> = predictions
            .iter()
            .map(|prediction| (prediction["id"].as_str().unwrap(), prediction["score"].as_f64().unwrap()))
            .collect();
        let scored: Vec<ScoredTriple<'_>> = entries
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|entry| {
                let id = |label: &str| entry["data"][label]["id"].as_str().unwrap();
                let score = |label: &str| scores_by_id.get(id(label)).copied();
                let [stereotype, anti, unrelated] = LABELS.map(score);
                Some(ScoredTriple {
                    term: entry["target"].as_str().unwrap(),
                    domain: "gender",
                    stereotype: stereotype?,
                    anti: anti?,
                    unrelated: unrelated?,
                })
            })
            .collect();
        assert_eq!(scored.len(), 255);
        let (_, section) = printed.split_once(&format!("predictions/{name}.json")).unwrap();
        let after = |label: &str| section.split_once(label).unwrap().1.lines().next().unwrap().trim().to_owned();
        let [ss, lm, icat, _] = values(&scores(&scored))[..] else { panic!() };
        assert_eq!(
            [ss, lm, icat].map(|value| value.to_string()),
            ["SS Score:", "LM Score:", "ICAT Score:"].map(after),
            "{name}"
        );
    }
}

/// Every input that bias-bench builds for the gender triples, with the vocabulary of bert-base-uncased.
#[test]
#[ignore = "needs the published data in LCEPATCH_DATA and the tokenizer in LCEPATCH_MINILM"]
fn masked_inputs_are_those_of_the_published_code() {
    let tokens = BertUncased::provided();
    let data = StereoSet::read(&published(GENDER)).unwrap();
    let of_data: HashMap<&str, &Triple> = data.triples.iter().map(|triple| (triple.id.as_str(), triple)).collect();
    let golden = json("stereoset_golden/masked_inputs_gender_bert_uncased.json");
    let golden = golden.as_array().unwrap();
    assert_eq!(golden.len(), 3 * 1026);
    let mask = tokens.mask().unwrap();
    for item in golden {
        let triple = of_data[item["example"].as_str().unwrap()];
        let place = LABELS.iter().position(|label| *label == item["label"]).unwrap();
        let word = word(&triple.context, &triple.sentences[place]).unwrap();
        assert_eq!((json!(word), json!(triple.term)), (item["word"].clone(), item["term"].clone()));
        assert_eq!(json!(triple.split().map(Split::name)), item["split"]);
        let inputs = masked_inputs(&triple.context, &word, &mask, &tokens, &MASKED).unwrap();
        let found: Vec<Value> = inputs
            .iter()
            .map(|input| json!({"input_ids": input.ids, "mask_pos": input.position, "target": input.target}))
            .collect();
        assert_eq!(json!(found), item["variants"]);
        assert!(inputs.iter().all(|input| input.prefix_is_kept));
    }
    for (split, sequences) in [(Split::Dev, 474), (Split::Test, 1299)] {
        let mut work = WorkList::default();
        let options = Options { split: Some(split), ..Options::default() };
        data.plan(&options, &tokens, &MASKED, &mut work).unwrap();
        assert_eq!(work.sequences().len(), sequences, "{}", split.name());
    }
}

//! `lcepatch verify` finds what the published code finds in PyTorch, item by item.
//!
//! `fixtures/reference` has what `tests/reference` found, of the fixtures' models; the sentences are those of the published data.

use crate::support::{Dir, Run, published, runtime};
use serde_json::Value;
use std::path::{Path, PathBuf};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");
const PAIRS: &str = "crows_pairs_anonymized.csv";
const TRIPLES: &str = "stereoset_gender_intrasentence_1026.json";

/// How far scores of sentences may be apart that are rounded to three decimals, as published.
const ROUNDED: f64 = 5.2e-4;
/// Of probabilities, which have five digits in the reference, the share that may differ.
const FIVE_DIGITS: f64 = 5.2e-5;
/// How far effect sizes may be apart: words of models that tell them hardly apart differ by little more than f32 has digits.
const EFFECT: f64 = 1e-4;
/// Of sums of log-probabilities, and of totals, which follow from decisions.
const EXACT: f64 = 1e-6;

/// What was found of a model in PyTorch.
struct Reference {
    name: String,
    model: PathBuf,
    measures: Value,
}

impl Reference {
    fn all() -> Vec<Self> {
        let folder = Path::new(FIXTURES).join("reference");
        let names = crate::support::names(&folder).into_iter();
        let found: Vec<Self> =
            names.filter_map(|file| Some(Self::read(&folder, file.strip_suffix(".json")?))).collect();
        assert!(found.len() > 8, "{} has {} models", folder.display(), found.len());
        found
    }

    fn read(folder: &Path, name: &str) -> Self {
        let text = std::fs::read(folder.join(name).with_extension("json")).unwrap();
        let mut found: Value = serde_json::from_slice(&text).unwrap();
        let model = Path::new(FIXTURES).join(found["model"].as_str().unwrap());
        Self { name: name.to_owned(), model, measures: found["measures"].take() }
    }

    fn has(&self, measure: &str) -> bool {
        self.measures.get(measure).is_some()
    }

    /// What was found, and a place to say where it is not what `verify` finds.
    fn expected<'a>(&'a self, measure: &str, differences: &'a mut Vec<String>) -> Expected<'a> {
        Expected { at: format!("{} {measure}", self.name), values: &self.measures[measure], differences }
    }

    fn is_causal(&self) -> bool {
        self.has("crows.causal")
    }

    fn verify(&self, arguments: &[&str]) -> Vec<Value> {
        measures(&run(&self.model, arguments))
    }
}

fn run(model: &Path, arguments: &[&str]) -> Run {
    let dir = Dir::new();
    let mut command = dir.command();
    command.env("ORT_DYLIB_PATH", runtime()).arg("verify").arg(model).args(["--json", "--items"]).args(arguments);
    Run::new(&arguments.join(" "), command.output().unwrap()).ok()
}

/// What was measured of the unedited model.
fn measures(run: &Run) -> Vec<Value> {
    run.json()["rows"][0]["measures"].as_array().unwrap().clone()
}

/// What is expected of a measure, and what is found to be different.
struct Expected<'a> {
    at: String,
    values: &'a Value,
    differences: &'a mut Vec<String>,
}

impl Expected<'_> {
    fn differs(&mut self, what: &str, found: impl std::fmt::Debug, expected: impl std::fmt::Debug) {
        self.differences.push(format!("{}: {what} is {found:?}, not {expected:?}", self.at));
    }

    fn equal<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: T, expected: T) {
        if found != expected {
            self.differs(what, found, expected);
        }
    }

    fn near(&mut self, what: &str, found: f64, expected: f64, apart: f64) {
        // Also if either is not a number.
        // Not a number is no agreement either.
        let agrees = (found - expected).abs() <= apart;
        if !agrees {
            self.differs(what, found, expected);
        }
    }

    /// A score by its name, which has to be within a distance of the expected one.
    fn score(&mut self, found: &Value, name: &str, expected: f64, apart: f64) {
        match score(found, name) {
            Some(score) => self.near(name, score["value"].as_f64().unwrap_or(f64::NAN), expected, apart),
            None => self.differs(name, Option::<f64>::None, expected),
        }
    }
}

fn score<'a>(measure: &'a Value, name: &str) -> Option<&'a Value> {
    list(&measure["scores"]).iter().find(|score| score["name"] == name)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn numbers(value: &Value) -> Vec<f64> {
    list(value).iter().map(|number| number.as_f64().unwrap_or(f64::NAN)).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// How many items were skipped, for whatever reason.
fn skipped(measure: &Value) -> u64 {
    let counts = measure["counts"].as_object().unwrap().iter();
    counts.filter(|(name, _)| name.starts_with("skipped")).map(|(_, count)| count.as_u64().unwrap()).sum()
}

#[test]
fn every_pair_of_crows_pairs_is_decided_alike() {
    let (pairs, mut differences) = (published(PAIRS), Vec::new());
    let pairs = pairs.to_str().unwrap();
    for reference in Reference::all() {
        for variant in ["diff", "shared", "causal"].into_iter().filter(|it| reference.has(&format!("crows.{it}"))) {
            let mut arguments = vec!["--crows-pairs", pairs];
            if !reference.is_causal() {
                arguments.extend(["--crows-variant", variant]);
            }
            let found = reference.verify(&arguments);
            let name = format!("crows.{variant}");
            assert_eq!(found[0]["measure"], name.as_str());
            crows_agrees(&found[0], reference.expected(&name, &mut differences), variant == "causal");
        }
    }
    assert_eq!(differences, Vec::<String>::new());
}

fn crows_agrees(found: &Value, mut expected: Expected<'_>, causal: bool) {
    let values = expected.values;
    let decisions = values["decisions"].as_str().unwrap();
    let scored: Vec<(String, char)> =
        list(&values["ids"]).iter().map(Value::to_string).zip(decisions.chars()).filter(|(_, it)| *it != 's').collect();
    let ids: Vec<String> = list(&found["items"]["ids"]).iter().map(|id| id.as_str().unwrap().to_owned()).collect();
    expected.equal("ids", ids, scored.iter().map(|(id, _)| id.clone()).collect());
    let hits = list(&found["items"]["values"]);
    let scores = list(&found["items"]["scores"]).iter().map(numbers);
    for ((((id, decision), hit), scores), expects) in
        scored.iter().zip(hits).zip(scores).zip(list(&values["scores"]).iter().map(numbers))
    {
        let found = if scores[0] > scores[1] {
            'm'
        } else if scores[0] < scores[1] {
            'l'
        } else {
            'n'
        };
        expected.equal(id, found, *decision);
        expected.equal(id, hit.as_bool(), Some(*decision == 'm'));
        for (score, expects) in scores.iter().zip(expects) {
            expected.near(id, *score, expects, if causal { FIVE_DIGITS * expects } else { ROUNDED });
        }
    }
    let of = |decision: char| scored.iter().filter(|(_, it)| *it == decision).count();
    expected.score(found, "%stereo", 100.0 * of('m') as f64 / scored.len() as f64, EXACT);
    expected.equal("ties", found["counts"]["ties"].as_u64(), Some(of('n') as u64));
    expected.equal("skipped", skipped(found), decisions.matches('s').count() as u64);
    // These are rounded to two decimals where they are published.
    for (name, key) in [("%stereo", "score"), ("stereotype", "stereo"), ("antistereotype", "antistereo")] {
        expected.score(found, name, number(&values["totals"][key]), 0.005 + EXACT);
    }
}

#[test]
fn every_triple_of_stereoset_is_decided_alike() {
    let (triples, mut differences) = (published(TRIPLES), Vec::new());
    for reference in Reference::all() {
        let found = reference.verify(&["--stereoset", triples.to_str().unwrap()]);
        stereoset_agrees(&found[0], reference.expected("stereoset.intra", &mut differences));
    }
    assert_eq!(differences, Vec::<String>::new());
}

fn stereoset_agrees(found: &Value, mut expected: Expected<'_>) {
    const COMPARISONS: [(&str, usize, usize); 3] = [
        ("stereotype over anti-stereotype", 0, 1),
        ("stereotype over unrelated", 0, 2),
        ("anti-stereotype over unrelated", 1, 2),
    ];
    let values = expected.values;
    let ids: Vec<&str> = list(&found["items"]["ids"]).iter().map(|id| id.as_str().unwrap()).collect();
    let first_letters: String = ids.iter().map(|id| &id[..4]).collect();
    let decided = values[COMPARISONS[0].0].as_str().unwrap();
    let all_ids = values["ids"].as_str().unwrap().as_bytes().chunks(4);
    let scored = all_ids.zip(decided.chars()).filter(|(_, decision)| *decision != 's');
    expected.equal("ids", first_letters, scored.map(|(id, _)| std::str::from_utf8(id).unwrap()).collect());
    let scores: Vec<Vec<f64>> = list(&found["items"]["scores"]).iter().map(numbers).collect();
    for (name, first, second) in COMPARISONS {
        let decisions = values[name].as_str().unwrap().chars().filter(|decision| *decision != 's');
        for ((id, scores), decision) in ids.iter().zip(&scores).zip(decisions) {
            if (scores[first] > scores[second]) != (decision == '1') {
                expected.differs(&format!("{id} {name}"), scores, decision);
            }
        }
    }
    for ((id, scores), expects) in ids.iter().zip(&scores).zip(list(&values["scores"]).iter().map(numbers)) {
        for (score, expects) in scores.iter().zip(expects) {
            expected.near(id, *score, expects, FIVE_DIGITS * expects);
        }
    }
    let totals = &values["totals"];
    for name in ["ss", "lm", "icat"] {
        expected.score(found, name, number(&totals[name]), EXACT);
    }
    expected.equal("n", score(found, "ss").map(|score| &score["n"]), Some(&totals["n"]));
    expected.equal("terms", &found["counts"]["terms"], &totals["terms"]);
    expected.equal("skipped", skipped(found), totals["skipped"].as_u64().unwrap());
}

#[test]
fn effect_sizes_and_their_p_are_alike() {
    let mut differences = Vec::new();
    for reference in Reference::all() {
        for encoding in ["biasbench", "wordpiece"] {
            let found = reference.verify(&["--weat", "6,7,8", "--weat-encoding", encoding]);
            for found in found {
                let name = format!("{} {encoding}", found["measure"].as_str().unwrap());
                weat_agrees(&found, reference.expected(&name, &mut differences), encoding == "wordpiece", 1);
            }
        }
        let found = reference.verify(&["--weat", "6,7,8", "--weat-encoding", "wordpiece", "--weat-embeddings"]);
        for found in found {
            let name = format!("{} wordpiece", found["measure"].as_str().unwrap());
            weat_agrees(&found, reference.expected(&name, &mut differences), true, 0);
        }
    }
    assert_eq!(differences, Vec::<String>::new());
}

/// `by_layer`: the mean over layers from the `first` on, where 0 is the embeddings.
fn weat_agrees(found: &Value, mut expected: Expected<'_>, by_layer: bool, first: usize) {
    let values = expected.values;
    let layers = numbers(&values["layers"]);
    if !by_layer {
        expected.score(found, "d", number(&values["ddof1"]), EFFECT);
        expected.score(found, "d.ddof0", number(&values["ddof0"]), EFFECT);
        let p = score(found, "d").map_or(f64::NAN, |score| number(&score["p"]));
        let reached = p * number(&values["partitions"]);
        let bounds = numbers(&values["reached"]);
        if !(reached >= bounds[0] - EXACT && reached <= bounds[1] + EXACT) {
            expected.differs("partitions that reach d", reached, bounds);
        }
        return;
    }
    let layers = &layers[first..];
    expected.score(found, "d", layers.iter().sum::<f64>() / layers.len() as f64, EFFECT);
    let groups = list(&found["groups"]);
    expected.equal("layers", groups.len(), layers.len());
    for (layer, (group, d)) in (first..).zip(groups.iter().zip(layers)) {
        expected.equal("name of a layer", group["name"].as_str(), Some(&*format!("layer {layer}")));
        expected.score(group, "d", *d, EFFECT);
    }
}

#[test]
fn every_line_and_window_is_as_likely() {
    let (text, mut differences) = (Path::new(FIXTURES).join("reference/text.txt"), Vec::new());
    for reference in Reference::all() {
        let kinds = if reference.is_causal() { "causal" } else { "pseudo,within-word" };
        let found = reference.verify(&["--perplexity", text.to_str().unwrap(), "--ppl", kinds]);
        for found in found {
            let name = found["measure"].as_str().unwrap();
            perplexity_agrees(&found, reference.expected(name, &mut differences));
        }
    }
    assert_eq!(differences, Vec::<String>::new());
}

fn perplexity_agrees(found: &Value, mut expected: Expected<'_>) {
    let values = expected.values;
    let (losses, weights) = (numbers(&found["items"]["values"]), numbers(&found["items"]["weights"]));
    expected.equal("tokens of items", weights, numbers(&values["tokens"]));
    for ((id, loss), expects) in list(&values["ids"]).iter().zip(losses).zip(numbers(&values["log_likelihoods"])) {
        expected.near(&id.to_string(), loss, -expects, EXACT * expects.abs());
    }
    let totals = &values["totals"];
    expected.score(found, "ppl", number(&totals["ppl"]), EXACT * number(&totals["ppl"]));
    expected.equal("tokens", score(found, "ppl").map(|score| &score["n"]), Some(&totals["tokens"]));
}

/// The same weights and vocabulary, in other files.
#[test]
fn shards_and_a_vocabulary_alone_make_no_difference() {
    let pairs = published(PAIRS);
    let of = |model: &str| {
        let run = run(&Path::new(FIXTURES).join("models").join(model), &["--crows-pairs", pairs.to_str().unwrap()]);
        text_of_measures(&run).to_owned()
    };
    assert_eq!(of("bert-sharded"), of("bert"));
}

/// What the run says of its measures, letter by letter, so that numbers are the same only if they have the same bits.
fn text_of_measures(run: &Run) -> &str {
    let (_, from) = run.out.split_once("\"measures\":").unwrap();
    from.split_once("\"seconds\":").unwrap().0
}

#[test]
fn scores_depend_neither_on_threads_nor_on_what_else_is_asked() {
    let (pairs, triples) = (published(PAIRS), published(TRIPLES));
    let text = Path::new(FIXTURES).join("reference/text.txt");
    let of_text = ["--perplexity", text.to_str().unwrap(), "--ppl"];
    let of_triples = ["--stereoset", triples.to_str().unwrap()];
    let of_pairs = ["--crows-pairs", pairs.to_str().unwrap()];
    for (model, kinds) in [("imp/target/pruned", "pseudo,within-word"), ("models/gpt2", "causal")] {
        let model = Path::new(FIXTURES).join(model);
        let alone = [&of_text[..], &[kinds]].concat();
        let all = [&["--weat", "6,7,8"], &of_pairs[..], &of_triples, &alone].concat();
        let together = run(&model, &all);
        let one_thread = run(&model, &[&all[..], &["--threads", "1"]].concat());
        assert_eq!(text_of_measures(&one_thread), text_of_measures(&together));
        // Other batches, of other lengths.
        let together = measures(&together);
        for alone in [&["--weat", "6,7,8"], &of_pairs[..], &of_triples, &alone] {
            for measure in measures(&run(&model, alone)) {
                assert!(together.contains(&measure), "{}", measure["measure"]);
            }
        }
    }
}

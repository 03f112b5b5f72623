use super::*;
use crate::measure::fake::{FakeTokens, facts};
use crate::measure::{Layers, ModelKind};
use std::collections::HashMap;

/// A case of `fixtures/make/measures.py`.
#[derive(Deserialize)]
struct Case {
    name: String,
    x: Vec<Vec<Vec<f32>>>,
    y: Vec<Vec<Vec<f32>>>,
    a: Vec<Vec<Vec<f32>>>,
    b: Vec<Vec<Vec<f32>>>,
    layers: Vec<Expected>,
    hidden: Expected,
    with_embeddings: Expected,
}

#[derive(Deserialize)]
struct Expected {
    d0: f64,
    d1: f64,
    p: f64,
}

fn cases() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/measures/weat.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

impl Case {
    fn sets(&self) -> [(&'static str, &Vec<Vec<Vec<f32>>>); 4] {
        [("x", &self.x), ("y", &self.y), ("a", &self.a), ("b", &self.b)]
    }

    fn weat(&self) -> Weat {
        let words = |(role, vectors): (&str, &Vec<_>)| Words {
            category: role.to_uppercase(),
            examples: (0..vectors.len()).map(|i| format!("{role}{i}")).collect(),
        };
        let sets = self.sets().map(words);
        Weat { name: self.name.clone(), sets, path: PathBuf::new(), digest: None, duplicates: 0 }
    }

    /// What a model would say that has the case's vectors for its words.
    fn answers(&self, work: &WorkList) -> Answers {
        let mut vectors = HashMap::new();
        for (role, words) in self.sets() {
            for (i, layers) in words.iter().enumerate() {
                vectors.insert(FakeTokens.encode(&format!("{role}{i}")).ids, layers);
            }
        }
        let answer = |question: &crate::measure::work_list::Embedding| {
            let layers = vectors[&work.sequences()[question.sequence.0]];
            match question.layers {
                Layers::Every => layers.clone(),
                Layers::Last => vec![layers.last().unwrap().clone()],
            }
        };
        Answers { embeddings: work.embeddings().iter().map(answer).collect(), ..Answers::default() }
    }

    fn outcome(&self, options: WeatOptions) -> Outcome {
        let mut work = WorkList::default();
        let planned = self.weat().plan(&options, &FakeTokens, &facts(ModelKind::Masked, 32), &mut work).unwrap();
        let answers = self.answers(&work);
        planned.outcome(&answers, &answers)
    }
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-12, "{found} {expected}");
}

#[test]
fn effect_sizes_and_exact_p_are_numpys() {
    for case in cases().iter().filter(|case| case.name != "sampled") {
        for (ddof, name) in [(Ddof::One, "ddof 1"), (Ddof::Zero, "ddof 0")] {
            let outcome = case.outcome(WeatOptions { ddof, ..WeatOptions::default() });
            let last = case.layers.last().unwrap();
            let (main, other) = if ddof == Ddof::One { (last.d1, last.d0) } else { (last.d0, last.d1) };
            close(outcome.scores[0].value, main);
            close(outcome.scores[1].value, other);
            close(outcome.scores[0].p.unwrap(), last.p);
            assert_eq!((&*outcome.settings["p"], &*outcome.settings["layers"]), ("exact", "2"), "{} {name}", case.name);
        }
    }
}

#[test]
fn layers_are_averaged_as_local_contrastive_editing_does() {
    for case in cases().iter().filter(|case| case.name != "sampled") {
        for (choice, expected, first) in
            [(LayerChoice::Hidden, &case.hidden, 1), (LayerChoice::WithEmbeddings, &case.with_embeddings, 0)]
        {
            let outcome =
                case.outcome(WeatOptions { encoding: WordEncoding::WordPieces(choice), ..WeatOptions::default() });
            close(outcome.scores[0].value, expected.d1);
            close(outcome.scores[1].value, expected.d0);
            close(outcome.scores[0].p.unwrap(), expected.p);
            assert_eq!(outcome.groups.len(), 3 - first);
            for (layer, group) in (first..).zip(&outcome.groups) {
                assert_eq!(group.name, format!("layer {layer}"));
                close(group.scores[0].value, case.layers[layer].d1);
                close(group.scores[0].p.unwrap(), case.layers[layer].p);
            }
        }
    }
}

#[test]
fn a_sampled_p_is_near_the_exact_one() {
    let case = cases().into_iter().find(|case| case.name == "sampled").unwrap();
    let outcome = case.outcome(WeatOptions { samples: 50_000, ..WeatOptions::default() });
    let exact = case.layers.last().unwrap().p;
    // Four standard deviations.
    assert!((outcome.scores[0].p.unwrap() - exact).abs() < 4.0 * (exact * (1.0 - exact) / 50_000.0).sqrt());
    assert_eq!(outcome.settings["p"], "50000 samples, seed 0");
    let all = case.outcome(WeatOptions { samples: 184_756, ..WeatOptions::default() });
    close(all.scores[0].p.unwrap(), exact);
}

#[test]
fn encodings_ask_for_the_published_positions() {
    let weat = Weat::built_in("weat8").unwrap();
    let asked = |encoding, kind| {
        let mut work = WorkList::default();
        let options = WeatOptions { encoding, ..WeatOptions::default() };
        weat.plan(&options, &FakeTokens, &facts(kind, 32), &mut work).map(|_| work)
    };
    // "technology", three pieces: the second word of X.
    let cases = [
        (WordEncoding::BiasBench, ModelKind::Masked, 5, 0..5),
        (WordEncoding::WordPieces(LayerChoice::Hidden), ModelKind::Encoder, 5, 1..4),
        (WordEncoding::Cls, ModelKind::Masked, 5, 0..1),
        (WordEncoding::First, ModelKind::Masked, 3, 0..1),
        (WordEncoding::BiasBench, ModelKind::Causal, 5, 0..5),
        (WordEncoding::WordPieces(LayerChoice::Hidden), ModelKind::Causal, 5, 1..4),
    ];
    for (encoding, kind, length, positions) in cases {
        let work = asked(encoding, kind).unwrap();
        let question = &work.embeddings()[1];
        assert_eq!(work.sequences()[question.sequence.0].len(), length);
        assert_eq!(question.positions, positions);
    }
    assert!(matches!(asked(WordEncoding::Cls, ModelKind::Causal), Err(BadData::Kind { .. })));
}

#[test]
fn a_text_that_does_not_fit_is_an_error() {
    let weat = Weat::built_in("weat8").unwrap();
    let plan = weat.plan(&WeatOptions::default(), &FakeTokens, &facts(ModelKind::Masked, 4), &mut WorkList::default());
    let Err(BadData::Malformed { reason, .. }) = plan else { panic!("it fits") };
    assert_eq!(reason, "`technology`: 5 tokens are more than the 4 that the model takes");
}

#[test]
fn own_lists_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let read = |text: &str| {
        let path = folder.path().join("own.json");
        std::fs::write(&path, text).unwrap();
        Weat::read(&path)
    };
    let list = |x: &str| {
        format!(
            "{{\"targ1\": {{\"category\": \"X\", \"examples\": [{x}]}},\n \"targ2\": {{\"category\": \"Y\", \"examples\": [\"c\", \"d\"]}},
               \"attr1\": {{\"category\": \"A\", \"examples\": [\"e\"]}}, \"attr2\": {{\"category\": \"B\", \"examples\": [\"f\"]}}}}"
        )
    };
    let weat = read(&list("\"a\", \"b\", \"a\"")).unwrap();
    assert_eq!((weat.name(), weat.duplicates, weat.sets[0].examples.len()), ("own", 1, 2));
    assert!(weat.digest.is_some());
    let reason = |text: &str| match read(text) {
        Err(BadData::Malformed { line, reason, .. }) => (line, reason),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        reason(&list("\"a\"")).1,
        "`targ1` has 1 examples and `targ2` 2, repeated ones counted once; the test needs as many of both"
    );
    assert_eq!(reason(&list("")).1, "`targ1` has no examples");
    assert_eq!(reason(&list("7")).0, Some(1));
    assert_eq!(reason("{\n\"targ1\": 3}").0, Some(2));
    assert_eq!(reason(&(list("\"a\", \"b\"") + "\n{}")).0, Some(4));
    assert!(matches!(Weat::read(&folder.path().join("none")), Err(BadData::Io { .. })));
}

#[test]
fn vectors_without_direction_have_no_effect_size() {
    let case = &cases()[0];
    let mut work = WorkList::default();
    let planned =
        case.weat().plan(&WeatOptions::default(), &FakeTokens, &facts(ModelKind::Masked, 32), &mut work).unwrap();
    let answers = Answers { embeddings: vec![vec![vec![0.0; 6]]; work.embeddings().len()], ..Answers::default() };
    let outcome = planned.outcome(&answers, &answers);
    assert!(outcome.scores[0].value.is_nan());
    assert_eq!(outcome.scores[0].p, None);
}

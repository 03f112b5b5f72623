//! `lcepatch verify` on data of our own in the forms of the published benchmarks, with their corner cases, against what
//! `fixtures/make/benchmarks.py` works out from the published definitions.

use crate::support::{Dir, fixture};
use serde_json::{Value, json};

/// Of scores that are rounded to three decimals.
const ROUNDED: f64 = 5.2e-4;
/// Of others, the share that may differ.
const SINGLE: f64 = 2e-5;

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(fixture("benchmarks/expected.json")).unwrap()).unwrap()
}

fn file(name: &str) -> String {
    fixture("benchmarks").join(name).to_str().unwrap().to_owned()
}

/// What is measured of one of the two models, `masked` or `causal`.
fn verify(model: &str, arguments: &str) -> Vec<Value> {
    let model = fixture(expected()[model].as_str().unwrap());
    let run = Dir::new().run_model(&format!("verify {} --json --items {arguments}", model.display())).ok();
    list(&run.json()["rows"][0]["measures"])
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list")).clone()
}

#[track_caller]
fn near(what: &str, found: &Value, expected: &Value, apart: f64) {
    let (Some(found), Some(expected)) = (found.as_f64(), expected.as_f64()) else {
        panic!("{what} is {found}, not {expected}")
    };
    assert!((found - expected).abs() <= apart, "{what} is {found}, not {expected}");
}

/// Scores by their names in `expected`, which also has `n`.
#[track_caller]
fn scores_agree(what: &str, found: &Value, expected: &Value, names: &[&str]) {
    for name in names {
        let score = found.as_array().unwrap().iter().find(|score| score["name"] == *name);
        match (score, &expected[name]) {
            (None, Value::Null) => {}
            (Some(score), value) => near(&format!("{what} {name}"), &score["value"], value, 1e-4),
            (None, value) => panic!("{what} has no {name}, {value} is expected"),
        }
    }
    assert_eq!(found[0]["n"], expected["n"], "{what}");
}

/// A measure's scores, its items and its groups.
fn agrees(found: &Value, expected: &Value, names: &[&str], hit: &str, apart: impl Fn(f64) -> f64) {
    let measure = found["measure"].as_str().unwrap();
    let items: Vec<Value> = list(&expected["items"]).into_iter().filter(|item| item["skipped"].is_null()).collect();
    let of = |key: &str| items.iter().map(|item| item[key].clone()).collect::<Vec<_>>();
    assert_eq!(list(&found["items"]["ids"]), of("id"), "{measure}");
    assert_eq!(list(&found["items"]["values"]), of(hit), "{measure}");
    for (scores, item) in list(&found["items"]["scores"]).iter().zip(&items) {
        for (found, expected) in list(scores).iter().zip(list(&item["scores"])) {
            near(&format!("{measure}, {}", item["id"]), found, &expected, apart(expected.as_f64().unwrap()));
        }
    }
    scores_agree(measure, &found["scores"], &expected["totals"]["all"], names);
    let mut groups = list(&found["groups"]);
    groups.retain(|group| !["dev", "test"].contains(&group["name"].as_str().unwrap()));
    assert_eq!(groups.len() + 1, expected["totals"].as_object().unwrap().len(), "{measure}");
    for group in groups {
        let name = group["name"].as_str().unwrap();
        scores_agree(name, &group["scores"], &expected["totals"][name], names);
    }
    for (reason, count) in found["counts"].as_object().unwrap().iter().filter(|(name, _)| name.starts_with("skipped")) {
        let reason = reason.strip_prefix("skipped: ").unwrap();
        let skipped = list(&expected["items"]).into_iter().filter(|item| item["skipped"] == reason).count();
        assert_eq!(count.as_u64(), Some(skipped as u64), "{measure}: {reason}");
    }
}

#[test]
fn crows_pairs_has_the_scores_of_its_definitions() {
    let expected = &expected()["crows"];
    for (model, variant, flag) in
        [("masked", "diff", ""), ("masked", "shared", "--crows-variant shared"), ("causal", "causal", "")]
    {
        let arguments = format!("--crows-pairs {} --bias-type all {flag}", file("crows_pairs.csv"));
        let found = verify(model, &arguments);
        assert_eq!(found[0]["measure"], format!("crows.{variant}"));
        let names = ["%stereo", "stereotype", "antistereotype"];
        let apart = |score: f64| if variant == "causal" { SINGLE * score } else { ROUNDED };
        agrees(&found[0], &expected[variant], &names, "hit", apart);
        assert_eq!(found[0]["counts"]["ties"], expected[variant]["totals"]["all"]["ties"]);
    }
}

#[test]
fn stereoset_has_the_scores_of_its_definitions() {
    let expected = &expected()["stereoset"];
    for split in ["dev", "test"] {
        for model in ["masked", "causal"] {
            let found =
                verify(model, &format!("--stereoset {} --domain all", file(&format!("stereoset_{split}.json"))));
            let expected = &expected[split][model];
            agrees(&found[0], expected, &["ss", "lm", "icat", "ss.micro"], "stereotype", |score| SINGLE * score);
            assert_eq!(found[0]["settings"]["split"], split);
            assert_eq!(found[0]["counts"]["terms"], expected["totals"]["all"]["terms"]);
        }
    }
}

#[test]
fn seat_has_the_effect_sizes_of_its_definitions() {
    let expected = expected();
    let found = verify("masked", &format!("--seat {}", file("seat")));
    assert_eq!(found.len(), 1 + expected["seat"].as_object().unwrap().len());
    for measure in &found {
        let name = measure["measure"].as_str().unwrap();
        if name == "seat" {
            near(name, &measure["scores"][0]["value"], &expected["seat mean"], 1e-4);
            continue;
        }
        let test = &expected["seat"][name];
        scores_agree(name, &measure["scores"], test, &["d", "d.ddof0"]);
        assert_eq!(measure["counts"]["repeated examples"], test["repeated"], "{name}");
        let partitions = test["partitions"].as_f64().unwrap();
        let p = test["reached"].as_f64().unwrap() / partitions;
        // Of 100,000 partitions and more a sample is drawn: four of its standard deviations.
        let apart = if partitions <= 100_000.0 { 1e-12 } else { 4.0 * (p * (1.0 - p) / 100_000.0).sqrt() };
        near(&format!("p of {name}"), &measure["scores"][0]["p"], &json!(p), apart);
    }
}

#[test]
fn other_line_ends_and_a_byte_order_mark_change_nothing() {
    let dir = Dir::new();
    let text = std::fs::read_to_string(file("crows_pairs.csv")).unwrap();
    // A line break inside quotes is the sentence's own.
    let mut quoted = false;
    let windows: String = text
        .chars()
        .flat_map(|c| {
            quoted ^= c == '"';
            if c == '\n' && !quoted { vec!['\r', '\n'] } else { vec![c] }
        })
        .collect();
    let windows = dir.write("windows.csv", format!("\u{feff}{windows}").as_bytes());
    let of = |path: &str| {
        let mut found = verify("masked", &format!("--crows-pairs {path} --bias-type all")).remove(0);
        found["data"].take();
        found
    };
    assert_eq!(of(windows.to_str().unwrap()), of(&file("crows_pairs.csv")));
}

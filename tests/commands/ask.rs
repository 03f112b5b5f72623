//! `lcepatch ask`.

use crate::support::*;
use std::path::Path;

fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name).to_str().unwrap().to_owned()
}

/// The models of the demo, and the patch between them.
fn patched() -> (Dir, String) {
    let dir = Dir::new();
    let [biased, counterfactual] = ["biased", "counterfactual"].map(|side| fixture(&format!("demo/{side}")));
    dir.run(&format!("diff {biased} {counterfactual} -o p --density 1% --recommended-alpha 2")).ok();
    (dir, biased)
}

/// Runs `ask`, whose texts have blanks.
fn ask(dir: &Dir, words: &[&str]) -> Run {
    let words = [&["ask"], words].concat();
    let run = Run::new(&words.join(" "), dir.command().env("ORT_DYLIB_PATH", runtime()).args(&words).output().unwrap());
    assert!(!run.err.contains("panicked"), "{run:?}");
    run
}

const NURSE: &str = "The nurse said that [MASK] was late.";

#[test]
fn before_and_after_stand_side_by_side() {
    let (dir, model) = patched();
    let columns = |more: &[&str]| {
        let run = ask(&dir, &[&[model.as_str(), NURSE, "--options", "she,he"], more].concat()).ok();
        let header: Vec<String> =
            run.out.lines().nth(1).unwrap().split("  ").map(str::trim).map(str::to_owned).collect();
        header.into_iter().filter(|title| !title.is_empty()).collect::<Vec<_>>()
    };
    assert_eq!(columns(&[]), ["unedited"]);
    assert_eq!(columns(&["--patch", "p"]), ["unedited", "alpha 2"], "what the patch recommends");
    let several = ["--patch", "p", "--alpha", "-2,-1,0,1", "--edit", "pr"];
    assert_eq!(columns(&several), ["unedited", "alpha -2", "alpha -1", "alpha 1", "pr"]);
}

#[test]
fn an_edit_is_asked_as_apply_would_write_it_and_nothing_is_written() {
    let (dir, model) = patched();
    let before = std::fs::read(Path::new(&model).join("model.safetensors")).unwrap();
    dir.run(&format!("apply {model} p --alpha -2 -o edited --no-log")).ok();
    let probabilities = |words: &[&str], case: usize| {
        let json = ask(&dir, &[words, &[NURSE, "--options", "she,he,hairdresser,xyz", "--json"]].concat()).ok().json();
        let predictions = json["prompts"][0]["predictions"].as_array().unwrap().clone();
        predictions.iter().map(|found| found["log_probabilities"][case].as_f64().unwrap()).collect::<Vec<_>>()
    };
    let edited = probabilities(&["edited"], 0);
    assert_eq!(probabilities(&[&model, "--patch", "p", "--alpha", "-2"], 1), edited);
    assert_ne!(probabilities(&[&model], 0), edited);
    assert_eq!(std::fs::read(Path::new(&model).join("model.safetensors")).unwrap(), before);
}

/// `fixtures/demo/ask.json`: what the fill-mask pipeline of transformers finds, by `fixtures/demo/golden.py`.
#[test]
fn the_answers_are_those_of_transformers() {
    let dir = Dir::new();
    let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(fixture("demo/ask.json")).unwrap()).unwrap();
    let prompts = golden["prompts"].as_array().unwrap();
    assert!(prompts.len() >= 8);
    for prompt in prompts {
        let (side, text) = (prompt["model"].as_str().unwrap(), prompt["text"].as_str().unwrap());
        let json = ask(&dir, &[&fixture(&format!("demo/{side}")), text, "--top", "5", "--json"]).ok().json();
        for (found, expected) in json["prompts"].as_array().unwrap().iter().zip(prompt["masks"].as_array().unwrap()) {
            for (found, expected) in found["predictions"].as_array().unwrap().iter().zip(expected.as_array().unwrap()) {
                assert_eq!(found["tokens"][0], expected["token"], "{text}");
                let [found, expected] = [&found["probabilities"][0], &expected["score"]].map(|p| p.as_f64().unwrap());
                assert!((found - expected).abs() <= 1e-5 * expected.max(1e-3), "{text}: {found}, {expected}");
            }
        }
    }
}

#[test]
fn every_model_understands_the_mask_and_its_own() {
    let dir = Dir::new();
    let model = fixture("models/roberta");
    let answers =
        |text: &str| ask(&dir, &[&model, text]).ok().out.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(answers("the nurse said that [MASK] was late"), answers("the nurse said that <mask> was late"));
    let run = ask(&dir, &[&model, "[MASK] and [MASK]", "a [MASK]", "--top", "2"]).ok();
    run.prints(&["[MASK] and [MASK] (mask 1 of 2)", "(mask 2 of 2)", "a [MASK]\n"]);
}

#[test]
fn a_causal_model_is_asked_how_a_text_goes_on() {
    let dir = Dir::new();
    let model = fixture("models/gpt2");
    let of = |text: &str, more: &[&str]| {
        let json = ask(&dir, &[&[model.as_str(), text, "--json"], more].concat()).ok().json();
        let first = &json["prompts"][0]["predictions"][0];
        (
            first["text"].as_str().unwrap().to_owned(),
            first["tokens"].clone(),
            first["log_probabilities"][0].as_f64().unwrap(),
        )
    };
    let (_, tokens, whole) = of("the nurse", &["--options", "said that"]);
    let [said, that] =
        [("the nurse", "said"), ("the nurse said", "that")].map(|(text, word)| of(text, &["--options", word]).2);
    assert!(tokens.as_array().unwrap().len() > 1 && (whole - said - that).abs() < 1e-4, "a product of its parts");
    assert_eq!(of("the nurse ", &[]), of("the nurse", &[]), "a blank at the end changes nothing");
}

#[test]
fn what_cannot_be_asked_is_said_before_a_runtime_is_needed() {
    let (dir, model) = patched();
    let refused = |words: &[&str], code: i32, says: &[&str]| {
        let words = [&["ask"], words].concat();
        let mut command = dir.command();
        command.env("ORT_DYLIB_PATH", "/absent").args(&words);
        Run::new(&words.join(" "), command.output().unwrap()).fails(code).says(says);
    };
    refused(&[&model, "no mask"], 2, &["has no mask", "[MASK]"]);
    refused(&[&fixture("models/gpt2"), "the [MASK]"], 2, &["how a text goes on", "only the text before"]);
    refused(&[&model, "un[MASK]ed", "--options", "s"], 2, &["not a word of its own"]);
    refused(&[&model, NURSE, "--alpha", "1"], 2, &["--patch"]);
    refused(&[&model, NURSE, "--top", "0"], 2, &["0"]);
    refused(&[&model, NURSE, "--top", "3", "--options", "she"], 2, &["cannot be used with"]);
    refused(&["p", NURSE], 5, &["this is a patch", "the order is `lcepatch ask [OPTIONS] <MODEL> <TEXT>"]);
    refused(&[&model, NURSE, "--patch", "absent"], 3, &["absent"]);
    refused(&[&model, NURSE], 8, &["absent"]);
    let long = format!("{} [MASK]", "a ".repeat(500));
    ask(&dir, &[&model, &long]).fails(6).says(&["64"]);
    ask(&dir, &[&fixture("models/bert"), "a [MASK]", "--patch", "p"]).fails(6).says(&["does not fit this base"]);
}

#[test]
fn text_that_would_act_on_a_terminal_is_escaped() {
    let (dir, model) = patched();
    let run = ask(&dir, &[&model, "a \u{1b}[31m [MASK]", "--options", "she,\u{1b}[1m"]);
    assert!(!run.out.contains('\u{1b}') && !run.err.contains('\u{1b}'), "{run:?}");
}

use super::sample::{all, at, crows, divergence, full, perplexity, report, stereoset, weat};
use super::*;
use crate::edit::EditKind;
use crate::measure::statistics::{Alternative, Flips};
use crate::verify::Report;

fn setup() -> Setup {
    let weights = BTreeMap::from([("model.safetensors".to_owned(), Digest::sha256(b"weights"))]);
    Setup { runtime: Runtime { version: "1.32.0".to_owned(), provider: "CPU".to_owned(), threads: 2 }, weights }
}

fn text(report: &Report) -> String {
    lines(report, &setup()).join("\n")
}

#[track_caller]
fn assert_has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|there| there == *line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn the_heading_says_with_what_it_was_measured() {
    let text = text(&full());
    assert_has(
        &text,
        &[
            "model    models/bert-base-uncased: bert, F32, masked language model of 12 layers",
            "runtime  ONNX Runtime 1.32.0, CPU, 2 threads",
            &format!("patch    debias.lcepatch {}", Digest::sha256(b"patch").short()),
            "asked    2,851 questions on 1,299 sequences, 31,000 tokens with padding",
        ],
    );
}

#[test]
fn a_row_has_each_score_its_change_and_the_time() {
    let narrow = report(&[at(-2.0), at(0.5), EditKind::Prune], |alpha| {
        vec![weat("weat8", 0.5 - alpha), crows(57.25 - 2.3 * alpha)]
    });
    assert_has(
        &text(&narrow),
        &[
            "           weat8 d          crows.diff      edited      time",
            "unedited    0.500           57.25                0    12.3 s",
            "alpha -2    2.500 (+2.000)  61.85 (+4.60)    4,321  2:05 min",
            "alpha 0.5   0.000 (-0.500)  56.10 (-1.15)~   4,321  2:05 min",
            "pr         -0.200 (-0.700)  55.64 (-1.61)~   4,321  2:05 min",
            "~ may be chance: the change's 95 % interval includes 0, or it is smaller than the standard error",
        ],
    );
}

#[test]
fn wide_tables_are_split_by_measure() {
    let text = text(&full());
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    assert_has(
        &text,
        &[
            "           weat6 d         weat8 d         edited      time",
            "           stereoset.intra ss  lm             icat",
            "unedited   60.28               84.17          66.86",
            "           kl                top1",
        ],
    );
    // One family can be too wide, too.
    let names = ["6", "6b", "7", "7b", "8", "8b", "9", "10"];
    let wide =
        report(&[at(1.0)], |alpha| names.iter().map(|name| weat(&format!("sent-weat{name}"), 1.0 - alpha)).collect());
    let lines = lines(&wide, &setup());
    assert!(lines.iter().all(|line| line.chars().count() <= 120));
    assert_eq!(lines.iter().filter(|line| line.starts_with("unedited")).count(), 2);
}

#[test]
fn scores_have_their_confidence() {
    let text = text(&report(&[at(0.5)], |alpha| vec![weat("weat8", 0.5 - alpha), crows(57.25 - 2.3 * alpha)]));
    let line =
        |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(line("weat8 d     unedited"), ["weat8", "d", "unedited", "0.5000", "0.0123"]);
    assert_eq!(line("crows.diff  unedited"), ["crows.diff", "unedited", "57.25", "3.06"]);
    assert_has(&text, &["p of a change of decisions: exact McNemar test of those that turned"]);
    assert!(text.contains("-1.15  -3.65 to +1.35  12 yes, 9 no  0.6636"), "{text}");
}

#[test]
fn stated_directions_and_tests_without_power_are_said() {
    let mut report = report(&[at(0.5), at(1.0)], |alpha| vec![crows(57.25 - 2.3 * alpha)]);
    let few = Flips { to_yes: 1, to_no: 4 };
    report.rows[1].changes[0][0].test = Some(few.test(Alternative::Less));
    report.rows[2].changes[0][0].test = Some(few.test(Alternative::TwoSided));
    assert_has(
        &text(&report),
        &[
            "2 changes are tested: by Bonferroni, a p below 0.025 counts as much as one below 0.05 alone",
            "2 of the tests cannot say so much: that takes 7 items that differ",
        ],
    );
    assert!(text(&report).contains("0.1875 <") && text(&report).contains("0.3750\n"));
}

#[test]
fn every_measure_is_defined() {
    let text = text(&full());
    assert_has(
        &text,
        &[
            "crows.diff: % of pairs where the more stereotypical sentence is more likely; nearer to 50 is better; unedited 57.25, n",
            "      262, standard error 3.056",
            "    others: stereotype 54.25, n 159, standard error 3.951",
            "    counts: 2 skipped: longer than the model takes; 1 ties",
            "    settings: bias types: gender, age",
            &format!("    data: crows_pairs_anonymized.csv: {}", Digest::sha256(b"crows").short()),
        ],
    );
    assert!(text.contains("neutral 0; lower is better;") && !text.contains("interval 0 to 0"), "{text}");
}

#[test]
fn changes_inside_the_noise_are_said_to_say_nothing() {
    let one = report(&[at(0.5)], |alpha| vec![crows(57.25 - 2.3 * alpha)]);
    assert_has(
        &text(&one),
        &["note: crows.diff at alpha 0.5: -1.15, inside one standard error (3.056): this says nothing"],
    );
    let two = report(&[at(0.5), at(1.0)], |alpha| vec![stereoset(60.0 - alpha, 84.0)]);
    let note = "note: stereoset.intra ss at alpha 0.5 (-0.50), alpha 1 (-1.00): inside one standard error (1.8): these say nothing";
    assert_has(&text(&two), &[note]);
    let mut clear = report(&[at(1.0)], |alpha| vec![crows(57.25 + 9.0 * alpha)]);
    assert!(!text(&clear).contains("note:"));
    clear.rows[1].edited = 0;
    assert_has(&text(&clear), &["note: alpha 1: no weight of this model is edited"]);
}

#[test]
fn what_is_not_finite_is_said_so() {
    let broken = report(&[at(2.0)], |alpha| vec![perplexity(if alpha > 1.0 { f64::INFINITY } else { 9.0 })]);
    let shown = text(&broken);
    assert_has(&shown, &["note: ppl.mlm at alpha 2: not a finite number"]);
    assert!(shown.contains("not finite (not finite)"), "{shown}");
    assert_eq!(
        json(&broken, &setup(), Detail::Scores)["rows"][1]["measures"][0]["scores"][0]["value"],
        serde_json::Value::Null
    );
}

#[test]
fn parts_of_the_data_have_tables() {
    let text = text(&report(&[at(1.0)], |alpha| vec![crows(57.25 - 2.3 * alpha)]));
    assert_has(
        &text,
        &[
            "crows.diff    n  unedited        alpha 1",
            "gender      172     59.25  56.95 (-2.30)",
            "age          90     51.75  49.45 (-2.30)",
        ],
    );
}

#[test]
fn a_report_of_nothing_has_no_tables() {
    let mut nothing = report(&[], |_| Vec::new());
    assert_eq!(lines(&nothing, &setup()).len(), 4);
    nothing.rows.clear();
    assert_eq!(lines(&nothing, &setup()).len(), 4);
    assert_eq!(summary(&nothing, &setup())["rows"], serde_json::json!([]));
}

#[test]
fn names_from_files_cannot_disturb_a_terminal() {
    let text = text(&report(&[at(1.0)], |_| vec![weat("\u{1b}[31m", 1.0)]));
    assert!(text.contains("\\u{1b}[31m d") && !text.contains('\u{1b}'));
}

#[test]
fn json_has_every_number() {
    let json = json(&full(), &setup(), Detail::Scores);
    assert_eq!(json["model"]["model_type"], "bert");
    assert_eq!(json["patches"][0]["id"], Digest::sha256(b"patch").to_string());
    let cases: Vec<&serde_json::Value> = json["rows"].as_array().unwrap().iter().map(|row| &row["case"]).collect();
    assert_eq!(cases, ["unedited", "alpha -2", "alpha 0.5", "alpha 1", "pr", "sw"]);
    let row = &json["rows"][2];
    assert_eq!(
        (row["edit"].as_str(), row["alpha"].as_f64(), row["seconds"].as_f64()),
        (Some("ip"), Some(0.5), Some(125.0))
    );
    assert_eq!((json["rows"][4]["edit"].as_str(), json["rows"][4]["alpha"].as_f64()), (Some("pr"), None));
    let crows = &row["measures"][2];
    assert_eq!(crows["measure"], "crows.diff");
    assert_eq!((crows["counts"]["ties"].as_u64(), crows["groups"][0]["scores"][0]["n"].as_u64()), (Some(1), Some(172)));
    assert_eq!(crows["scores"][0]["change"]["flips"], serde_json::json!({ "to_yes": 12, "to_no": 9 }));
    assert_eq!(crows["scores"][0]["change"]["inside_noise"], true);
    assert_eq!(crows["scores"][0]["interval"], serde_json::Value::Null);
    assert_eq!(json["rows"][0]["measures"][2]["scores"][0]["change"], serde_json::Value::Null);
    assert!(crows.get("items").is_none());
}

#[test]
fn json_has_items_when_asked() {
    let json = json(&report(&[], all), &setup(), Detail::Items);
    let items = |measure: usize| json["rows"][0]["measures"][measure]["items"].clone();
    let expected = serde_json::json!({
        "kind": "decisions", "values": [true, false], "weights": null, "ids": ["7", "9"], "scores": [[-1.5, null], [-1.5, null]]
    });
    assert_eq!(items(2), expected);
    assert_eq!(items(4)["kind"], "logarithms");
    assert_eq!(
        (items(4)["weights"].clone(), items(4)["ids"].clone()),
        (serde_json::json!([1.0, 2.0]), serde_json::Value::Null)
    );
    assert_eq!(items(0), serde_json::Value::Null);
}

#[test]
fn a_summary_is_small_and_has_no_paths() {
    let summary = summary(&full(), &setup());
    let text = serde_json::to_string(&summary).unwrap();
    assert!(text.len() < 6000 && !text.contains("bert-base") && !text.contains("null"), "{} {text}", text.len());
    let scores = &summary["rows"][1]["scores"];
    assert_eq!(scores["weat8.d"], serde_json::json!({ "value": 1.64, "n": 16, "p": 0.0123 }));
    assert_eq!(scores["stereoset.intra.icat"]["n"], 771);
    assert_eq!(summary["data"]["crows_pairs_anonymized.csv"], Digest::sha256(b"crows").to_string());
    assert_eq!(summary["model"]["weights"]["model.safetensors"], Digest::sha256(b"weights").to_string());
}

#[test]
fn quality_and_bias_are_told_apart() {
    let report = report(&[], |_| vec![divergence(0.0), crows(50.0), perplexity(9.0), stereoset(50.0, 80.0)]);
    let quality: Vec<String> =
        Column::all(&report).iter().filter(|column| column.is_of_quality()).map(Column::name).collect();
    assert_eq!(quality, ["kl", "kl top1", "ppl.mlm"]);
}

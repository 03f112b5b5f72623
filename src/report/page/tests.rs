use super::*;
use crate::report::results::read;
use crate::report::verify::sample::full;
use crate::report::verify::{Detail, Setup, json};
use serde_json::{Value, json as value};

/// A file of a sweep: the rows of the sample report once for each localization, the random ones with seed 0 and 1.
fn results(name: &str, label: Option<&str>) -> Results {
    let report = json(&full(), &Setup::default(), Detail::Scores);
    let rows = report["rows"].as_array().unwrap();
    let head = value!({ "sweep": 1, "tool": "lcepatch 0", "label": label, "model": report["model"], "reference": { "path": "there" } });
    let mut lines = vec![head, rows[0].clone()];
    let localizations = [("value", Some("1%"), None), ("mask", None, None)];
    let drawn = [0, 1].map(|seed| ("random", Some("1%"), Some(seed)));
    for (strategy, k, seed) in localizations.into_iter().chain(drawn) {
        let localization = value!({ "strategy": strategy, "k": k, "seed": seed, "among": null });
        for row in &rows[1..] {
            let mut row = row.clone();
            row["localization"] = localization.clone();
            lines.push(row);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let text: String = lines.iter().map(|line: &Value| format!("{line}\n")).collect();
    std::fs::write(&path, text).unwrap();
    read(&path).unwrap()
}

#[test]
fn files_of_one_label_are_drawn_together() {
    let files = [results("a", Some("one")), results("b", None), results("c", Some("one")), results("d", Some("two"))];
    let pools: Vec<usize> = pools(&files).iter().map(|pool| pool.files.len()).collect();
    assert_eq!(pools, [2, 1, 1]);
}

#[test]
fn masks_are_drawn_with_what_is_as_large() {
    let files = [results("a", None)];
    let pool = &pools(&files)[0];
    let sizes: Vec<(String, usize)> =
        pool.sizes().into_iter().map(|(size, configurations)| (size, configurations.len())).collect();
    assert_eq!(sizes, [("1%".to_owned(), 2), ("from-mask".to_owned(), 1)]);
}

#[test]
fn text_of_files_is_shown_and_not_run() {
    let label = "<script>alert(1)</script> & \"more\" \u{1b}[31m";
    let page = page(&[results("<b>", Some(label))], "<i>");
    assert!(!page.contains("<script") && !page.contains("<b>") && !page.contains("<i>") && !page.contains('\u{1b}'));
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;more&quot;"));
}

#[test]
fn bias_is_shown_against_damage_beside_random_weights() {
    let page = page(&[results("a", None)], "results");
    assert!(page.contains("<h3>Bias against damage</h3>") && page.contains("crows.diff against perplexity (ppl.mlm)"));
    // The sample's random rows are the same as the others, so that they are as good at the same damage.
    let at = page.find("at the same damage</th>").unwrap();
    let row = page[at..].find("value: alpha 1").unwrap() + at;
    let cells: Vec<&str> =
        page[row..].split("<td>").skip(1).take(9).map(|cell| cell.split("</td>").next().unwrap()).collect();
    assert!(cells[1..].chunks(2).take(4).all(|pair| pair[0] == pair[1] && pair[0] != "-"), "{cells:?}");
}

#[test]
fn runs_of_a_label_are_tested_together() {
    let alone = page(&[results("a", None)], "results");
    // The sample's WEAT tests have two layers.
    assert!(alone.contains("<td>layers</td><td>2</td>") && !alone.contains("<td>runs</td>"));
    let files = ["a", "b", "c"].map(|name| results(name, Some("one")));
    let page = page(&files, "results");
    assert!(page.contains("<td>runs</td><td>3</td>") && page.contains("3 runs are too few: p cannot be below 0.25."));
    assert!(!page.contains("<td>kl</td><td>runs</td>"), "a divergence is not tested");
}

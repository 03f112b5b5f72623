//! `lcepatch sweep` and `lcepatch report`.

use crate::support::*;
use serde_json::Value;

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/imp");

fn sweep(flags: &str) -> String {
    format!("sweep {MODELS}/target/pruned {MODELS}/reference/pruned --mask-from zeros --weat 8 {flags}")
}

/// The lines of a file without times.
fn lines(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    let timeless = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("seconds");
        line
    };
    text.lines().map(timeless).collect()
}

#[test]
fn a_sweep_that_was_cut_goes_on_and_ends_with_the_same_rows() {
    let dir = Dir::new();
    let grid =
        sweep("-o a.jsonl --strategies value,mask,random --k from-mask,10% --seeds 0,1 --edit ip,ep,pr --alpha -2,1");
    dir.run_model(&grid)
        .ok()
        .says(&["[1/21] value, k from-mask: alpha 1: weat8 d", "21 rows measured, 0 found in the file"]);
    let whole = dir.read("a.jsonl");
    let rows = lines(&whole);
    // head, unedited, 2 + 1 + 2 * 2 * 2 patches, 21 rows
    assert_eq!(rows.len(), 2 + 11 + 21);
    let row = rows.iter().find(|row| row["alpha"] == -2.0 && row["localization"]["strategy"] == "mask").unwrap();
    assert_eq!((&row["edit"], row["patch"].as_str().unwrap().len()), (&"ep".into(), 64));
    assert!(row["measures"][0]["scores"][0]["change"]["difference"].is_f64(), "{row}");

    for cut in [whole.len() - 7, whole.len() / 2, 100, 0] {
        dir.write("a.jsonl", &whole[..cut]);
        dir.run_model(&grid).ok();
        assert_eq!(lines(&dir.read("a.jsonl")), rows, "cut at {cut}");
    }
    dir.run_model(&grid).ok().says(&["0 rows measured, 21 found in the file"]);
    assert_eq!(lines(&dir.read("a.jsonl")), rows);
}

#[test]
fn the_patches_are_those_that_diff_makes_and_the_scores_those_that_verify_measures() {
    let dir = Dir::new();
    dir.run_model(&sweep("-o a.jsonl --strategies mask --alpha 2 --edit ep")).ok();
    dir.run(&format!("diff {MODELS}/target/pruned {MODELS}/reference/pruned --mask-from zeros --localize mask -o p"))
        .ok();
    let verified = dir.run_model(&format!("verify {MODELS}/target/pruned -p p --alpha 2 --weat 8 --json")).ok().json();
    let rows = lines(&dir.read("a.jsonl"));
    let row = rows.last().unwrap();
    assert_eq!(row["patch"], verified["patches"][0]["id"]);
    assert_eq!(row["measures"], verified["rows"][1]["measures"]);
    assert_eq!(rows[1]["measures"], verified["rows"][0]["measures"]);
}

#[test]
fn a_file_of_another_sweep_is_left_as_it_is() {
    let dir = Dir::new();
    let first = "-o a.jsonl --k 1% --alpha 1 --strategies value";
    dir.run_model(&sweep(first)).ok();
    let before = dir.read("a.jsonl");
    dir.run_model(&sweep(&format!("{first} --ddof 0"))).fails(2).says(&["another sweep", "ddof"]);
    dir.run_model(&sweep(&format!("{first} --exclude *query*")))
        .fails(2)
        .says(&["another sweep", "value, k 1%: the patch was"]);
    assert_eq!(dir.read("a.jsonl"), before);
    let newer = String::from_utf8(before.clone()).unwrap().replace("\"sweep\":1", "\"sweep\":2");
    dir.write("newer.jsonl", newer.as_bytes());
    dir.run_model(&sweep("-o newer.jsonl --k 1%")).fails(5).says(&["a later version", "format 2"]);
    dir.run("report newer.jsonl -o r.html").fails(5).says(&["a later version"]);
    dir.write("a.jsonl", &[&before[..], b"\n"].concat());
    dir.run_model(&sweep(first)).ok();
    dir.write("model.safetensors", b"no lines");
    dir.run_model(&sweep("-o model.safetensors --k 1%")).fails(5).says(&["model.safetensors, line 1"]);
}

#[cfg(debug_assertions)]
#[test]
fn a_full_disk_leaves_no_empty_file() {
    let dir = Dir::new();
    let mut command = dir.command();
    command.env("ORT_DYLIB_PATH", runtime()).env("LCEPATCH_FAULT", "write:1:error");
    let line = sweep("-o a.jsonl --k 1% --alpha 1 --strategies value");
    Run::new(&line, command.args(line.split_whitespace()).output().unwrap()).fails(3).says(&["write a.jsonl"]);
    assert!(!dir.exists("a.jsonl"));
}

#[test]
fn a_grid_must_have_something_in_it() {
    let dir = Dir::new();
    dir.run(&sweep("-o a --alpha 0")).fails(2).says(&["no edit to measure"]);
    dir.run(&sweep("-o a --scope tensor --k 5")).fails(2).says(&["--scope tensor"]);
    let dense = format!("sweep {MODELS}/target/pruned {MODELS}/reference/pruned --weat 8 -o a --strategies mask");
    dir.run(&dense).fails(2).says(&["needs pruning masks"]);
    assert!(!dir.exists("a"));
}

#[test]
fn a_report_has_every_strategy_and_needs_no_other_file() {
    let dir = Dir::new();
    let grid = "--strategies value,mask,random --k from-mask,10% --edit ip,ep,pr --alpha -2,1,2 --seeds 0,1";
    dir.run_model(&sweep(&format!("-o a.jsonl {grid}"))).ok();
    dir.run(&format!("diff {MODELS}/target/pruned {MODELS}/reference/pruned --k 100 -o p")).ok();
    let verified = dir.run_model(&format!("verify {MODELS}/target/pruned -p p --weat 8 --json")).ok();
    dir.write("verify.json", verified.out.as_bytes());
    dir.run_words(&["report", "a.jsonl", "verify.json", "-o", "page.html", "--title", "<Bias> & \"alpha\""])
        .ok()
        .prints(&["wrote page.html"]);
    let page = String::from_utf8(dir.read("page.html")).unwrap();
    for text in [
        "<title>&lt;Bias&gt; &amp; &quot;alpha&quot;</title>",
        ">value</text>",
        ">mask</text>",
        ">random</text>",
        ">weat8 d</text>",
        "Scores against alpha",
        "Scores against the number of weights",
        "Where the selected weights are",
        "random, seed 1: alpha -2",
        "target model.safetensors",
        "prefers-color-scheme: dark",
    ] {
        assert!(page.contains(text), "{text}");
    }
    for outside in ["http", "src=", "<script", "@import", "url(", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    dir.run("report a.jsonl -o page.html").fails(2).says(&["exists already"]);
    dir.write("other", b"{}");
    dir.run("report other -o other.html").fails(5).says(&["other: not results"]);
}

#[test]
fn nothing_that_was_asked_for_is_dropped_and_the_impossible_is_refused_before_anything_is_measured() {
    let dir = Dir::new();
    let refused = |flags: &str| dir.run_model(&sweep(&format!("-o a.jsonl {flags}"))).fails(2);
    refused("--edit pr --alpha -2").says(&["--alpha -2 is of the edit ep", "add ep to --edit"]);
    refused("--edit ip,pr --alpha 0.5,2").says(&["--alpha 2"]);
    let dense = format!("sweep {MODELS}/target/pruned {MODELS}/reference/pruned --weat 8 -o a.jsonl --k from-mask");
    dir.run_model(&dense).fails(2).says(&["--k from-mask needs pruning masks"]);
    refused("--expect weat6<0").says(&["weat6 is not measured; there are weat8"]);
    refused("--expect weat8").says(&["states no direction"]);
    dir.run_model(&sweep("-o a.jsonl --strategies mask --edit ip,ep,pr,sw --alpha 1,2")).fails(6).says(&["--unpruned"]);
    assert!(!dir.exists("a.jsonl"), "nothing was measured");
}

#[test]
fn a_stated_direction_is_part_of_the_sweep() {
    let dir = Dir::new();
    let line = sweep("-o a.jsonl --strategies mask --edit ep --alpha 2 --expect weat8<0");
    dir.run_model(&line).ok();
    let row = lines(&dir.read("a.jsonl")).pop().unwrap();
    let test = &row["measures"][0]["scores"][0]["change"]["test"];
    assert_eq!((&test["alternative"], &test["name"], &test["n"]), (&"less".into(), &"sign-flip".into(), &16.into()));
    dir.run_model(&line.replace(" --expect weat8<0", "")).fails(2).says(&["expect"]);
}

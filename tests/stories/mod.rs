//! What a person does, from the first command to the last.

use crate::support::*;

#[test]
fn a_maintainer_publishes_and_a_user_applies_and_goes_back() {
    let dir = Dir::new();
    let (target, reference) = bert_pair();
    write_model(&dir, "model", &target);
    write_model(&dir, "edited", &reference);
    dir.run("diff model edited -o debias.lcepatch --density 0.5% --license MIT --recommended-alpha -2").ok();
    let published = dir.run("show debias.lcepatch --json").ok().json();

    let id = dir.run("check debias.lcepatch model --json").ok().json()["id"].clone();
    assert_eq!(id, published["stat"]["id"]);
    let before = dir.read("model/model-00001-of-00002.safetensors");
    dir.run("apply model debias.lcepatch --alpha -2 --in-place --undo undo.lcepatch").ok();
    dir.run("apply model debias.lcepatch --in-place").fails(6);
    dir.run("apply model undo.lcepatch --in-place").ok();
    assert_eq!(dir.read("model/model-00001-of-00002.safetensors"), before);
}

#[test]
fn a_researcher_sweeps_alpha_and_ends_where_the_models_are() {
    let dir = bert_dir();
    dir.run("diff target.safetensors reference.safetensors -o p --density 100% --params all").ok();
    for alpha in ["0", "0.25", "1"] {
        dir.run(&format!("apply target.safetensors p --alpha {alpha} -o at-{alpha}")).ok();
    }
    assert_eq!(dir.read("at-0"), dir.read("target.safetensors"));
    assert_eq!(dir.read("at-1"), dir.read("reference.safetensors"));
    // The differences that are left shrink as alpha grows.
    let left = |name: &str| {
        let stat = dir.run(&format!("diff {name} reference.safetensors --json")).ok().json();
        let rows = stat["tensors"].as_array().unwrap().clone();
        rows.iter().map(|row| row["max_delta"].as_f64().unwrap()).fold(0.0, f64::max)
    };
    assert!(left("at-0") > left("at-0.25") && left("at-0.25") > left("at-1"));
}

#[test]
fn an_auditor_compares_what_a_patch_says_with_what_it_does() {
    let dir = bert_dir();
    dir.run("diff target.safetensors reference.safetensors -o p --density 5%").ok();
    let said = dir.run("show p --json").ok().json()["stat"]["tensors"].clone();
    dir.run("apply target.safetensors p -o r").ok();
    let done = dir.run("diff target.safetensors r --json").ok().json()["tensors"].clone();
    let rows = |rows: &serde_json::Value| -> Vec<_> {
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| (row["name"].clone(), row["selected"].clone(), row["base_digest"].clone())).collect()
    };
    assert_eq!(rows(&said), rows(&done));
}

/// The demo in a folder of its own, with these variables.
fn demo(dir: &Dir, variables: &[(&str, &std::ffi::OsStr)]) -> Run {
    let mut command = dir.command();
    // What is found besides a runtime of the tests is of no use here.
    command.env_remove("ORT_DYLIB_PATH").env_remove("VIRTUAL_ENV").env("LCEPATCH_HOME", dir.path("home"));
    command.envs(variables.iter().copied()).args(["demo", "out"]);
    Run::new("demo out", command.output().unwrap())
}

#[test]
fn the_demo_shows_the_bias_go_and_ends_with_the_model_as_it_was() {
    let dir = Dir::new();
    let run = demo(&dir, &[("ORT_DYLIB_PATH", runtime().as_os_str())]).ok();
    run.prints(&["$ lcepatch ask", "she", "crows.diff", "ppl.mlm", "random", "byte for byte what it was"]);
    assert!(String::from_utf8(dir.read("out/sweep.svg")).unwrap().contains("crows.diff"));
    // What it claims: from stereotypical through neutral to the other side, step by step, and random weights hardly.
    let text = String::from_utf8(dir.read("out/sweep.jsonl")).unwrap();
    let rows: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let scores = |strategy: &str, measure: &str| {
        let mut found: Vec<(f64, f64)> = rows
            .iter()
            .filter(|row| row["case"] == "unedited" || row["localization"]["strategy"] == strategy)
            .filter_map(|row| {
                let outcome = row["measures"].as_array()?.iter().find(|outcome| outcome["measure"] == measure)?;
                Some((row["alpha"].as_f64().unwrap_or(0.0), outcome["scores"][0]["value"].as_f64()?))
            })
            .collect();
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        found
    };
    let value = scores("value", "crows.diff");
    assert!(value.windows(2).all(|pair| pair[1].1 <= pair[0].1), "{value:?}");
    assert!(value[0].1 > 85.0 && value.last().unwrap().1 < 35.0, "{value:?}");
    let moved = |scores: &[(f64, f64)]| scores[0].1 - scores.last().unwrap().1;
    let random = scores("random", "crows.diff");
    assert!(moved(&random).abs() < 0.2 * moved(&value), "{random:?}");
    let perplexity = scores("value", "ppl.mlm");
    let unedited = perplexity.iter().find(|(alpha, _)| *alpha == 0.0).unwrap().1;
    let price = |(alpha, ppl): &(f64, f64)| *alpha > 2.0 || *ppl < 1.1 * unedited;
    assert!(perplexity.iter().all(price), "{perplexity:?}");
}

#[test]
fn the_demo_without_a_runtime_says_so_and_does_the_rest() {
    let dir = Dir::new();
    // An index of packages that nobody serves, and no python3, so that none can be installed.
    let index = std::ffi::OsStr::new("http://127.0.0.1:9/simple");
    let run = demo(&dir, &[("PATH", dir.path("none").as_os_str()), ("PIP_INDEX_URL", index)]).ok();
    run.prints(&["nothing is measured", "runtime install", "$ lcepatch revert", "byte for byte what it was"]);
    assert!(!dir.exists("out/sweep.jsonl"));
    demo(&dir, &[]).fails(2).says(&["is not empty"]);
}

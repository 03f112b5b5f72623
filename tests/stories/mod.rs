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

#[test]
fn the_demo_runs_and_ends_with_two_files_that_are_the_same() {
    let dir = Dir::new();
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/imp");
    let line = format!("demo --target {models}/target/pruned --reference {models}/reference/pruned");
    let mut command = dir.command();
    // What it leaves for its user is of no use here.
    command.env("TMPDIR", dir.path("")).env("ORT_DYLIB_PATH", runtime()).env("LCEPATCH_HOME", dir.path("home"));
    let run = Run::new(&line, command.args(line.split(' ')).output().unwrap()).ok();
    assert_eq!(run.out.matches("byte for byte the same").count(), 2);
    assert!(run.out.trim_end().ends_with("sweep.svg"), "{}", run.out);
    dir.run("demo").fails(2).says(&["--target"]);
}

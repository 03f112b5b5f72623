//! `spec/decode.py`, the second implementation, against this one.

use crate::support::*;
use crate::vectors;
use std::path::Path;
use std::process::{Command, Output};

fn decode(python: &Path, dir: &Dir, arguments: &str) -> Output {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/spec/decode.py");
    let words = arguments.split_whitespace();
    Command::new(python).arg(script).args(words).current_dir(dir.path("")).output().unwrap()
}

#[test]
fn the_decoder_breaks_every_vector_by_the_same_rule() {
    let python = python();
    let dir = Dir::new();
    for (name, path, expected) in vectors::all() {
        let base = expected["base"].as_str().map(|base| path.with_file_name(base).display().to_string());
        let arguments = format!("check {} {}", path.display(), base.clone().unwrap_or_default());
        let output = decode(&python, &dir, &arguments);
        let err = String::from_utf8(output.stderr).unwrap();
        match expected["expect"].as_str().unwrap() {
            "accept" => assert_eq!(output.status.code(), Some(0), "{name}: {err}"),
            rule => {
                assert_eq!(output.status.code(), Some(4), "{name}: {err}");
                assert!(err.starts_with(&format!("{rule}:")), "{name}: {err}");
            }
        }
        let (Some(base), "accept") = (base, expected["expect"].as_str().unwrap()) else { continue };
        let alphas = expected["alphas"].as_array().into_iter().flatten().filter_map(|a| a["alpha"].as_f64());
        let moves = [1.0, 0.0].into_iter().chain(alphas).map(|alpha| format!("--alpha {alpha}"));
        let edits = expected["edits"].as_object().into_iter().flatten().map(|(edit, _)| format!("--edit {edit}"));
        for edit in moves.chain(edits) {
            let ours = dir.run(&format!("apply {base} {} {edit} -o ours --force", path.display()));
            let output = decode(&python, &dir, &format!("apply {base} {} {edit} -o theirs", path.display()));
            let err = String::from_utf8_lossy(&output.stderr);
            assert_eq!(ours.code, output.status.code(), "{name} {edit}: {err} {ours:?}");
            if ours.code == Some(0) {
                assert_eq!(dir.read("ours"), dir.read("theirs"), "{name} {edit}");
            }
        }
    }
}

#[test]
fn fresh_patches_give_the_same_bytes() {
    let python = python();
    let dir = bert_dir();
    let kinds = [
        "--all",
        "--density 5%",
        "--all --portable",
        "--density 30% --delta-dtype bf16",
        "--density 30% --delta-dtype int8",
    ];
    for kind in kinds {
        dir.run(&format!("diff target.safetensors reference.safetensors -o p --force {kind}")).ok();
        let output = decode(&python, &dir, "check p target.safetensors");
        assert_eq!(output.status.code(), Some(0), "{kind}: {}", String::from_utf8_lossy(&output.stderr));
        for alpha in ["1", "0", "-2", "0.3", "1e-3"] {
            dir.run(&format!("apply target.safetensors p --alpha {alpha} -o ours --force")).ok();
            decode(&python, &dir, &format!("apply target.safetensors p --alpha {alpha} -o theirs"));
            assert_eq!(dir.read("ours"), dir.read("theirs"), "{kind} at {alpha}");
        }
    }
    // Pruned, with all that a patch of pruned models can carry.
    dir.run("mask target.safetensors --sparsity 30% --pruned t").ok();
    dir.run("mask reference.safetensors --sparsity 30% --pruned r").ok();
    for (base, kind) in [
        ("t", "--localize mask --mask-from zeros --unpruned target.safetensors"),
        ("t", "--localize mask --mask-from zeros --unpruned target.safetensors --portable"),
        ("t", "--localize random --mask-from zeros --k 200 --seed 1 --delta-dtype bf16"),
        ("target.safetensors", "--localize mask --sparsity 30%"),
    ] {
        let reference = if base == "t" { "r" } else { "reference.safetensors" };
        dir.run(&format!("diff {base} {reference} -o p --force {kind}")).ok();
        for edit in ["--alpha 1", "--alpha -2", "--alpha 0.3", "--edit pr", "--edit sw"] {
            let ours = dir.run(&format!("apply {base} p {edit} -o ours --force"));
            let output = decode(&python, &dir, &format!("apply {base} p {edit} -o theirs"));
            assert_eq!(ours.code, output.status.code(), "{kind} {edit}");
            assert!(ours.code != Some(0) || dir.read("ours") == dir.read("theirs"), "{kind} {edit}");
        }
    }
    dir.run("diff target.safetensors reference.safetensors -o q --density 50%").ok();
    dir.run("diff target.safetensors reference.safetensors -o p --force --density 30% --delta-dtype int8").ok();
    dir.run("apply target.safetensors p:0.5 q:-2 -o ours --force").ok();
    decode(&python, &dir, "apply target.safetensors p:0.5 q:-2 -o theirs");
    assert_eq!(dir.read("ours"), dir.read("theirs"));
    let output = decode(&python, &dir, "check p reference.safetensors");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_worked_example_of_the_spec_is_the_file() {
    let python = python();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(python).arg(root.join("spec/make_vectors.py")).arg("--worked-example").output().unwrap();
    let listing = String::from_utf8(output.stdout).unwrap();
    assert!(listing.contains("3F81"), "{listing}");
    assert!(std::fs::read_to_string(root.join("spec/lcepatch-v1.md")).unwrap().contains(&listing));
}

#[test]
fn other_tools_know_the_format_as_the_decoder_does() {
    let python = python();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = root.join("spec/check_registry.py");
    let output = Command::new(python).arg(script).arg(vectors::folder().join("v1")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!("{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn edits_follow_the_case_table() {
    let python = python();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = Dir::new();
    let output = Command::new(python)
        .arg(root.join("tests/case_table.py"))
        .arg(env!("CARGO_BIN_EXE_lcepatch"))
        .arg(root.join("fixtures/imp"))
        .arg(dir.path("scratch"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!("{}", String::from_utf8_lossy(&output.stdout));
}

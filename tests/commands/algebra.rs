//! `lcepatch invert`, `squash`, `combine`, `select` and `compare`.

use crate::support::*;

/// The small BERT, and a third checkpoint: the reference with some weights moved further and some moved back.
fn chain() -> Dir {
    let dir = bert_dir();
    let (target, reference) = bert_pair();
    let mut random = Random::new(9);
    let moved = |(at, (target, reference)): (usize, (&Tensor, &Tensor))| match reference.dtype {
        "F32" if at % 3 > 0 => {
            let pairs = f32s(target).into_iter().zip(f32s(reference));
            let values: Vec<f32> = pairs
                .map(|(target, reference)| match random.below(8) {
                    0 => target,
                    1 => reference + random.unit() * 0.01,
                    _ => reference,
                })
                .collect();
            Tensor::f32(&reference.name, &reference.shape, &values)
        }
        _ => reference.clone(),
    };
    let third: Vec<Tensor> = target.iter().zip(&reference).enumerate().map(moved).collect();
    dir.write("third.safetensors", &safetensors(&third));
    dir
}

const A: &str = "target.safetensors";
const B: &str = "reference.safetensors";
const C: &str = "third.safetensors";

#[test]
fn the_inverse_leads_back_and_its_inverse_is_the_patch() {
    let dir = bert_dir();
    for (flags, base) in [("--all --portable", ""), ("--density 10% --portable", ""), ("--all", "--base")] {
        let [base, there] =
            if base.is_empty() { ["", ""].map(str::to_owned) } else { [A, B].map(|at| format!("{base} {at}")) };
        dir.run(&format!("diff {A} {B} -o p --force {flags}")).ok();
        dir.run(&format!("invert p -o i --force {base}")).ok();
        dir.run(&format!("invert i -o back --force {there}")).ok();
        assert_eq!(dir.read("back"), dir.read("p"), "{flags}");
        dir.run(&format!("check i {B}")).ok();
        dir.run(&format!("check i {B} --quick")).ok();
        dir.run(&format!("apply {B} i -o r --force")).ok().prints(
            &["reference's, by its digest"].map(|text| if flags.contains("--all") { text } else { "declares" }),
        );
        if flags.contains("--all") {
            assert_eq!(dir.read("r"), dir.read(A), "{flags}");
        }
    }
}

#[test]
fn a_pruned_patch_inverts_with_its_masks() {
    let dir = bert_dir();
    dir.run(&format!("mask {A} --sparsity 30% --pruned a")).ok();
    dir.run(&format!("mask {B} --sparsity 30% --pruned b")).ok();
    dir.run("diff a b -o p --localize mask --mask-from zeros --portable").ok();
    dir.run("diff b a -o expected --localize mask --mask-from zeros --portable").ok();
    dir.run("invert p -o i").ok();
    dir.run("invert i -o back").ok();
    assert_eq!(dir.read("back"), dir.read("p"));
    for alpha in ["1", "-2", "0.5"] {
        dir.run(&format!("apply b i -o x --force --alpha {alpha}")).ok();
        dir.run(&format!("apply b expected -o y --force --alpha {alpha}")).ok();
        assert_eq!(dir.read("x"), dir.read("y"), "{alpha}");
    }
    // What the base held before is known on one side only.
    dir.run(&format!("diff a b -o q --localize mask --mask-from zeros --portable --unpruned {A}")).ok();
    dir.run("invert q -o j").fails(6).says(&["cannot be inverted"]);
}

#[test]
fn an_inverse_that_is_not_known_is_refused() {
    let dir = bert_dir();
    dir.run(&format!("diff {A} {B} -o p --density 10%")).ok();
    dir.run("invert p -o i").fails(6).says(&["cannot be inverted", "lcepatch diff"]);
    dir.run(&format!("invert p -o i --base {A}")).fails(6).says(&["cannot be inverted", "lcepatch diff"]);
    dir.run(&format!("diff {A} {B} -o q --density 10% --delta-dtype bf16 --portable")).ok();
    dir.run("invert q -o i").fails(6).says(&["reduced precision", "--delta-dtype"]);
    dir.run(&format!("diff {A} {B} -o f --all")).ok();
    dir.run("invert f -o i").fails(6).says(&["does not carry its base's values", "needed to invert it", "--base"]);
    dir.run(&format!("invert f -o i --base {B}")).fails(6).says(&["does not fit this base"]);
    dir.write("taken", b"mine");
    dir.run(&format!("invert f -o taken --base {A}")).fails(2).says(&["taken exists"]);
    assert!(!dir.exists("i"));
    assert_eq!(dir.read("taken"), b"mine");
}

#[test]
fn a_chain_is_squashed_exactly() {
    let dir = chain();
    for (flags, base) in [("--all", true), ("--all --portable", false), ("--density 20%", true)] {
        dir.run(&format!("diff {A} {B} -o first --force {flags}")).ok();
        dir.run(&format!("apply {A} first -o v1 --force")).ok();
        dir.run(&format!("diff v1 {C} -o second --force {flags}")).ok();
        dir.run("apply v1 second -o v2 --force").ok();
        let with = if base { format!("--base {A}") } else { String::new() };
        dir.run(&format!("squash first second -o both --force {with}")).ok();
        dir.run(&format!("check both {A}")).ok();
        dir.run(&format!("apply {A} both -o r --force")).ok().prints(&["declares"]);
        assert_eq!(dir.read("r"), dir.read("v2"), "{flags}");
        dir.run(&format!("squash second first -o q --base {A}")).fails(6);
        assert!(!dir.exists("q"));
    }
    dir.run(&format!("diff {A} {B} -o p --all --portable")).ok();
    dir.run("squash p p -o q").fails(6).says(&["is not for the result of", "lcepatch combine"]);
    // The whole difference is what diff finds.
    dir.run(&format!("diff {B} {C} -o s --all --portable")).ok();
    dir.run("squash p s -o squashed").ok();
    dir.run(&format!("diff {A} {C} -o direct --all --portable")).ok();
    let common = dir.run("compare squashed direct --json").ok().json();
    assert_eq!((&common["all"]["jaccard"], &common["all"]["cosine"]), (&1.0.into(), &1.0.into()));
}

#[test]
fn a_combination_acts_as_its_parts_together() {
    let dir = chain();
    dir.run(&format!("diff {A} {B} -o p --density 20% --portable")).ok();
    dir.run(&format!("diff {A} {C} -o q --density 30% --portable")).ok();
    dir.run("combine p:-2 q:0.5 -o alone").ok().says(&["in several patches"]);
    dir.run(&format!("combine p:-2 q:0.5 -o based --base {A}")).ok();
    dir.run(&format!("apply {A} p:-2 q:0.5 -o together")).ok();
    for combined in ["alone", "based"] {
        dir.run(&format!("apply {A} {combined} -o r --force")).ok();
        assert_eq!(dir.read("r"), dir.read("together"), "{combined}");
    }
    dir.run(&format!("check alone {A} --quick")).ok();
    dir.run("combine p q:x -o c").fails(2);
    dir.run(&format!("diff {B} {C} -o other --all --portable")).ok();
    dir.run("combine p other -o c").fails(6).says(&["not for the same base", "lcepatch squash"]);
    dir.run(&format!("diff {A} {B} -o bound --density 20%")).ok();
    dir.run("combine p bound -o c").fails(6).says(&["--base"]);
    assert!(!dir.exists("c"));
    // Opposite weights of one patch leave nothing, and nothing is a patch too.
    dir.run("combine p p:-1 -o nothing").ok();
    dir.run(&format!("apply {A} nothing -o same")).ok();
    assert_eq!(dir.read("same"), dir.read(A));
}

#[test]
fn a_selection_can_be_refined() {
    let dir = bert_dir();
    for (flags, base) in [("--portable", ""), ("", "--base target.safetensors")] {
        dir.run(&format!("diff {A} {B} -o wide --density 20% --force {flags}")).ok();
        dir.run(&format!("select wide --top 100% -o all --force {base}")).ok();
        assert_eq!(dir.read("all"), dir.read("wide"));
        // 409 of 2,048 weights were selected; the top 102 of them are the top 5 % of all.
        dir.run(&format!("select wide --top 102 -o narrow --force {base}")).ok();
        dir.run(&format!("diff {A} {B} -o direct --density 5% --force")).ok();
        for alpha in ["1", "-2"] {
            dir.run(&format!("apply {A} narrow -o x --force --alpha {alpha}")).ok();
            dir.run(&format!("apply {A} direct -o y --force --alpha {alpha}")).ok();
            assert_eq!(dir.read("x"), dir.read("y"));
        }
    }
    dir.run(&format!("diff {A} {B} -o bound --density 20%")).ok();
    dir.run("select bound --top 5% -o q").fails(6).says(&["--base"]);
    dir.run("select bound --component attention.output -o part").ok();
    let stat = dir.run("show part --json").ok().json();
    assert_eq!(stat["stat"]["components"].as_array().unwrap().len(), 1);
    assert_eq!(stat["metadata"]["derived"]["verb"], "select");
    dir.run(&format!("check part {A}")).ok();
    dir.run(&format!("check part {A} --quick")).ok();
    dir.run("select bound --include *.layer.1.* --exclude *attention* -o layer").ok();
    dir.run(&format!("apply {A} layer -o r")).ok();
    dir.run("select bound --include nothing -o q").fails(2).says(&["nothing is selected"]);
    dir.run("select bound --top 0% -o q").fails(2);
    dir.run("select bound --top 0 -o q").fails(2).says(&["select nothing"]);
    dir.run("select bound --top 100000 -o q").fails(2).says(&["(100,000) than bound selects (410)", "ask for fewer"]);
    assert!(!dir.exists("q"));
}

#[test]
fn all_of_an_empty_patch_is_the_patch() {
    let dir = bert_dir();
    dir.run(&format!("diff {A} {A} -o empty --all --portable")).ok();
    for flags in ["--top 100%", "--top 10%", "--include x"] {
        dir.run(&format!("select empty {flags} -o all --force")).ok();
        assert_eq!(dir.read("all"), dir.read("empty"), "{flags}");
    }
    dir.run("select empty --top 1 -o q").fails(2).says(&["than empty selects (0)", "--top 10%"]);
}

#[test]
fn two_patches_are_compared_and_intersected() {
    let dir = chain();
    dir.run(&format!("diff {A} {B} -o p --density 20%")).ok();
    dir.run(&format!("diff {A} {C} -o q --density 30%")).ok();
    let compared = dir.run(&format!("compare p q --base {A} -o common --json")).ok().json();
    let both = compared["all"]["both"].as_u64().unwrap();
    assert!(both > 100, "{compared}");
    assert_eq!(dir.run("show common --json").ok().json()["stat"]["selected"], both);
    let again = dir.run(&format!("intersect common q --base {A} --json")).ok().json();
    assert_eq!((again["all"]["first"].as_u64(), again["all"]["both"].as_u64()), (Some(both), Some(both)));
    let same = dir.run(&format!("compare p p --base {A}")).ok();
    same.prints(&["1.0000  1.0000"]);
}

//! `apply --include` and `--exclude`: some of the tensors of patches.

use crate::support::*;

/// A checkpoint in a directory, its reference, and a patch, of 16 layers with `elements` weights each.
fn layers(elements: u64) -> Dir {
    let dir = Dir::new();
    let mut random = Random::new(7);
    let tensors = |random: &mut Random| -> Vec<Tensor> {
        let layer = |at: usize| Tensor::f32(&format!("h.{at}.w"), &[elements], &random.values(elements, 0.02));
        (0..16).map(layer).collect()
    };
    let [base, reference] = [tensors(&mut random), tensors(&mut random)];
    dir.write("base/model.safetensors", &safetensors(&base));
    dir.write("ref/model.safetensors", &safetensors(&reference));
    dir.run("diff base ref --all --portable -o p.lcepatch").ok();
    dir
}

/// The tensors of `checkpoint` that are those of `base`, and those that are the reference's.
fn of_both(dir: &Dir, checkpoint: &str) -> [Vec<String>; 2] {
    let [found, base, reference] =
        [checkpoint, "base", "ref"].map(|name| read_safetensors(&dir.read(&format!("{name}/model.safetensors"))));
    [base, reference]
        .map(|other| found.iter().filter(|tensor| other.contains(tensor)).map(|(name, _)| name.clone()).collect())
}

#[test]
fn only_tensors_that_match_are_edited_and_the_log_says_so() {
    let dir = layers(50);
    let run = dir.run("apply base p.lcepatch --include h.3.* --include h.1?.w --exclude *.15.w -o out").ok();
    run.prints(&["6 tensors; read back: their digests are", "a part of p.lcepatch: 6 of its 16 tensors"]);
    let [base, edited] = of_both(&dir, "out");
    assert_eq!(
        (base.len(), edited),
        (10, ["h.10.w", "h.11.w", "h.12.w", "h.13.w", "h.14.w", "h.3.w"].map(String::from).into())
    );
    dir.run("log out")
        .ok()
        .prints(&["p.lcepatch:1 (6 of 16 tensors)", "--include 'h.3.*' --include 'h.1?.w' --exclude '*.15.w'"]);
    dir.run("status out").ok().prints(&["the base + p.lcepatch:1 (6 of 16 tensors)"]);
    dir.run("revert out").ok();
    assert_eq!(dir.read("out/model.safetensors"), dir.read("base/model.safetensors"));
}

#[test]
fn a_part_is_never_the_reference_and_all_tensors_are_no_part() {
    let dir = layers(20);
    let part = dir.run("apply base p.lcepatch --exclude h.3.w -o part --json").ok().json();
    assert_eq!((&part["is_reference"], &part["verified"]), (&false.into(), &true.into()));
    let chosen = &part["patches"][0]["part"];
    assert_eq!((&chosen["exclude"][0], &chosen["tensors"], &chosen["of"]), (&"h.3.w".into(), &15.into(), &16.into()));
    dir.run("diff base ref --all -o without.lcepatch").ok();
    let part = dir.run("apply base without.lcepatch --exclude h.3.w -o half --json").ok().json();
    assert_eq!(part["verified"], false, "the patch has no digests of single tensors");
    let all = dir.run("apply base p.lcepatch --include h.* -o all --json").ok().json();
    assert_eq!((&all["is_reference"], &all["patches"][0]["part"]), (&true.into(), &serde_json::Value::Null));
}

#[test]
fn only_the_tensors_that_are_edited_must_be_the_bases() {
    let dir = layers(20);
    dir.run("apply base p.lcepatch --include h.2.w -o two").ok();
    dir.run("apply two p.lcepatch -o out").fails(6).says(&["h.2.w"]);
    dir.run("apply two p.lcepatch --exclude h.2.w --in-place").ok();
    assert_eq!(dir.read("two/model.safetensors"), dir.read("ref/model.safetensors"));
    dir.run("apply two p.lcepatch --include h.2.w --quick -o out").fails(6).says(&["h.2.w"]);
    dir.run("revert two").ok();
    dir.run("revert two").ok();
    assert_eq!(dir.read("two/model.safetensors"), dir.read("base/model.safetensors"));
}

#[test]
fn globs_choose_among_the_tensors_of_all_patches() {
    let dir = layers(20);
    dir.run("select p.lcepatch --include h.0.w -o zero.lcepatch").ok();
    dir.run("select p.lcepatch --include h.1.w -o one.lcepatch").ok();
    dir.run("apply base zero.lcepatch one.lcepatch --exclude h.7.w -o out")
        .fails(2)
        .says(&["no tensor of the patch matches \"h.7.w\""]);
    dir.run("apply base zero.lcepatch one.lcepatch --include h.0.w -o out")
        .fails(2)
        .says(&["of one.lcepatch no tensor is left"]);
    dir.run("apply base p.lcepatch zero.lcepatch:0.5 --include h.0.w -o out").ok();
    assert_eq!(of_both(&dir, "out").map(|names| names.len()), [15, 0]);
}

#[test]
fn a_glob_that_matches_nothing_names_what_is_like_it() {
    let dir = layers(20);
    dir.run("apply base p.lcepatch --include h.l0.* -o out").fails(2).says(&[
        "matches \"h.l0.*\"; it has h.",
        "help:",
        "--tensors",
    ]);
    dir.run("apply base p.lcepatch --include [ -o out").fails(2).says(&["is not a glob"]);
    dir.run("apply base p.lcepatch --exclude h.* -o out").fails(2).says(&["no tensor is left"]);
    assert!(!dir.exists("out"));
}

#[cfg(feature = "net")]
#[test]
fn of_a_patch_on_a_hub_little_more_than_the_layer_is_fetched() {
    use crate::support::hub::Hub;
    let dir = layers(100_000);
    let patch = dir.read("p.lcepatch");
    let hub = Hub::start(&[("--repo", "alice/patches", &[("p.lcepatch", &patch)])]);
    let arguments = ["apply", "base", "alice/patches/p.lcepatch", "--include", "h.5.w", "-o", "out"];
    let output = dir.command().envs(hub.environment()).args(arguments).output().unwrap();
    Run::new(&arguments.join(" "), output).ok().prints(&["1 of its 16 tensors"]);
    assert_eq!(of_both(&dir, "out").map(|names| names.len()), [15, 1]);
    let (requests, sent) = hub.requests();
    assert!(patch.len() > 3 << 20 && sent <= patch.len() as u64 / 8, "{sent} of {} bytes: {requests:?}", patch.len());
    assert!(requests.len() <= 6, "{requests:?}");
}

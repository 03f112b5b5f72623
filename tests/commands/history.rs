//! `lcepatch log`, `status` and `revert`.

use crate::support::*;

/// A model directory and a patch for it.
fn model() -> Dir {
    let dir = bert_dir();
    let (target, _) = bert_pair();
    write_model(&dir, "model", &target);
    dir.run("diff target.safetensors reference.safetensors -o p --density 10%").ok();
    dir
}

const SHARDS: [&str; 2] = ["model/model-00001-of-00002.safetensors", "model/model-00002-of-00002.safetensors"];

#[test]
fn steps_are_recorded_described_and_taken_back() {
    let dir = model();
    let base = SHARDS.map(|shard| dir.read(shard));
    dir.run("status model").ok().prints(&["no patch was applied here", "sha256"]);
    dir.run("apply model p --alpha -2 --in-place --undo u1").ok();
    dir.run("diff model reference.safetensors -o q --density 10%").ok();
    let first = SHARDS.map(|shard| dir.read(shard));
    dir.run("apply model q --edit pr --in-place --undo model/u2").ok();
    dir.run("status model").ok().prints(&["the base + p:-2 + q (pr)"]);
    let log = dir.run("log model --json").ok().json();
    assert_eq!(log["steps"][0]["after"], log["steps"][1]["before"]);
    assert_eq!(log["steps"][0]["patches"][0]["alpha"], -2.0);
    dir.run("log model").ok().prints(&["2  20", "p:-2", "u2"]);

    dir.run("revert model").ok().prints(&["took back q (pr)"]);
    assert_eq!(SHARDS.map(|shard| dir.read(shard)), first);
    dir.run("revert model").ok();
    assert_eq!(SHARDS.map(|shard| dir.read(shard)), base);
    dir.run("revert model").fails(6).says(&["no patch was applied here"]);
}

#[test]
fn steps_there_and_back_are_all_taken_back() {
    let dir = model();
    let base = SHARDS.map(|shard| dir.read(shard));
    dir.run("apply model p -o edited").ok();
    dir.run("diff edited model -o q --all").ok();
    for patch in ["p", "q", "p", "q"] {
        dir.run(&format!("apply model {patch} --in-place")).ok();
    }
    for patch in ["q", "p", "q", "p"] {
        dir.run("revert model").ok().prints(&[&format!("took back {patch}:1")]);
    }
    assert_eq!(SHARDS.map(|shard| dir.read(shard)), base);
    assert!(names(&dir.path("model")).iter().all(|name| !name.starts_with("lcepatch-undo-")));
}

#[test]
fn a_result_remembers_what_its_base_was_made_of() {
    let dir = model();
    dir.run("apply model p -o one").ok();
    assert!(!dir.exists("model/lcepatch-log.json"), "the base is not touched");
    dir.run("diff one reference.safetensors -o q --density 10%").ok();
    dir.run("apply one q -o two --undo u").ok();
    dir.run("status two").ok().prints(&["the base + p:1 + q:1"]);
    dir.run("status one").ok().prints(&["the base + p:1\n"]);
    dir.run("status two/model.safetensors.index.json").ok().prints(&["the base + p:1 + q:1"]);
    dir.run("apply model p -o quiet --no-log").ok();
    assert!(!dir.exists("quiet/lcepatch-log.json"));
    dir.run("status model/model-00001-of-00002.safetensors").fails(2).says(&["only model directories"]);
}

#[test]
fn what_cannot_be_taken_back_says_why() {
    let dir = model();
    dir.run("apply model p --in-place --no-undo").ok();
    dir.run("revert model").fails(6).says(&["no undo patch was written", "--no-undo"]);
    dir.run("diff model reference.safetensors -o q --density 10%").ok();
    dir.run("apply model q --in-place --undo u").ok();
    let undo = dir.read("u");
    dir.write("u", &dir.read("p"));
    dir.run("revert model").fails(6).says(&["the log says"]);
    std::fs::remove_file(dir.path("u")).unwrap();
    dir.run("revert model").fails(6).says(&["u is not here", "--undo"]);
    dir.write("elsewhere", &undo);
    // The weights were changed by something else since.
    let mut shard = dir.read(SHARDS[0]);
    let good = shard.clone();
    *shard.last_mut().unwrap() ^= 1;
    dir.write(SHARDS[0], &shard);
    dir.run("status model").fails(1).prints(&["changed since"]);
    dir.run("revert model --undo elsewhere").fails(6).says(&["changed since", "lcepatch status"]);
    assert_eq!(dir.read(SHARDS[0]), shard);
    dir.write(SHARDS[0], &good);
    dir.run("revert model --undo elsewhere").ok();
    dir.write("model/lcepatch-log.json", b"{}");
    dir.run("log model").fails(5).says(&["not a log of patches", "--no-log"]);
    dir.run("apply model u -o x").fails(3);
}

#[test]
fn a_log_leads_nowhere_else() {
    let dir = model();
    dir.run("apply model p --in-place --undo u").ok();
    let log = String::from_utf8(dir.read("model/lcepatch-log.json")).unwrap();
    dir.write("model/lcepatch-log.json", log.replace("\"u\"", "\"../u\"").as_bytes());
    dir.run("revert model").fails(6).says(&["../u is not here"]);
}

#[test]
fn what_was_applied_can_always_be_taken_back() {
    let dir = model();
    let before = SHARDS.map(|shard| dir.read(shard));
    let names_before = names(&dir.path("model"));
    let changes = ["p --alpha -2", "p --alpha 0.5 --edit ip --allow-different-base --quick"];
    dir.run(&format!("apply model {} --in-place", changes[0])).ok().prints(&["lcepatch revert model"]);
    assert_ne!(SHARDS.map(|shard| dir.read(shard)), before);
    dir.run("revert model").ok();
    assert_eq!(SHARDS.map(|shard| dir.read(shard)), before);
    // The log stays; the undo patch has done its work.
    let mut left = names(&dir.path("model"));
    left.retain(|name| name != "lcepatch-log.json");
    assert_eq!(left, names_before);
    // Two steps in a copy, taken back one by one.
    dir.run("apply model p -o copy").ok();
    dir.run("diff copy reference.safetensors -o q --density 20%").ok();
    dir.run("apply copy q --in-place").ok();
    dir.run("revert copy").ok();
    dir.run("revert copy").ok();
    let copied = SHARDS.map(|shard| dir.read(&shard.replace("model/", "copy/")));
    assert_eq!(copied, before);
    dir.run("revert copy").fails(6).says(&["no patch was applied here"]);
}

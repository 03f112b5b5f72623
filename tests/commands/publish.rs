//! `lcepatch push`, `find` and `pull`, on directories.

use super::sign::{key, public};
use crate::support::*;
use serde_json::Value;
use ssh_key::LineEnding;

/// Three versions of a model, and the patches from each to the next.
fn versions() -> Dir {
    let dir = Dir::new();
    let (v0, v1) = bert_pair();
    // Other tensors change in the second step than in the first.
    let v2: Vec<Tensor> =
        v1.iter().map(|tensor| if tensor.name.contains("layer.1") { moved(tensor) } else { tensor.clone() }).collect();
    for (name, tensors) in [("v0", &v0), ("v1", &v1), ("v2", &v2)] {
        dir.write(&format!("{name}.safetensors"), &safetensors(tensors));
    }
    dir.run(
        "diff v0.safetensors v1.safetensors --all --base-model alice/base --meta created=2026-11-28 -o v1.lcepatch",
    )
    .ok();
    dir.run("diff v1.safetensors v2.safetensors --all -o v2.lcepatch").ok();
    dir
}

/// Every element a quarter larger.
fn moved(tensor: &Tensor) -> Tensor {
    let values: Vec<f32> = f32s(tensor).into_iter().map(|value| value * 1.25).collect();
    Tensor::f32(&tensor.name, &tensor.shape, &values)
}

fn index(dir: &Dir, place: &str) -> Value {
    serde_json::from_slice(&dir.read(&format!("{place}/patches.json"))).unwrap()
}

/// All files of a folder, with their bytes.
fn all(dir: &Dir, folder: &str) -> Vec<(String, Vec<u8>)> {
    names(&dir.path(folder)).into_iter().map(|name| (name.clone(), dir.read(&format!("{folder}/{name}")))).collect()
}

#[test]
fn what_is_pushed_is_there_with_its_index_and_a_second_push_changes_nothing() {
    let dir = versions();
    dir.run("push v1.lcepatch to/ --dry-run").ok().prints(&["v1.lcepatch", "patches.json", "nothing was sent"]);
    assert!(!dir.exists("to"), "a dry run makes nothing");
    dir.run("push v1.lcepatch to/").ok().prints(&["new", "sent 5 files to to/"]);
    assert_eq!(dir.read("to/v1.lcepatch"), dir.read("v1.lcepatch"));
    let attributes = String::from_utf8(dir.read("to/.gitattributes")).unwrap();
    assert_eq!(attributes, "*.lcepatch filter=lfs diff=lcepatch merge=lfs -text\n");
    let shown = dir.run("show v1.lcepatch --json").ok().json();
    let entry = &index(&dir, "to")["patches"][0];
    assert_eq!((&entry["file"], &entry["id"]), (&"v1.lcepatch".into(), &shown["stat"]["id"]));
    assert_eq!((&entry["base_model"], &entry["created"]), (&"alice/base".into(), &"2026-11-28".into()));
    assert_eq!((&entry["reference"], &entry["signed"]), (&entry["result"], &false.into()));

    let before = all(&dir, "to");
    dir.run("push v1.lcepatch to/").ok().prints(&["nothing was sent"]);
    let again = dir.run("push v1.lcepatch to/ --json").ok().json();
    assert_eq!((&again["sent"], &again["files"]), (&false.into(), &Value::Array(vec![])));
    assert_eq!(all(&dir, "to"), before);

    let sent = dir.run("push v2.lcepatch to/ --json").ok().json();
    assert_eq!(sent["sent"], true);
    let listed = index(&dir, "to");
    let files: Vec<&Value> = listed["patches"].as_array().unwrap().iter().map(|entry| &entry["file"]).collect();
    assert_eq!(files, ["v1.lcepatch", "v2.lcepatch"], "what was there stays listed");
}

#[test]
fn what_would_be_lost_or_misread_is_refused() {
    let dir = versions();
    dir.run("push v1.lcepatch to").ok();
    dir.write("other/v1.lcepatch", &dir.read("v2.lcepatch"));
    let before = all(&dir, "to");
    dir.run("push other/v1.lcepatch to").fails(2).says(&["another v1.lcepatch", "--force"]);
    dir.run("push v1.lcepatch other/v1.lcepatch to").fails(2).says(&["have one name"]);
    dir.write(
        "damaged/d.lcepatch",
        &dir.read("v1.lcepatch").split_last().unwrap().1.iter().copied().chain([0]).collect::<Vec<_>>(),
    );
    dir.run("push damaged/d.lcepatch to").fails(4);
    dir.write("d", &dir.read("v1.lcepatch"));
    dir.run("push d to").fails(2).says(&["not a name", "ends in .lcepatch"]);
    dir.run("push v1.lcepatch v2.lcepatch").fails(3);
    dir.run("push v0.safetensors to").fails(4);
    dir.run("push v2.lcepatch ./cache/models--a--b/snapshots/1").fails(6);
    assert_eq!(all(&dir, "to"), before);
    dir.run("push other/v1.lcepatch to --force").ok();
    assert_eq!(dir.read("to/v1.lcepatch"), dir.read("v2.lcepatch"));

    dir.write("to/adapter_config.json", b"{}");
    dir.run("push v1.lcepatch to --force").fails(6).says(&["adapter_config.json", "transformers"]);
    dir.write("later/patches.json", br#"{"schema": 7}"#);
    dir.run("push v1.lcepatch later").fails(6).says(&["schema 7"]);
    dir.write("bytes/.gitattributes", b"\xff");
    dir.run("push v1.lcepatch bytes").fails(6).says(&["UTF-8"]);
}

#[test]
fn lines_and_patches_that_are_there_stay() {
    let dir = versions();
    dir.write("to/.gitattributes", b"*.bin filter=lfs");
    dir.write("to/by-hand.lcepatch", &dir.read("v2.lcepatch"));
    dir.write("to/broken.lcepatch", b"no patch");
    dir.write("to/patches.json", b"{]");
    dir.run("push v1.lcepatch to").ok().says(&["broken.lcepatch", "left out"]);
    assert!(dir.read("to/.gitattributes").starts_with(b"*.bin filter=lfs\n*.lcepatch "));
    let files: Vec<Value> =
        index(&dir, "to")["patches"].as_array().unwrap().iter().map(|entry| entry["file"].clone()).collect();
    assert_eq!(files, ["by-hand.lcepatch", "v1.lcepatch"]);
}

#[test]
fn a_checkpoint_finds_the_patches_that_fit_it() {
    let dir = versions();
    dir.run("push v1.lcepatch v2.lcepatch to").ok();
    dir.run("find v0.safetensors --in to").ok().prints(&[
        "v1.lcepatch: fits",
        "for alice/base",
        "v2.lcepatch: does not fit",
    ]);
    let found = dir.run("find v1.safetensors --in to --json").ok().json();
    let states: Vec<_> = found["patches"].as_array().unwrap().iter().map(|row| (&row["fits"], &row["state"])).collect();
    assert_eq!(states, [(&false.into(), &"result".into()), (&true.into(), &"base".into())]);
    dir.run("find v2.safetensors --in to").fails(1).prints(&["no patch fits, of 2", "is applied already"]);
    dir.run("find v0.safetensors --in nowhere").fails(6).says(&["has no patches"]);
    dir.run("find v0.safetensors --in v1.lcepatch").fails(3);
}

#[test]
fn the_header_of_a_patch_counts_and_a_wrong_index_is_noticed() {
    let dir = versions();
    dir.run("push v1.lcepatch to").ok();
    let wrong = String::from_utf8(dir.read("to/patches.json")).unwrap().replace("\"base\": \"", "\"base\": \"0");
    dir.write("to/patches.json", wrong.as_bytes());
    dir.run("find v0.safetensors --in to").ok().prints(&["fits"]).says(&["wrong about the base of v1.lcepatch"]);
    dir.write("to/patches.json", b"\x1b[31m");
    dir.run("find v0.safetensors --in to").ok().says(&["not an index of patches"]);
    dir.write("to/patches.json", &b"[".repeat(9 << 20));
    dir.run("find v0.safetensors --in to").fails(6).says(&["at most 8,388,608 are read"]);
}

#[test]
fn a_checkpoint_is_brought_to_the_last_version_byte_for_byte() {
    let dir = versions();
    dir.run("push v1.lcepatch v2.lcepatch to").ok();
    let pulled = dir.run("pull to --for v0.safetensors -o out.safetensors").ok();
    pulled.prints(&[
        "v0.safetensors -> v1.lcepatch -> v2.lcepatch",
        "2 patches applied",
        "every byte is the last reference's",
    ]);
    assert_eq!(dir.read("out.safetensors"), dir.read("v2.safetensors"));
    let json = dir.run("pull to --for v0.safetensors --to v1 -o v1-again.safetensors --json").ok().json();
    assert_eq!((&json["is_reference"], &json["patches"][0]["file"]), (&true.into(), &"v1.lcepatch".into()));
    assert_eq!(dir.read("v1-again.safetensors"), dir.read("v1.safetensors"));

    dir.run("pull to --for v0.safetensors --squash -o all.lcepatch").ok().prints(&["wrote all.lcepatch"]);
    dir.run("apply v0.safetensors all.lcepatch -o squashed.safetensors").ok();
    assert_eq!(dir.read("squashed.safetensors"), dir.read("v2.safetensors"));

    dir.run("pull to --for v0.safetensors -o out.safetensors").fails(2).says(&["exists already"]);
    dir.run("pull to --for v2.safetensors -o new.safetensors").fails(6).says(&["nothing is missing"]);
    dir.run("pull to --for v1.safetensors --to v1 -o new.safetensors").fails(6);
    dir.run("pull to --for v0.safetensors --to v3 -o new.safetensors").fails(6).says(&["v1.lcepatch, v2.lcepatch"]);
    dir.run("pull to --for v0.safetensors -o cache/models--a--b/snapshots/1/m.safetensors").fails(6);
    dir.run("pull nowhere --for v0.safetensors -o new.safetensors").fails(6).says(&["has no patches"]);
    assert!(!dir.exists("new.safetensors") && !dir.exists("cache"));
}

#[test]
fn a_damaged_copy_is_not_taken_for_the_patch() {
    let dir = versions();
    let whole = dir.read("v1.lcepatch");
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    dir.run("push v1.lcepatch to").ok();
    dir.run("pull to -o got").ok();
    dir.write("got/v1.lcepatch", &damaged);
    dir.run("pull to -o got").fails(2).says(&["exists already"]);
    dir.run("pull to -o got --force").ok();
    assert_eq!(dir.read("got/v1.lcepatch"), whole);
    dir.write("to/v1.lcepatch", &damaged);
    dir.run("push v1.lcepatch to --force").ok().prints(&["sent 1 file"]);
    assert_eq!(dir.read("to/v1.lcepatch"), whole);
}

#[test]
fn a_checkpoint_that_differs_elsewhere_is_no_version() {
    let dir = versions();
    let (mut other, _) = bert_pair();
    let untouched = other.iter().position(|tensor| tensor.dtype == "I64").unwrap();
    other[untouched].bytes[0] ^= 1;
    dir.write("other.safetensors", &safetensors(&other));
    dir.run("push v1.lcepatch to").ok();
    let pulled = dir.run("pull to --for other.safetensors -o out.safetensors --json").fails(6);
    pulled.says(&[
        "v1.lcepatch: what it changes is as in its base",
        "the rest of the checkpoint is not",
        "lcepatch find",
    ]);
    assert!(!dir.exists("out.safetensors"));
    let pulled = dir.run("pull to --for v0.safetensors -o v1-again.safetensors").ok();
    assert!(!pulled.err.contains("note:"), "{pulled:#?}");
}

#[test]
fn a_model_directory_of_three_steps_is_one_directory_in_the_end() {
    let dir = versions();
    let (v0, v1) = bert_pair();
    let v2: Vec<Tensor> =
        v1.iter().map(|tensor| if tensor.name.contains("layer.1") { moved(tensor) } else { tensor.clone() }).collect();
    let v3: Vec<Tensor> =
        v2.iter().map(|tensor| if tensor.name.contains("layer.0") { moved(tensor) } else { tensor.clone() }).collect();
    for (name, tensors) in [("m0", &v0), ("m1", &v1), ("m2", &v2), ("m3", &v3)] {
        write_model(&dir, name, tensors);
    }
    for at in 1..4 {
        dir.run(&format!("diff m{} m{at} --all -o m{at}.lcepatch", at - 1)).ok();
    }
    dir.run("push m1.lcepatch m2.lcepatch m3.lcepatch to").ok();
    dir.run("pull to --for m0 -o out").ok().prints(&["3 patches applied"]);
    for shard in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "config.json"] {
        assert_eq!(dir.read(&format!("out/{shard}")), dir.read(&format!("m3/{shard}")), "{shard}");
    }
    dir.run("log out").ok().prints(&["m1.lcepatch", "m2.lcepatch", "m3.lcepatch"]);
}

#[test]
fn chains_that_are_broken_forked_or_closed_are_refused_by_name() {
    let dir = versions();
    dir.run("push v2.lcepatch to").ok();
    let broken = dir.run("pull to --for v0.safetensors -o out.safetensors").fails(6);
    broken.says(&["lead from v0.safetensors anywhere", "v2.lcepatch: ", "are others than in its base"]);
    dir.run("diff v0.safetensors v2.safetensors --all -o straight.lcepatch").ok();
    dir.run("push straight.lcepatch to").ok();
    dir.run("pull to --for v0.safetensors -o out.safetensors").ok().prints(&["1 patch applied"]);
    assert_eq!(dir.read("out.safetensors"), dir.read("v2.safetensors"));

    dir.run("diff v0.safetensors v1.safetensors --k 50 -o few.lcepatch").ok();
    dir.run("push few.lcepatch to").ok();
    dir.run("pull to --for v0.safetensors -o new.safetensors")
        .fails(6)
        .says(&["few.lcepatch, straight.lcepatch", "--to"]);
    dir.run("pull to --for v0.safetensors --to few -o few.safetensors").ok();

    dir.run("diff v1.safetensors v0.safetensors --all -o back.lcepatch").ok();
    dir.run("push v1.lcepatch back.lcepatch circle").ok();
    dir.run("pull circle --for v0.safetensors -o new.safetensors")
        .fails(6)
        .says(&["v1.lcepatch -> back.lcepatch -> v1.lcepatch"]);
    assert!(!dir.exists("new.safetensors"));
}

#[test]
fn patches_are_fetched_with_their_signatures_and_only_by_allowed_signers() {
    let dir = versions();
    dir.write("key", key(1).to_openssh(LineEnding::LF).unwrap().as_bytes());
    dir.write("list", format!("a@b {}\n", public(1)).as_bytes());
    dir.run("sign v1.lcepatch --key key").ok();
    dir.run("push v1.lcepatch v2.lcepatch to").ok();
    assert_eq!(dir.read("to/v1.lcepatch.sig"), dir.read("v1.lcepatch.sig"));
    assert_eq!(index(&dir, "to")["patches"][0]["signed"], true);

    dir.run("pull to -o got").ok().prints(&["got/v1.lcepatch", "got/v2.lcepatch"]);
    assert_eq!(names(&dir.path("got")), ["v1.lcepatch", "v1.lcepatch.sig", "v2.lcepatch"]);
    dir.run("pull to -o got").ok();
    dir.write("got/v1.lcepatch", &dir.read("v2.lcepatch"));
    dir.run("pull to -o got").fails(2).says(&["exists already"]);
    dir.run("pull to -o got --force").ok();
    assert_eq!(dir.read("got/v1.lcepatch"), dir.read("v1.lcepatch"));

    dir.run("pull to --for v0.safetensors --to v1 -o one.safetensors --require-signature list")
        .ok()
        .prints(&["signed by a@b"]);
    dir.run("pull to --for v0.safetensors -o two.safetensors --require-signature list")
        .fails(11)
        .says(&["v2.lcepatch is not signed"]);
    assert!(!dir.exists("two.safetensors"));

    // A signature of another patch is neither published nor left beside one.
    dir.write("v2.lcepatch.sig", &dir.read("v1.lcepatch.sig"));
    dir.run("push v2.lcepatch to").fails(11);
    dir.write("other/v1.lcepatch", &dir.read("v2.lcepatch"));
    dir.run("push other/v1.lcepatch to --force").fails(2).says(&["v1.lcepatch.sig", "sign"]);
}

/// What a patch can say that would be more than text in YAML, in Markdown, in HTML or in a shell.
const HOSTILE: &str = "x\"\n---\nlicense: evil\n<!-- lcepatch: end -->\n<script>alert(1)</script> [a](javascript:b) ```\n| c | `$(touch pwned)`\u{202e}";

#[test]
fn a_card_has_what_people_and_hubs_look_for_and_text_of_others_is_only_text() {
    let dir = versions();
    let hostile = ["--description", HOSTILE, "--license", HOSTILE, "--base-model", HOSTILE, "--meta"];
    let meta = format!("base_model_revision={HOSTILE}");
    let words = [
        &["diff", "v0.safetensors", "v1.safetensors", "--all", "-o", "h.lcepatch"],
        &hostile[..],
        &[&meta, "--result", "weat.x=0.5"],
    ];
    dir.run_words(&words.concat()).ok();
    dir.run("card h.lcepatch -o README.md").ok().prints(&["wrote README.md and h.lcepatch.svg"]);
    let card = String::from_utf8(dir.read("README.md")).unwrap();
    assert_eq!(dir.run("card h.lcepatch").ok().out, card);
    let lines = |wanted: &str| card.lines().filter(|line| *line == wanted).count();
    assert_eq!((lines("---"), lines("<!-- lcepatch: end -->"), lines("license: evil")), (2, 1, 0), "{card}");
    for never in ["\u{202e}", "base_model:"] {
        assert!(!card.contains(never), "{never:?} is in {card}");
    }
    let quoted = card.lines().find(|line| line.starts_with("> ")).unwrap();
    assert!(!quoted.contains('<') && quoted.contains(r"\[a\](javascript\:b)"), "{quoted}");
    for part in [
        "library_name: lcepatch",
        "license: other",
        "model-index:",
        "value: 0.5",
        "lcepatch apply model/ h.lcepatch -o edited/",
        "### Limits",
        "(./h.lcepatch.svg)",
    ] {
        assert!(card.contains(part), "{part:?} is not in {card}");
    }
    let by_hand = format!("---\nlanguage: de\n---\nMine.\n{}", card.split_once("---\n\n").unwrap().1);
    dir.write("README.md", by_hand.as_bytes());
    dir.run("card v1.lcepatch -o README.md").ok();
    let renewed = String::from_utf8(dir.read("README.md")).unwrap();
    assert!(
        renewed.starts_with("---\nlanguage: de\n") && renewed.contains("\nMine.\n") && !renewed.contains("h.lcepatch"),
        "{renewed}"
    );
    assert!(
        renewed.contains("base_model: alice/base\n") && renewed.contains("lcepatch apply alice/base v1.lcepatch"),
        "{renewed}"
    );
}

#[test]
fn the_cards_that_are_pushed_are_read_by_huggingface_hub() {
    let dir = versions();
    let words = ["diff", "v0.safetensors", "v1.safetensors", "--all", "--description", HOSTILE, "--license", HOSTILE];
    let more =
        ["--base-model", "alice/base", "--result", "weat.x=0.5", "--recommended-alpha", "1e-7", "-o", "h.lcepatch"];
    dir.run_words(&[&words[..], &more].concat()).ok();
    dir.run("push h.lcepatch v2.lcepatch to").ok();
    let script = "import json, sys\nfrom huggingface_hub import ModelCard\ncard = ModelCard.load(sys.argv[1])\n\
        print(json.dumps({**card.data.to_dict(), 'metric': [[r.metric_type, r.metric_value] for r in card.data.eval_results]}))";
    let output = std::process::Command::new(python_with_hub())
        .args(["-c", script])
        .arg(dir.path("to/README.md"))
        .output()
        .unwrap();
    let data = Run::new("ModelCard.load", output).ok().json();
    assert_eq!(data["base_model"], "alice/base");
    assert_eq!((&data["base_model_relation"], &data["library_name"]), (&"adapter".into(), &"lcepatch".into()));
    assert_eq!(
        (&data["tags"], &data["metric"]),
        (&serde_json::json!(["lcepatch", "model-editing"]), &serde_json::json!([["weat.x", 0.5]]))
    );
    let ids: Vec<&Value> = data["lcepatch"]["patches"].as_array().unwrap().iter().map(|patch| &patch["id"]).collect();
    let listed = index(&dir, "to");
    assert_eq!(ids, listed["patches"].as_array().unwrap().iter().map(|entry| &entry["id"]).collect::<Vec<_>>());
    assert_eq!(data["lcepatch"]["patches"][0]["recommended_alpha"], 1e-7);
}

#[test]
fn a_hub_gets_one_commit_is_searched_and_brings_a_checkpoint_to_the_last_version() {
    let dir = versions();
    let [v0, v1] = ["v0", "v1"].map(|name| dir.read(&format!("{name}.safetensors")));
    let hub = crate::support::hub::Hub::start(&[(
        "--repo",
        "alice/base",
        &[("model.safetensors", &v0), ("config.json", b"{}")],
    )]);
    let run = |arguments: &str| {
        let output = dir.command().envs(hub.environment()).args(arguments.split_whitespace()).output().unwrap();
        Run::new(arguments, output)
    };
    run("push v1.lcepatch alice/patches").ok().prints(&["sent 5 files to alice/patches: commit"]);
    hub.clear_log();
    run("push v1.lcepatch alice/patches").ok().prints(&["nothing was sent"]);
    assert!(
        hub.log().iter().all(|request| request["method"] == "GET" || request["method"] == "HEAD"),
        "nothing is written"
    );
    run("find alice/base --in alice/patches").ok().prints(&["v1.lcepatch: fits"]);
    run("find alice/base").ok().prints(&["alice/patches@", "v1.lcepatch: fits"]);
    run("find v1.safetensors").fails(2).says(&["--in"]);
    run("pull alice/patches --for alice/base -o out").ok().prints(&["alice/base -> v1.lcepatch", "every byte"]);
    assert_eq!(dir.read("out/model.safetensors"), v1);
    // What was pulled is in the cache, and the hub is not needed any more.
    hub.clear_log();
    let offline = dir
        .command()
        .envs(hub.environment())
        .env("HF_HUB_OFFLINE", "1")
        .args("pull alice/patches --for alice/base -o again".split(' '))
        .output()
        .unwrap();
    Run::new("pull, offline", offline).ok();
    assert_eq!((dir.read("again/model.safetensors"), hub.log().len()), (v1, 0));
    run("pull alice/nowhere --for alice/base -o new").fails(6);
    assert!(hub.log().iter().all(|request| request["leaked_token"] != true));
}

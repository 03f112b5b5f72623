//! `docs/json.md`: the keys of every `--json` answer, compared with the answers themselves.
//!
//! `TRYCMD=overwrite cargo test --test main json` writes the keys and types anew, and keeps what is said about them.

use crate::support::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// Each key of an answer, and the types that it was seen with.
type Keys = BTreeMap<String, BTreeSet<String>>;

/// Ends of the keys of objects whose own keys are names: of components, files, settings.
const OPEN: [&str; 10] = [
    "by_component",
    "compare.components",
    "files",
    "before",
    "after",
    "s[].settings",
    "s[].data",
    "s[].counts",
    "lm_eval.results",
    "lm_eval.n-samples",
];

fn kind(value: &Value) -> String {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Object(_) => "object",
        Value::Array(all) => match all.first() {
            None | Some(Value::Object(_)) => "array",
            Some(first) => return format!("array of {}", kind(first)),
        },
    };
    kind.to_owned()
}

/// Adds the keys of an answer, but those below the objects that are described `elsewhere`.
fn flatten(key: &str, value: &Value, elsewhere: &[&str], keys: &mut Keys) {
    if !key.ends_with("[]") {
        keys.entry(key.to_owned()).or_default().insert(kind(value));
    }
    if elsewhere.contains(&key) {
        return;
    }
    match value {
        Value::Array(all) => {
            all.iter().filter(|one| one.is_object()).for_each(|one| flatten(&format!("{key}[]"), one, elsewhere, keys));
        }
        Value::Object(all) => {
            let is_open = OPEN.iter().any(|open| key.ends_with(open));
            for (part, value) in all {
                flatten(&format!("{key}.{}", if is_open { "*" } else { part }), value, elsewhere, keys);
            }
        }
        _ => {}
    }
}

/// The lines of the table, each with what `said` says about the key.
fn table(keys: &Keys, said: &BTreeMap<String, String>) -> Vec<String> {
    let row = |(key, kinds): (&String, &BTreeSet<String>)| {
        // A whole number is a number too, and an empty array says nothing about what could be in it.
        let says_more = |kind: &&String| match kind.as_str() {
            "integer" => !kinds.contains("number"),
            "array" => !kinds.iter().any(|other| other.starts_with("array of")),
            _ => true,
        };
        let kinds = kinds.iter().filter(says_more).map(String::as_str).collect::<Vec<_>>().join(" or ");
        let key = key.split_once('.').unwrap().1;
        let said = said.get(key).map_or("", String::as_str);
        format!("| `{key}` | {kinds} | {said} |")
    };
    keys.iter().map(row).collect()
}

/// Expects that the section of `docs/json.md` about a command lists the keys of its answers, and says something about each.
#[track_caller]
fn documented(command: &str, elsewhere: &[&str], answers: &[Value]) {
    static FILE: Mutex<()> = Mutex::new(());
    let _lock = FILE.lock().unwrap_or_else(PoisonError::into_inner);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let heading = format!("## {command}\n");
    let start =
        text.find(&heading).unwrap_or_else(|| panic!("docs/json.md has no section {command:?}")) + heading.len();
    let end = text[start..].find("\n## ").map_or(text.len(), |at| start + at + 1);
    let is_row = |line: &&str| line.starts_with("| `");
    let there: Vec<&str> = text[start..end].lines().filter(is_row).collect();
    let cells = |row: &&str| {
        let mut cells = row.trim_matches('|').splitn(3, " | ");
        let key = cells.next()?.trim().trim_matches('`').to_owned();
        Some((key, cells.nth(1)?.trim().to_owned()))
    };
    let said: BTreeMap<String, String> = there.iter().filter_map(cells).collect();
    let mut keys = Keys::new();
    for answer in answers {
        assert_eq!(answer["schema"], 1, "{command}");
        // The command is the root of its keys.
        let elsewhere: Vec<String> = elsewhere.iter().map(|key| format!("{command}.{key}")).collect();
        flatten(command, answer, &elsewhere.iter().map(String::as_str).collect::<Vec<_>>(), &mut keys);
    }
    keys.remove(command);
    let rows = table(&keys, &said);
    if std::env::var("TRYCMD").is_ok_and(|what| what == "overwrite") {
        let before = text[start..end].lines().take_while(|line| !line.starts_with('|')).collect::<Vec<_>>().join("\n");
        let section = format!("{before}\n| key | type | meaning |\n| --- | --- | --- |\n{}\n\n", rows.join("\n"));
        let rest = text[end..].trim_start();
        std::fs::write(&path, format!("{}{section}{rest}", &text[..start]).trim_end().to_owned() + "\n").unwrap();
        return;
    }
    assert_eq!(there, rows, "{command}");
    let unsaid: Vec<&String> =
        keys.keys().filter(|key| said.get(key.split_once('.').unwrap().1).is_none_or(String::is_empty)).collect();
    assert!(unsaid.is_empty(), "{command}: nothing is said about {unsaid:?}");
}

#[test]
fn the_version_is_the_first_key() {
    let dir = bert_dir();
    let diff = dir.run("diff target.safetensors reference.safetensors --all --json").ok();
    let plan = "plan target.safetensors reference.safetensors --all --shards 2 -o run.lceplan --json";
    documented("plan", &[], &[dir.run(plan).ok().json()]);
    assert!(diff.out.starts_with("{\n  \"schema\": 1,\n"), "{diff:#?}");
}

/// A pair, whose target is a model directory `model` too, and patches of it.
fn patched() -> Dir {
    let dir = bert_dir();
    let (target, _) = bert_pair();
    write_model(&dir, "model", &target);
    dir.run("diff target.safetensors reference.safetensors -o p --density 10% --recommended-alpha -2").ok();
    dir.run("diff target.safetensors reference.safetensors -o q --density 5% --portable").ok();
    dir
}

/// A private and a public key.
fn ssh_key() -> (String, String) {
    use ssh_key::private::{Ed25519Keypair, KeypairData};
    let key = ssh_key::PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[1; 32])), "").unwrap();
    (key.to_openssh(ssh_key::LineEnding::LF).unwrap().to_string(), key.public_key().to_openssh().unwrap())
}

#[test]
fn of_diff_and_show() {
    let dir = patched();
    let answers = |lines: &[&str]| lines.iter().map(|line| dir.run(line).ok().json()).collect::<Vec<_>>();
    let diff = "diff target.safetensors reference.safetensors --json";
    let diff = [format!("{diff} --density 1%"), format!("{diff} --all --spectrum -o r")];
    documented("diff", &[], &answers(&diff.each_ref().map(String::as_str)));
    documented(
        "show",
        &["metadata", "stat", "kind", "spectrum"],
        &answers(&["show p --json", "show q --json --spectrum", "show r --json --spectrum --base target.safetensors"]),
    );
}

#[test]
fn of_check_and_sign() {
    let dir = patched();
    let (key, public) = ssh_key();
    dir.write("key", key.as_bytes());
    dir.write("list", format!("alice@example.com {public}\n").as_bytes());
    let unsigned = dir.run("check p reference.safetensors --json").fails(1).json();
    documented("sign", &[], &[dir.run("sign p --key key --json").ok().json()]);
    let checks = [
        "check p --json",
        "check p model --json",
        "check p target.safetensors --quick --require-signature list --json",
    ];
    let checks = checks.iter().map(|line| dir.run(line).ok().json());
    documented("check", &["carried"], &checks.chain([unsigned]).collect::<Vec<_>>());
    let apply = "apply target.safetensors p --json --force -o r";
    let apply = [
        dir.run(&format!("{apply} --undo u --require-signature list")).ok().json(),
        dir.run("apply target.safetensors p:0.5 q --json --no-undo -o s").ok().json(),
        dir.run("apply target.safetensors p --include *.query.* --exclude *.1.* --json -o t").ok().json(),
    ];
    documented("apply", &["signatures"], &apply);
}

#[test]
fn of_log_and_status() {
    let dir = patched();
    let before = dir.run("status model --json").ok().json();
    dir.run("apply model p -o edited").ok();
    dir.run("apply model p --include *.query.* --exclude *.1.* -o part").ok();
    documented("log", &[], &["log edited --json", "log part --json"].map(|line| dir.run(line).ok().json()));
    documented("status", &[], &[before, dir.run("status edited --json").ok().json()]);
}

#[test]
fn of_mask_and_compare() {
    let dir = patched();
    let masks = [
        "mask target.safetensors --sparsity 30% --json",
        "mask target.safetensors --compare reference.safetensors --json",
    ];
    documented("mask", &[], &masks.map(|line| dir.run(line).ok().json()));
    let compare = ["compare p q --base target.safetensors --json", "compare p q --json"];
    documented("compare", &[], &compare.map(|line| dir.run(line).ok().json()));
}

#[test]
fn of_patches_of_patches() {
    let dir = patched();
    let verbs = ["invert q -o i --json", "combine q q:2 -o c --json", "select q --top 10% -o s --json"];
    dir.run("select p --include *.query.weight -o l").ok();
    dir.run("export l --to values --base target.safetensors -o values").ok();
    let imports = ["import values --from values --base target.safetensors -o imported --json"];
    documented(
        "invert, squash, combine, select, import",
        &["cells", "components", "layers", "tensors"],
        &verbs.into_iter().chain(imports).map(|line| dir.run(line).ok().json()).collect::<Vec<_>>(),
    );
}

#[cfg(feature = "verify")]
#[test]
fn of_ask_verify_and_runtime_status() {
    let dir = Dir::new();
    let [biased, counterfactual] = ["biased", "counterfactual"].map(|side| fixture(&format!("demo/{side}")));
    let [biased, counterfactual] = [biased.to_str().unwrap(), counterfactual.to_str().unwrap()];
    dir.run(&format!("diff {biased} {counterfactual} -o p --density 1% --recommended-alpha 2")).ok();
    let absent = Run::new(
        "",
        dir.command()
            .env_remove("ORT_DYLIB_PATH")
            .env("LCEPATCH_HOME", dir.path("home"))
            .env_remove("VIRTUAL_ENV")
            .args(["runtime", "status", "--cuda", "--json"])
            .output()
            .unwrap(),
    );
    documented("runtime status", &[], &[dir.run_model("runtime status --json").ok().json(), absent.fails(1).json()]);
    let ask = [
        dir.run_model(&format!("ask {biased} [MASK] --patch p --alpha -2 --json")).ok().json(),
        dir.run_model(&format!("ask {biased} [MASK]-and-[MASK] --options she,he --json")).ok().json(),
    ];
    documented("ask", &["model", "runtime"], &ask);
    let pairs = fixture("demo/pairs.csv");
    let text = fixture("demo/heldout.txt");
    let (gpt2, choices) = (fixture("models/gpt2"), fixture("measures/choices.jsonl"));
    let line = format!("verify {biased} --crows-pairs {} --perplexity {} --weat 8", pairs.display(), text.display());
    let verify = [
        dir.run_model(&format!("{line} --patch p --kl --json")).ok().json(),
        dir.run_model(&format!("{line} --json --items")).ok().json(),
        dir.run_model(&format!("verify {} --choices {} --json", gpt2.display(), choices.display())).ok().json(),
    ];
    documented("verify", &["rows[].measures[].groups[].scores"], &verify);
}

#[test]
#[cfg(feature = "net")]
fn publishing_is_documented() {
    let dir = patched();
    dir.run("diff target.safetensors reference.safetensors --all --base-model a/b -o all.lcepatch").ok();
    dir.write("key", super::sign::key(1).to_openssh(ssh_key::LineEnding::LF).unwrap().as_bytes());
    dir.write("list", format!("a@b {}", super::sign::public(1)).as_bytes());
    dir.run("sign all.lcepatch --key key").ok();
    let json = |arguments: &str| dir.run(&format!("{arguments} --json")).ok().json();
    documented("card", &[], &[json("card all.lcepatch -o README.md")]);
    documented("push", &[], &[json("push all.lcepatch to"), json("push all.lcepatch to")]);
    dir.write("to/patches.json", b"{}");
    documented("find", &[], &[json("find target.safetensors --in to")]);
    let pulled = [
        json("pull to -o got --require-signature list"),
        json("pull to --for target.safetensors -o new.safetensors"),
        json("pull to --for target.safetensors --squash -o one.lcepatch"),
    ];
    documented("pull", &["patches[].signature"], &pulled);
}

#[test]
fn of_exports() {
    let dir = patched();
    dir.run("select p --include *.query.weight -o linear").ok();
    let export = "export linear --base target.safetensors --json";
    let exports =
        ["shira -o adapter", "values -o values"].map(|to| dir.run(&format!("{export} --to {to}")).ok().json());
    documented("export", &[], &exports);
    dir.write("state.pt", &super::exchange::state_dict());
    documented("import --from torch", &[], &[dir.run("import state.pt --from torch -o state --json").ok().json()]);
}

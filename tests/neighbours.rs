//! What other tools make of our exports, and we of what they write: PEFT merges an adapter to the bytes of `apply`.

use crate::harness::missing_anywhere;
use crate::support::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A Python with torch, transformers and PEFT 0.21.2. A test that asks for it is ignored where `LCEPATCH_PEFT` names none.
fn peft() -> PathBuf {
    let named = std::env::var_os("LCEPATCH_PEFT").filter(|path| !path.is_empty());
    let needs =
        || missing_anywhere("needs a Python with torch, transformers and PEFT 0.21.2, which LCEPATCH_PEFT names");
    let python = named.map_or_else(needs, PathBuf::from);
    let check = "import torch, transformers, peft; assert peft.__version__ == '0.21.2', peft.__version__";
    let output = Command::new(&python).args(["-c", check]).output();
    match output {
        Ok(output) if output.status.success() => python,
        Ok(output) => missing_anywhere(format!("LCEPATCH_PEFT: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => missing_anywhere(format!("LCEPATCH_PEFT: {error}")),
    }
}

/// Runs a script of `tests/neighbours`, and returns what it prints.
#[track_caller]
fn run(python: &PathBuf, dir: &Dir, arguments: &str) -> String {
    let mut words = arguments.split_whitespace();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/neighbours");
    let mut command = Command::new(python);
    command.arg(scripts.join(words.next().unwrap())).args(words).current_dir(dir.path("")).env("HF_HUB_OFFLINE", "1");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The tensors of a file, or of all files of a directory.
fn tensors(dir: &Dir, name: &str) -> BTreeMap<String, Vec<u8>> {
    let path = dir.path(name);
    let files = match path.is_dir() {
        true => names(&path)
            .into_iter()
            .filter(|file| file.ends_with(".safetensors"))
            .map(|f| format!("{name}/{f}"))
            .collect(),
        false => vec![name.to_owned()],
    };
    files.iter().flat_map(|file| read_safetensors(&dir.read(file))).collect()
}

/// The number of weights of `width` bytes that are not the same.
fn differing(ours: &BTreeMap<String, Vec<u8>>, theirs: &BTreeMap<String, Vec<u8>>, width: usize) -> usize {
    let of_tensor = |(name, ours): (&String, &Vec<u8>)| {
        let theirs = &theirs[name];
        assert_eq!(ours.len(), theirs.len(), "{name}");
        ours.chunks(width).zip(theirs.chunks(width)).filter(|(ours, theirs)| ours != theirs).count()
    };
    ours.iter().map(of_tensor).sum()
}

#[test]
fn peft_merges_an_export_to_the_bytes_of_apply() {
    let python = peft();
    let dir = Dir::new();
    run(&python, &dir, "peft_side.py models");
    let mut exports = Vec::new();
    for (model, width, alphas) in [
        ("float32", 4, &["1", "-2"][..]),
        ("bfloat16", 2, &["1", "-2", "0.37"]),
        ("float16", 2, &["-2"]),
        ("bert", 4, &["1"]),
    ] {
        dir.run(&format!("diff {model}/target {model}/reference -o {model}.lcepatch --all")).ok();
        for alpha in alphas {
            let (at, base) = (format!("{model}{alpha}"), format!("{model}/target"));
            let export = format!("export {model}.lcepatch --to shira --base {base} --alpha {alpha} -o {at} --json");
            let inexact = dir.run(&export).ok().json()["inexact"].as_u64().unwrap();
            // Half precision has no result here that single precision does not reach.
            assert!(inexact == 0 || width == 4 && *alpha != "1", "{at}: {inexact}");
            dir.run(&format!("apply {base} {model}.lcepatch --alpha {alpha} -o {at}.ours")).ok();
            dir.run(&format!("import {at} --from shira --base {base} -o {at}.lcepatch")).ok();
            dir.run(&format!("apply {base} {at}.lcepatch -o {at}.again")).ok();
            exports.push((base, at, width, inexact));
        }
    }
    assert!(exports.iter().any(|(.., inexact)| *inexact > 0), "what is counted is seen");
    let merges: Vec<String> = exports.iter().map(|(base, at, ..)| format!("{base} {at} {at}.merged")).collect();
    run(&python, &dir, &format!("peft_side.py merge {}", merges.join(" ")));
    for (_, at, width, inexact) in &exports {
        let [ours, merged, again] = [".ours", ".merged", ".again"].map(|end| tensors(&dir, &format!("{at}{end}")));
        assert_eq!(differing(&ours, &merged, *width) as u64, *inexact, "{at}");
        assert_eq!(differing(&again, &merged, *width), 0, "{at}");
    }
    // Why the documentation says PeftModel.
    let config = String::from_utf8(dir.read("float321/adapter_config.json")).unwrap();
    let named = config.replace("\"base_model_name_or_path\": null", "\"base_model_name_or_path\": \"float32/target\"");
    dir.write("float321/adapter_config.json", named.as_bytes());
    assert!(run(&python, &dir, "peft_side.py auto float32/target float321").starts_with("KeyError"));
    let other = named.replace("\"mask_type\": \"lcepatch\"", "\"mask_type\": \"random\"");
    dir.write("float321/adapter_config.json", other.as_bytes());
    let difference: f32 = run(&python, &dir, "peft_side.py auto float32/target float321").trim().parse().unwrap();
    assert!(difference > 0.001, "{difference}: AutoModel loads positions now");
}

#[test]
fn an_adapter_of_peft_becomes_a_patch_that_merges_as_it_does() {
    let python = peft();
    let dir = Dir::new();
    run(&python, &dir, "peft_side.py models");
    let models = [("float32", 4), ("bfloat16", 2), ("float16", 2)];
    let all = |each: fn(&str) -> String| models.map(|(model, _)| each(model)).join(" ");
    run(&python, &dir, &format!("peft_side.py adapters {}", all(|model| format!("{model}/target {model}.adapter"))));
    run(
        &python,
        &dir,
        &format!("peft_side.py merge {}", all(|model| format!("{model}/target {model}.adapter {model}.merged"))),
    );
    for (model, width) in models {
        let base = format!("{model}/target");
        dir.run(&format!("import {model}.adapter --from shira --base {base} -o {model}.lcepatch")).ok();
        dir.run(&format!("apply {base} {model}.lcepatch -o {model}.ours")).ok();
        let [ours, theirs] = [".ours", ".merged"].map(|end| tensors(&dir, &format!("{model}{end}")));
        assert_eq!(differing(&ours, &theirs, width), 0, "{model}");
        assert_ne!(differing(&ours, &tensors(&dir, &base), width), 0, "{model}");
    }
}

#[test]
fn files_of_torch_become_what_the_safetensors_library_writes() {
    let python = peft();
    let dir = Dir::new();
    let names = run(&python, &dir, "torch_side.py");
    assert!(names.lines().count() >= 10, "{names}");
    for name in names.lines() {
        dir.run(&format!("import {name}.pt --from torch -o ours")).ok();
        assert_eq!(
            read_safetensors(&dir.read("ours")),
            read_safetensors(&dir.read(&format!("{name}.safetensors"))),
            "{name}"
        );
        std::fs::remove_file(dir.path("ours")).unwrap();
    }
    for (name, says) in [
        ("transposed", "do not lie one after another"),
        ("expanded", "do not lie one after another"),
        ("model", "Sequential"),
        ("nested", "\"epoch\" is a number and not a tensor"),
        ("list", "holds a list"),
        ("sparse", "_rebuild_sparse_tensor"),
        ("float8", "_rebuild_tensor_v3"),
        ("old", "before 1.6"),
        ("script", "TorchScript"),
    ] {
        dir.run(&format!("import {name}.refused --from torch -o ours")).fails(6).says(&[says]);
    }
}

#[test]
fn mergekit_merges_an_export_as_apply_does() {
    let python = peft();
    let program = std::env::var_os("LCEPATCH_MERGEKIT").filter(|path| !path.is_empty());
    let needs = || missing_anywhere("needs mergekit 0.1.5, whose program mergekit-yaml LCEPATCH_MERGEKIT names");
    let program = program.map_or_else(needs, PathBuf::from);
    let dir = Dir::new();
    run(&python, &dir, "peft_side.py models");
    dir.run("diff float32/target float32/reference -o p --all").ok();
    dir.run("export p --to shira --base float32/target --alpha 1 -o adapter").ok();
    dir.run("apply float32/target p --alpha 1 -o ours").ok();
    // The recipe of docs/neighbours.md.
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/neighbours.md")).unwrap();
    let recipe = text.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let recipe =
        recipe.replace("model/", "float32/target").replace("bfloat16", "float32").replace("adapter/", "adapter");
    dir.write("merge.yaml", recipe.as_bytes());
    let flags = ["merge.yaml", "merged", "--no-copy-tokenizer", "--lora-merge-cache", "cache"];
    let mut command = Command::new(program);
    // Its last step, the model card, asks a hub, and fails after the model is written.
    let output = command.args(flags).current_dir(dir.path("")).env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert!(dir.path("merged/model.safetensors").exists(), "{}", String::from_utf8_lossy(&output.stderr));
    let [ours, merged, base] = ["ours", "merged", "float32/target"].map(|name| tensors(&dir, name));
    // A negative zero of the base becomes a positive one.
    let numbers = |tensors: &BTreeMap<String, Vec<u8>>| -> Vec<f32> {
        tensors.values().flat_map(|bytes| bytes.as_chunks().0).map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    assert_eq!(numbers(&ours), numbers(&merged));
    assert_ne!(numbers(&ours), numbers(&base));
}

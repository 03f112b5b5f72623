//! Files as people have them: what they are, what comes along, and what happens when others write to them meanwhile.

use crate::support::*;
use lcepatch::Error;
use lcepatch::algebra::{Filter, Signs, combine, compare, invert, select, squash};
use lcepatch::apply::{Check, Edit};
use lcepatch::check::true_of;
use lcepatch::checkpoint::Checkpoint;
use lcepatch::context::{Context, Progress};
use lcepatch::diff::{Amount, DiffOptions, Localize, Size, diff};
use lcepatch::edit::{Alpha, EditKind};
use lcepatch::internal::{PruningMask, Shard, find, rank, write_mask};
use lcepatch::mask::Scope;
use lcepatch::patch::Patch;
use lcepatch_files::durable::Existing;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// A directory with the model `base`, whose weights are one file, and a patch for it.
fn model() -> Dir {
    let dir = Dir::new();
    let (target, reference) = bert_pair();
    dir.write("base/model.safetensors", &safetensors(&target));
    dir.write("ref/model.safetensors", &safetensors(&reference));
    dir.run("diff base ref --all -o p.lcepatch").ok();
    dir
}

#[test]
fn what_makes_a_model_loadable_comes_along_and_nothing_with_the_old_weights() {
    let dir = model();
    let module = safetensors(&[Tensor::f32("linear.weight", &[2, 2], &[1.0, 2.0, 3.0, 4.0])]);
    let comes =
        ["config.json", "training_args.bin", "optimizer.pt", "1_Pooling/config.json", "2_Dense/pytorch_model.bin"];
    let stays = ["pytorch_model.bin", "pytorch_model.bin.index.json", "model.gguf", "onnx/model.onnx", ".git/config"];
    for name in comes.iter().chain(&stays) {
        dir.write(&format!("base/{name}"), b"{}");
    }
    dir.write("base/2_Dense/model.safetensors", &module);
    dir.write("base/other.safetensors", &module);
    dir.write("base/model.fp16.safetensors", &dir.read("base/model.safetensors"));
    dir.write("base/.lcepatch-0-dead.tmp", b"x");
    dir.run("apply base p.lcepatch -o base/edited").ok();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere", dir.path("base/dangling")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(dir.path("base/pipe")).status().unwrap().success());
    }
    let run = dir.run("apply base p.lcepatch -o out --no-undo").ok();
    let weights =
        "edited/, model.fp16.safetensors, model.gguf, onnx/model.onnx, pytorch_model.bin, pytorch_model.bin.index.json";
    let run = run.says(&[&format!("hold the base's weights, in another format or again: {weights}\n")]);
    #[cfg(unix)]
    run.says(&["they cannot be read: dangling, pipe\n"]);
    let mut expected = ["1_Pooling", "2_Dense", "config.json", "lcepatch-log.json", "model.safetensors"].to_vec();
    expected.extend(["optimizer.pt", "other.safetensors", "training_args.bin"]);
    assert_eq!(dir.names().iter().filter(|name| *name == "out").count(), 1);
    assert_eq!(names(&dir.path("out")), expected);
    assert_eq!(names(&dir.path("out/2_Dense")), ["model.safetensors", "pytorch_model.bin"]);
    assert_eq!(dir.read("out/2_Dense/model.safetensors"), module);
}

#[test]
fn a_file_says_what_it_is_and_what_to_do() {
    let dir = model();
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 466062\n";
    dir.write("lfs.safetensors", lfs);
    dir.run("diff base lfs.safetensors").fails(5).says(&["Git LFS pointer to a file of 466062 bytes", "git lfs pull"]);
    dir.write("i/model.safetensors.index.json", lfs);
    dir.run("diff base i").fails(5).says(&["index.json: this is a Git LFS pointer"]);
    for (bytes, what) in [
        (&b"<!DOCTYPE html><html>"[..], "HTML"),
        (b"PK\x03\x04", "zip archive"),
        (b"\x80\x02}q\x00", "pickle"),
        (b"GGUF\x03\0\0\0\0\0\0\0", "GGUF"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\x08\x08\x12\x07pytorch", "ONNX file"),
        (&[0; 600], "begins with zeros"),
        (b"{\"a\": 1}", "JSON"),
        (b"", "an empty file"),
    ] {
        dir.write("w.safetensors", bytes);
        dir.run("diff base w.safetensors").fails(5).says(&[what, "help: "]);
    }
    let whole = dir.read("base/model.safetensors");
    let sizes = |found: usize| format!("has {found} bytes, and its header asks for {}", whole.len());
    dir.write("w.safetensors", &whole[..whole.len() - 100]);
    dir.run("diff base w.safetensors").fails(5).says(&[&sizes(whole.len() - 100), "100 are missing at its end"]);
    dir.write("w.safetensors", &[&whole[..], &[0; 64]].concat());
    dir.run("diff base w.safetensors").fails(5).says(&[&sizes(whole.len() + 64), "64 follow the last tensor"]);
}

#[test]
fn every_file_that_is_read_says_what_it_is() {
    let dir = model();
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 466062\n";
    dir.write("lfs", lfs);
    dir.write("log/model.safetensors", &dir.read("base/model.safetensors"));
    dir.write("log/lcepatch-log.json", lfs);
    dir.run("diff base ref --all --shard 1/2 -o 1.part").ok();
    let cases = [
        ("show lfs", 4),
        ("check lfs base", 4),
        ("check p.lcepatch lfs", 5),
        ("apply base lfs -o out", 4),
        ("apply base p.lcepatch -o out --mask lfs --keep-mask k --edit sw", 5),
        ("select lfs -o out --exclude x", 4),
        ("compare p.lcepatch lfs", 4),
        ("invert lfs -o out --base base", 4),
        ("squash p.lcepatch lfs -o out", 4),
        ("combine p.lcepatch lfs -o out", 4),
        ("combine 1.part lfs -o out", 5),
        ("sign lfs --key lfs", 5),
        ("check p.lcepatch --signature lfs", 11),
        ("check p.lcepatch --require-signature lfs", 5),
        ("diff base ref --target-mask lfs --localize mask", 5),
        ("mask base --from lfs", 5),
        ("log log", 5),
    ];
    for (command, code) in cases {
        dir.run(command).fails(code).says(&[": this is a Git LFS pointer", "of 466062 bytes", "help: `git lfs pull`"]);
    }
}

#[test]
#[cfg(feature = "verify")]
fn every_file_of_a_model_and_of_data_says_what_it_is() {
    let dir = model();
    for name in names(&fixture("models/bert")) {
        dir.write(&format!("m/{name}"), &std::fs::read(fixture("models/bert").join(name)).unwrap());
    }
    dir.write("page", b"<!doctype html>");
    let page = |run: Run, name: &str| run.fails(5).says(&[&format!("{name}: this is a page for browsers"), "help: "]);
    for option in ["crows-pairs", "stereoset", "seat", "weat", "perplexity"] {
        page(dir.run(&format!("verify m --{option} page")), "page");
    }
    page(dir.run("report page -o out"), "page");
    dir.write("utf16", b"\xff\xfeh\0e\0");
    dir.run("verify m --perplexity utf16").fails(5).says(&["this is text in UTF-16", "help: save it in UTF-8"]);
    dir.write("text", b"He was late.\n");
    dir.write("x.onnx", b"<!doctype html>");
    page(dir.run("verify m --onnx x.onnx --perplexity text"), "x.onnx");
    for name in ["config.json", "tokenizer.json", "vocab.txt", "tokenizer_config.json"] {
        if name == "vocab.txt" {
            std::fs::remove_file(dir.path("m/tokenizer.json")).unwrap();
        }
        let there = dir.exists(&format!("m/{name}")).then(|| dir.read(&format!("m/{name}")));
        dir.write(&format!("m/{name}"), b"<!doctype html>");
        page(dir.run("verify m --perplexity text"), name);
        match there {
            Some(bytes) => drop(dir.write(&format!("m/{name}"), &bytes)),
            None => std::fs::remove_file(dir.path(&format!("m/{name}"))).unwrap(),
        }
    }
}

#[test]
#[cfg(feature = "verify")]
fn a_wrapped_model_and_one_without_a_tokenizer_file_say_what_to_do() {
    let dir = Dir::new();
    let (weights, config) = ["model.safetensors", "config.json"]
        .map(|name| std::fs::read(fixture("models/bert").join(name)).unwrap())
        .into();
    let (length, rest) = weights.split_first_chunk().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let header = std::str::from_utf8(header).unwrap().replace("\"bert.", "\"_orig_mod.bert.");
    dir.write("w/model.safetensors", &[&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat());
    dir.write("w/config.json", &config);
    dir.run("export w -o x").fails(5).says(&["help: it is there as \"_orig_mod.bert.", "`torch.compile`"]);
    dir.write("t/model.safetensors", &weights);
    dir.write("t/config.json", &config);
    dir.write("t/tokenizer.model", b"x");
    dir.write("text", b"He was late.\n");
    dir.run("verify t --perplexity text").fails(8).says(&["no tokenizer.json or vocab.txt", "writes tokenizer.json"]);
}

#[test]
fn what_is_written_to_standard_output_is_the_output_alone() {
    let dir = model();
    for (command, same) in [
        ("diff base ref --all -o -", "p.lcepatch"),
        ("apply base/model.safetensors p.lcepatch -o -", "ref/model.safetensors"),
        ("diff base ref --all -o - --json", "p.lcepatch"),
    ] {
        let output = dir.command().args(command.split(' ')).output().unwrap();
        assert!(output.status.success() && !output.stderr.is_empty());
        assert_eq!(output.stdout, dir.read(same), "{command}");
    }
}

#[test]
fn swapped_arguments_are_told_the_order() {
    let dir = model();
    let order = |arguments: &str| format!("help: the order is `lcepatch {arguments}");
    dir.run("apply p.lcepatch base -o out")
        .fails(5)
        .says(&["this is a patch, not a ch", &order("apply [OPTIONS] <BASE>")]);
    dir.run("check base p.lcepatch").fails(4).says(&["this is a model directory", &order("check [OPTIONS] <PATCH>")]);
    dir.run("show base/model.safetensors").fails(4).says(&["this is a checkpoint", &order("show [OPTIONS] <PATCH>")]);
    dir.run("diff base p.lcepatch").fails(5).says(&[&order("diff [OPTIONS] <TARGET> <REFERENCE>")]);
    dir.run("mask p.lcepatch").fails(5).says(&[&order("mask [OPTIONS] <CHECKPOINT>")]);
    dir.write("x", b"He was late.\n");
    #[cfg(feature = "verify")]
    for command in ["verify p.lcepatch --perplexity x", "ask p.lcepatch he"] {
        dir.run(command).fails(5).says(&["this is a patch, not a checkpoint", "<MODEL>"]);
    }
}

#[test]
fn the_value_of_an_option_has_no_order() {
    let dir = model();
    let revert = dir.run("revert base --undo ref").fails(6);
    assert!(!revert.err.contains("the order is"), "{revert:?}");
    dir.run("apply base p.lcepatch -o out --undo u").ok();
    dir.run("revert out --undo base").fails(4).says(&["this is a model directory", "help: give an .lcepatch file"]);
    dir.run("revert out --undo p.lcepatch").fails(6).says(&["the log says", "help: give the undo patch of the last"]);
}

#[test]
fn an_onnx_file_is_told_which_commands_take_it() {
    let dir = model();
    dir.write("x.onnx", b"\x08\x08\x12\x07pytorch\x1a\x062.15.0");
    for command in [
        "revert x.onnx",
        "status x.onnx",
        "log x.onnx",
        "mask x.onnx",
        "invert p.lcepatch -o i --base x.onnx",
        "diff base x.onnx",
    ] {
        dir.run(command).fails(5).says(&["x.onnx: this is an ONNX file, not a checkpoint", "help: `lcepatch apply`"]);
    }
    dir.run("invert x.onnx -o i").fails(4).says(&["this is an ONNX file, not a patch"]);
}

#[test]
#[cfg(feature = "net")]
fn what_is_no_path_is_told_apart() {
    let dir = model();
    let offline = |arguments: &str| {
        let mut command = dir.command();
        command.env("HF_HUB_OFFLINE", "1").env("HF_HOME", dir.path("home"));
        Run::new(arguments, command.args(arguments.split_whitespace()).output().unwrap())
    };
    for name in ["google-bert/bert-base-uncased", "https://host/model.safetensors"] {
        for command in [format!("diff {name} base"), format!("show {name}"), format!("apply base {name} -o out")] {
            offline(&command).fails(9).says(&["the network is turned off", "help: unset HF_HUB_OFFLINE"]);
        }
        // What is changed has to be the user's own.
        offline(&format!("apply {name} p.lcepatch --in-place")).fails(6).says(&["is not on this machine", "-o"]);
    }
    for command in ["diff - base", "apply base - -o out"] {
        offline(command).fails(3).says(&["help: only `show` and `check` read standard input"]);
    }
    offline("show -").fails(4).says(&["standard input"]);
    offline("diff base/none ref").fails(3).says(&["help: look at the path", "hf://"]);
    offline("diff none ref").fails(3).says(&["help: there is no such file or folder"]);
    offline("diff gs://bucket/model base").fails(2).says(&["gs://bucket/model", "s3://"]);
    offline("diff http://host/model.safetensors base").fails(2).says(&["plain http", "--allow-http"]);
    assert!(!dir.exists("home"), "nothing is written where nothing is fetched");
}

#[test]
fn a_directory_without_weights_says_what_it_is() {
    let dir = model();
    let weights = dir.read("base/model.safetensors");
    dir.write("bin/pytorch_model.bin", b"PK");
    dir.run("diff base bin").fails(5).says(&["weights in another format (pytorch_model.bin)", "safe_serialization"]);
    dir.write("hub/models--org--name/snapshots/0123/model.safetensors", &weights);
    for path in ["hub", "hub/models--org--name", "hub/models--org--name/snapshots"] {
        let run = dir.run(&format!("diff base {path}")).fails(5);
        run.says(&["a hub's cache", "help: give hub/models--org--name/snapshots/0123"]);
    }
    dir.run("diff base hub/models--org--name/snapshots/0123").ok();
    dir.write("runs/step-1/model.safetensors", &weights);
    dir.run("diff base runs").fails(5).says(&["help: give runs/step-1"]);
}

#[test]
fn an_adapter_is_told_to_be_merged() {
    let dir = model();
    let name = "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight";
    let adapter = |value: f32| safetensors(&[Tensor::f32(name, &[1, 2], &[value, 2.0])]);
    dir.write("lora/adapter_model.safetensors", &adapter(1.0));
    dir.write("lora/adapter_config.json", b"{}");
    for command in ["diff base lora", "diff base lora --common", "diff lora base"] {
        dir.run(command).fails(5).says(&["help: lora holds an adapter (such as LoRA); merge it into its model first"]);
    }
    dir.run("check p.lcepatch lora").fails(1).prints(&["does not fit: it holds an adapter (such as LoRA)"]);
    dir.run("apply lora p.lcepatch -o out").fails(6).says(&["help: this checkpoint holds an adapter", "merge it"]);
    // Two adapters are a pair like any other.
    dir.write("other.safetensors", &adapter(3.0));
    dir.run("diff lora other.safetensors --all -o a.lcepatch").ok();
    dir.run("apply lora a.lcepatch -o out").ok();
    #[cfg(feature = "verify")]
    dir.run("export lora -o x").fails(5).says(&["lora: this is the directory of an adapter", "merge it"]);
}

#[test]
fn shards_are_found_without_an_index_and_missed_with_one() {
    let dir = model();
    let (target, _) = bert_pair();
    write_model(&dir, "s", &target);
    let index = dir.read("s/model.safetensors.index.json");
    std::fs::remove_file(dir.path("s/model.safetensors.index.json")).unwrap();
    dir.run("check p.lcepatch s").ok();
    std::fs::create_dir(dir.path("s/model.safetensors")).unwrap();
    dir.run("check p.lcepatch s").ok();
    std::fs::remove_file(dir.path("s/model-00002-of-00002.safetensors")).unwrap();
    dir.write("s/model.safetensors.index.json", &index);
    let missing = "names 2 shards, of which 1 is not here: model-00002-of-00002.safetensors";
    dir.run("check p.lcepatch s").fails(5).says(&[missing, "help: the download is incomplete"]);
}

#[test]
fn an_index_that_names_what_no_shard_holds_is_an_error_but_for_a_tied_head() {
    let dir = model();
    let index = |name: &str| format!(r#"{{"weight_map":{{"a":"one.safetensors","{name}":"one.safetensors"}}}}"#);
    let tensor = |name: &str| safetensors(&[Tensor::f32(name, &[1], &[1.0])]);
    dir.write("t/one.safetensors", &tensor("a"));
    dir.write("r.safetensors", &tensor("a"));
    let lost = |name: &str| [format!("{name:?} is in \"one.safetensors\", but it is not"), "weight_map".to_owned()];
    let lists = |name: &str| dir.write("t/model.safetensors.index.json", index(name).as_bytes());
    for (name, config) in [
        ("lm_head.weight", ""),
        ("lm_head.weight", r#"{"model_type":"llama","tie_word_embeddings":false}"#),
        ("b", r#"{"model_type":"bert"}"#),
        ("cls.predictions.transform.dense.weight", r#"{"model_type":"bert"}"#),
    ] {
        lists(name);
        dir.write("t/config.json", config.as_bytes());
        dir.run("diff t r.safetensors").fails(5).says(&lost(name).each_ref().map(String::as_str));
    }
    for config in [r#"{"model_type":"llama","tie_word_embeddings":true}"#, r#"{"model_type":"bert"}"#] {
        lists("lm_head.weight");
        dir.write("t/config.json", config.as_bytes());
        let note = "note: t: its index lists \"lm_head.weight\" where it is not; nothing of the model is missing";
        dir.run("diff t r.safetensors").ok().says(&[note]);
    }
    // In another shard it is not lost either.
    dir.write("t/two.safetensors", &tensor("b"));
    dir.write("r.safetensors", &safetensors(&[Tensor::f32("b", &[1], &[2.0]), Tensor::f32("a", &[1], &[2.0])]));
    dir.write("t/model.safetensors.index.json", br#"{"weight_map":{"a":"two.safetensors","b":"one.safetensors"}}"#);
    dir.run("diff t r.safetensors").ok().says(&["lists \"b\" and 1 more where it is not"]);
}

#[test]
fn no_output_takes_the_place_of_what_the_command_reads() {
    let dir = bert_dir();
    dir.run("diff target.safetensors reference.safetensors -o p.lcepatch --all --portable").ok();
    dir.run("diff target.safetensors reference.safetensors -o q.svg --k 100 --portable").ok();
    let before: Vec<Vec<u8>> = dir.names().iter().map(|name| dir.read(name)).collect();
    for command in [
        "apply target.safetensors p.lcepatch -o ./p.lcepatch",
        "apply target.safetensors q.svg -o new --undo q.svg",
        "apply target.safetensors p.lcepatch --in-place --undo target.safetensors",
        "diff target.safetensors reference.safetensors --all -o target.safetensors",
        "diff target.safetensors reference.safetensors --all -o reference.safetensors",
        "mask target.safetensors --sparsity 10% -o target.safetensors",
        "sign p.lcepatch --key q.svg -o q.svg",
        "sign p.lcepatch --key q.svg -o p.lcepatch",
        "invert p.lcepatch -o p.lcepatch",
        "select p.lcepatch --top 10% -o p.lcepatch",
        "squash p.lcepatch q.svg -o q.svg",
        "combine p.lcepatch:0.5 q.svg:2 -o q.svg",
        "compare p.lcepatch q.svg -o q.svg",
        "show q.svg --plot q.svg",
    ] {
        let run = dir.run(&format!("{command} --force"));
        assert!([Some(2), Some(6)].contains(&run.code), "{run:?}");
        let after: Vec<Vec<u8>> = dir.names().iter().map(|name| dir.read(name)).collect();
        assert!(before == after, "{command}");
    }
}

#[test]
#[cfg(unix)]
fn what_is_no_regular_file_is_an_error_at_once() {
    let dir = model();
    assert!(std::process::Command::new("mkfifo").arg(dir.path("pipe")).status().unwrap().success());
    for command in ["show pipe", "check pipe", "check p.lcepatch pipe", "diff pipe base", "apply base pipe -o out"] {
        dir.run(command).fails(3).says(&["it is a named pipe, not a regular file"]);
    }
    // Beside what is written, it is nobody's business.
    dir.run("diff base ref --all -o beside.lcepatch").ok();
    dir.run("diff base /dev/zero").fails(3).says(&["it is a device"]);
}

#[test]
#[cfg(unix)]
fn a_file_that_becomes_shorter_while_it_is_read_is_an_error_and_no_signal() {
    let dir = Dir::new();
    // 256 MiB of zeros that take no room.
    let header = br#"{"a":{"dtype":"F32","shape":[67108864],"data_offsets":[0,268435456]}}"#;
    let front = [&(header.len() as u64).to_le_bytes()[..], header].concat();
    let fresh = |name: &str| {
        let path = dir.write(name, &front);
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_len(front.len() as u64 + (256 << 20)).unwrap();
        file
    };
    fresh("r.safetensors");
    let mut shorter = 0;
    for wait in (1..).map(|turn| Duration::from_millis(20 * turn)) {
        let file = fresh("t.safetensors");
        let mut command = dir.command();
        command.args(["diff", "t.safetensors", "r.safetensors", "--all", "-o", "p"]);
        let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        std::thread::sleep(wait);
        file.set_len(1 << 20).unwrap();
        let run = Run::new("diff", child.wait_with_output().unwrap());
        assert!(run.code.is_some(), "ended by a signal: {run:?}");
        assert_eq!(dir.exists("p"), run.code == Some(0), "{run:?}");
        if run.code == Some(0) {
            break;
        }
        if run.err.contains("became shorter while it was read") {
            run.fails(5).says(&["1048576 bytes now", "help: wait"]);
            shorter += 1;
        } else {
            run.fails(5);
        }
        if shorter == 5 {
            break;
        }
    }
    assert!(shorter > 0, "never in time");
}

/// Another program: writes to a file when the work that it is told about has come so far.
struct Writer {
    path: PathBuf,
    countdown: AtomicU64,
    wrote: AtomicBool,
}

impl Progress for Writer {
    fn begin(&self, _: &str, _: u64) {
        self.advance(0);
    }

    fn count(&self, _: &str, _: u64) {
        self.advance(0);
    }

    fn advance(&self, _: u64) {
        if self.countdown.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) == Ok(1) {
            let file = std::fs::File::options().write(true).open(&self.path).unwrap();
            file.set_modified(SystemTime::now() + Duration::from_secs(self.path.as_os_str().len() as u64)).unwrap();
            self.wrote.store(true, Ordering::SeqCst);
        }
    }
}

fn options(localize: Localize) -> DiffOptions<'static> {
    let mut options = DiffOptions::default();
    options.localize = localize;
    options
}

#[test]
fn nothing_is_made_of_a_file_that_changes_at_any_moment() {
    let dir = bert_dir();
    dir.run("diff target.safetensors reference.safetensors -o full.lcepatch --all").ok();
    dir.run("diff target.safetensors reference.safetensors -o small.lcepatch --k 100").ok();
    dir.run("diff reference.safetensors target.safetensors -o back.lcepatch --all").ok();
    let edit =
        |name: &str| Edit { patch: Patch::open(dir.path(name)).unwrap(), kind: EditKind::Interpolate(Alpha::ONE) };
    let (full, small, back) = (edit("full.lcepatch"), edit("small.lcepatch"), edit("back.lcepatch"));
    let other = Checkpoint::open(dir.path("reference.safetensors")).unwrap();
    let ranked = options(Localize::Value { amount: Size::Amount(Amount::Count(100)), scope: Scope::Global });
    let whole = options(Localize::Full);
    let shard = Shard::new(1, 2).unwrap();
    type Verb<'a> = (&'static str, Box<dyn Fn(&Checkpoint, &Context<'_>) -> Result<(), Error> + 'a>);
    let verbs: [Verb<'_>; 11] = [
        ("diff", Box::new(|base, context| diff(base, &other, &ranked, context).map(drop))),
        ("diff, as the reference", Box::new(|base, context| diff(&other, base, &whole, context).map(drop))),
        ("rank", Box::new(|base, context| rank(base, &other, &ranked, shard, None, context).map(drop))),
        ("find", Box::new(|base, context| find(&other, base, &whole, shard, None, &[], context).map(drop))),
        ("check", Box::new(|base, context| true_of(&small.patch, (base, None), Check::Full, context))),
        ("invert", Box::new(|base, context| invert(&full, Some(base), context).map(drop))),
        ("squash", Box::new(|base, context| squash(&full, &back, Some(base), context).map(drop))),
        (
            "combine",
            Box::new(|base, context| {
                combine(&[edit("small.lcepatch"), edit("small.lcepatch")], Signs::Sum, Some(base), context).map(drop)
            }),
        ),
        (
            "select",
            Box::new(|base, context| {
                select(&small, &Filter::default(), Some(Amount::Count(10)), Some(base), context).map(drop)
            }),
        ),
        ("compare", Box::new(|base, context| compare(&small, &full, Some(base), context).map(drop))),
        (
            "mask",
            Box::new(|base, context| {
                let weights: Vec<_> = base.tensors().collect();
                let mask = PruningMask::zeros(weights.iter().copied());
                Ok(write_mask(&mask, &weights, &[base], &dir.path("mask"), Existing::Replace, context)?)
            }),
        ),
    ];
    for (verb, made) in verbs {
        let mut moments = 0;
        for moment in 1.. {
            let base = Checkpoint::open(dir.path("target.safetensors")).unwrap();
            let (path, wrote) = (dir.path("target.safetensors"), AtomicBool::new(false));
            let writer = Writer { path, countdown: moment.into(), wrote };
            let made = made(&base, &Context::new(&writer, &AtomicBool::new(false)));
            if !writer.wrote.into_inner() {
                made.unwrap_or_else(|error| panic!("{verb}: {error}"));
                break;
            }
            assert_eq!(made.map_err(|error| error.code()), Err("checkpoint.changed"), "{verb}, moment {moment}");
            moments += 1;
        }
        assert!(moments > 0, "{verb}");
    }
}

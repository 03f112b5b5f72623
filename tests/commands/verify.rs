//! `lcepatch verify` and `export`.

use crate::support::*;
use serde_json::Value;
use std::path::Path;

fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name).to_str().unwrap().to_owned()
}

/// A trained model, and a patch of a tenth of its weights towards its counterpart.
fn patched() -> (Dir, String) {
    let dir = Dir::new();
    let [target, reference] = ["target", "reference"].map(|side| fixture(&format!("imp/{side}/pruned")));
    dir.run(&format!("diff {target} {reference} -o p --density 10% --mask-from none --portable")).ok();
    dir.write("text", b"the nurse said that she was late .\n\nhe is an engineer , and she is a doctor .\nwe asked her about science .\n");
    (dir, target)
}

#[test]
fn a_model_is_measured_at_each_alpha_and_nothing_is_written_to_it() {
    let (dir, model) = patched();
    let before = std::fs::read(Path::new(&model).join("model.safetensors")).unwrap();
    let line = format!("verify {model} --patch p --alpha -2,0,0.5,1 --weat 8 --perplexity text --kl");
    let json = dir.run_model(&format!("{line} --json --items --plot sweep.svg")).ok().json();
    let rows = json["rows"].as_array().unwrap();
    let cases: Vec<&str> = rows.iter().map(|row| row["case"].as_str().unwrap()).collect();
    assert_eq!(cases, ["unedited", "alpha -2", "alpha 0.5", "alpha 1"], "alpha 0 is the unedited model");
    let measures: Vec<&str> =
        rows[0]["measures"].as_array().unwrap().iter().map(|outcome| outcome["measure"].as_str().unwrap()).collect();
    assert_eq!(measures, ["weat8", "ppl.mlm", "kl"]);
    assert!(String::from_utf8(dir.read("sweep.svg")).unwrap().contains("ppl.mlm"));
    dir.run_model(&line).ok().prints(&["alpha 0.5", "weat8 d", "ddof", "1 left out: empty lines"]);
    assert_eq!(std::fs::read(Path::new(&model).join("model.safetensors")).unwrap(), before);
}

#[test]
fn an_edit_is_measured_as_apply_would_write_it() {
    let (dir, model) = patched();
    for edit in ["--alpha -2", "--alpha 1", "--edit pr"] {
        dir.run(&format!("apply {model} p {edit} -o edited --no-log")).ok();
        let measures = "--weat 6,8 --weat-encoding wordpiece --perplexity text --ppl mlm,pseudo --json";
        let edited = dir.run_model(&format!("verify edited {measures}")).ok().json();
        let swept = dir.run_model(&format!("verify {model} --patch p {edit} {measures}")).ok().json();
        let values = |row: &serde_json::Value| {
            let measures = row["measures"].as_array().unwrap().iter();
            let scores = measures.flat_map(|measure| measure["scores"].as_array().unwrap());
            scores.map(|score| score["value"].as_f64().unwrap().to_bits()).collect::<Vec<u64>>()
        };
        assert!(values(&edited["rows"][0]).len() > 4);
        assert_eq!(values(&swept["rows"][1]), values(&edited["rows"][0]), "{edit}");
        assert_ne!(values(&swept["rows"][0]), values(&edited["rows"][0]), "{edit}");
        std::fs::remove_dir_all(dir.path("edited")).unwrap();
    }
}

#[test]
fn results_are_recorded_in_the_patch_and_leave_it_whole() {
    let (dir, model) = patched();
    let id = |dir: &Dir| dir.run("show p --json").ok().json()["stat"]["id"].as_str().unwrap().to_owned();
    let before = id(&dir);
    dir.run(&format!("apply {model} p -o edited --no-log")).ok();
    dir.run_model(&format!("verify {model} --patch p --alpha -2,1 --weat 8 --record")).ok();
    assert_ne!(id(&dir), before);
    dir.run(&format!("check p {model}")).ok();
    dir.run("show p").ok().prints(&["weat8", "alpha -2"]);
    dir.run(&format!("apply {model} p -o again --no-log")).ok().prints(&["declares"]);
    assert_eq!(dir.read("again/model.safetensors"), dir.read("edited/model.safetensors"));
}

#[test]
fn a_condition_that_comes_true_is_a_no() {
    let (dir, model) = patched();
    let line = format!("verify {model} --patch p --alpha 1 --weat 8 --perplexity text");
    dir.run_model(&format!("{line} --fail-if ppl.mlm>+10000% --fail-if |weat8|>3")).ok();
    dir.run_model(&format!("{line} --fail-if ppl.mlm>1")).fails(1).says(&["alpha 1", "ppl.mlm"]);
    dir.run_model(&format!("{line} --fail-if crows.diff>60")).fails(2).says(&["is not measured", "weat8"]);
    dir.run_model(&format!("{line} --fail-if weat8")).fails(2).says(&["is not a condition"]);
    dir.run_model(&format!("verify {model} --weat 8 --fail-if |weat8|>0.000001")).fails(1).says(&["unedited"]);
}

#[test]
fn what_cannot_be_measured_is_said() {
    let (dir, model) = patched();
    let gpt2 = fixture("models/gpt2");
    let refused = |line: &str, code: i32, says: &[&str]| {
        dir.run_model(&format!("verify {line}")).fails(code).says(says);
    };
    refused(&model, 2, &["nothing to measure", "--weat"]);
    refused(&format!("{model} --weat 99"), 2, &["no such list", "6b"]);
    refused(&format!("{model} --crows-pairs absent.csv"), 3, &["absent.csv"]);
    dir.write("pairs.csv", b"sent_more,sent_less\na,b\n");
    refused(&format!("{model} --crows-pairs pairs.csv"), 5, &["pairs.csv", "stereo_antistereo"]);
    dir.write("set.json", b"{\"data\": 1}");
    refused(&format!("{model} --stereoset set.json"), 5, &["set.json"]);
    dir.write("latin1", b"caf\xe9\n");
    refused(&format!("{model} --perplexity latin1"), 5, &["line 1", "UTF-8"]);
    refused(&format!("{gpt2} --perplexity text --ppl mlm"), 6, &["masked language model", "causal"]);
    refused(&format!("{model} --perplexity text --ppl causal"), 6, &["causal language model", "masked"]);
    refused(&format!("{} --perplexity text", fixture("models/bert-sharded")), 0, &[]);
    refused(&format!("{model} --patch p --alpha x --weat 8"), 2, &["not a number"]);
    refused(&format!("{model} --alpha 1 --weat 8"), 2, &["--patch"]);
    refused(&format!("{} --patch p --weat 8", fixture("models/bert")), 6, &["does not fit this base"]);
    refused("text --weat 8", 2, &["text is a file", "give the model directory"]);
}

#[test]
fn a_directory_that_is_no_model_is_said() {
    let dir = Dir::new();
    let source = fixture("models/bert");
    let with = |name: &str, change: &dyn Fn(&Path)| {
        let model = dir.path(name);
        std::fs::create_dir(&model).unwrap();
        for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
            std::fs::copy(Path::new(&source).join(file), model.join(file)).unwrap();
        }
        change(&model);
        dir.run_model(&format!("verify {name} --weat 8"))
    };
    let config = |model: &Path, from: &str, to: &str| {
        let path = model.join("config.json");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    };
    with("whole", &|_| {}).ok();
    with("no-config", &|model| std::fs::remove_file(model.join("config.json")).unwrap())
        .fails(8)
        .says(&["there is no config.json"]);
    with("no-tokenizer", &|model| std::fs::remove_file(model.join("tokenizer.json")).unwrap())
        .fails(8)
        .says(&["tokenizer.json or vocab.txt"]);
    with("mamba", &|model| config(model, "\"model_type\": \"bert\"", "\"model_type\": \"mamba\"")).fails(6).says(&[
        "\"mamba\" is not supported",
        "distilbert",
        "--onnx",
    ]);
    with("wider", &|model| config(model, "\"hidden_size\": 16", "\"hidden_size\": 32"))
        .fails(5)
        .says(&["the configuration asks for", "32]"]);
    with("small-vocabulary", &|model| config(model, "\"vocab_size\": 83", "\"vocab_size\": 60")).fails(5).says(&["60"]);
    with("broken", &|model| std::fs::write(model.join("config.json"), "{").unwrap()).fails(5).says(&["config.json"]);
    with("broken-tokenizer", &|model| std::fs::write(model.join("tokenizer.json"), "{}").unwrap())
        .fails(5)
        .says(&["tokenizer.json"]);
}

#[test]
fn what_a_graph_does_not_understand_is_refused_or_noted() {
    let dir = Dir::new();
    let with = |name: &str, source: &str, from: &str, to: &str| {
        let (source, model) = (fixture(source), dir.path(name));
        std::fs::create_dir(&model).unwrap();
        for file in std::fs::read_dir(&source).unwrap().map(|file| file.unwrap()) {
            std::fs::copy(file.path(), model.join(file.file_name())).unwrap();
        }
        let text = std::fs::read_to_string(model.join("config.json")).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(model.join("config.json"), text.replace(from, to)).unwrap();
        dir.run_model(&format!("verify {name} --weat 8"))
    };
    let bert = |name: &str, to: &str| {
        with(name, "models/bert", "\"model_type\": \"bert\"", &format!("\"model_type\": \"bert\", {to}"))
    };
    bert("decoder", "\"is_decoder \": true").ok().says(&["note: config.json has the key \"is_decoder \""]);
    with("causal", "models/bert", "\"is_decoder\": false", "\"is_decoder\": true")
        .fails(6)
        .says(&["is_decoder to true"]);
    bert("fp8", "\"quantization_config\": {\"quant_method\": \"fp8\"}")
        .fails(6)
        .says(&["quantization_config", "--onnx"]);
    bert("code", "\"auto_map\": {\"AutoModel\": \"m.Own\"}").fails(6).says(&["auto_map to m.Own"]);
    with("own", "models/bert", "BertForMaskedLM", "OwnBert").fails(6).says(&["architectures to OwnBert"]);
    with("classifier", "models/bert", "BertForMaskedLM", "BertForSequenceClassification")
        .ok()
        .says(&["note: the model was saved as BertForSequenceClassification", "is not measured"]);
    // Queries and keys are normalized in the one, and not in the other.
    with("other", "models/qwen3", "\"model_type\": \"qwen3\"", "\"model_type\": \"llama\"")
        .fails(6)
        .says(&["Qwen3ForCausalLM"]);
    let path = dir.path("other/config.json");
    let text = std::fs::read_to_string(&path).unwrap().replace("Qwen3ForCausalLM", "LlamaForCausalLM");
    std::fs::write(&path, text).unwrap();
    dir.run_model("verify other --weat 8").fails(6).says(&[
        "k_norm.weight\" and 3 more",
        "q_norm.weight",
        "does not use",
    ]);
}

/// Copies a fixture to `name` with some tensors left out, and one more if it has a name.
fn with_tensors(dir: &Dir, name: &str, source: &str, keep: impl Fn(&str) -> bool, one_more: Option<&str>) {
    let source = fixture(source);
    std::fs::create_dir(dir.path(name)).unwrap();
    for file in std::fs::read_dir(&source).unwrap().map(|file| file.unwrap()) {
        std::fs::copy(file.path(), dir.path(name).join(file.file_name())).unwrap();
    }
    let file = std::fs::read(Path::new(&source).join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&file).unwrap();
    let mut tensors: Vec<_> = file.tensors().into_iter().filter(|(name, _)| keep(name)).collect();
    let one = 1f32.to_le_bytes();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &one).unwrap();
    tensors.extend(one_more.map(|name| (name.to_owned(), view)));
    dir.write(&format!("{name}/model.safetensors"), &safetensors::serialize(tensors, None).unwrap());
}

#[test]
fn a_head_is_the_table_of_embeddings_only_if_they_are_tied() {
    let dir = Dir::new();
    dir.write("text", b"the nurse said that she was late.\n");
    let without = |name: &str, source: &str, head: &'static str| {
        with_tensors(&dir, name, source, |tensor| !tensor.starts_with(head), None);
        dir.run_model(&format!("verify {name} --perplexity text"))
    };
    // The configuration of the one says that they are not tied, and that of the other that they are.
    without("untied", "models/llama", "lm_head.").fails(6).says(&["encoder"]);
    without("tied", "models/qwen2", "lm_head.").ok();
    without("headless", "models/bert", "cls.").fails(6).says(&["encoder"]);
}

#[test]
fn tensors_that_are_not_used_are_refused_in_what_is_computed_and_noted_beside_it() {
    let dir = Dir::new();
    let with = |name: &str, tensor: &str| {
        with_tensors(&dir, name, "models/bert", |_| true, Some(tensor));
        dir.run_model(&format!("verify {name} --weat 8"))
    };
    with("head", "classifier.bias")
        .ok()
        .says(&["note: the weights have the tensor \"classifier.bias\", which is not used"]);
    with("scale", "bert.encoder.layer.0.output.dense.weight_scale").fails(6).says(&["weight_scale", "--onnx"]);
    with("adapter", "bert.adapter.weight")
        .fails(6)
        .says(&["\"bert.adapter.weight\", which a model of type \"bert\" does not use"]);
    with("constant", "bert.embeddings.position_ids").ok();
}

#[test]
fn an_export_is_a_graph_beside_its_weights() {
    let dir = Dir::new();
    let source = fixture("models/bert");
    dir.run(&format!("export {source} -o out")).ok().prints(&["model.onnx"]);
    assert_eq!(dir.read("out/model.safetensors"), std::fs::read(Path::new(&source).join("model.safetensors")).unwrap());
    assert!(dir.read("out/model.onnx").len() < 60_000, "weights stay where they are");
    dir.run(&format!("export {source} -o out")).fails(2).says(&["out exists"]);
    dir.run("export out -o out").fails(2).says(&["model.onnx exists"]);
    dir.run("export out -o out --force").ok();
    dir.run(&format!("export {source}/config.json -o x")).fails(5).says(&["this is a JSON file"]);
    assert!(!dir.exists("x"));
}

#[test]
fn arguments_are_checked_before_the_runtime_is_looked_for() {
    let (dir, model) = patched();
    let without_runtime = |line: &str| {
        let mut command = dir.command();
        command.env("ORT_DYLIB_PATH", dir.path("absent.so"));
        Run::new(line, command.args(line.split_whitespace()).output().unwrap())
    };
    without_runtime(&format!("verify {model}")).fails(2).says(&["nothing to measure"]);
    without_runtime(&format!("verify {model} --weat 99")).fails(2).says(&["no such list"]);
    for flag in ["--crows-pairs", "--stereoset", "--perplexity", "--seat"] {
        without_runtime(&format!("verify {model} {flag} absent")).fails(3).says(&["absent"]);
        without_runtime(&format!("sweep {model} {model} -o s {flag} absent")).fails(3).says(&["absent"]);
    }
    without_runtime(&format!("verify {model} --patch absent --weat 8")).fails(3).says(&["absent"]);
    without_runtime(&format!("sweep {model} {model} -o s")).fails(2).says(&["nothing to measure"]);
    without_runtime(&format!("verify {model} --weat 8")).fails(8).says(&["absent.so"]);
}

#[test]
fn a_recommended_alpha_is_measured_beside_1() {
    let (dir, model) = patched();
    let reference = fixture("imp/reference/pruned");
    dir.run(&format!("diff {model} {reference} -o q --density 2% --recommended-alpha -2")).ok();
    let report = dir.run_model(&format!("verify {model} --patch q --weat 8 --json")).ok().json();
    let cases: Vec<&str> = report["rows"].as_array().unwrap().iter().map(|row| row["case"].as_str().unwrap()).collect();
    assert_eq!(cases, ["unedited", "alpha -2", "alpha 1"]);
    assert_eq!(report["patches"][0]["recommended_alpha"], -2.0);
    dir.run_model(&format!("verify {model} --patch p --patch q --weat 8")).fails(2).says(&["alpha -2", "--alpha"]);
}

#[test]
fn measures_have_different_names() {
    let dir = Dir::new();
    let choices = std::fs::read(fixture("measures/choices.jsonl")).unwrap();
    for name in ["one/x.jsonl", "two/x.jsonl"] {
        dir.write(name, &choices);
    }
    let line = format!("verify {} --choices one/x.jsonl,two/x.jsonl", fixture("models/gpt2"));
    dir.run_model(&line).fails(2).says(&["would both be called choice.x"]);
    let line = format!("verify {} --choices one/x.jsonl", fixture("models/gpt2"));
    dir.run_model(&format!("{line} --expect choice.x<0 --expect choice.x>0")).fails(2).says(&["stated twice"]);
}

/// The sums of log-probabilities, and the accuracies, are those of lm-evaluation-harness (`tests/reference/choices.py`).
#[test]
fn choices_are_scored_as_by_lm_evaluation_harness() {
    let dir = Dir::new();
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");
    let expected: Value =
        serde_json::from_slice(&std::fs::read(format!("{fixtures}/measures/choices.json")).unwrap()).unwrap();
    for (model, expected) in expected.as_object().unwrap() {
        let line =
            format!("verify {fixtures}/models/{model} --choices {fixtures}/measures/choices.jsonl --json --items");
        let mut row = dir.run_model(&line).ok().json()["rows"][0].take();
        let (found, task) = (row["measures"][0].take(), row["lm_eval"]["results"]["choices"].take());
        for (name, at) in [("acc", 0), ("acc_norm", 1)] {
            assert_eq!(found["scores"][at]["name"], name);
            let [found, expected] =
                [&found["scores"][at]["value"], &expected[name]].map(|value| value.as_f64().unwrap());
            assert!((found - expected).abs() < 1e-9, "{model} {name}: {found} {expected}");
            assert_eq!(task[format!("{name},none")], found / 100.0);
        }
        let sums = |value: &Value| -> Vec<f64> {
            value
                .as_array()
                .unwrap()
                .iter()
                .flat_map(|item| item.as_array().unwrap())
                .map(|sum| sum.as_f64().unwrap())
                .collect()
        };
        let (found, expected) = (sums(&found["items"]["scores"]), sums(&expected["sums"]));
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 2e-5 * expected.abs(), "{model}: {found} {expected}");
        }
    }
}

/// What a model writes after prompts is what `generate` of transformers writes (`tests/reference/continuations.py`).
#[test]
fn prompts_are_continued_as_by_transformers() {
    let dir = Dir::new();
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");
    let expected = std::fs::read(format!("{fixtures}/measures/continuations.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    for (model, texts) in expected["models"].as_object().unwrap() {
        let prompts = format!("--prompts {fixtures}/measures/prompts.txt --prompt-tokens {}", expected["tokens"]);
        let line = format!("verify {fixtures}/models/{model} {prompts}");
        let found = dir.run_model(&format!("{line} --json")).ok().json();
        assert_eq!(&found["rows"][0]["continuations"], texts, "{model}");
        assert_eq!(found["prompts"][0], "The nurse said that");
        dir.run_model(&line).ok().prints(&["prompt: The nurse said that", texts[0].as_str().unwrap()]);
    }
    let masked = format!("verify {fixtures}/models/bert --prompts {fixtures}/measures/prompts.txt");
    dir.run_model(&masked).fails(6).says(&["a continuation needs a causal language model"]);
}

//! `verify --onnx` and `apply MODEL.onnx`: a user's own export, whose weights are found by content.

use crate::support::*;
use lcepatch::checkpoint::Checkpoint;
use lcepatch::context::Context;
use lcepatch_onnx::message::{DataLocation, DataType, ModelProto, StringStringEntryProto};
use lcepatch_onnx::{OnnxFile, bind};
use prost::Message;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn words(dir: &Dir) {
    dir.write("text", b"the nurse said that she was late .\nhe is an engineer , and she is a doctor .\nwe asked .\n");
    let pairs = [
        ("she is a nurse .", "he is a nurse .", "stereo"),
        ("he is an engineer .", "she is an engineer .", "stereo"),
        ("the man was late .", "the woman was late .", "antistereo"),
        ("we asked her about science .", "we asked him about science .", "antistereo"),
    ];
    let rows = pairs.iter().enumerate().map(|(at, (more, less, direction))| {
        format!("{at},{more},{less},{direction},gender,[],anon,[]\n").replace(" ,", "")
    });
    let header =
        ",sent_more,sent_less,stereo_antistereo,bias_type,annotations,anon_writer,anon_annotators\n".to_owned();
    dir.write("pairs.csv", rows.fold(header, |csv, row| csv + &row).as_bytes());
}

/// Expects the same measures, items and decisions, and numbers that are as near as two graphs can be.
#[track_caller]
fn agree(ours: &Value, theirs: &Value, at: &str) -> usize {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            assert!(ours.keys().eq(theirs.keys()), "{at}");
            let inner = ours.iter().filter(|(key, _)| *key != "seconds");
            inner.map(|(key, value)| agree(value, &theirs[key], &format!("{at}.{key}"))).sum()
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            assert_eq!(ours.len(), theirs.len(), "{at}");
            ours.iter().zip(theirs).map(|(ours, theirs)| agree(ours, theirs, at)).sum()
        }
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            assert!((a - b).abs() <= 1e-4 * a.abs().max(1.0), "{at}: {a}, {b}");
            1
        }
        _ => {
            assert_eq!(ours, theirs, "{at}");
            0
        }
    }
}

#[test]
fn our_own_export_measures_as_the_model_itself() {
    let dir = Dir::new();
    words(&dir);
    let [target, reference] =
        ["target", "reference"].map(|side| fixture(&format!("imp/{side}/pruned")).to_str().unwrap().to_owned());
    dir.run(&format!("diff {target} {reference} -o p --density 10% --mask-from none")).ok();
    dir.run(&format!("export {target} -o export")).ok();
    let measures = "--weat 6,8 --perplexity text --ppl mlm,pseudo --crows-pairs pairs.csv --kl";
    let line = format!("verify {target} --patch p --alpha -2,1 {measures} --json --items");
    let ours = dir.run_model(&line).ok().json();
    let run = dir.run_model(&format!("{line} --onnx export/model.onnx")).ok();
    let theirs = run.json();
    assert_eq!(theirs["model"]["onnx"], "export/model.onnx");
    assert!(agree(&ours["rows"], &theirs["rows"], "rows") > 200);
    assert!(!run.err.contains("note"), "{run:?}");
    // It has no hidden states but the last.
    dir.run_model(&format!("verify {target} --onnx export/model.onnx --weat 8 --weat-encoding wordpiece"))
        .fails(6)
        .says(&["no output hidden_states.0", "every layer"]);
    // The export of another model: its weights are not the checkpoint's.
    let other = format!("verify {reference} --onnx export/model.onnx --weat 8");
    dir.run_model(&other).ok().says(&["note: ", "of the export in no tensor of the checkpoint", " more"]);
    dir.run(&format!("diff {reference} {target} -o back --density 10% --mask-from none")).ok();
    dir.run_model(&format!("{other} --patch back")).fails(6).says(&["no initializer", "attention", "--exclude"]);
}

/// An export by PyTorch and the checkpoint that it is of, in the directory `model`; `p` leads to a checkpoint of which the
/// matrices and a bias are others, and `bias` to one of which only a bias that is all zeros is.
fn exported() -> Dir {
    let dir = Dir::new();
    let mut random = Random::new(11);
    dir.write("model/model.onnx", &std::fs::read(fixture("onnx/model.onnx")).unwrap());
    let weights = std::fs::read(fixture("onnx/model.safetensors")).unwrap();
    dir.write("model/model.safetensors", &weights);
    let tensors: Vec<Tensor> = {
        let file = safetensors::SafeTensors::deserialize(&weights).unwrap();
        let tensor = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
            let shape: Vec<u64> = view.shape().iter().map(|dim| *dim as u64).collect();
            Tensor::new(&name, "F32", &shape, view.data().to_vec())
        };
        file.tensors().into_iter().map(tensor).collect()
    };
    let mut moved = |wanted: &dyn Fn(&Tensor) -> bool| {
        let tensors = tensors.iter().map(|tensor| match wanted(tensor) {
            true => Tensor::f32(
                &tensor.name,
                &tensor.shape,
                &f32s(tensor).into_iter().map(|value| value + random.unit()).collect::<Vec<f32>>(),
            ),
            false => tensor.clone(),
        });
        safetensors(&tensors.collect::<Vec<_>>())
    };
    let query = "layer.0.attention.self.query.bias";
    dir.write("reference", &moved(&|tensor| tensor.shape.len() == 2 || tensor.name.ends_with(query)));
    dir.write("biased", &moved(&|tensor| tensor.name.ends_with("layer.1.attention.self.query.bias")));
    dir.run("diff model reference -o p --density 30% --params all").ok();
    dir.run("diff model biased -o bias --all").ok();
    dir
}

/// Rewrites the export `model/model.onnx` as `external/model.onnx`, whose weights are in two files.
fn externalize(dir: &Dir) {
    let mut model = ModelProto::decode(&dir.read("model/model.onnx")[..]).unwrap();
    let mut files = [Vec::new(), vec![7; 5]];
    let locations = ["weights.bin", "more/weights.bin"];
    for (at, tensor) in model.graph.as_mut().unwrap().initializer.iter_mut().enumerate() {
        if tensor.data_type != DataType::Float as i32 || tensor.dims.is_empty() {
            continue;
        }
        let raw = tensor.raw_data.take().unwrap();
        let entry = |key: &str, value: String| StringStringEntryProto { key: key.to_owned(), value };
        let (file, offset) = (locations[at % 2].to_owned(), files[at % 2].len().to_string());
        tensor.external_data = vec![entry("location", file), entry("offset", offset)];
        tensor.data_location = DataLocation::External as i32;
        files[at % 2].extend_from_slice(&raw);
    }
    dir.write("external/model.onnx", &model.encode_to_vec());
    locations.iter().zip(&files).for_each(|(name, bytes)| {
        dir.write(&format!("external/{name}"), bytes);
    });
}

/// Expects that every weight of an export is a tensor of a checkpoint, the same one as before.
#[track_caller]
fn is_export_of(dir: &Dir, onnx: &str, checkpoint: &str) {
    let bound = |onnx: &str, checkpoint: &str| {
        let file = OnnxFile::open(&dir.path(onnx)).unwrap();
        let checkpoint = Checkpoint::open(dir.path(checkpoint)).unwrap();
        bind(&file, &checkpoint, &Context::silent()).unwrap()
    };
    assert_eq!(bound(onnx, checkpoint), bound("model/model.onnx", "model/model.safetensors"));
    let frame = |onnx: &str| {
        let mut model = ModelProto::decode(&dir.read(onnx)[..]).unwrap();
        for tensor in &mut model.graph.as_mut().unwrap().initializer {
            (tensor.raw_data, tensor.external_data, tensor.data_location) = (None, Vec::new(), 0);
        }
        model
    };
    assert_eq!(frame(onnx), frame("model/model.onnx"));
}

#[test]
fn an_export_is_edited_as_its_checkpoint_is() {
    let dir = exported();
    externalize(&dir);
    std::fs::create_dir(dir.path("out")).unwrap();
    for alpha in ["1", "-2"] {
        let says: &[&str] = if alpha == "1" { &["weights edited in", "declares"] } else { &["weights edited in"] };
        dir.run(&format!("apply model/model.safetensors p --alpha {alpha} -o r --force")).ok();
        for base in ["model", "external"] {
            dir.run(&format!("apply {base}/model.onnx p --alpha {alpha} -o out/e.onnx --force")).ok().prints(says);
            is_export_of(&dir, "out/e.onnx", "r");
        }
    }
    assert_eq!(names(&dir.path("out")), ["e.onnx", "more", "weights.bin"]);
    dir.run("apply external/model.onnx p --alpha 0 -o out/same.onnx --force").fails(2).says(&["weights.bin"]);
    dir.run("apply external/model.onnx p --alpha 0 -o same/same.onnx").ok();
    for (result, base) in
        [("same.onnx", "model.onnx"), ("weights.bin", "weights.bin"), ("more/weights.bin", "more/weights.bin")]
    {
        assert_eq!(dir.read(&format!("same/{result}")), dir.read(&format!("external/{base}")));
    }
    dir.run("check p external/model.onnx").ok().prints(&["fits"]);
}

#[test]
fn what_does_not_fit_an_export_is_refused() {
    let dir = exported();
    externalize(&dir);
    dir.run("diff reference model -o back --density 30% --params all").ok();
    dir.run("apply model/model.onnx back -o e.onnx").fails(6).says(&[
        "does not fit this base",
        "bert.embeddings.word_embeddings.weight: no initializer",
        "same dtype",
    ]);
    dir.run("check back model/model.onnx").fails(1).prints(&["does not fit", "no initializer"]);
    // PyTorch writes the seven zero biases of layer 1 once; the patch is about one of them.
    dir.run("apply model/model.onnx bias -o e.onnx").fails(6).says(&["elements are all equal"]);
    dir.run("apply external/model.onnx p -o external/e.onnx").fails(6).says(&["weights.bin holds the base itself"]);
    dir.run("apply model/model.onnx p -o model/model.onnx --force").fails(6).says(&["another name"]);
    let whole = dir.read("model/model.onnx");
    dir.write("cut.onnx", &whole[..whole.len() / 2]);
    dir.run("apply cut.onnx p -o e.onnx").fails(5).says(&["not an ONNX model"]);
    dir.run("apply absent.onnx p -o e.onnx").fails(3);
    for flag in ["--undo u -o e.onnx", "--in-place", "--allow-different-base -o e.onnx"] {
        dir.run(&format!("apply model/model.onnx p {flag}")).fails(2).says(&["does not go with an ONNX file"]);
    }
    assert!(!dir.exists("e.onnx") && !dir.exists("u") && !dir.exists("external/e.onnx"));
    assert_eq!(dir.read("model/model.onnx"), whole);
}

#[test]
fn an_export_by_pytorch_measures_as_the_model_itself() {
    let dir = exported();
    let letters = ('a'..='z').flat_map(|letter| [letter.to_string(), format!("##{letter}")]);
    let words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "she", "he", "said", "."].map(str::to_owned);
    let vocabulary: Vec<String> = words.into_iter().chain(letters).collect();
    assert_eq!(vocabulary.len(), 61);
    dir.write("model/vocab.txt", (vocabulary.join("\n") + "\n").as_bytes());
    let mut config = serde_json::json!({
        "model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 61, "hidden_size": 16,
        "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 20,
        "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "pad_token_id": 0,
    });
    dir.write("model/config.json", config.to_string().as_bytes());
    dir.write("text", b"she said a word .\nhe said that .\nshe and he .\n");
    let header = ",sent_more,sent_less,stereo_antistereo,bias_type\n";
    let pairs = "0,she said no .,he said no .,stereo,gender\n1,he is it .,she is it .,antistereo,gender\n";
    dir.write("pairs.csv", [header, pairs].concat().as_bytes());
    let line = "verify model --patch p --alpha -2,0.5 --perplexity text --ppl mlm,pseudo --crows-pairs pairs.csv --kl --json --items";
    let ours = dir.run_model(line).ok().json();
    // Of an unsupported architecture, only an export can be measured.
    config["model_type"] = "mystery".into();
    dir.write("model/config.json", config.to_string().as_bytes());
    dir.run_model(line).fails(6).says(&["\"mystery\" is not supported", "--onnx"]);
    let theirs = dir.run_model(&format!("{line} --onnx model/model.onnx")).ok().json();
    assert!(agree(&ours["rows"], &theirs["rows"], "rows") > 100);
    let refused = |line: &str, says: &[&str]| {
        dir.run_model(&format!("verify model --onnx model/model.onnx {line}")).fails(6).says(says);
    };
    refused("--weat 8", &["no output last_hidden_state", "last layer"]);
    refused("--perplexity text --patch bias", &["changes them differently", "query.bias"]);
}

#[test]
#[cfg(feature = "verify")]
fn weights_beside_a_new_onnx_file_are_never_replaced() {
    let dir = Dir::new();
    let [target, reference] =
        ["target", "reference"].map(|side| fixture(&format!("imp/{side}/pruned")).to_str().unwrap().to_owned());
    dir.run(&format!("diff {target} {reference} -o p --density 10% --mask-from none")).ok();
    dir.run(&format!("export {target} -o export")).ok();
    dir.write("other/model.safetensors", b"another model's");
    dir.run("apply export/model.onnx p -o other/x.onnx --force").fails(2).says(&["other/model.safetensors"]);
    assert_eq!(dir.read("other/model.safetensors"), b"another model's");
    let run = dir.run("apply export/model.onnx p -o new/x.onnx").ok();
    assert!(run.out.contains("wrote new/model.safetensors: its weights"), "{run:?}");
    // An earlier result is replaced, with its weights.
    let json = dir.run("apply export/model.onnx p -o new/x.onnx --force --json").ok().json();
    assert_eq!(json["external_weights"], serde_json::json!(["new/model.safetensors"]));
    let json = dir.run(&format!("apply {target} p -o edited --json")).ok().json();
    assert_eq!(json["external_weights"], serde_json::json!([]));
}

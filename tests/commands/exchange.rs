//! `lcepatch export` and `import`: other tools' formats. What these tools make of them is in `tests/neighbours.rs`.

use crate::support::*;
use serde_json::{Value, json};

const QUERY: &str = "bert.encoder.layer.0.attention.self.query";

/// The small BERT, and a patch `p` of some of its linear weights.
fn patched() -> Dir {
    let dir = bert_dir();
    dir.run("diff target.safetensors reference.safetensors -o all --density 10% --params all").ok();
    dir.run("select all --include *.weight --exclude *embeddings* -o p").ok();
    dir
}

/// The tensors of the adapter in a directory, by name.
fn adapter(dir: &Dir, name: &str) -> Vec<(String, Vec<u8>)> {
    read_safetensors(&dir.read(&format!("{name}/adapter_model.safetensors")))
}

/// The file of weights of an adapter of one module.
fn weights(indices: &[i32], deltas: &[f32]) -> Vec<u8> {
    let places = indices.iter().flat_map(|index| index.to_le_bytes()).collect();
    let name = |end: &str| format!("base_model.model.{QUERY}.shira_{end}");
    safetensors(&[
        Tensor::new(&name("indices"), "I32", &[2, indices.len() as u64 / 2], places),
        Tensor::f32(&name("weight"), &[deltas.len() as u64], deltas),
    ])
}

fn config() -> Value {
    json!({ "peft_type": "SHIRA", "r": 1, "target_modules": ["query"] })
}

/// 32 places of the 16 x 16 matrix, and what is added there.
fn honest() -> ([i32; 64], [f32; 32]) {
    (std::array::from_fn(|at| if at < 32 { at as i32 / 2 } else { at as i32 % 2 * 5 }), [0.5; 32])
}

fn import(dir: &Dir, config: &Value, weights: &[u8]) -> Run {
    dir.write("in/adapter_config.json", config.to_string().as_bytes());
    dir.write("in/adapter_model.safetensors", weights);
    dir.run("import in --from shira --base target.safetensors -o imported --force")
}

#[test]
fn an_adapter_that_is_imported_makes_what_the_patch_makes() {
    let dir = patched();
    for alpha in ["1", "-2", "0.5"] {
        let export = format!("export p --to shira --base target.safetensors --alpha {alpha} -o at{alpha} --json");
        let exported = dir.run(&export).ok().json();
        assert_eq!(exported["modules"], 8);
        dir.run(&format!("import at{alpha} --from shira --base target.safetensors -o q --force")).ok();
        dir.run(&format!("apply target.safetensors p --alpha {alpha} -o ours --force")).ok();
        dir.run("apply target.safetensors q -o theirs --force").ok();
        let [ours, theirs] = ["ours", "theirs"].map(|name| dir.read(name));
        let words = |bytes: &[u8]| bytes.as_chunks::<4>().0.to_vec();
        let differ = words(&ours).iter().zip(words(&theirs)).filter(|(one, other)| **one != *other).count();
        assert_eq!(exported["inexact"], differ as u64, "at {alpha}");
    }
    // Every module lists r * (in + out) weights, in two rows of places.
    for (name, bytes) in adapter(&dir, "at1") {
        let r = serde_json::from_slice::<Value>(&dir.read("at1/adapter_config.json")).unwrap()["r"].as_u64().unwrap();
        let bytes_of_each = if name.ends_with("indices") { 8 } else { 4 };
        assert_eq!(bytes.len() as u64, r * 32 * bytes_of_each, "{name}");
    }
}

#[test]
fn an_export_says_what_it_needs() {
    let dir = patched();
    dir.run("export p -o out").fails(2).says(&["p is a patch", "--to shira"]);
    dir.run("export p --to shira -o out").fails(2).says(&["--base"]);
    dir.run("export p --to shira --base reference.safetensors -o out").fails(6).says(&["does not fit"]);
    dir.run("export p --to shira --base target.safetensors --alpha 0 -o out").fails(6).says(&["changes nothing"]);
    dir.run("export all --to shira --base target.safetensors -o out").fails(6).says(&[
        "dense.bias: it is not the weight",
        "word_embeddings.weight: it is an embedding",
        "--to values",
    ]);
    assert!(!dir.exists("out"));
    #[cfg(feature = "verify")]
    dir.run("export target.safetensors --to onnx --alpha 2 -o out").fails(2).says(&["--alpha"]);
}

#[test]
fn padding_is_bounded_unless_it_is_forced() {
    let dir = Dir::new();
    let mut values = vec![0.5; 512 * 512];
    dir.write("a", &safetensors(&[Tensor::f32("x.q_proj.weight", &[512, 512], &values)]));
    values[7] = 1.0;
    dir.write("b", &safetensors(&[Tensor::f32("x.q_proj.weight", &[512, 512], &values)]));
    dir.run("diff a b -o p --all").ok();
    let export = "export p --to shira --base a";
    let refused = dir.run(&format!("{export} -o out"));
    if dir.read("p").len() * 16 < 1023 * 12 {
        refused.fails(6).says(&["padding", "--force"]);
        dir.run(&format!("{export} -o out --force")).ok().prints(&["1 weight in 1 module, r = 1"]);
    } else {
        refused.ok();
    }
}

#[test]
fn padding_does_not_change_negative_zeros() {
    let dir = Dir::new();
    for zeros in [15, 12] {
        let mut values = vec![1.0; 16];
        values[..zeros].fill(-0.0);
        let file = |values: &[f32]| safetensors(&[Tensor::f32("x.q_proj.weight", &[4, 4], values)]);
        dir.write("a", &file(&values));
        values[15] = 2.0;
        dir.write("b", &file(&values));
        dir.run("diff a b -o p --all --force").ok();
        dir.run(&format!("export p --to shira --base a -o adapter{zeros} --force")).ok();
        dir.run(&format!("import adapter{zeros} --from shira --base a -o q --force")).ok();
        dir.run("apply a q -o r --force").ok();
        assert_eq!(dir.read("r"), dir.read("b"), "{zeros}");
    }
}

#[test]
fn more_than_one_r_for_all_can_list_is_refused() {
    let dir = Dir::new();
    let tensors = |value: f32| {
        let values: Vec<f32> = (0..15).map(|at| value + at as f32).collect();
        safetensors(&[Tensor::f32("x.q_proj.weight", &[3, 5], &values)])
    };
    dir.write("a", &tensors(0.25));
    dir.write("b", &tensors(0.5));
    dir.run("diff a b -o p --all").ok();
    dir.run("export p --to shira --base a -o out").fails(6).says(&["x.q_proj", "has 15 weights", "r = 2", "list 16"]);
}

#[test]
fn weights_that_are_no_linear_layers_are_refused_by_name() {
    let dir = Dir::new();
    let model = |moved: f32| {
        let mut head: Vec<f32> = (0..64).map(|at| at as f32).collect();
        let embedding = Tensor::f32("model.embed_tokens.weight", &[8, 8], &head);
        let of = |name: &str, shape: &[u64]| {
            let n: u64 = shape.iter().product();
            Tensor::f32(name, shape, &vec![moved; n as usize])
        };
        head[3] += moved;
        safetensors(&[
            embedding,
            Tensor::f32("lm_head.weight", &[8, 8], &head),
            of("transformer.h.0.attn.c_attn.weight", &[8, 24]),
            of("model.norm.weight", &[8]),
            of("model.layers.0.self_attn.q_proj.weight", &[8, 8]),
            of("vision.model.layers.0.self_attn.q_proj.weight", &[8, 8]),
            of("conv.weight", &[2, 2, 2]),
            of("x.q_proj.weight_orig", &[8, 8]),
        ])
    };
    dir.write("a", &model(0.0));
    dir.write("b", &model(0.5));
    dir.run("diff a b -o p --all").ok();
    dir.run("export p --to shira --base a -o out").fails(6).says(&[
        "6 of 7 tensors",
        "lm_head.weight: it is tied to \"model.embed_tokens.weight\"",
        "c_attn.weight: it belongs to a Conv1D",
        "model.norm.weight: it belongs to a norm",
        "model.layers.0.self_attn.q_proj.weight: its name is the end of \"vision.",
        "conv.weight: it is not a matrix",
        "weight_orig: it is not the weight",
    ]);
}

#[test]
fn an_adapter_is_never_beside_patches() {
    let dir = patched();
    dir.write("patches/other.lcepatch", b"");
    let export = "export p --to shira --base target.safetensors -o";
    dir.run(&format!("{export} patches --force")).fails(6).says(&["patches has patches"]);
    dir.write("full/x", b"");
    dir.run(&format!("{export} full --force")).fails(2).says(&["full exists"]);
    dir.run(&format!("{export} new/adapter")).ok();
    assert_eq!(names(&dir.path("new/adapter")), ["adapter_config.json", "adapter_model.safetensors"]);
}

#[test]
fn what_is_not_finite_is_refused_with_its_place() {
    let dir = Dir::new();
    let file = |value: f32| safetensors(&[Tensor::f32("x.q_proj.weight", &[2, 2], &[1.0, 2.0, value, 4.0])]);
    for (reference, says) in [(f32::NAN, "element 2 of \"x.q_proj.weight\" is NaN"), (f32::INFINITY, "is inf")] {
        dir.write("a", &file(3.0));
        dir.write("b", &file(reference));
        dir.run("diff a b -o p --all --force").ok();
        dir.run("export p --to shira --base a -o out").fails(7).says(&[says, "in the result", "SHiRA"]);
        dir.run("diff b a -o q --all --force").ok();
        dir.run("export q --to shira --base b -o out").fails(7).says(&[says, "in the base"]);
    }
}

#[test]
fn crafted_adapters_are_refused() {
    let dir = patched();
    let (indices, deltas) = honest();
    import(&dir, &config(), &weights(&indices, &deltas)).ok();
    dir.run("check imported target.safetensors").ok();
    let with = |at: usize, index: i32| {
        let mut indices = indices;
        indices[at] = index;
        weights(&indices, &deltas)
    };
    let set = |key: &str, value: Value| {
        let mut config = config();
        config[key] = value;
        config
    };
    let good = weights(&indices, &deltas);
    let mut nan = deltas;
    nan[3] = f32::NAN;
    let mut huge = deltas;
    huge[3] = f32::MAX;
    let renamed = |from: &str, to: &str| {
        let text = String::from_utf8_lossy(&good).replace(from, to).into_bytes();
        assert_eq!(from.len(), to.len());
        let header = u64::from_le_bytes(*good.first_chunk().unwrap()) as usize + 8;
        [&text[..header], &good[header..]].concat()
    };
    for (config, weights, code, says) in [
        (config(), with(5, 16), 5, "row 16, column"),
        (config(), with(5, -1), 5, "row -1, column"),
        (config(), with(40, i32::MAX), 5, "column 2147483647 of 16 x 16"),
        (config(), with(33, 0), 5, "twice"),
        (config(), weights(&indices[..62], &deltas[..31]), 5, "lists [2, 31] indices and [31] weights"),
        (config(), weights(&indices, &deltas[..31]), 5, "lists [2, 32] indices and [31] weights"),
        (config(), weights(&indices, &nan), 7, "would become infinite or NaN"),
        (config(), weights(&indices, &huge), 5, ""),
        (config(), renamed("shira_weight", "shira_wright"), 6, "not of SHiRA"),
        (config(), renamed("layer.0", "layer.9"), 6, "which the base does not have"),
        (config(), renamed("\"F32\"", "\"I32\""), 5, "has dtype I32"),
        (config(), renamed("\"dtype\":\"I32\"", "\"dtype\":\"U32\""), 5, "has dtype U32"),
        (set("r", json!(u64::MAX)), good.clone(), 5, "with r = 18446744073709551615"),
        (set("r", json!(0)), good.clone(), 5, "with r = 0"),
        (set("r", json!(-1)), good.clone(), 5, "invalid value"),
        (set("peft_type", json!("LORA")), good.clone(), 6, "merge_and_unload"),
        (set("peft_type", Value::Null), good.clone(), 5, "no peft_type"),
        (set("modules_to_save", json!(["classifier"])), good.clone(), 6, "modules_to_save"),
        (set("target_modules", json!(["key"])), good.clone(), 5, "none of the target_modules"),
        (set("target_modules", json!(".*query")), good.clone(), 6, "a list of modules"),
        (config(), good[..good.len() - 1].to_vec(), 5, "header asks for"),
        (config(), vec![], 5, "empty"),
        (config(), b"GGUF\x03".to_vec(), 5, "GGUF"),
    ] {
        let run = import(&dir, &config, &weights);
        // The sum of the largest number and a small one is the largest number again.
        if says.is_empty() {
            run.ok()
        } else {
            run.fails(code).says(&[says])
        };
    }
}

#[test]
fn names_are_exchanged_by_their_beginning() {
    let dir = patched();
    let tensors = |name: &str| {
        let tensors = read_safetensors(&dir.read(&format!("{name}.safetensors")));
        let bert = bert_pair().0;
        let renamed = tensors.into_iter().map(|(name, bytes)| {
            let tensor = bert.iter().find(|tensor| tensor.name == name).unwrap();
            Tensor { bytes, ..tensor.renamed(name.strip_prefix("bert.").unwrap()) }
        });
        safetensors(&renamed.collect::<Vec<_>>())
    };
    dir.write("bare", &tensors("target"));
    dir.run("export p --to shira --base target.safetensors -o s").ok();
    dir.run("import s --from shira --base bare -o q").fails(6).says(&["does not have", "--map-prefix"]);
    dir.run("import s --from shira --base bare --map-prefix bert.= -o q").ok();
    dir.run("export q --to shira --base bare --map-prefix =bert. -o t").ok();
    assert_eq!(adapter(&dir, "t"), adapter(&dir, "s"));
}

/// A file of values of one tensor of the small BERT.
fn values(indices: Tensor, values: Tensor) -> Vec<u8> {
    safetensors(&[
        indices.renamed(&format!("{QUERY}.weight.indices")),
        values.renamed(&format!("{QUERY}.weight.values")),
    ])
}

fn i32s(values: &[i32]) -> Tensor {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor::new("", "I32", &[values.len() as u64], bytes)
}

#[test]
fn values_that_are_imported_make_what_the_patch_makes() {
    let dir = bert_dir();
    dir.run("diff target.safetensors reference.safetensors -o p --all --params all").ok();
    for (alpha, wide) in [("1", ""), ("-2", "--wide"), ("0.5", "")] {
        let base = "--base target.safetensors --force";
        let export = dir.run(&format!("export p --to values --alpha {alpha} {wide} -o v {base}")).ok();
        export.prints(&["wrote v: ", " values in 17 tensors"]);
        dir.run(&format!("import v --from values -o q {base}")).ok();
        dir.run(&format!("apply target.safetensors p --alpha {alpha} -o ours --force")).ok();
        dir.run("apply target.safetensors q -o theirs --force").ok();
        assert_eq!(dir.read("ours"), dir.read("theirs"), "{alpha}");
    }
    dir.run("export p --to values --base target.safetensors -o v").fails(2).says(&["v exists", "--force"]);
    dir.run("export p --to values --base target.safetensors -o p --force").fails(2).says(&["is read by this command"]);
    dir.run("export p --to values --base target.safetensors --alpha 0 -o w").fails(6).says(&["changes nothing"]);
    dir.run("export p --to shira --base target.safetensors --wide -o w").fails(2).says(&["--wide"]);
}

#[test]
fn values_of_every_dtype_come_back() {
    for (dtype, width) in
        [("F64", 8), ("F32", 4), ("F16", 2), ("BF16", 2), ("F8_E4M3", 1), ("I64", 8), ("U8", 1), ("BOOL", 1)]
    {
        let dir = Dir::new();
        let tensor = |from: u8| {
            let bytes = (0..24).map(|at| if at % width == 0 { (at as u8 + from) % 2 } else { 0 }).collect();
            safetensors(&[Tensor::new("x", dtype, &[24 / width as u64], bytes)])
        };
        dir.write("a", &tensor(0));
        dir.write("b", &tensor(1));
        dir.run("diff a b -o p --all").ok();
        dir.run("export p --to values --base a -o v").ok();
        dir.run("import v --from values --base a -o q").ok();
        dir.run("apply a q -o r").ok();
        assert_eq!(dir.read("r"), dir.read("b"), "{dtype}");
    }
}

/// Flat indices count the elements of the shapes that the file was written for.
#[test]
fn values_for_another_shape_are_refused() {
    let dir = patched();
    dir.run("export p --to values --base target.safetensors -o v").ok();
    let bytes = dir.read("v");
    let header = String::from_utf8_lossy(&bytes).into_owned();
    let shape = format!("\\\"{QUERY}.weight\\\":[16,16]");
    assert!(header.contains(&shape), "{}", &header[..500]);
    let at = header.find(&shape).unwrap() + shape.len() - 6;
    let mut other = bytes.clone();
    other[at..at + 5].copy_from_slice(b"8, 32");
    dir.write("w", &other);
    let refused = dir.run("import w --from values --base target.safetensors -o q").fails(6);
    refused.says(&["is of shape [8, 32] here", "shape [16, 16]"]);
}

#[test]
fn nan_is_no_value() {
    let dir = Dir::new();
    dir.write("a", &safetensors(&[Tensor::f32("x", &[3], &[1.0, 2.0, 3.0])]));
    dir.write("b", &safetensors(&[Tensor::f32("x", &[3], &[f32::INFINITY, f32::NAN, 3.0])]));
    dir.run("diff a b -o p --all").ok();
    let refused = dir.run("export p --to values --base a -o v").fails(7);
    refused.says(&["element 1 of \"x\" is NaN in the result", "does not change"]);
    assert!(!dir.exists("v"));
}

#[test]
fn crafted_values_are_refused() {
    let dir = bert_dir();
    let import = |bytes: &[u8]| {
        dir.write("v", bytes);
        dir.run("import v --from values --base target.safetensors -o q --force")
    };
    let f32s = |values: &[f32]| Tensor::f32("", &[values.len() as u64], values);
    import(&values(i32s(&[0, 255]), f32s(&[1.0, f32::INFINITY]))).ok();
    import(&values(Tensor::i64("", &[255, 3]), f32s(&[1.0, 2.0]))).ok();
    dir.run("check q target.safetensors").ok();
    for (bytes, code, says) in [
        (values(i32s(&[0, 256]), f32s(&[1.0, 2.0])), 5, "element 256 of 256"),
        (values(i32s(&[-1, 0]), f32s(&[1.0, 2.0])), 5, "element -1 of 256"),
        (values(Tensor::i64("", &[i64::MAX]), f32s(&[1.0])), 5, "element 9223372036854775807"),
        (values(i32s(&[3, 3]), f32s(&[1.0, 2.0])), 5, "element 3 twice"),
        (values(i32s(&[3]), f32s(&[1.0, 2.0])), 5, "both must be one list"),
        (values(f32s(&[3.0]), f32s(&[1.0])), 5, "indices of dtype F32"),
        (values(i32s(&[3]), i32s(&[1])), 6, "is I32 here, and the base's has dtype F32"),
        (values(i32s(&[3]), f32s(&[f32::NAN])), 7, "element 3 of"),
        (safetensors(&[i32s(&[3]).renamed("x.indices")]), 5, "without the others"),
        (safetensors(&[i32s(&[3]).renamed("x.indexes")]), 6, "neither indices nor values"),
        (safetensors(&[i32s(&[3]).renamed("x.indices"), f32s(&[1.0]).renamed("x.values")]), 6, "does not have"),
    ] {
        import(&bytes).fails(code).says(&[says]);
    }
}

/// A file as torch.save writes it: a pickle, and storages by name.
fn torch_file(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let storages = storages.iter().map(|(key, bytes)| (format!("data/{key}"), *bytes));
    let all: Vec<(String, &[u8])> = [("data.pkl".to_owned(), pickle)].into_iter().chain(storages).collect();
    zip_of(&all, zip::CompressionMethod::Stored)
}

fn zip_of(entries: &[(String, &[u8])], method: zip::CompressionMethod) -> Vec<u8> {
    use std::io::Write;
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in entries {
        archive.start_file(format!("archive/{name}"), options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// The pickle of a state dict of one tensor `w` of halfs, in a storage of 6, with this offset, and two sizes and strides.
fn pickle(storage: &str, offset: u8, shape: [u8; 2], strides: [u8; 2]) -> Vec<u8> {
    let mut text = b"\x80\x02}(X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\n".to_vec();
    text.extend(storage.as_bytes());
    text.extend(b"\nX\x01\0\0\x000X\x03\0\0\0cpuK\x06tQK");
    text.extend([offset, b'K', shape[0], b'K', shape[1], 0x86, b'K', strides[0], b'K', strides[1], 0x86]);
    text.extend(b"\x89NtRu.");
    text
}

/// A small state dict of `torch.save`.
pub fn state_dict() -> Vec<u8> {
    torch_file(&pickle("HalfStorage", 0, [2, 3], [3, 1]), &[("0", &[7; 12])])
}

#[test]
fn a_state_dict_becomes_a_checkpoint() {
    let dir = Dir::new();
    let numbers: Vec<u8> = (0..12).collect();
    dir.write("a.bin", &torch_file(&pickle("HalfStorage", 1, [2, 2], [2, 1]), &[("0", &numbers)]));
    dir.run("import a.bin --from torch -o a").ok().prints(&["wrote a: 4 elements in 1 tensor"]);
    assert_eq!(read_safetensors(&dir.read("a")), [("w".to_owned(), numbers[2..10].to_vec())]);
    dir.run("diff a a").ok();
    // What is refused elsewhere says what to do.
    dir.run("diff a.bin a").fails(5).says(&["a zip archive, as PyTorch writes", "lcepatch import FILE --from torch"]);
    dir.run("import a.bin --from torch -o a").fails(2).says(&["a exists", "--force"]);
    dir.run("import a.bin --from torch -o a.bin --force").fails(2).says(&["is read by this command"]);
    dir.run("import a.bin --from torch --base a -o b").fails(2).says(&["--base"]);
    dir.run("import a.bin a.bin --from torch -o b").fails(5).says(&["\"w\" is in two shards"]);
    dir.run("import a.bin a.bin --from values --base a -o b").fails(2).says(&["--from torch"]);
    dir.run("import a --from values -o b").fails(2).says(&["--base"]);
}

#[test]
fn crafted_torch_files_are_refused() {
    let dir = Dir::new();
    let numbers = [7; 12];
    let good = pickle("HalfStorage", 0, [2, 3], [3, 1]);
    let of = |pickle: &[u8]| torch_file(pickle, &[("0", &numbers)]);
    let import = |bytes: &[u8]| {
        dir.write("x", bytes);
        dir.run("import x --from torch -o y --force")
    };
    import(&of(&good)).ok();
    let entry = |name: &str| (name.to_owned(), &numbers[..]);
    let stored = |entries: &[(String, &[u8])]| zip_of(entries, zip::CompressionMethod::Stored);
    let mut damaged = of(&good);
    let at = damaged.windows(12).position(|bytes| bytes == numbers).unwrap();
    damaged[at] ^= 1;
    let mut two_roots = of(&good);
    let at = two_roots.windows(9).rposition(|bytes| bytes == b"archive/d").unwrap();
    two_roots[at] = b'b';
    // The methods of the local and the central headers.
    let mut compressed = of(&good);
    for at in 0..compressed.len() - 12 {
        match &compressed[at..at + 4] {
            b"PK\x03\x04" => compressed[at + 8] = 8,
            b"PK\x01\x02" => compressed[at + 10] = 8,
            _ => {}
        }
    }
    let front = |front: &[u8]| [front, &[1; 600]].concat();
    for (bytes, code, says) in [
        (
            of(b"cos\nsystem\nX\x02\0\0\0id\x85R."),
            6,
            "uses os.system, which no state dict of plain tensors needs; nothing was run",
        ),
        (of(b"cbuiltins\neval\n."), 6, "uses builtins.eval"),
        (of(b"(ios\nsystem\n."), 6, "instruction INST at byte 1"),
        (of(b"}X\x05\0\0\0epochK\x03s."), 6, "\"epoch\" is a number"),
        (of(b"K\x01."), 6, "holds a number"),
        (of(b"}"), 5, "ends too early"),
        (of(&pickle("HalfStorage", 1, [2, 3], [3, 1])), 5, "reaches beyond its storage"),
        (of(&pickle("HalfStorage", 0, [255, 255], [255, 1])), 5, "reaches beyond its storage"),
        (of(&pickle("FloatStorage", 0, [2, 3], [3, 1])), 5, "storage of another size"),
        (of(&pickle("HalfStorage", 0, [2, 3], [1, 2])), 6, "do not lie one after another"),
        (of(&pickle("HalfStorage", 0, [255, 255], [0, 0])), 6, "do not lie one after another"),
        (of(&pickle("QInt8Storage", 0, [2, 3], [3, 1])), 6, "uses torch.QInt8Storage"),
        (torch_file(&good, &[("1", &numbers)]), 5, "storage that is not in the file"),
        (torch_file(&good, &[("0", &numbers[1..])]), 5, "storage of another size"),
        (damaged, 5, "in its archive is damaged"),
        (compressed, 6, "is compressed in its archive"),
        (two_roots, 5, "several folders"),
        (stored(&[entry("weights/0")]), 6, "no data.pkl"),
        (stored(&[entry("constants.pkl")]), 6, "TorchScript"),
        (stored(&[("byteorder".to_owned(), b"big")]), 6, "little-endian"),
        (of(&good)[..100].to_vec(), 5, "archive is damaged"),
        (front(b"\x80\x02\x8a\x0al\xfc"), 6, "before 1.6"),
        ([&[1; 257][..], b"ustar", &[0; 300]].concat(), 6, "before 1.6"),
        (front(b"GGUF\x03"), 5, "a GGUF file, not a file of torch.save"),
        (safetensors(&[]), 5, "a checkpoint (safetensors), not a file of torch.save"),
        (front(b"?"), 5, "begins as no zip archive"),
        (vec![], 5, "an empty file"),
    ] {
        import(&bytes).fails(code).says(&[says]);
    }
    assert!(import(&of(&good)).ok().err.is_empty());
}

#[test]
fn a_small_torch_file_does_not_become_a_large_one() {
    let dir = Dir::new();
    let numbers = vec![7; 1 << 16];
    // One storage under a hundred names.
    let tensor = |name: u8| {
        let mut text = [b"X\x02\0\0\0w", &[name][..]].concat();
        text.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nByteStorage\nX\x01\0\0\x000");
        text.extend(b"X\x03\0\0\0cpuJ\0\0\x01\0tQK\0J\0\0\x01\0\x85K\x01\x85\x89NtR");
        text
    };
    let dict = |names: u8| [b"}(", &(b' '..b' ' + names).flat_map(tensor).collect::<Vec<u8>>()[..], b"u."].concat();
    dir.write("tied", &torch_file(&dict(2), &[("0", &numbers)]));
    dir.run("import tied --from torch -o t").ok().prints(&["131,072 elements in 2 tensors"]);
    dir.write("many", &torch_file(&dict(90), &[("0", &numbers)]));
    dir.run("import many --from torch -o m").fails(5).says(&["its tensors take 5898240 bytes"]);
}

#[test]
fn masks_of_torch_are_masks() {
    let dir = Dir::new();
    let weights = |values: &[f32]| safetensors(&[Tensor::f32("w", &[2, 3], values)]);
    dir.write("a", &weights(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let mask = |bytes: &[u8]| torch_file(&pickle("BoolStorage", 0, [2, 3], [3, 1]), &[("0", bytes)]);
    dir.write("m.pt", &mask(&[1, 0, 1, 0, 1, 1]));
    dir.run("import m.pt --from torch -o m").ok();
    dir.run("mask a --from m --pruned b").ok().prints(&["pruned 2 of 6 weights"]);
    assert_eq!(dir.read("b"), weights(&[1.0, 0.0, 3.0, 0.0, 5.0, 6.0]));
}

#[test]
fn gguf_is_refused_with_the_reason() {
    let dir = patched();
    dir.write("x.gguf", &[&b"GGUF\x03"[..], &[1; 600]].concat());
    let reason = "convert the result";
    dir.run("export p --to gguf --base target.safetensors -o y.gguf").fails(2).says(&["GGUF is not written", reason]);
    dir.run("import x.gguf --from gguf -o y").fails(2).says(&["GGUF is not read", reason]);
    for command in ["diff x.gguf target.safetensors", "apply x.gguf p -o y", "export p --to shira --base x.gguf -o y"] {
        dir.run(command).fails(5).says(&["a GGUF file", reason]);
    }
    dir.run("import x.gguf --from torch -o y").fails(5).says(&[reason]);
}

#[test]
fn every_bit_and_every_prefix_of_a_torch_file_is_read_or_refused() {
    let dir = Dir::new();
    let honest = state_dict();
    let path = dir.write("x", &honest);
    let open = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let opened =
            lcepatch::internal::torch::open(std::slice::from_ref(&path), &lcepatch::context::Context::silent());
        opened.map(|checkpoint| {
            let tensor = |tensor: lcepatch::checkpoint::Tensor<'_>| {
                (tensor.info.name.clone(), tensor.elements(0..tensor.info.elements()).to_vec())
            };
            checkpoint.tensors().map(tensor).collect::<Vec<_>>()
        })
    };
    let expected = [("w".to_owned(), vec![7; 12])];
    assert_eq!(open(&honest).unwrap(), expected);
    for at in 0..honest.len() {
        assert!(open(&honest[..at]).is_err(), "{at}");
        for bit in 0..8 {
            let mut flipped = honest.clone();
            flipped[at] ^= 1 << bit;
            // Times and flags of the archive mean nothing; everything else has a checksum.
            if let Ok(read) = open(&flipped) {
                assert_eq!(read, expected, "bit {bit} of byte {at}");
            }
        }
    }
}

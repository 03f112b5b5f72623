use crate::support::*;
use serde_json::json;

#[test]
fn without_output_prints_the_table_and_writes_nothing() {
    let dir = bert_dir();
    dir.run("diff target.safetensors reference.safetensors").ok().prints(&["attention.output", "layer"]);
    assert_eq!(dir.names(), ["reference.safetensors", "target.safetensors"]);
}

#[test]
fn between_equal_checkpoints_is_an_empty_patch_that_can_be_applied() {
    let dir = bert_dir();
    let same = "diff target.safetensors target.safetensors";
    dir.run(same).ok().prints(&["no difference", "in all weights compared (2,660)"]);
    for amount in ["", "--all", "--density 10%"] {
        dir.run(&format!("{same} -o p --force {amount}")).ok().prints(&["no difference", "wrote p"]);
        dir.run("apply target.safetensors p -o r --force").ok();
        assert_eq!(dir.read("r"), dir.read("target.safetensors"), "{amount}");
    }
}

#[test]
fn a_selection_of_nothing_is_refused() {
    let dir = bert_dir();
    for amount in ["--k 0", "--k 0k", "--density 0", "--density 0%"] {
        dir.run(&format!("diff target.safetensors reference.safetensors {amount}")).fails(2).says(&["select nothing"]);
    }
}

#[test]
fn a_checkpoint_without_floats_is_told_about_all() {
    let dir = Dir::new();
    for (name, byte) in [("a", 1), ("b", 2)] {
        dir.write(name, &safetensors(&[Tensor::new("w", "C64", &[2, 2], vec![byte; 32])]));
    }
    for command in ["diff a b --density 50%", "diff a b --density 50% --params all", "mask a --sparsity 10%"] {
        dir.run(command).fails(2).says(&["none of them holds floats", "`lcepatch diff --all`"]);
    }
    dir.run("diff a b --all").ok();
}

#[test]
fn selects_the_dense_layers_of_a_known_transformer_by_default() {
    let dir = bert_dir();
    dir.run("diff target.safetensors reference.safetensors -o p --density 10%").ok();
    let shown = dir.run("show p --json").ok().json();
    assert_eq!(shown["metadata"]["candidates"]["family"], "bert");
    assert_eq!(shown["metadata"]["candidates"]["elements"], 8 * 256);
    assert_eq!(shown["stat"]["selected"], 205);
}

#[test]
fn falls_back_to_matrices_and_says_so() {
    let dir = Dir::new();
    let mut random = Random::new(3);
    for name in ["a", "b"] {
        let tensors = [
            Tensor::f32("conv.weight", &[4, 4], &random.values(16, 1.0)),
            Tensor::f32("conv.bias", &[4], &random.values(4, 1.0)),
        ];
        dir.write(name, &safetensors(&tensors));
    }
    let run = dir.run("diff a b --k 16 --json").ok().says(&["no known transformer", "matrices"]);
    assert_eq!(run.json()["tensors"][0]["name"], "conv.weight");
    dir.run("diff a b --k 17").fails(2).says(&["17", "16"]);
}

/// Names, then |reference - target| in units of 1/4; many are equal.
fn tied_pair(dir: &Dir) -> Vec<(String, Vec<u64>)> {
    let mut random = Random::new(5);
    let names = ["b.weight", "a.weight", "c.weight"];
    let (mut target, mut reference, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    for name in names {
        let base = random.values(600, 0.0);
        let steps: Vec<u64> = (0..600).map(|_| random.below(4)).collect();
        let sign = |random: &mut Random| if random.below(2) == 0 { 0.25 } else { -0.25 };
        let moved: Vec<f32> = base.iter().zip(&steps).map(|(b, s)| b + *s as f32 * sign(&mut random)).collect();
        target.push(Tensor::f32(name, &[20, 30], &base));
        reference.push(Tensor::f32(name, &[20, 30], &moved));
        keys.push((name.to_owned(), steps));
    }
    dir.write("a", &safetensors(&target));
    dir.write("b", &safetensors(&reference));
    keys.sort();
    keys
}

/// The elements that an apply of `p` at alpha 1 changes or could have changed: name and flat index.
fn selected(dir: &Dir, patch: &str) -> Vec<(String, usize)> {
    // A base of NaNs would not fit, so ask for the difference that alpha 1000 makes.
    dir.run(&format!("apply a {patch} --alpha 1000 -o moved --force")).ok();
    let (base, moved) = (read_safetensors(&dir.read("a")), read_safetensors(&dir.read("moved")));
    let mut found = Vec::new();
    for ((name, base), (_, moved)) in base.iter().zip(&moved) {
        let pairs = base.as_chunks::<4>().0.iter().zip(moved.as_chunks::<4>().0);
        found.extend(pairs.enumerate().filter(|(_, (b, m))| b != m).map(|(index, _)| (name.clone(), index)));
    }
    found
}

fn by_sorting(keys: &[(String, Vec<u64>)], k: usize) -> Vec<(String, usize)> {
    let mut all: Vec<(u64, &str, usize)> = keys
        .iter()
        .flat_map(|(name, keys)| keys.iter().enumerate().map(move |(index, key)| (*key, name.as_str(), index)))
        .collect();
    all.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)).then(a.2.cmp(&b.2)));
    let mut top: Vec<_> = all[..k].iter().map(|(_, name, index)| (name.to_string(), *index)).collect();
    top.sort();
    top
}

#[test]
fn ties_rank_by_name_and_then_index() {
    let dir = Dir::new();
    let keys = tied_pair(&dir);
    for k in [1, 100, 451, 700, 1000] {
        dir.run(&format!("diff a b -o p --force --k {k}")).ok();
        assert_eq!(selected(&dir, "p"), by_sorting(&keys, k), "k = {k}");
    }
}

#[test]
fn a_tensor_scope_ranks_each_tensor_for_itself() {
    let dir = Dir::new();
    let keys = tied_pair(&dir);
    dir.run("diff a b -o p --density 10% --scope tensor").ok();
    let expected: Vec<_> = keys.iter().flat_map(|tensor| by_sorting(std::slice::from_ref(tensor), 60)).collect();
    assert_eq!(selected(&dir, "p"), expected);
    dir.run("diff a b --k 60 --scope tensor").fails(2).says(&["--density"]);
}

#[test]
fn a_tensor_without_elements_is_passed_over() {
    let dir = Dir::new();
    let side =
        |value: f32| safetensors(&[Tensor::f32("none", &[0, 2], &[]), Tensor::f32("one", &[1, 2], &[0.0, value])]);
    dir.write("a", &side(1.0));
    dir.write("b", &side(2.0));
    dir.run("diff a b -o p --density 50% --scope tensor").ok();
    assert_eq!(selected(&dir, "p").len(), 1);
}

#[test]
fn asking_for_more_than_differs_is_noted() {
    let dir = Dir::new();
    tied_pair(&dir);
    dir.run("diff a b -o p --k 1800").ok().says(&["more weights were asked for than differ"]);
}

#[test]
fn amounts_come_in_several_forms_and_exclude_each_other() {
    let dir = bert_dir();
    let count = |flags: &str| {
        let run = dir.run(&format!("diff target.safetensors reference.safetensors --json {flags}")).ok();
        run.json()["selected"].clone()
    };
    assert_eq!(count("--density 10%"), count("--density 0.1"));
    assert_eq!(count("-k 1_000"), json!(1000));
    assert_eq!(count("--k 1k"), json!(1000));
    for wrong in ["--density 0", "--density 101%", "--density x", "--k -1", "--k 1 --all", "--k 1 --density 1%"] {
        dir.run(&format!("diff target.safetensors reference.safetensors {wrong}")).fails(2);
    }
}

#[test]
fn a_candidate_that_is_not_finite_is_named() {
    for (value, name) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let dir = bert_dir();
        let (_, mut reference) = bert_pair();
        let tensor = &mut reference[2];
        tensor.bytes[4 * 77..4 * 78].copy_from_slice(&value.to_le_bytes());
        let full_name = tensor.name.clone();
        dir.write("reference.safetensors", &safetensors(&reference));
        let run = dir.run("diff target.safetensors reference.safetensors -o p --density 1%").fails(7);
        run.says(&["element 77", &full_name, name, "reference"]);
        assert!(!dir.exists("p"));
        dir.run("diff target.safetensors reference.safetensors -o p --all").ok();
        dir.run("apply target.safetensors p -o r").ok();
        assert_eq!(dir.read("r"), dir.read("reference.safetensors"));
    }
}

#[test]
fn tensors_that_do_not_pair_are_named_and_counted() {
    let dir = bert_dir();
    let (_, mut reference) = bert_pair();
    reference[0].shape = vec![32, 8];
    let removed: Vec<Tensor> = reference.drain(2..15).collect();
    reference.push(Tensor::f32("new.weight", &[2, 2], &[0.0; 4]));
    dir.write("other", &safetensors(&reference));
    let run = dir.run("diff target.safetensors other -o p --all").fails(5);
    let named = removed.iter().filter(|tensor| run.err.contains(&tensor.name)).count();
    assert_eq!(named, 10, "{run:#?}");
    run.says(&["and 3 more", "new.weight: only in the reference", "[16, 16]", "[32, 8]", "--common"]);
    assert!(!dir.exists("p"));
    dir.run("diff target.safetensors other -o p --all --common").ok();
    let pairing = &dir.run("show p --json").ok().json()["metadata"]["pairing"];
    assert_eq!(pairing["only_in_base"].as_array().unwrap().len(), 13);
    assert_eq!(pairing["only_in_reference"], json!(["new.weight"]));
    assert_eq!(pairing["mismatched"].as_array().unwrap().len(), 1);
}

/// Embeddings with 70 more rows on one side, in 16 bits there if `half`; large enough for several windows.
fn two_vocabularies(half: bool) -> Dir {
    let dir = Dir::new();
    let mut random = Random::new(11);
    let mut side = |name: &str, rows: u64, half: bool| {
        let mut tensor = |name: &str, shape: &[u64]| {
            let values = random.values(shape.iter().product(), 1.0);
            match half {
                true => {
                    let bytes = values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect();
                    Tensor::new(name, "F16", shape, bytes)
                }
                false => Tensor::f32(name, shape, &values),
            }
        };
        let tensors = [
            tensor("embeddings.word_embeddings.weight", &[rows, 96]),
            tensor("encoder.weight", &[16, 16]),
            tensor("lm_head.bias", &[rows]),
            tensor("classifier.weight", &[rows % 13, 16]),
        ];
        dir.write(name, &safetensors(&tensors));
    };
    side("small", 9000, false);
    side("large", 9070, half);
    dir
}

#[test]
fn of_two_vocabularies_the_rows_that_both_have_are_compared() {
    let dir = two_vocabularies(false);
    dir.run("diff small large").fails(5).says(&["[9000, 96]", "[9070, 96]", "--common", "rows"]);
    for (base, reference) in [("small", "large"), ("large", "small")] {
        let run = dir.run(&format!("diff {base} {reference} -o {base}.p --all --common")).ok();
        run.says(&[
            "1 tensor left out",
            "classifier.weight",
            "word_embeddings.weight: of the",
            "9070 rows, only the first 9000",
        ]);
        dir.run(&format!("apply {base} {base}.p -o r --force --undo undo")).ok().prints(&["the digest is the one"]);
        let of = |name: &str| read_safetensors(&dir.read(name));
        for (((name, base), (_, reference)), (_, result)) in of(base).iter().zip(of(reference)).zip(of("r")) {
            let common = if name == "classifier.weight" { 0 } else { base.len().min(reference.len()) };
            assert_eq!(result[..common], reference[..common], "{name}");
            assert_eq!(result[common..], base[common..], "{name}");
        }
        dir.run("apply r undo -o back --force").ok();
        assert_eq!(dir.read("back"), dir.read(base));
        std::fs::remove_file(dir.path("undo")).unwrap();
        // What is ranked, and coded in parts, is of those rows as well.
        dir.run(&format!("diff {base} {reference} -o k --force --common --params all --k 5000")).ok();
        dir.run(&format!("check k {base}")).ok();
        // The smallest are pruned on both sides; of the rows that one has alone nothing differs, their masks neither.
        let pruned = "--common --params all --sparsity 30% --localize mask";
        dir.run(&format!("diff {base} {reference} -o m --force {pruned}")).ok();
        dir.run(&format!("check m {base}")).ok();
        dir.run(&format!("diff {base} {reference} --common --params all --sparsity 30% --k 5000")).ok();
    }
    // What one patch says of a file the other says too.
    let shown = |name: &str| dir.run(&format!("show {name} --json")).ok().json()["metadata"].clone();
    let (there, back) = (shown("small.p"), shown("large.p"));
    assert_eq!(there["base"]["files"][0]["content"], back["reference"]["files"][0]["content"]);
    assert_eq!(there["reference"]["files"][0]["content"], back["base"]["files"][0]["content"]);
    let rows = json!({"name": "embeddings.word_embeddings.weight", "base": 9000, "reference": 9070});
    assert_eq!(there["pairing"]["rows"][0], rows);
}

#[test]
fn rows_of_another_dtype_are_cast() {
    let dir = two_vocabularies(true);
    dir.run("diff small large --common").fails(5).says(&["--cast"]);
    dir.run("diff small large -o p --all --common --cast").ok();
    dir.run("apply small p -o r").ok().prints(&["the digest is the one"]);
    let of = |name: &str| {
        let tensors = read_safetensors(&dir.read(name));
        tensors.into_iter().find(|(name, _)| name.contains("word_embeddings")).unwrap().1
    };
    let widen = |half: &[u8]| half::f16::from_le_bytes([half[0], half[1]]).to_f32().to_le_bytes();
    let widened: Vec<u8> = of("large").chunks_exact(2).flat_map(widen).collect();
    assert_eq!(of("r"), widened[..of("r").len()]);
    dir.run("diff large small -o p --force --all --common --cast").ok();
    dir.run("apply large p -o r --force").ok();
    let round = |single: &f32| half::f16::from_f32(*single).to_le_bytes();
    let rows: Vec<u8> = f32s(&Tensor::new("", "F32", &[], of("small"))).iter().flat_map(round).collect();
    assert_eq!(of("r"), [&rows, &of("large")[rows.len()..]].concat());
}

#[test]
fn a_merged_adapter_is_of_low_rank_and_a_fine_tune_is_not() {
    let dir = Dir::new();
    let mut random = Random::new(17);
    let names = ["layers.0.self_attn.q_proj.weight", "layers.1.self_attn.q_proj.weight"];
    let base: Vec<Vec<f32>> = names.iter().map(|_| random.values(96 * 128, 1.0)).collect();
    let mut write = |file: &str, rank: Option<usize>| {
        let tensor = |(name, base): (&&str, &Vec<f32>)| {
            let (left, right) = (random.values(96 * 2, 1.0), random.values(128 * 2, 1.0));
            let delta = |at: usize, noise: f32| match rank {
                Some(rank) => (0..rank).map(|r| left[at / 128 * 2 + r] * right[at % 128 * 2 + r]).sum(),
                None => noise,
            };
            let noise = random.values(96 * 128, 1.0);
            let values: Vec<f32> = base.iter().zip(noise).enumerate().map(|(at, (b, n))| b + delta(at, n)).collect();
            Tensor::f32(name, &[96, 128], &values)
        };
        let mut tensors: Vec<Tensor> = names.iter().zip(&base).map(tensor).collect();
        tensors.push(Tensor::i64("position_ids", &[1, 2, 3]));
        dir.write(file, &safetensors(&tensors));
    };
    write("base", Some(0));
    write("adapter", Some(2));
    write("tuned", None);
    let run = dir.run("diff base adapter -o p --all --spectrum").ok();
    run.prints(&["; of low rank (median stable rank 1.", "attention.query         2"]);
    let run = dir.run("diff base tuned --spectrum --json").ok().json();
    assert_eq!(run["kind"]["ranks"]["low"], false);
    let rank = run["spectrum"][1]["stable_rank"].as_f64().unwrap();
    assert!((20.0..40.0).contains(&rank), "{rank}");
    dir.run("show p --spectrum").fails(6).says(&["--base"]);
    dir.run("show p --spectrum --base tuned").fails(6);
    let shown = dir.run("show p --spectrum --base base --json").ok().json();
    assert!((1.0..2.0).contains(&shown["kind"]["ranks"]["median"].as_f64().unwrap()));
    assert!(dir.run("show p --json").ok().json()["spectrum"].is_null());
}

#[test]
fn a_prefix_that_differs_is_noticed_and_can_be_mapped() {
    let dir = bert_dir();
    let (_, reference) = bert_pair();
    let bare: Vec<Tensor> = reference.iter().map(|t| t.renamed(t.name.strip_prefix("bert.").unwrap())).collect();
    dir.write("bare", &safetensors(&bare));
    dir.run("diff target.safetensors bare").fails(5).says(&["--map-prefix =bert."]);
    dir.run("diff target.safetensors bare -o mapped --all --map-prefix =bert.").ok();
    dir.run("apply target.safetensors mapped -o r").ok();
    assert_eq!(dir.read("r"), dir.read("reference.safetensors"));
    dir.run("diff bare target.safetensors -o back --all --map-prefix bert.=").ok();
}

#[test]
fn another_float_dtype_is_refused_and_can_be_cast() {
    let dir = bert_dir();
    let (_, reference) = bert_pair();
    let narrow = |tensor: &Tensor| match tensor.dtype {
        "F32" => {
            let bits = f32s(tensor).into_iter().flat_map(|value| half::f16::from_f32(value).to_le_bytes());
            Tensor::new(&tensor.name, "F16", &tensor.shape, bits.collect())
        }
        _ => tensor.clone(),
    };
    dir.write("half", &safetensors(&reference.iter().map(narrow).collect::<Vec<_>>()));
    dir.run("diff target.safetensors half").fails(5).says(&["F32", "F16", "--cast"]);
    dir.run("diff target.safetensors half -o p --all --cast").ok();
    dir.run("apply target.safetensors p -o r").ok().prints(&["the digest is the one that the patch declares"]);
    let widened: Vec<Vec<u8>> = reference
        .iter()
        .filter(|tensor| tensor.dtype == "F32")
        .map(|t| f32s(t).into_iter().flat_map(|v| half::f16::from_f32(v).to_f32().to_le_bytes()).collect())
        .collect();
    let result = read_safetensors(&dir.read("r"));
    for bytes in widened {
        assert!(result.iter().any(|(_, found)| *found == bytes));
    }
}

#[test]
fn a_cast_that_overflows_is_refused() {
    let dir = Dir::new();
    dir.write("half", &safetensors(&[Tensor::new("w", "F16", &[3], vec![0; 6])]));
    dir.write("wide", &safetensors(&[Tensor::f32("w", &[3], &[1.0, 65504.0, 65520.0])]));
    let run = dir.run("diff half wide -o p --all --cast").fails(7);
    run.says(&["element 2", "65520", "F16"]);
    assert!(!dir.exists("p"));
}

#[test]
fn integers_that_differ_are_noted_and_carried_by_all() {
    let dir = bert_dir();
    let (_, mut reference) = bert_pair();
    *reference.last_mut().unwrap() = Tensor::i64("bert.embeddings.position_ids", &[0, 1, -2, i64::MIN]);
    dir.write("reference.safetensors", &safetensors(&reference));
    let run = dir.run("diff target.safetensors reference.safetensors -o top --density 1%").ok();
    run.says(&["bert.embeddings.position_ids", "--all"]);
    dir.run("diff target.safetensors reference.safetensors -o all --all").ok();
    dir.run("apply target.safetensors all -o r").ok();
    assert_eq!(dir.read("r"), dir.read("reference.safetensors"));
    dir.run("apply target.safetensors all --alpha 0.5 -o half").fails(6).says(&["position_ids", "no floats"]);
    assert!(!dir.exists("half"));
}

#[test]
fn the_same_inputs_give_the_same_bytes_on_any_number_of_threads() {
    let dir = bert_dir();
    for (name, flags) in [("top", "--density 10%"), ("all", "--all"), ("portable", "--all --portable")] {
        for threads in [1, 4] {
            let command = "diff target.safetensors reference.safetensors";
            dir.run(&format!("{command} {flags} -o {name}{threads} --threads {threads}")).ok();
        }
        assert_eq!(dir.read(&format!("{name}1")), dir.read(&format!("{name}4")));
    }
}

#[test]
fn globs_refine_the_candidates() {
    let dir = bert_dir();
    let names = |flags: &str| {
        let run = dir.run(&format!("diff target.safetensors reference.safetensors --json {flags}")).ok();
        let tensors = run.json()["tensors"].as_array().unwrap().clone();
        tensors.iter().map(|tensor| tensor["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let only = names("--density 100% --include *layer.1* --exclude *output*");
    assert_eq!(only.len(), 2, "{only:?}");
    assert!(only.iter().all(|name| name.contains("layer.1") && !name.contains("output")));
    dir.run("diff target.safetensors reference.safetensors --include nothing").fails(2).says(&["no tensor"]);
    dir.run("diff target.safetensors reference.safetensors --include [").fails(2).says(&["glob"]);
}

#[test]
fn an_existing_output_is_kept_unless_forced() {
    let dir = bert_dir();
    dir.write("p", b"mine");
    dir.run("diff target.safetensors reference.safetensors -o p --all").fails(2).says(&["exists", "--force"]);
    assert_eq!(dir.read("p"), b"mine");
    dir.run("diff target.safetensors reference.safetensors -o p --all --force").ok();
    dir.run("check p").ok();
}

#[test]
fn what_is_no_checkpoint_is_told_apart() {
    let dir = bert_dir();
    let whole = dir.read("target.safetensors");
    dir.write("truncated", &whole[..whole.len() - 1]);
    dir.write("pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    dir.write("empty", b"");
    dir.write("evil.safetensors.index.json", br#"{"weight_map":{"a":"../target.safetensors"}}"#);
    dir.write("folder/readme", b"");
    dir.run("diff target.safetensors truncated").fails(5).says(&["truncated"]);
    dir.run("diff target.safetensors pointer").fails(5).says(&["Git LFS pointer"]);
    dir.run("diff target.safetensors empty").fails(5);
    dir.run("diff target.safetensors evil.safetensors.index.json").fails(5).says(&["not a plain file name"]);
    dir.run("diff target.safetensors folder")
        .fails(5)
        .says(&["folder: this is a directory without weights", "help: give a .safetensors file"]);
    dir.run("diff target.safetensors missing").fails(3).says(&["missing"]);
}

#[test]
fn metadata_that_readers_would_ignore_is_refused_before_the_work_begins() {
    let dir = bert_dir();
    let notes: Vec<String> = (0..9).map(|n| format!("note{n}={}", "n".repeat(120_000))).collect();
    for shard in [&[][..], &["--shard", "1/2"]] {
        let mut words = vec!["diff", "target.safetensors", "reference.safetensors", "-o", "p", "--all"];
        words.extend(notes.iter().flat_map(|note| ["--meta", note]));
        words.extend(shard);
        let run = dir.run_words(&words).fails(2);
        run.says(&[
            "the new patch: its metadata has 108",
            "1048576 that readers take",
            "help: shorten the description",
        ]);
        assert!(!dir.exists("p"));
    }
}

#[test]
fn numbers_that_are_no_floats_have_no_error_to_record() {
    let dir = Dir::new();
    dir.write("a", &safetensors(&[Tensor::i64("n", &[1, 2])]));
    dir.write("b", &safetensors(&[Tensor::i64("n", &[1, 3])]));
    dir.run("diff a b -o p --all --delta-dtype int8").ok();
    assert_eq!(dir.run("show p --json").ok().json()["metadata"].get("reduced"), None);
    let run = dir.run("show p").ok().prints(&["exact: alpha 1 gives the reference's bits"]);
    assert!(!run.out.contains("wrong"), "{run:?}");
}

#[test]
fn reduced_deltas_record_an_error_that_holds() {
    let dir = bert_dir();
    let command = "diff target.safetensors reference.safetensors --params matrices";
    for dtype in ["bf16", "int8"] {
        dir.run(&format!("{command} -o {dtype} --all --delta-dtype {dtype}")).ok();
        let reduced = dir.run(&format!("show {dtype} --json")).ok().json()["metadata"]["reduced"].clone();
        assert_eq!(reduced["delta_dtype"], dtype);
        let max_error = reduced["max_error"].as_f64().unwrap();
        dir.run(&format!("apply target.safetensors {dtype} -o r --force")).ok();
        let (result, wanted) = (read_safetensors(&dir.read("r")), read_safetensors(&dir.read("reference.safetensors")));
        let mut largest = 0f64;
        for ((name, result), (_, wanted)) in
            result.iter().zip(&wanted).filter(|((name, _), _)| name.contains("dense.weight"))
        {
            for (r, w) in result.as_chunks().0.iter().zip(wanted.as_chunks().0) {
                let (r, w) = (f32::from_le_bytes(*r), f32::from_le_bytes(*w));
                largest = largest.max((f64::from(r) - f64::from(w)).abs());
                assert!(
                    (f64::from(r) - f64::from(w)).abs() <= max_error + f64::from(w.abs()) * 2f64.powi(-23),
                    "{name}"
                );
            }
        }
        assert!(largest > 0.0 && max_error < 1e-4, "{dtype}: {largest} of {max_error}");
        assert!(dir.read(dtype).len() < dir.read("target.safetensors").len());
    }
}

#[test]
fn files_are_named_by_their_content_and_on_request_as_hubs_list_them() {
    use lcepatch_format::digest::Digest;
    let dir = bert_dir();
    dir.run("diff target.safetensors reference.safetensors -o p --density 5%").ok();
    let base = dir.run("show p --json").ok().json()["metadata"]["base"]["files"][0].clone();
    let bytes = dir.read("target.safetensors");
    let checkpoint = lcepatch::checkpoint::Checkpoint::open(dir.path("target.safetensors")).unwrap();
    let file = &checkpoint.files()[0];
    let mut content = blake3::Hasher::new();
    content.update(&bytes[..file.header_bytes() as usize]);
    for tensor in file.tensors() {
        let own = &bytes[tensor.range().start as usize..tensor.range().end as usize];
        content.update(blake3::hash(own).as_bytes());
    }
    assert_eq!(base["content"], content.finalize().to_hex().as_str());
    assert_eq!(base.get("sha256"), None);

    dir.run("diff target.safetensors reference.safetensors -o q --density 5% --sha256").ok();
    let named = dir.run("show q --json").ok().json()["metadata"]["base"]["files"][0].clone();
    assert_eq!(named["sha256"], Digest::sha256(&bytes).to_string());
    assert_eq!(named["content"], base["content"]);
}

#[test]
fn several_prefixes_are_found_tried_and_mapped() {
    let dir = Dir::new();
    let side = |names: [&str; 3], add: f32| {
        let values = |n: u64| Random::new(n).values(16, 1.0).into_iter().map(|value| value + add).collect::<Vec<_>>();
        let mut tensors = Vec::new();
        for layer in 0..2 {
            let name = format!("{}layers.{layer}.mlp.up_proj.weight", names[0]);
            tensors.push(Tensor::f32(&name, &[4, 4], &values(layer)));
        }
        tensors.push(Tensor::f32(&format!("{}patch_embed.weight", names[1]), &[4, 4], &values(7)));
        tensors.push(Tensor::f32(names[2], &[4, 4], &values(8)));
        safetensors(&tensors)
    };
    dir.write("old", &side(["language_model.model.", "vision_tower.", "language_model.lm_head.weight"], 0.0));
    dir.write("new", &side(["model.language_model.", "model.visual.", "lm_head.weight"], 0.5));
    let run = dir.run("diff old new").fails(5);
    let line = run.err.lines().find(|line| line.contains("--map-prefix")).unwrap();
    assert!(line.contains("pairs all 4 of the reference's tensors"), "{line}");
    let options = line.split('`').nth(1).unwrap();
    dir.run(&format!("diff old new --all -o p {options}")).ok();
    let pairing = &dir.run("show p --json").ok().json()["metadata"]["pairing"];
    assert_eq!(pairing["prefixes"].as_array().unwrap().len(), 3);
    dir.run("apply old p -o r").ok();
    let bytes = |name: &str| {
        read_safetensors(&dir.read(name)).into_iter().map(|(_, bytes)| bytes).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(bytes("r"), bytes("new"));
}

#[test]
fn two_names_of_the_reference_do_not_become_one() {
    let dir = Dir::new();
    let tensor = |name: &str| Tensor::f32(name, &[2], &[1.0, 2.0]);
    dir.write("t", &safetensors(&[tensor("w")]));
    dir.write("r", &safetensors(&[tensor("a.w"), tensor("b.w")]));
    let run = dir.run("diff t r --common --map-prefix a.= --map-prefix b.=").fails(5);
    run.says(&["a.w and b.w of the reference both get this name"]);
}

#[test]
fn gamma_and_beta_pair_with_weight_and_bias() {
    let dir = Dir::new();
    let norm = |names: [&str; 2], add: f32| {
        let values: Vec<f32> = [1.0, 2.0, 3.0].map(|value| value + add).to_vec();
        let module = "bert.embeddings.LayerNorm";
        safetensors(&names.map(|name| Tensor::f32(&format!("{module}.{name}"), &[3], &values)))
    };
    dir.write("t", &norm(["gamma", "beta"], 0.0));
    dir.write("r", &norm(["weight", "bias"], 1.0));
    dir.run("diff t r --all -o p").ok().says(&["2 tensors paired by another name"]).prints(&["only in norms"]);
    let pairing = &dir.run("show p --json").ok().json()["metadata"]["pairing"];
    assert_eq!(pairing["renamed"][0], json!(["bert.embeddings.LayerNorm.bias", "bert.embeddings.LayerNorm.beta"]));
    dir.run("apply t p -o result").ok();
    assert_eq!(dir.read("result"), norm(["gamma", "beta"], 1.0));
}

#[test]
fn what_common_leaves_out_is_named_and_nothing_in_common_is_no_matter_of_dtypes() {
    let dir = bert_dir();
    let (mut target, _) = bert_pair();
    target.push(Tensor::f32("extra.weight", &[2], &[0.0, 1.0]));
    dir.write("more", &safetensors(&target));
    dir.run("diff more reference.safetensors --common --all")
        .ok()
        .says(&["1 tensor left out, only in the target: extra.weight"]);
    dir.write("adapter", &safetensors(&[Tensor::f32("x.lora_A.weight", &[2], &[0.0, 1.0])]));
    for options in ["", "--common"] {
        let run = dir.run(&format!("diff target.safetensors adapter {options}")).fails(5);
        assert!(!run.err.contains("--cast") && !run.err.contains("--common"), "{run:?}");
        run.says(&["x.lora_A.weight: only in the reference", "adapter holds an adapter (such as LoRA)"]);
    }
}

/// A search by name through all tensors for each of them takes 64 times as long for eight times as many.
#[cfg(unix)]
#[test]
fn time_is_in_proportion_to_the_number_of_tensors() {
    for ((command, few), (_, many)) in processor_seconds(4_000).into_iter().zip(processor_seconds(32_000)) {
        assert!(many < 20.0 * few.max(0.05), "{command}: {few} s, {many} s");
    }
}

/// What commands take for checkpoints of `n` tensors.
#[cfg(unix)]
fn processor_seconds(n: u32) -> Vec<(&'static str, f64)> {
    let dir = Dir::new();
    let write = |name: &str, tensor: &dyn Fn(u32) -> Tensor| {
        dir.write(name, &safetensors(&(0..n).map(tensor).collect::<Vec<_>>()));
    };
    let expert = |at: u32, add| Tensor::f32(&format!("layers.{at}.up.weight"), &[2, 2], &[add, at as f32, 1.0, 2.0]);
    write("t", &|at| expert(at, 0.0));
    write("r", &|at| expert(at, 1.0));
    write("other", &|at| Tensor::f32(&format!("y.{at}.z"), &[1], &[0.0]));
    let commands = [
        ("diff t r -o portable --density 20% --params all --portable", 0),
        ("diff t r -o p --all", 0),
        ("apply t p -o result --undo undo", 0),
        ("show p", 0),
        ("check p t", 0),
        ("diff t other", 5),
    ];
    let seconds = |(command, code): (&'static str, i32)| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", r#"$0 "$@" >log 2>&1; code=$?; times; exit $code"#, env!("CARGO_BIN_EXE_lcepatch")]);
        let run = Run::new(command, shell.args(command.split(' ')).current_dir(dir.path(".")).output().unwrap());
        let run = run.fails(code);
        // The second line is of the command: user and system time, as in 0m1.25s.
        let times = run.out.lines().nth(1).unwrap().split_whitespace().map(|time| {
            let (minutes, seconds) = time.trim_end_matches('s').split_once('m').unwrap();
            minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap()
        });
        (command, times.sum())
    };
    commands.into_iter().map(seconds).collect()
}

use crate::support::*;

fn patched(flags: &str) -> Dir {
    let dir = bert_dir();
    dir.run(&format!("diff target.safetensors reference.safetensors -o p {flags}")).ok();
    dir
}

#[test]
fn alpha_1_of_a_full_patch_gives_the_references_file() {
    let dir = patched("--all");
    dir.run("apply target.safetensors p -o r").ok().prints(&["every byte is the reference's, by its digest"]);
    assert_eq!(dir.read("r"), dir.read("reference.safetensors"));
}

#[test]
fn alpha_0_gives_the_bases_file_with_its_metadata_and_order() {
    let dir = patched("--density 10%");
    dir.run("apply target.safetensors p --alpha 0 -o r").ok();
    assert_eq!(dir.read("r"), dir.read("target.safetensors"));
}

#[test]
fn every_float_dtype_survives_with_any_bits() {
    let dtypes = [("F64", 8), ("F32", 4), ("F16", 2), ("BF16", 2), ("F8_E4M3", 1), ("F8_E5M2", 1)];
    let mut random = Random::new(9);
    let mut tensors = || -> Vec<Tensor> {
        let floats = dtypes.map(|(dtype, width)| Tensor::new(dtype, dtype, &[40, 50], random.bytes(2000 * width)));
        let others = [("BOOL", 1), ("U8", 1), ("I16", 2), ("U32", 4), ("I64", 8), ("C64", 8)];
        let others = others.map(|(dtype, width)| Tensor::new(dtype, dtype, &[7], random.bytes(7 * width)));
        let scalar = Tensor::new("scalar", "F32", &[], random.bytes(4));
        let empty = Tensor::new("empty", "F32", &[0, 3], Vec::new());
        floats.into_iter().chain(others).chain([scalar, empty]).collect()
    };
    let dir = Dir::new();
    dir.write("a", &safetensors(&tensors()));
    dir.write("b", &safetensors(&tensors()));
    for flags in ["", "--portable"] {
        dir.run(&format!("diff a b --all -o p --force {flags}")).ok();
        dir.run("check p a").ok();
        dir.run("apply a p -o r --force").ok();
        assert_eq!(dir.read("r"), dir.read("b"));
    }
}

#[test]
fn a_negative_alpha_parses_with_a_blank_and_extrapolates() {
    let dir = patched("--density 100%");
    dir.run("apply target.safetensors p --alpha -2 -o r").ok();
    let [base, reference, result] = ["target.safetensors", "reference.safetensors", "r"].map(|name| {
        let tensors = read_safetensors(&dir.read(name));
        tensors.into_iter().find(|(name, _)| name.ends_with("layer.0.output.dense.weight")).unwrap().1
    });
    for at in (0..base.len()).step_by(4) {
        let value = |bytes: &[u8]| f64::from(f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()));
        let expected = (value(&base) + -2.0 * (value(&reference) - value(&base))) as f32;
        assert_eq!(value(&result), f64::from(expected));
    }
    for wrong in ["nan", "inf", "x"] {
        dir.run(&format!("apply target.safetensors p --alpha {wrong} -o q")).fails(2);
    }
}

#[test]
fn several_patches_add_up_and_round_once() {
    let dir = bert_dir();
    let (_, reference) = bert_pair();
    let mut random = Random::new(4);
    let other: Vec<Tensor> = reference
        .iter()
        .map(|tensor| match tensor.dtype {
            "F32" => {
                let values: Vec<f32> = f32s(tensor).into_iter().map(|value| value + random.unit()).collect();
                Tensor::f32(&tensor.name, &tensor.shape, &values)
            }
            _ => tensor.clone(),
        })
        .collect();
    dir.write("other", &safetensors(&other));
    dir.run("diff target.safetensors reference.safetensors -o a --density 60%").ok();
    dir.run("diff target.safetensors other -o b --density 60%").ok();
    // What each patch selects: what moves at an alpha that moves everything.
    dir.run("apply target.safetensors a --alpha 1e6 -o ma").ok();
    dir.run("apply target.safetensors b --alpha 1e6 -o mb").ok();
    dir.run("apply target.safetensors a:0.5 b:-2 -o r").ok();
    let files = ["target.safetensors", "reference.safetensors", "other", "ma", "mb", "r"];
    let [base, a, b, moved_a, moved_b, result] = files.map(|name| read_safetensors(&dir.read(name)));
    let mut both = 0;
    for tensor in (0..base.len()).filter(|at| base[*at].0.contains("dense.weight")) {
        for at in (0..base[tensor].1.len()).step_by(4) {
            let value = |file: &[(String, Vec<u8>)]| {
                f64::from(f32::from_le_bytes(file[tensor].1[at..at + 4].try_into().unwrap()))
            };
            let t = value(&base);
            let mut sum = t;
            let (in_a, in_b) = (value(&moved_a) != t, value(&moved_b) != t);
            sum += if in_a { 0.5 * (value(&a) - t) } else { 0.0 };
            sum += if in_b { -2.0 * (value(&b) - t) } else { 0.0 };
            both += usize::from(in_a && in_b);
            assert_eq!(value(&result), f64::from(sum as f32));
        }
    }
    assert!(both > 100, "{both}");
}

#[test]
fn a_directory_gives_a_directory_that_loads() {
    let dir = patched("--density 10%");
    let (target, _) = bert_pair();
    write_model(&dir, "model", &target);
    let run = dir.run("apply model p -o edited").ok().says(&["pytorch_model.bin"]);
    run.prints(&["wrote edited"]);
    let mut names = names(&dir.path("edited"));
    names.retain(|name| !(name.starts_with("lcepatch-undo-") && name.ends_with(".lcepatch")));
    let expected = [
        "README.md",
        "config.json",
        "extra",
        "lcepatch-log.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ];
    assert_eq!(names, expected);
    assert_eq!(dir.read("edited/extra/vocab.txt"), b"a");
    dir.run("apply target.safetensors p -o single").ok();
    dir.run("diff edited single").ok().prints(&["no difference"]);
    dir.run("apply model/model.safetensors.index.json p -o from-index").ok();
    dir.run("diff from-index edited").ok().prints(&["no difference"]);
    dir.run("apply model p -o edited").fails(2).says(&["edited exists already"]);
}

#[test]
fn in_place_and_back_leaves_not_a_byte_changed() {
    let dir = patched("--density 10%");
    let (target, _) = bert_pair();
    write_model(&dir, "model", &target);
    let shards = ["model/model-00001-of-00002.safetensors", "model/model-00002-of-00002.safetensors"];
    let before = shards.map(|shard| dir.read(shard));
    dir.run("apply model p --alpha -2 --in-place --undo undo").ok();
    assert_ne!(shards.map(|shard| dir.read(shard)), before);
    dir.run("check p model").fails(1);
    dir.run("apply model undo --in-place").ok().prints(&["the digest is the one that the patch declares"]);
    assert_eq!(shards.map(|shard| dir.read(shard)), before);
    assert_eq!(names(&dir.path("model")).iter().filter(|name| name.starts_with('.')).count(), 0);
}

#[cfg(unix)]
#[test]
fn in_place_replaces_a_link_and_not_what_it_points_to() {
    let dir = patched("--density 10%");
    let blob = dir.write("cache/blob", &dir.read("target.safetensors"));
    std::os::unix::fs::symlink(&blob, dir.path("linked.safetensors")).unwrap();
    dir.run("apply linked.safetensors p --in-place").ok();
    assert_eq!(dir.read("cache/blob"), dir.read("target.safetensors"));
    assert_ne!(dir.read("linked.safetensors"), dir.read("target.safetensors"));
}

#[test]
fn another_base_is_refused_with_what_differs() {
    let dir = patched("--all");
    let run = dir.run("apply reference.safetensors p -o r").fails(6);
    run.says(&["does not fit this base", "17 of 17", "and 7 more tensors", "already applied"]);
    let (mut target, _) = bert_pair();
    target[0] = Tensor::f32(&target[0].name.clone(), &[8, 32], &f32s(&target[0]));
    dir.write("reshaped", &safetensors(&target));
    dir.run("apply reshaped p -o r").fails(6).says(&["[8, 32]", "[16, 16]", "1 of 17"]);
    target.remove(0);
    dir.write("missing", &safetensors(&target));
    dir.run("apply missing p -o r").fails(6).says(&["not in this checkpoint", "--map-prefix"]);
    dir.run("apply reshaped p -o r --quick").fails(6);
    assert!(!dir.exists("r"));
}

#[test]
fn a_portable_patch_can_be_added_to_another_base() {
    let dir = patched("--density 10% --portable");
    let (target, _) = bert_pair();
    let shifted: Vec<Tensor> = target
        .iter()
        .map(|tensor| match tensor.dtype {
            "F32" => {
                let values: Vec<f32> = f32s(tensor).into_iter().map(|value| value + 1.0).collect();
                Tensor::f32(&tensor.name, &tensor.shape, &values)
            }
            _ => tensor.clone(),
        })
        .collect();
    dir.write("shifted", &safetensors(&shifted));
    dir.run("apply shifted p -o r").fails(6).says(&["--allow-different-base"]);
    dir.run("apply shifted p -o r --allow-different-base").ok().says(&["NOT THE PATCH'S BASE"]);
    dir.run("apply target.safetensors p -o own").ok();
    let files = ["target.safetensors", "shifted", "own", "r"].map(|name| read_safetensors(&dir.read(name)));
    let mut moved = 0;
    for (tensor, (name, bytes)) in files[0].iter().enumerate().filter(|(_, (name, _))| !name.contains("ids")) {
        for at in (0..bytes.len()).step_by(4) {
            let [base, shifted, own, result] = [0, 1, 2, 3].map(|file: usize| {
                f64::from(f32::from_le_bytes(files[file][tensor].1[at..at + 4].try_into().unwrap()))
            });
            assert_eq!(result, f64::from((shifted + (own - base)) as f32), "{name}");
            moved += usize::from(own != base);
        }
    }
    assert_eq!(moved, 205);

    dir.run("diff target.safetensors reference.safetensors -o bound --density 10%").ok();
    dir.run("apply shifted bound -o q --allow-different-base").fails(6).says(&["only a --portable patch"]);
}

#[test]
fn leaving_the_range_of_the_dtype_is_refused_unless_allowed() {
    let dir = Dir::new();
    let half = |bits: [u16; 4]| {
        Tensor::new("w", "F16", &[2, 2], bits.iter().flat_map(|bits| bits.to_le_bytes()).collect::<Vec<u8>>())
    };
    dir.write("a", &safetensors(&[half([0x3c00, 0x7bff, 0x3c00, 0x8000])]));
    dir.write("b", &safetensors(&[half([0x4000, 0x7bfe, 0x3c01, 0x0000])]));
    dir.run("diff a b -o p --all").ok();
    dir.run("apply a p --alpha -2 -o r").fails(7).says(&["element 1", "65504", "--allow-non-finite"]);
    assert!(!dir.exists("r"));
    dir.run("apply a p --alpha -2 -o r --allow-non-finite").ok();
    let (_, bytes) = &read_safetensors(&dir.read("r"))[0];
    let bits: Vec<u16> = bytes.as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect();
    // The last one: -0 + -2 * (0 - -0) is a sum of two negative zeros.
    assert_eq!(bits, [0xbc00, 0x7c00, 0x3bfc, 0x8000]);
}

#[test]
fn a_nan_can_be_reached_only_at_alpha_1() {
    let dir = Dir::new();
    dir.write("a", &safetensors(&[Tensor::f32("w", &[2], &[1.0, 2.0])]));
    dir.write("b", &safetensors(&[Tensor::f32("w", &[2], &[f32::from_bits(0xffc0_1234), 2.0])]));
    dir.run("diff a b -o p --all").ok();
    dir.run("apply a p -o r").ok();
    assert_eq!(dir.read("r"), dir.read("b"));
    dir.run("apply a p --alpha 0.5 -o q").fails(7);
}

#[test]
fn outputs_are_never_replaced_by_surprise() {
    let dir = patched("--density 10%");
    dir.write("mine", b"mine");
    dir.run("apply target.safetensors p -o mine").fails(2).says(&["mine exists", "--force"]);
    dir.run("apply target.safetensors p -o r --undo mine").fails(2).says(&["mine exists"]);
    assert_eq!(dir.read("mine"), b"mine");
    assert!(!dir.exists("r"));
    dir.run("apply target.safetensors p -o target.safetensors --force")
        .fails(6)
        .says(&["is the base itself", "--in-place"]);
    dir.run("apply target.safetensors p").fails(2);
    dir.run("apply target.safetensors p -o r --in-place").fails(2);
    dir.run("apply target.safetensors p -o made/for/it/r").ok();
    assert!(dir.exists("made/for/it/r"));
    dir.run("apply target.safetensors p -o mine/r").fails(3).says(&["create the folder mine"]);
    dir.run("apply target.safetensors p -o mine --force").ok();
}

#[test]
fn files_and_directories_do_not_take_each_others_places() {
    let dir = patched("--density 10%");
    let (target, _) = bert_pair();
    write_model(&dir, "model", &target);
    std::fs::create_dir(dir.path("empty")).unwrap();
    dir.write("mine", b"mine");
    for place in ["empty", "empty/", "new/", "model"] {
        for command in [
            "apply target.safetensors p -o",
            "apply target.safetensors p -o r --undo",
            "diff target.safetensors reference.safetensors -o",
            "invert p -o",
            "compare p p -o",
            "sign p --key p -o",
            "mask target.safetensors -o",
            "mask target.safetensors --pruned",
        ] {
            let run = dir.run(&format!("{command} {place} --force")).fails(2);
            run.says(&[
                "is the path of a directory",
                &format!("name a file, such as {}/NAME", place.trim_end_matches('/')),
            ]);
        }
    }
    for (place, help) in [("mine", "remove the file"), ("/dev/null", "another name for the directory")] {
        for flags in ["", "--force"] {
            let says = ["is not a directory", help];
            dir.run(&format!("apply model p -o {place} {flags}")).fails(2).says(&says);
            dir.run(&format!("mask model --pruned {place} {flags}")).fails(2).says(&says);
        }
    }
    assert_eq!(dir.read("mine"), b"mine");
    dir.run("apply model p -o empty/ --force").ok();
}

#[test]
fn integers_are_not_added_up() {
    let dir = Dir::new();
    for (name, value) in [("a", 0), ("b", 1), ("c", 2)] {
        dir.write(name, &safetensors(&[Tensor::i64("w", &[value, 5])]));
    }
    dir.run("diff a b -o p --portable").ok();
    dir.run("diff a c -o q").ok();
    dir.run("apply a p q -o r").fails(6).says(&["the changes of several patches cannot be added", "but one"]);
    dir.run("apply c p -o r --allow-different-base").fails(6).says(&["a change of another base", "select --exclude"]);
    dir.run("apply a p --alpha 0.5 -o r").fails(6).says(&["scaled by alpha 0.5", "--alpha 1"]);
    dir.run("apply a p --edit pr -o r").fails(6).says(&["cannot be pruned", "select --exclude"]);
    dir.run("apply a p -o r").ok().prints(&["1 weight edited in 1 tensor"]);
}

#[test]
fn patches_name_their_alpha_after_a_colon() {
    let dir = patched("--density 10%");
    dir.run("apply target.safetensors p:0.5 -o colon").ok();
    dir.run("apply target.safetensors p --alpha 0.5 -o flag").ok();
    assert_eq!(dir.read("colon"), dir.read("flag"));
    dir.write("odd:2", &dir.read("p"));
    dir.run("apply target.safetensors odd:2 -o name").ok();
    dir.run("apply target.safetensors p -o one").ok();
    assert_eq!(dir.read("name"), dir.read("one"));
    dir.run("apply target.safetensors p:x -o q").fails(2).says(&["PATCH:ALPHA"]);
}

#[test]
fn names_with_blanks_work() {
    let dir = patched("--density 10%");
    dir.write("my model.safetensors", &dir.read("target.safetensors"));
    dir.run_words(&["apply", "my model.safetensors", "p", "-o", "my result.safetensors"]).ok();
    assert!(dir.exists("my result.safetensors"));
}

#[test]
fn a_quick_check_and_a_full_one_give_the_same_result() {
    for flags in ["--all", "--density 5%"] {
        let dir = patched(flags);
        dir.run("apply target.safetensors p --alpha 0.7 -o full --json").ok();
        let quick = dir.run("apply target.safetensors p --alpha 0.7 -o quick --quick --json").ok();
        assert_eq!(quick.json()["verified"], false);
        assert_eq!(dir.read("full"), dir.read("quick"));
    }
}

#[cfg(unix)]
#[test]
fn a_process_that_dies_while_writing_leaves_the_base_whole() {
    let dir = patched("--all");
    let before = dir.read("target.safetensors");
    // A limit on the size of files ends the process at the first write past it.
    for blocks in [0, 1, 4, 9] {
        let script = format!("ulimit -f {blocks}; exec \"$0\" apply target.safetensors p --in-place --undo u --force");
        let status = std::process::Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_lcepatch")])
            .current_dir(dir.path(""))
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(!status.success());
        assert_eq!(dir.read("target.safetensors"), before, "{blocks} blocks");
        assert!(!dir.exists("u"));
        let left = dir.names().into_iter().filter(|name| name.starts_with(".lcepatch-"));
        left.for_each(|name| std::fs::remove_file(dir.path(&name)).unwrap());
    }
    dir.run("apply target.safetensors p --in-place --undo u").ok();
}

/// A pair, and a patch of it that recommends alpha -2.
fn recommended() -> Dir {
    patched("--density 10% --recommended-alpha -2")
}

#[test]
fn the_alpha_that_a_patch_recommends_is_the_default() {
    let dir = recommended();
    dir.run("apply target.safetensors p --alpha -2 -o named").ok();
    dir.run("apply target.safetensors p -o r").ok().prints(&["at alpha -2, which the patch recommends"]);
    assert_eq!(dir.read("r"), dir.read("named"));
    let said = dir.run("apply target.safetensors p -o j --json").ok().json();
    assert_eq!((&said["patches"][0]["alpha"], &said["patches"][0]["edit"]), (&(-2.0).into(), &"ep".into()));
    assert_eq!(said["patches"][0]["alpha_source"], "recommended");
}

#[test]
fn an_alpha_that_is_given_goes_before_the_recommended_one() {
    let dir = recommended();
    for words in ["p --alpha 1", "p:1", "p:1 --alpha 3"] {
        let said = dir.run(&format!("apply target.safetensors {words} -o r --json --force")).ok().json();
        assert_eq!((&said["patches"][0]["alpha"], &said["patches"][0]["alpha_source"]), (&1.0.into(), &"given".into()));
        assert_eq!(said["verified"], true);
    }
    let said = patched("--density 10%").run("apply target.safetensors p -o r --json").ok().json();
    assert_eq!((&said["patches"][0]["alpha"], &said["patches"][0]["alpha_source"]), (&1.0.into(), &"default".into()));
}

#[test]
fn an_edit_and_a_recommended_alpha_that_contradict_each_other_are_refused() {
    let dir = recommended();
    dir.run("apply target.safetensors p --edit ep -o r").ok();
    let said = ["--edit ip takes an alpha from 0 to 1", "the patch recommends alpha -2", "--alpha"];
    dir.run("apply target.safetensors p --edit ip -o s").fails(2).says(&said);
    dir.run("apply target.safetensors p --edit ip --alpha 0.5 -o s").ok();
    dir.run("apply target.safetensors p --edit pr -o t").ok();
}

#[test]
fn what_is_undone_and_what_is_combined_is_at_the_alpha_that_was_meant() {
    let dir = recommended();
    dir.run("apply target.safetensors p -o r --undo u").ok();
    dir.run("apply r u -o back").ok();
    assert_eq!(dir.read("back"), dir.read("target.safetensors"));
    dir.run("combine p --base target.safetensors -o sum").ok().says(&["weight -2"]);
    dir.run("apply target.safetensors sum -o s").ok();
    assert_eq!(dir.read("s"), dir.read("r"));
}

#[test]
fn the_base_as_output_is_said_before_anything_else() {
    let dir = patched("--density 10%");
    for line in [
        "apply target.safetensors p -o target.safetensors",
        "apply ./target.safetensors p -o target.safetensors --force",
    ] {
        dir.run(line).fails(6).says(&["is the base itself", "--in-place"]);
    }
}

#[test]
fn one_patch_given_twice_is_noted() {
    let dir = patched("--density 10%");
    dir.run("apply target.safetensors p p -o r").ok().says(&["p is given more than once"]);
    dir.run("apply target.safetensors C:\\models\\p.lcepatch -o s").fails(3).says(&["C:\\models\\p.lcepatch"]);
}

#[test]
fn a_patch_and_a_directory_in_each_others_place_are_recognized() {
    let dir = patched("--density 10%");
    let (target, _) = bert_pair();
    write_model(&dir, "model", &target);
    dir.run("apply p model -o r").fails(5).says(&["this is a patch, not a checkpoint", "the order is `lcepatch apply"]);
}

#[test]
fn a_negative_alpha_may_be_written_in_any_way() {
    let dir = bert_dir();
    dir.run("diff target.safetensors reference.safetensors -o p --recommended-alpha -1e-1 --all").ok();
    dir.run("apply target.safetensors p --alpha -1e-3 -o a").ok();
    dir.run("apply target.safetensors p --alpha -.001 -o b").ok();
    assert_eq!(dir.read("a"), dir.read("b"));
}

//! `lcepatch mask`, and the edits of pruned models.

use crate::support::*;

const QUERY: &str = "encoder.layer.0.attention.self.query.weight";
const OUTPUT: &str = "encoder.layer.0.attention.output.dense.weight";

/// Two matrices of four weights. The names are no whole transformer's, so that all matrices are candidates.
fn weights(query: [f32; 4], output: [f32; 4]) -> Vec<Tensor> {
    vec![Tensor::f32(QUERY, &[2, 2], &query), Tensor::f32(OUTPUT, &[2, 2], &output)]
}

fn packed(name: &str, bits: u8) -> Tensor {
    Tensor::new(name, "U8", &[1], vec![bits])
}

/// The flat weights of `QUERY` and `OUTPUT`.
fn both(dir: &Dir, file: &str) -> Vec<f32> {
    let tensors = read_safetensors(&dir.read(file));
    let of = |name: &str| tensors.iter().find(|(found, _)| found == name).unwrap().1.clone();
    let bytes = [of(QUERY), of(OUTPUT)].concat();
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// A target and a reference, dense, their masks, and the pruned checkpoints. Masks, by position: the query's 0 is kept in
/// the target only, its 3 in the reference only, the output's 2 by neither.
fn pruned_dir() -> Dir {
    let dir = Dir::new();
    dir.write("t", &safetensors(&weights([1.0, 2.0, 3.0, 4.0], [-1.0, -2.0, -3.0, -4.0])));
    dir.write("r", &safetensors(&weights([1.5, 2.5, 3.5, 4.5], [-1.5, -2.5, -3.5, -4.5])));
    dir.write("mt", &safetensors(&[packed(QUERY, 0b0111), packed(OUTPUT, 0b1011)]));
    dir.write("mr", &safetensors(&[packed(QUERY, 0b1110), packed(OUTPUT, 0b1011)]));
    dir.run("mask t --from mt --pruned tp").ok();
    dir.run("mask r --from mr --pruned rp").ok();
    assert_eq!(both(&dir, "tp"), [1.0, 2.0, 3.0, 0.0, -1.0, -2.0, 0.0, -4.0]);
    dir
}

#[test]
fn the_case_table_by_hand() {
    let dir = pruned_dir();
    dir.run("diff tp rp -o p --localize mask --mask-from zeros --unpruned t").ok().prints(&["kept by both"]);
    dir.run("show p").ok().prints(&["1 kept in the base only, 1 in the reference only", "can be switched"]);
    let rest = [-1.0, -2.0, 0.0, -4.0];
    let cases = [
        ("--alpha 0", 1.0, 0.0),
        ("--alpha 0.5 --edit ip", 0.5, 2.25),
        ("--alpha 1", 0.0, 4.5),
        ("--alpha 2 --edit ep", -1.0, 9.0),
        ("--alpha -2", 3.0, -9.0),
        ("--edit pr", 0.0, 0.0),
        ("--edit sw", 0.0, 4.0),
    ];
    for (edit, only_target, only_reference) in cases {
        dir.run(&format!("apply tp p -o q --force {edit} --undo u")).ok();
        assert_eq!(both(&dir, "q")[..4], [only_target, 2.0, 3.0, only_reference], "{edit}");
        assert_eq!(both(&dir, "q")[4..], rest, "{edit}");
        dir.run("apply q u -o back --force").ok();
        assert_eq!(dir.read("back"), dir.read("tp"), "{edit}");
    }
}

#[test]
fn every_form_of_a_mask_gives_the_same_patch() {
    let dir = pruned_dir();
    let whole = |dtype: &'static str, zero: &[u8], one: &[u8], names: [&str; 2]| {
        let tensor = |name: &str, bits: [bool; 4]| {
            let bytes = bits.map(|bit| if bit { one } else { zero }).concat();
            Tensor::new(name, dtype, &[2, 2], bytes)
        };
        let (query, output) = ([true, true, true, false], [true, true, false, true]);
        safetensors(&[tensor(names[0], query), tensor(names[1], output)])
    };
    let masks = [QUERY, OUTPUT].map(|name| format!("{name}_mask"));
    dir.write("bool", &whole("BOOL", &[0], &[1], [QUERY, OUTPUT]));
    dir.write("u8", &whole("U8", &[0], &[1], [QUERY, OUTPUT]));
    dir.write("f32", &whole("F32", &0f32.to_le_bytes(), &1f32.to_le_bytes(), [QUERY, OUTPUT]));
    dir.write("named", &whole("F16", &[0, 0], &[0, 0x3c], [&masks[0], &masks[1]]));
    dir.write("i64", &whole("I64", &0i64.to_le_bytes(), &1i64.to_le_bytes(), [QUERY, OUTPUT]));
    dir.run("mask t --from bool -o repacked").ok().prints(&["2 of 8"]);
    dir.run("diff t r -o p --localize mask --target-mask mt --reference-mask mr").ok();
    for form in ["bool", "u8", "f32", "named", "i64", "repacked"] {
        dir.run(&format!("diff t r -o q --force --localize mask --target-mask {form} --reference-mask mr")).ok();
        assert_eq!(dir.read("q"), dir.read("p"), "{form}");
    }
}

#[test]
fn masks_that_are_none_are_refused() {
    let dir = pruned_dir();
    let bad = |name: &str, tensors: &[Tensor]| {
        dir.write(name, &safetensors(tensors));
        dir.run(&format!("diff t r -o q --localize mask --target-mask {name} --reference-mask mr")).fails(5)
    };
    bad("shape", &[Tensor::f32(QUERY, &[4], &[1.0; 4])]).says(&["[4]", "[2, 2]", "or be packed"]);
    bad("half", &[Tensor::f32(QUERY, &[2, 2], &[1.0, 0.5, 0.0, 1.0])]).says(&["element 1", "0.5"]);
    bad("nan", &[Tensor::f32(QUERY, &[2, 2], &[1.0, 0.0, f32::NAN, 1.0])]).says(&["element 2", "NaN"]);
    bad("padding", &[packed(QUERY, 0x17)]).says(&["bits after its last element"]);
    bad("other", &[packed("other", 1)]).says(&["\"other\"", "another checkpoint"]);
    dir.run("diff t r -o q --localize mask --target-mask mt --reference-mask mt").fails(2).says(&["keep the same"]);
    dir.run("diff t r -o q --localize mask").fails(2).says(&["no pruning masks", "--target-mask"]);
    dir.run("diff t r -o q --localize mask --target-mask mt").fails(2).says(&["--reference-mask"]);
    dir.run("diff t r -o q --localize mask --sparsity 30% --k 3").fails(2).says(&["lcepatch select"]);
    dir.run("diff t r -o q --localize random").fails(2).says(&["--k"]);
    for sparsity in ["1", "100%", "-0.1", "NaN", "x"] {
        dir.run(&format!("mask t -o q --sparsity={sparsity}")).fails(2);
    }
    dir.write("infinite", &safetensors(&weights([1.0, f32::INFINITY, 0.0, 0.0], [0.0; 4])));
    dir.run("mask infinite -o q --sparsity 30%").fails(7).says(&["element 1", "inf"]);
    assert!(!dir.exists("q"));
}

#[test]
fn pruning_counts_exactly_and_continues_from_an_earlier_mask() {
    let dir = Dir::new();
    // Output comes before query in the order of names.
    dir.write("t", &safetensors(&weights([0.5, -0.1, 0.1, 3.0], [0.1, 2.0, -0.1, 1.0])));
    let kept = |mask: &str| {
        let tensors = read_safetensors(&dir.read(mask));
        tensors.into_iter().map(|(name, bytes)| (name == OUTPUT, bytes[0])).collect::<Vec<_>>()
    };
    dir.run("mask t -o m --sparsity 25%").ok().prints(&["pruned 2 of 8 weights"]);
    assert_eq!(kept("m"), [(true, 0b1010), (false, 0b1111)], "of four equal ones the first two");
    dir.run("mask t -o m --force --sparsity 37.5%").ok();
    assert_eq!(kept("m"), [(true, 0b1010), (false, 0b1101)]);
    // After more training other weights are the smallest, but what was pruned stays so.
    dir.write("t2", &safetensors(&weights([0.0, 5.0, 5.0, 0.01], [5.0; 4])));
    dir.run("mask t2 -o m2 --sparsity 50% --from m").ok();
    assert_eq!(kept("m2"), [(true, 0b1010), (false, 0b1100)]);
    dir.run("mask t2 -o m3 --sparsity 25% --from m")
        .fails(2)
        .says(&["prunes more weights already (3)", "asked for (2)"]);
    dir.run("mask t -o m4 --sparsity 50% --scope tensor").ok();
    assert_eq!(kept("m4"), [(true, 0b1010), (false, 0b1001)]);
}

#[test]
fn two_outputs_are_two_files() {
    let dir = bert_dir();
    dir.run("mask target.safetensors --sparsity 10% -o m --pruned ./m --force").fails(2).says(&["one file"]);
    assert!(!dir.exists("m"));
}

#[test]
fn the_zeros_of_a_reference_keep_their_sign() {
    let dir = pruned_dir();
    // As `prune.remove` leaves them: weight * 0.
    dir.write("rz", &safetensors(&weights([-0.0, 2.5, 3.5, 4.5], [-1.5, -2.5, -0.0, -4.5])));
    dir.run("diff tp rz -o p --localize mask --mask-from zeros").ok();
    dir.run("apply tp p -o q").ok();
    assert_eq!(both(&dir, "q")[0].to_bits(), (-0f32).to_bits());
    dir.run("apply tp p -o q --force --alpha 2").ok();
    assert_eq!(both(&dir, "q")[..4], [-1.0, 2.0, 3.0, 9.0]);
}

/// The pruned pair as `torch.nn.utils.prune` keeps it.
fn pairs(dir: &Dir) {
    let with_masks = |file: &str, masks: [[f32; 4]; 2]| {
        let tensors = read_safetensors(&dir.read(file));
        let mut out = Vec::new();
        for (name, mask) in [(QUERY, masks[0]), (OUTPUT, masks[1])] {
            let bytes = tensors.iter().find(|(found, _)| found == name).unwrap().1.clone();
            out.push(Tensor::new(&format!("{name}_orig"), "F32", &[2, 2], bytes));
            out.push(Tensor::f32(&format!("{name}_mask"), &[2, 2], &mask));
        }
        safetensors(&out)
    };
    dir.write("tt", &with_masks("t", [[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 1.0]]));
    dir.write("rr", &with_masks("r", [[0.0, 1.0, 1.0, 1.0], [1.0, 1.0, 0.0, 1.0]]));
}

#[test]
fn weights_beside_their_masks_are_edited_together() {
    let dir = pruned_dir();
    pairs(&dir);
    dir.run("diff tt rr -o p --localize mask").ok();
    let cases = [
        ("--alpha 0", [1.0, 4.0], [1.0, 0.0]),
        ("--alpha 0.5", [0.5, 2.25], [1.0, 1.0]),
        ("--alpha 1", [0.0, 4.5], [0.0, 1.0]),
        ("--edit pr", [0.0, 0.0], [0.0, 0.0]),
        ("--edit sw", [0.0, 4.0], [0.0, 1.0]),
    ];
    for (edit, weights, mask) in cases {
        dir.run(&format!("apply tt p -o q --force {edit} --undo u --keep-mask m")).ok();
        let tensors = read_safetensors(&dir.read("q"));
        let values = |suffix: &str| {
            let bytes = &tensors.iter().find(|(name, _)| *name == format!("{QUERY}{suffix}")).unwrap().1;
            bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect::<Vec<f32>>()
        };
        assert_eq!([values("_orig")[0], values("_orig")[3]], weights, "{edit}");
        assert_eq!([values("_mask")[0], values("_mask")[3]], mask, "{edit}");
        assert_eq!(values("_orig")[1..3], [2.0, 3.0], "{edit}");
        let kept = &read_safetensors(&dir.read("m"))[1];
        assert_eq!(kept.1[0], 0b110 | mask[0] as u8 | (mask[1] as u8) << 3, "{edit}");
        dir.run("apply q u -o back --force").ok();
        assert_eq!(dir.read("back"), dir.read("tt"), "{edit}");
    }
    dir.run("mask tt --pruned plain").ok();
    let plain = read_safetensors(&dir.read("plain"));
    assert_eq!(plain.iter().filter(|(name, _)| name.ends_with("_mask")).count(), 2);
    dir.run("diff tt r -o q --force --localize mask").fails(2).says(&["--reference-mask"]);
}

#[test]
fn a_dense_base_keeps_its_mask_in_a_file() {
    let dir = pruned_dir();
    dir.run("diff t r -o p --localize mask --target-mask mt --reference-mask mr").ok();
    dir.run("show p").ok().prints(&["can be switched"]);
    dir.run("apply t p -o q --edit sw --mask mt --keep-mask m").ok();
    dir.run("mask q --from m --pruned pruned").ok();
    assert_eq!(both(&dir, "pruned"), [0.0, 2.0, 3.0, 4.0, -1.0, -2.0, 0.0, -4.0]);
    dir.run("apply t p -o q2 --keep-mask m2").fails(6).says(&["kept in the base's mask", "--mask"]);
    assert!(!dir.exists("q2") && !dir.exists("m2"));
    dir.run("diff tp rp -o z --localize mask --mask-from zeros").ok();
    dir.run("show z").ok().prints(&["can be switched where nothing is restored"]);
    dir.run("apply tp z -o q2 --edit sw").fails(6).says(&["before it was pruned", "diff --unpruned"]);
    dir.run("diff tp rp -o v --k 2 --mask-from zeros").ok();
    dir.run("apply tp v -o q2 --edit sw").fails(6).says(&["carries no pruning masks", "--localize mask"]);
    dir.run("apply tp z z -o q2 --edit sw").fails(6).says(&["cannot be done together"]);
    dir.run("apply tp z v -o q2 --edit pr").ok();
    assert_eq!(both(&dir, "q2")[0], 0.0);
    for wrong in
        ["--edit sw --alpha 1", "--edit pr --alpha 1", "--edit ip --alpha 2", "--edit ep", "--edit ep --alpha 1"]
    {
        dir.run(&format!("apply tp z -o q3 {wrong}")).fails(2);
    }
    assert!(!dir.exists("q3"));
}

#[test]
fn value_based_selection_looks_only_where_both_keep() {
    let dir = pruned_dir();
    dir.run("diff tp rp -o v --k 6 --mask-from zeros").fails(2).says(&["asked for (6) than there are candidates (5)"]);
    dir.run("diff tp rp -o v --k 5 --mask-from zeros").ok();
    dir.run("diff tp rp -o m --localize mask --mask-from zeros").ok();
    let common = dir.run("compare v m --base tp --json").ok().json();
    assert_eq!(
        common["all"],
        serde_json::json!({
            "first": 5, "second": 2, "both": 0, "jaccard": 0.0, "cosine": 0.0, "same_direction": 0,
        })
    );
    dir.run("diff tp rp -o k --k from-mask --mask-from zeros").ok();
    assert_eq!(dir.run("show k --json").ok().json()["stat"]["selected"], 2);
}

#[test]
fn a_drawn_selection_is_the_seeds() {
    let dir = bert_dir();
    let draw = |name: &str, flags: &str| {
        let files = "target.safetensors reference.safetensors";
        dir.run(&format!("diff {files} -o {name} --localize random {flags}")).ok();
        dir.read(name)
    };
    assert_eq!(draw("a", "--k 100 --seed 5"), draw("b", "--k 100 --seed 5 --threads 1"));
    assert_ne!(draw("c", "--k 100 --seed 6"), dir.read("a"));
    dir.run("show a").ok().prints(&["drawn at random, seed 5"]);
    // Of either mask's, and of the target's alone.
    dir.run("mask target.safetensors --sparsity 40% --pruned t").ok();
    dir.run("mask reference.safetensors --sparsity 40% --pruned r").ok();
    let counts = &dir.run("mask t --compare r --json").ok().json()["counts"];
    let [both, target, reference] =
        ["both", "base_only", "reference_only"].map(|of| counts[of].as_u64().expect("a count"));
    assert_eq!((both + target, target), (1229, reference));
    assert!(target > 0);
    for (among, all) in [("target", both + target), ("either", both + target + reference)] {
        let line = format!("diff t r -o d --force --localize random --mask-from zeros --among {among} --seed 1 --k");
        dir.run(&format!("{line} {}", all + 100)).fails(2).says(&["than there are candidates"]);
    }
}

#[test]
fn masks_are_compared_by_component() {
    let dir = pruned_dir();
    let json = dir.run("mask tp --compare rp --json").ok().json();
    assert_eq!(json["jaccard"], 5.0 / 7.0);
    assert_eq!(json["counts"]["base_only"], 1);
    assert_eq!(dir.run("mask t --from mt --compare mr --json").ok().json(), json);
    dir.write("r2", &safetensors(&weights([0.0, 0.0, 3.5, 4.5], [-1.5, -2.5, 0.0, -4.5])));
    dir.run("diff tp r2 -o p --localize mask --mask-from zeros").ok().says(&["2 pruned weights, the reference 3"]);
}

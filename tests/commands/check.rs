use crate::support::*;

fn patched() -> Dir {
    let dir = bert_dir();
    dir.run("diff target.safetensors reference.safetensors -o p --density 5%").ok();
    dir
}

#[test]
fn an_intact_patch_and_its_base_fit() {
    let dir = patched();
    dir.run("check p").ok().prints(&["intact"]);
    for flag in ["", "--quick"] {
        dir.run(&format!("check p target.safetensors {flag}")).ok().prints(&["fits"]);
    }
    let answer = dir.run("check p target.safetensors --json").ok().json();
    assert_eq!((answer["fits"].as_bool(), answer["state"].as_str()), (Some(true), Some("base")));
}

#[test]
fn one_flipped_bit_of_the_base_is_found_and_named() {
    let dir = patched();
    let mut base = dir.read("target.safetensors");
    let last_of_first_tensor = base.len() - 4 * 8 - 480 * 4 - 8 * (256 + 16) * 4 + 5;
    base[last_of_first_tensor] ^= 1;
    dir.write("flipped", &base);
    let run = dir.run("check p flipped").fails(1);
    run.prints(&["does not fit", "1 of 8 tensors", "bert.encoder.layer.1.output.dense.weight", "digest is"]);
}

#[test]
fn an_applied_patch_is_recognized() {
    let dir = patched();
    dir.run("apply target.safetensors p -o r").ok();
    for flag in ["", "--quick"] {
        dir.run(&format!("check p r {flag}")).fails(1).prints(&["already applied"]);
    }
    assert_eq!(dir.run("check p r --json").fails(1).json()["state"], "result");
    assert_eq!(dir.run("check p reference.safetensors --json").fails(1).json()["state"], "reference");
}

#[test]
fn a_patch_fits_whatever_holds_its_tensors() {
    let dir = patched();
    let (mut target, _) = bert_pair();
    write_model(&dir, "model", &target);
    dir.run("check p model").ok();
    target.reverse();
    target.push(Tensor::f32("another.head", &[1], &[1.0]));
    dir.write("reordered", &safetensors(&target));
    dir.run("check p reordered").ok();
    let bare: Vec<Tensor> = target.iter().map(|t| t.renamed(t.name.trim_start_matches("bert."))).collect();
    dir.write("bare", &safetensors(&bare));
    dir.run("check p bare").fails(1).prints(&["not in this checkpoint"]);
    dir.run("check p bare --map-prefix bert.=").ok();
}

#[test]
fn long_lists_are_cut_and_can_be_had_in_full() {
    let dir = bert_dir();
    dir.run("diff target.safetensors reference.safetensors -o p --all").ok();
    dir.write("empty", &safetensors(&[Tensor::f32("x", &[1], &[0.0])]));
    let short = dir.run("check p empty").fails(1).prints(&["and 7 more"]);
    assert_eq!(short.out.matches("not in this checkpoint").count(), 10);
    let full = dir.run("check p empty --full").fails(1);
    assert_eq!(full.out.matches("not in this checkpoint").count(), 17);
}

#[test]
fn a_damaged_block_is_found() {
    let dir = patched();
    let mut bytes = dir.read("p");
    *bytes.last_mut().unwrap() ^= 0x10;
    dir.write("damaged", &bytes);
    dir.run("show damaged").ok();
    dir.run("check damaged").fails(4).says(&["R18", "digest"]);
    dir.run("apply target.safetensors damaged -o r").fails(4);
    assert!(!dir.exists("r"));
}

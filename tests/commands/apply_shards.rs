//! An apply in several processes, compared with that of one.

use crate::support::*;
use std::path::Path;

/// A model of several files, with a pruning mask in another file than its weights, and patches for it.
fn model() -> Dir {
    let dir = bert_dir();
    let (base, next) = bert_pair();
    let mask = |tensors: &[Tensor]| {
        let mut tensors = tensors.to_vec();
        let name = tensors[0].name.clone();
        let ones = Tensor::f32(&format!("{name}_mask"), &[16, 16], &[1.0; 256]);
        tensors[0].name = format!("{name}_orig");
        tensors.push(ones);
        tensors
    };
    write_model(&dir, "base", &mask(&base));
    write_model(&dir, "next", &mask(&next));
    // The same under other names.
    let wrapped = |tensors: &[Tensor]| -> Vec<Tensor> {
        mask(tensors)
            .into_iter()
            .map(|tensor| {
                let name = format!("model.{}", tensor.name);
                tensor.renamed(&name)
            })
            .collect()
    };
    write_model(&dir, "wrapped", &wrapped(&base));
    write_model(&dir, "wrapped-next", &wrapped(&next));
    dir.run("diff wrapped wrapped-next --all -o named.lcepatch").ok();
    dir.run("diff base next --all -o all.lcepatch").ok();
    dir.run("diff base next --density 2% -o few.lcepatch --portable").ok();
    dir
}

/// The files of a result but for the time in the log, and the undo patch that only one process makes.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let names = names(folder).into_iter().filter(|name| !name.starts_with("lcepatch-"));
    let read = |name: String| {
        (
            name.clone(),
            if folder.join(&name).is_dir() { Vec::new() } else { std::fs::read(folder.join(&name)).unwrap() },
        )
    };
    names.map(read).collect()
}

fn log(dir: &Dir, model: &str) -> serde_json::Value {
    let mut log: serde_json::Value = serde_json::from_slice(&dir.read(&format!("{model}/lcepatch-log.json"))).unwrap();
    for step in log["steps"].as_array_mut().unwrap() {
        step["time"].take();
        step["undo"].take();
    }
    log
}

#[track_caller]
fn makes_the_result_of_one_process(arguments: &str) {
    let dir = model();
    let one = dir.run(&format!("apply base {arguments} -o one")).ok();
    for n in [1, 2, 5] {
        for shard in (1..=n).rev() {
            dir.run(&format!("apply base {arguments} -o out --shard {shard}/{n}")).ok();
        }
        assert!(!dir.exists("out"), "only a result that is complete is there");
        let finished = dir.run(&format!("apply base {arguments} -o out --finish")).ok();
        assert!(contents(&dir.path("one")) == contents(&dir.path("out")), "{arguments}, {n}");
        assert_eq!(log(&dir, "one"), log(&dir, "out"));
        assert_eq!(
            one.out.lines().next().unwrap().replace("wrote one", ""),
            finished.out.lines().next().unwrap().replace("wrote out", "")
        );
        dir.run("status out").ok();
        std::fs::remove_dir_all(dir.path("out")).unwrap();
        assert!(!dir.exists("out.shards"));
    }
}

#[test]
fn files_of_several_processes_are_the_result_of_one() {
    makes_the_result_of_one_process("all.lcepatch");
    makes_the_result_of_one_process("all.lcepatch --alpha -0.5");
    makes_the_result_of_one_process("few.lcepatch all.lcepatch:0.25");
    makes_the_result_of_one_process("few.lcepatch --include *.query.* --quick");
    makes_the_result_of_one_process("few.lcepatch --alpha 0");
    makes_the_result_of_one_process("named.lcepatch --map-prefix model.=");
}

#[test]
fn a_shard_is_done_once_and_another_run_is_not_mixed_in() {
    let dir = model();
    let shard = "apply base all.lcepatch -o out --shard";
    dir.run(&format!("{shard} 1/2")).ok().prints(&["wrote 1 file of shard 1 of 2 to out.shards"]);
    dir.run(&format!("{shard} 1/2")).ok().prints(&["out.shards: done already, 1 file of shard 1 of 2"]);
    dir.run("apply base all.lcepatch -o out --finish").fails(6).says(&["shard 2 of 2 is missing"]);
    for other in ["--alpha 0.5 --shard 2/2", "--no-log --shard 2/2", "--shard 2/3"] {
        dir.run(&format!("apply base all.lcepatch -o out {other}")).fails(6).says(&["another run"]);
    }
    dir.run("apply base all.lcepatch -o out --alpha 0.5 --finish").fails(6).says(&["another run"]);
    dir.run(&format!("{shard} 2/2")).ok();
    dir.run("apply next all.lcepatch -o out --finish").fails(6).says(&["another run"]);
    // What is on the disk is compared, not what was written.
    let file = "out.shards/model-00002-of-00002.safetensors";
    let whole = dir.read(file);
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    dir.write(file, &damaged);
    dir.run("apply base all.lcepatch -o out --finish").fails(5).says(&[
        "model-00002",
        "not what shard 2 wrote",
        "run shard 2 again with --force",
    ]);
    std::fs::rename(dir.path(file), dir.path("elsewhere")).unwrap();
    dir.write("elsewhere", &whole);
    std::os::unix::fs::symlink(dir.path("elsewhere"), dir.path(file)).unwrap();
    dir.run("apply base all.lcepatch -o out --finish").fails(3).says(&["not the file that a shard wrote"]);
    assert!(!dir.exists("out"));
    std::fs::remove_file(dir.path(file)).unwrap();
    dir.run(&format!("{shard} 2/2")).ok().prints(&["wrote 1 file"]);
    let receipt = dir.read("out.shards/00001-of-00002.receipt");
    let mut forged = receipt.clone();
    forged[60] ^= 1;
    dir.write("out.shards/00001-of-00002.receipt", &forged);
    dir.run("apply base all.lcepatch -o out --finish").fails(5).says(&["SHA-256"]);
    dir.run(&format!("{shard} 1/2 --force")).ok();
    let gathered = contents(&dir.path("out.shards"));
    dir.run("apply base all.lcepatch -o out --finish --json").ok();
    // As after a kill between the rename and the removal of what was gathered: the same again is done, and says so.
    let put_back = || gathered.iter().for_each(|(name, bytes)| drop(dir.write(&format!("out.shards/{name}"), bytes)));
    put_back();
    dir.run("apply base all.lcepatch -o out --finish").ok();
    assert!(!dir.exists("out.shards"));
    // Somebody else's directory is not taken for the result.
    std::fs::rename(dir.path("out"), dir.path("done")).unwrap();
    put_back();
    dir.write("out/model-00001-of-00002.safetensors", b"other");
    dir.run("apply base all.lcepatch -o out --finish").fails(2).says(&["exists"]);
    std::fs::remove_dir_all(dir.path("out")).unwrap();
    std::fs::remove_dir_all(dir.path("out.shards")).unwrap();
    std::fs::rename(dir.path("done"), dir.path("out")).unwrap();
    assert_eq!(contents(&dir.path("out")).len(), contents(&dir.path("base")).len() - 1, "without the stale weights");
    dir.run("check all.lcepatch out").fails(1);
}

#[test]
fn what_shards_cannot_do_is_refused() {
    let dir = model();
    dir.run("diff target.safetensors reference.safetensors --all -o p").ok();
    dir.run("apply target.safetensors p -o out --shard 1/2").fails(2).says(&["one file"]);
    for flags in
        ["--in-place --shard 1/2", "-o out --shard 1", "-o out --shard 1/2 --finish", "-o out --finish --undo u"]
    {
        dir.run(&format!("apply base all.lcepatch {flags}")).fails(2);
    }
    dir.run("apply base all.lcepatch -o base --shard 1/2").fails(6);
    dir.run("apply next all.lcepatch -o out --shard 1/2").fails(6).says(&["does not fit this base"]);
    dir.run("apply base all.lcepatch -o out --finish").fails(6).says(&["missing"]);
    assert!(!dir.exists("out"));
    dir.run("apply base all.lcepatch -o out").ok();
    dir.run("apply base all.lcepatch -o out --shard 1/2").fails(2).says(&["exists"]);
}

use crate::support::*;

/// Weights from 1 to 2 in bf16, and the same 0 to 3 steps of 1/128 away: few differences, and many of each.
fn stepped(name: &str, shape: &[u64], random: &mut Random) -> [Tensor; 2] {
    let n = shape.iter().product::<u64>().div_ceil(4);
    let (mut base, mut moved) = (Vec::new(), Vec::new());
    for _ in 0..n {
        let (bits, steps) = (random.bits(), random.bits());
        for lane in 0..4 {
            let at = 0x3f80 + (bits >> (16 * lane) & 63) as u16;
            // Most do not move.
            let step = [0, 0, 0, 0, 0, 1, 2, 3][(steps >> (8 * lane) & 7) as usize];
            base.extend(at.to_le_bytes());
            moved.extend((at + step).to_le_bytes());
        }
    }
    [base, moved].map(|mut bytes| {
        bytes.truncate(2 * shape.iter().product::<u64>() as usize);
        Tensor::new(name, "BF16", shape, bytes)
    })
}

fn write_pair(dir: &Dir, pairs: Vec<[Tensor; 2]>) {
    let (a, b): (Vec<Tensor>, Vec<Tensor>) = pairs.into_iter().map(|[a, b]| (a, b)).unzip();
    dir.write("a", &safetensors(&a));
    dir.write("b", &safetensors(&b));
}

/// Small tensors of several dtypes.
fn small_pair(dir: &Dir) {
    let mut random = Random::new(11);
    let mut pairs: Vec<[Tensor; 2]> =
        ["e.weight", "b.weight", "d.weight", "a.weight"].map(|name| stepped(name, &[20, 31], &mut random)).into();
    let f32s = [1.0, 1.01].map(|scale| Tensor::f32("c.weight", &[30, 7], &Random::new(3).values(210, scale)));
    let integers = [0i64, 1].map(|first| Tensor::i64("positions", &[first, 5, 7]));
    let empty = [0, 1].map(|_| Tensor::f32("none.weight", &[0, 2], &[]));
    pairs.extend([f32s, integers, empty]);
    write_pair(dir, pairs);
}

/// Tensors of several blocks.
fn large_pair(dir: &Dir) {
    let mut random = Random::new(12);
    let bytes = random.bytes(5 << 20);
    let mut others = bytes.clone();
    others.iter_mut().step_by(1013).for_each(|byte| *byte ^= 5);
    let integers = [bytes, others].map(|bytes| Tensor::new("b", "U8", &[5 << 20], bytes));
    let pairs =
        vec![stepped("c.weight", &[9, 1 << 20], &mut random), integers, stepped("a.weight", &[100, 10], &mut random)];
    write_pair(dir, pairs);
}

/// The names of the parts that `n` shards write, after their ranks where weights are ranked.
fn parts(dir: &Dir, n: u32, flags: &str) -> Vec<String> {
    let pass = |kind: &str, more: &str| -> Vec<String> {
        let one = |shard| {
            let name = format!("{n}-{shard}.{kind}");
            dir.run(&format!("diff a b {flags} --shard {shard}/{n} -o {name} --force {more}")).ok();
            name
        };
        (1..=n).map(one).collect()
    };
    match flags.contains("--all") {
        true => pass("part", ""),
        false => {
            let ranks = pass("ranks", "").join(" ");
            pass("part", &format!("--ranks {ranks}"))
        }
    }
}

#[track_caller]
fn joins_to_the_same_bytes(dir: &Dir, n: u32, flags: &str) {
    dir.run(&format!("diff a b {flags} -o whole --force")).ok();
    let mut parts = parts(dir, n, flags);
    // In any order.
    parts.reverse();
    dir.run(&format!("combine {} -o joined --force", parts.join(" "))).ok().prints(&["wrote joined"]);
    assert_eq!(dir.read("joined"), dir.read("whole"), "{n} shards, {flags}");
}

#[test]
fn shards_join_to_the_bytes_of_one_run() {
    let dir = Dir::new();
    small_pair(&dir);
    for n in [1, 2, 3, 7] {
        for flags in ["--all", "--density 10%"] {
            joins_to_the_same_bytes(&dir, n, flags);
        }
    }
}

#[test]
fn every_cut_through_equal_differences_falls_where_that_of_one_run_does() {
    let dir = Dir::new();
    small_pair(&dir);
    // 5 tensors of 620 and 210 elements, of which about a third move, by one of three distances.
    for k in [1, 90, 400, 777, 1500, 2690] {
        joins_to_the_same_bytes(&dir, 3, &format!("--k {k} --params matrices"));
    }
}

#[test]
fn options_that_decide_bytes_are_carried_through_the_parts() {
    let dir = Dir::new();
    small_pair(&dir);
    let labels = "--license MIT --recommended-alpha -2.1 --result weat8=0.1 --meta seed=[1,2.7e-3]";
    joins_to_the_same_bytes(&dir, 3, &format!("--density 5% --scope tensor {labels}"));
    joins_to_the_same_bytes(&dir, 2, "--density 5% --portable --best");
    joins_to_the_same_bytes(&dir, 2, "--all --portable");
    joins_to_the_same_bytes(&dir, 3, "--density 30% --params all --exclude *d.weight");
}

#[test]
fn blocks_of_one_tensor_may_be_in_several_shards() {
    let dir = Dir::new();
    large_pair(&dir);
    // More shards than the six blocks.
    joins_to_the_same_bytes(&dir, 9, "--all");
    joins_to_the_same_bytes(&dir, 4, "--density 7% --portable");
}

#[test]
fn tensors_that_do_not_pair_are_in_the_digests_of_the_files() {
    let dir = bert_dir();
    let (mut target, mut reference) = bert_pair();
    target.remove(3);
    reference.remove(7);
    reference[0].shape = vec![32, 8];
    write_model(&dir, "a", &target);
    write_model(&dir, "b", &reference);
    joins_to_the_same_bytes(&dir, 3, "--all --common");
    joins_to_the_same_bytes(&dir, 2, "--density 1% --common");
}

#[test]
fn notes_are_made_when_the_parts_are_joined() {
    let dir = Dir::new();
    small_pair(&dir);
    let parts = parts(&dir, 2, "--k 2600");
    let run = dir.run(&format!("combine {} -o p", parts.join(" "))).ok();
    run.says(&["no known transformer", "positions holds no floats", "more weights were asked for than differ"]);
}

#[test]
fn parts_of_different_runs_are_not_joined() {
    let dir = Dir::new();
    small_pair(&dir);
    let own = parts(&dir, 2, "--all");
    for (name, arguments) in [
        ("options", "diff a b --all --portable --shard 2/2"),
        ("effort", "diff a b --all --best --shard 2/2"),
        ("checkpoints", "diff b a --all --shard 2/2"),
        ("count", "diff a b --all --shard 2/3"),
        ("labels", "diff a b --all --license MIT --shard 2/2"),
    ] {
        dir.run(&format!("{arguments} -o {name}")).ok();
        let run = dir.run(&format!("combine {} {name} -o p", own[0]));
        run.fails(6).says(&[name, "another run", "same checkpoints and options"]);
    }
    dir.run("diff a b --k 3 --shard 1/2 -o r1").ok();
    dir.run("diff a b --k 4 --shard 2/2 -o r2").ok();
    dir.run("diff a b --k 3 --shard 1/2 -o x --ranks r1 r2").fails(6).says(&["r2", "another run"]);
    assert!(!dir.exists("p") && !dir.exists("x"));
}

#[test]
fn shards_that_are_missing_or_given_twice_are_named() {
    let dir = Dir::new();
    small_pair(&dir);
    let parts = parts(&dir, 4, "--k 100");
    dir.run(&format!("combine {} {} -o p", parts[0], parts[2])).fails(6).says(&["shards 2, 4 of 4 are missing"]);
    dir.run(&format!("combine {} {0} -o p", parts[1])).fails(6).says(&["4-2.part and 4-2.part", "shard 2"]);
    dir.run("diff a b --k 100 --shard 1/4 -o x --ranks 4-1.ranks 4-2.ranks 4-3.ranks").fails(6).says(&["shard 4"]);
    dir.run("combine 4-1.ranks 4-2.ranks 4-3.ranks 4-4.ranks -o p")
        .fails(6)
        .says(&["holds ranks", "blocks are needed"]);
    let run = dir.run(&format!("diff a b --k 100 --shard 1/4 -o x --ranks {}", parts.join(" ")));
    run.fails(6).says(&["holds blocks", "ranks are needed"]);
}

#[test]
fn a_damaged_part_is_refused() {
    let dir = Dir::new();
    small_pair(&dir);
    let parts = parts(&dir, 1, "--all");
    let whole = dir.read(&parts[0]);
    for at in [8, 40, whole.len() / 2, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 4;
        dir.write("damaged", &damaged);
        dir.run("combine damaged -o p").fails(5).says(&["damaged: ", "SHA-256", "run its shard again"]);
    }
    dir.write("short", &whole[..whole.len() - 1]);
    dir.run("combine short -o p").fails(5).says(&["short: ", "SHA-256"]);
    dir.run("diff a b --all -o patch").ok();
    dir.run(&format!("combine {} patch -o p", parts[0])).fails(5).says(&["patch: this is a patch, not a part"]);
    dir.run("diff a b --k 1 --shard 1/1 -o x --ranks patch").fails(5).says(&["patch: this is a patch, not a part"]);
    dir.run(&format!("combine {} -o p --base a", parts[0])).fails(2).says(&["--base"]);
}

#[test]
fn ranks_of_checkpoints_that_changed_since_are_noticed() {
    let dir = Dir::new();
    small_pair(&dir);
    parts(&dir, 2, "--k 700");
    // Other differences, under the same header.
    let mut bytes = dir.read("b");
    let n = bytes.len();
    bytes[n - 3000..n - 2000].iter_mut().step_by(2).for_each(|byte| *byte ^= 3);
    dir.write("b", &bytes);
    let mut found = [1, 2]
        .map(|shard| dir.run(&format!("diff a b --k 700 --shard {shard}/2 -o x --force --ranks 2-1.ranks 2-2.ranks")));
    found.sort_by_key(|run| run.code);
    found[1].code.map(|code| assert_eq!(code, 6, "{found:#?}")).unwrap();
    assert!(found[1].err.contains("the ranks are not those of these checkpoints"), "{found:#?}");
}

#[test]
fn what_cannot_be_divided_is_refused() {
    let dir = Dir::new();
    small_pair(&dir);
    for (flags, named) in [
        ("--k 1 --delta-dtype bf16", "--delta-dtype"),
        ("--all --sha256", "--sha256"),
        ("--all --cast", "--cast"),
        ("--k 1 --mask-from zeros", "mask"),
        ("--k from-mask --sparsity 10%", "--k from-mask"),
        ("--localize random --k 1", "--localize"),
    ] {
        dir.run(&format!("diff a b {flags} --shard 1/2 -o x")).fails(2).says(&[named, "does not go with shards"]);
    }
    for flags in ["--shard 0/2 -o x", "--shard 3/2 -o x", "--shard 1 -o x", "--shard 1/2", "--ranks a -o x"] {
        dir.run(&format!("diff a b --k 1 {flags}")).fails(2);
    }
    dir.run("diff a b --k 3000 --shard 1/2 -o x").fails(2).says(&["3,000", "there are"]);
    dir.run("diff a b --all --shard 1/2 -o a").fails(2).says(&["exists"]);
    assert!(!dir.exists("x"));
}

#[test]
fn a_part_is_no_patch_and_says_so() {
    let dir = bert_dir();
    dir.run("diff target.safetensors reference.safetensors --all --shard 1/2 -o 1.part").ok();
    dir.run("show 1.part").fails(4).says(&["this is a part of a patch", "lcepatch combine"]);
    dir.run("apply target.safetensors 1.part -o r").fails(4).says(&["this is a part of a patch", "lcepatch combine"]);
}

#[test]
fn a_shard_reads_the_headers_of_all_files_and_the_data_of_its_own_blocks_alone() {
    let dir = Dir::new();
    let files: Vec<String> = (1..=4).map(|number| format!("model-{number:05}-of-00004.safetensors")).collect();
    let mut random = Random::new(13);
    for model in ["a", "b"] {
        for (at, file) in files.iter().enumerate() {
            let tensor = Tensor::new(&format!("t{at}"), "U8", &[100_000], random.bytes(100_000));
            dir.write(&format!("{model}/{file}"), &safetensors(&[tensor]));
        }
    }
    dir.run("diff a b --all --shard 2/4 -o whole.part").ok();
    // Of the other files only the header is left: their data are a hole.
    for (model, file) in ["a", "b"].iter().flat_map(|model| files.iter().map(move |file| (model, file))) {
        let name = format!("{model}/{file}");
        let bytes = dir.read(&name);
        let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap());
        if *file != files[1] {
            dir.write(&name, &bytes[..header as usize]);
            std::fs::File::options().write(true).open(dir.path(&name)).unwrap().set_len(bytes.len() as u64).unwrap();
        }
    }
    dir.run("diff a b --all --shard 2/4 -o own.part").ok();
    assert!(dir.read("own.part") == dir.read("whole.part") && dir.read("own.part").len() > 100_000);
    dir.run("diff a b --all --shard 1/4 -o other.part").ok();
    assert!(dir.read("other.part").len() < 10_000, "holes are equal");
}

//! Patches of which whole blocks are dense (spec §9.11), through the commands. Small pairs have no dense blocks, so these are larger.

use crate::support::*;
use lcepatch::format::Patch;

/// Two tensors of a dtype in which four of ten elements change, most of them by little, and one in which few do.
fn pair(dtype: &'static str, width: usize, n: usize) -> (Vec<Tensor>, Vec<Tensor>) {
    let mut random = Random::new(n as u64);
    let mut side = |name: &str, n: usize, rarity: u64| {
        let mut base = random.bytes(n * width);
        // All elements of a float are finite and below 2.
        base.chunks_mut(width).for_each(|element| element[width - 1] &= 0xbf);
        let mut reference = base.clone();
        for element in reference.chunks_mut(width) {
            if random.below(10) < rarity {
                element[0] ^= 1 << random.below(4);
            }
        }
        let tensor = |bytes| Tensor::new(name, dtype, &[4, n as u64 / 4], bytes);
        (tensor(base), tensor(reference))
    };
    [side("a", n, 4), side("b", 20_000, 1), side("c", 400, 4)].into_iter().unzip()
}

fn dir(dtype: &'static str, width: usize, n: usize) -> Dir {
    let (dir, (base, reference)) = (Dir::new(), pair(dtype, width, n));
    dir.write("a", &safetensors(&base));
    dir.write("b", &safetensors(&reference));
    dir
}

/// The number of blocks of a patch, and how many of them are dense.
fn blocks(dir: &Dir, name: &str) -> (usize, usize) {
    let patch = Patch::read(dir.read(name)).unwrap();
    let blocks: Vec<_> = patch.table().blocks().map(|(_, block)| patch.begins_dense(block).unwrap()).collect();
    (blocks.len(), blocks.iter().filter(|dense| **dense).count())
}

const DTYPES: [(&str, usize); 6] = [("BF16", 2), ("F32", 4), ("F64", 8), ("F8_E4M3", 1), ("I32", 4), ("U8", 1)];

#[test]
fn a_dense_patch_leads_to_the_reference_and_back() {
    for (dtype, width) in DTYPES {
        let dir = dir(dtype, width, 360_000);
        dir.run("diff a b --all -o p").ok();
        assert_eq!(blocks(&dir, "p"), (3, 1), "{dtype}");
        dir.run("check p a").ok().prints(&["fits"]);
        dir.run("apply a p -o new --undo back").ok().prints(&["every byte is the reference's"]);
        assert_eq!(dir.read("new"), dir.read("b"), "{dtype}");
        dir.run("apply new back --alpha 1 -o old").ok();
        assert_eq!(dir.read("old"), dir.read("a"), "{dtype}");
        dir.run("invert p --base a -o inverse").ok();
        assert_eq!(blocks(&dir, "inverse").1, 1, "{dtype}");
        dir.run("apply b inverse -o old --force").ok();
        assert_eq!(dir.read("old"), dir.read("a"), "{dtype}");
    }
}

#[test]
fn in_place_and_by_a_new_file_and_back_are_the_same_bytes() {
    for (dtype, width) in DTYPES {
        let dir = dir(dtype, width, 360_000);
        dir.run("diff a b --all -o p").ok();
        dir.write("model/model.safetensors", &dir.read("a"));
        dir.write("model/config.json", b"{}");
        dir.run("apply model p --in-place").ok();
        assert_eq!(dir.read("model/model.safetensors"), dir.read("b"), "{dtype}");
        dir.run("revert model").ok();
        assert_eq!(dir.read("model/model.safetensors"), dir.read("a"), "{dtype}");
    }
}

#[test]
fn a_dense_patch_and_a_list_of_the_same_elements_edit_alike() {
    let dir = dir("BF16", 2, 360_000);
    dir.run("diff a b --all -o dense").ok();
    dir.run("diff a b --all --portable -o listed").ok();
    assert_eq!((blocks(&dir, "dense").1, blocks(&dir, "listed").1), (1, 0));
    for flags in ["--alpha 1", "--alpha 0.5", "--alpha -2", "--alpha 0", "--edit pr"] {
        for name in ["dense", "listed"] {
            dir.run(&format!("apply a {name} -o {name}.out --force {flags}")).ok();
        }
        assert_eq!(dir.read("dense.out"), dir.read("listed.out"), "{flags}");
    }
    dir.run("apply a dense:0.5 listed:0.25 -o two").ok();
    dir.run("apply a listed:0.5 listed:0.25 -o same").ok();
    assert_eq!(dir.read("two"), dir.read("same"));
    dir.run("compare dense listed --base a").ok().prints(&["1.0000"]);
}

#[test]
fn a_selection_can_be_dense() {
    let dir = dir("F32", 4, 500_000);
    dir.run("diff a b --density 30% --params all -o dense").ok();
    dir.run("diff a b --density 30% --params all --portable -o listed").ok();
    assert_eq!((blocks(&dir, "dense").1, blocks(&dir, "listed").1), (1, 0));
    for name in ["dense", "listed"] {
        dir.run(&format!("apply a {name} -o {name}.out --alpha 1")).ok().prints(&["read back"]);
    }
    assert_eq!(dir.read("dense.out"), dir.read("listed.out"));
    assert_ne!(dir.read("dense.out"), dir.read("b"));
}

#[test]
fn shards_and_threads_make_the_same_dense_blocks() {
    // More than one block, the second one with a short last chunk.
    let dir = dir("U8", 1, (1 << 22) + 400_004);
    dir.run("diff a b --all -o p").ok();
    assert_eq!(blocks(&dir, "p"), (4, 2));
    for threads in ["1", "3"] {
        dir.run(&format!("diff a b --all -o q --force --threads {threads}")).ok();
        assert_eq!(dir.read("q"), dir.read("p"), "{threads} threads");
        dir.run(&format!("apply a p -o new --force --threads {threads}")).ok();
        assert_eq!(dir.read("new"), dir.read("b"), "{threads} threads");
    }
    for shard in ["1/2", "2/2"] {
        dir.run(&format!("diff a b --all --shard {shard} -o part-{}", &shard[..1])).ok();
    }
    dir.run("combine part-1 part-2 -o q --force").ok();
    assert_eq!(dir.read("q"), dir.read("p"));
}

#[test]
fn another_base_is_refused_before_anything_is_written() {
    let dir = dir("F32", 4, 360_000);
    dir.run("diff a b --all -o p").ok();
    let mut other = dir.read("a");
    *other.last_mut().unwrap() ^= 0x40;
    dir.write("other", &other);
    dir.run("apply other p -o new").fails(6).says(&["does not fit"]);
    dir.run("apply b p -o new").fails(6).says(&["already applied"]);
    assert!(!dir.exists("new"));
}

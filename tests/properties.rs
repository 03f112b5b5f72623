//! Laws on random pairs of checkpoints.

use crate::support::*;
use proptest::prelude::*;

const DTYPES: [(&str, usize); 8] =
    [("F64", 8), ("F32", 4), ("F16", 2), ("BF16", 2), ("F8_E4M3", 1), ("F8_E5M2", 1), ("I32", 4), ("BOOL", 1)];

fn pairs() -> impl Strategy<Value = (Vec<Tensor>, Vec<Tensor>)> {
    let tensor = (0..DTYPES.len(), 1u64..200, any::<u64>(), prop_oneof![Just(1u64), Just(5), Just(50)]);
    prop::collection::vec(tensor, 1..5).prop_map(|tensors| {
        let make = |(at, (dtype, n, seed, rarity)): (usize, &(usize, u64, u64, u64))| {
            let (dtype, width) = DTYPES[*dtype];
            let mut random = Random::new(*seed);
            let base = random.bytes(*n as usize * width);
            let changed = base.iter().map(|byte| if random.below(*rarity) == 0 { random.bits() as u8 } else { *byte });
            let name = format!("t{at}");
            let reference = Tensor::new(&name, dtype, &[*n], changed.collect());
            (Tensor::new(&name, dtype, &[*n], base), reference)
        };
        tensors.iter().enumerate().map(make).unzip()
    })
}

/// Makes every element of a float tensor finite and below 2: the highest bit of the exponent is clear.
fn tame(bytes: &mut [u8], width: usize) {
    bytes.chunks_mut(width).for_each(|element| element[width - 1] &= 0xbf);
}

/// Three checkpoints of one float tensor, all finite.
fn finite_triples() -> impl Strategy<Value = [Vec<Tensor>; 3]> {
    (0..6usize, 1u64..200, any::<u64>()).prop_map(|(dtype, n, seed)| {
        let (dtype, width) = DTYPES[dtype];
        let mut random = Random::new(seed);
        let base = random.bytes(n as usize * width);
        let mut side = |rarity: u64| {
            // The first element always differs, so that there is something to add up.
            let changed = |(at, byte): (usize, &u8)| {
                if at < width || random.below(rarity) == 0 { byte.wrapping_add(rarity as u8) } else { *byte }
            };
            let mut bytes: Vec<u8> = base.iter().enumerate().map(changed).collect();
            tame(&mut bytes, width);
            vec![Tensor::new("w", dtype, &[n], bytes)]
        };
        [side(u64::MAX), side(3), side(5)]
    })
}

/// Pairs of float tensors with zeros: the pruning masks differ, and every tenth weight can be selected.
fn pruned_pairs() -> impl Strategy<Value = (Vec<Tensor>, Vec<Tensor>)> {
    (prop::sample::select(vec![("F32", 4usize), ("F16", 2), ("BF16", 2)]), 20u64..300, any::<u64>()).prop_map(
        |((dtype, width), n, seed)| {
            let mut random = Random::new(seed);
            let mut side = |zero: usize, other: usize| {
                let mut bytes = random.bytes(n as usize * width);
                tame(&mut bytes, width);
                for (at, element) in bytes.chunks_mut(width).enumerate() {
                    let drawn = random.below(3) == 0;
                    if at == zero || (drawn && at != other && !(2..6).contains(&at)) {
                        element.fill(0);
                        element[width - 1] = if random.below(2) == 0 { 0 } else { 0x80 };
                    } else {
                        element[0] |= 1;
                    }
                }
                vec![Tensor::new("w", dtype, &[n], bytes)]
            };
            (side(0, 1), side(1, 0))
        },
    )
}

/// Sixteenths from -8 to 8, but 0.
fn weights() -> impl Strategy<Value = f64> {
    (-128i32..=128).prop_filter("an edit of nothing", |sixteenths| *sixteenths != 0).prop_map(|it| f64::from(it) / 16.0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn diff_then_apply_is_the_reference_and_undo_is_the_base((target, reference) in pairs(), portable: bool) {
        let dir = Dir::new();
        dir.write("a", &safetensors(&target));
        dir.write("b", &safetensors(&reference));
        dir.run(&format!("diff a b -o p --all {}", if portable { "--portable" } else { "" })).ok();
        dir.run("apply a p -o r --undo u").ok();
        prop_assert_eq!(dir.read("r"), dir.read("b"));
        dir.run("apply r u -o back").ok();
        prop_assert_eq!(dir.read("back"), dir.read("a"));
    }

    #[test]
    fn an_edit_in_place_gives_the_bytes_of_a_new_file(
        (target, reference) in pairs(),
        size in prop::sample::select(vec!["--all", "--density 10%", "--density 60% --portable"]),
        edit in prop::sample::select(vec!["", "--alpha 0.5", "--alpha -2", "--alpha 0", "--edit pr"]),
        threads in prop::sample::select(vec![1, 2, 3, 8, 16]),
    ) {
        let dir = Dir::new();
        dir.write("a", &safetensors(&target));
        dir.write("b", &safetensors(&reference));
        let edit = format!("{edit} --allow-non-finite --threads {threads}");
        // Where nothing can be selected, or scaled, a file in place stays as it is.
        let made = dir.run(&format!("diff a b -o p {size} --params all"));
        let new = made.code == Some(0) && dir.run(&format!("apply a p -o new {edit}")).code == Some(0);
        let edited = dir.run(&format!("apply a p --in-place --undo u {edit}"));
        prop_assert_eq!(edited.code == Some(0), new, "{:?}", edited);
        if new {
            prop_assert_eq!(dir.read("a"), dir.read("new"));
            dir.run(&format!("apply a u --in-place --threads {threads}")).ok();
        }
        prop_assert_eq!(dir.read("a"), safetensors(&target));
    }

    #[test]
    fn localizations_are_disjoint_and_edits_are_taken_back((target, reference) in pruned_pairs(), seed: u64) {
        let dir = Dir::new();
        dir.write("a", &safetensors(&target));
        dir.write("b", &safetensors(&reference));
        let masks = "--mask-from zeros";
        dir.run(&format!("diff a b -o m --localize mask {masks} --params all")).ok();
        dir.run(&format!("diff a b -o v --density 10% {masks} --params all")).ok();
        let compared = dir.run("compare m v --base a --json").ok().json();
        prop_assert_eq!(&compared["all"]["both"], 0);
        dir.run(&format!("diff a b -o r --localize random --seed {seed} --k from-mask {masks} --params all")).ok();
        for edit in ["m --alpha 0.3", "m --alpha -2", "m --edit pr", "r --alpha 1", "r --edit pr"] {
            let run = dir.run(&format!("apply a {edit} -o q --undo u --force --allow-non-finite")).ok();
            dir.run("apply q u -o back --force").ok();
            prop_assert_eq!(dir.read("back"), dir.read("a"), "{:?}", run);
        }
    }

    #[test]
    fn patches_invert_and_chain((target, reference) in pairs(), (other, _) in pairs()) {
        let dir = Dir::new();
        let third: Vec<Tensor> = reference
            .iter()
            .map(|tensor| {
                // Bytes of something else, where there are enough.
                let mut bytes = tensor.bytes.clone();
                bytes.iter_mut().zip(&other[0].bytes).step_by(3).for_each(|(byte, other)| *byte = *other);
                Tensor { bytes, ..tensor.clone() }
            })
            .collect();
        for (name, tensors) in [("a", &target), ("b", &reference), ("c", &third)] {
            dir.write(name, &safetensors(tensors));
        }
        dir.run("diff a b -o p --all --portable").ok();
        dir.run("diff b c -o q --all --portable").ok();
        dir.run("invert p -o i").ok();
        dir.run("invert i -o ii").ok();
        prop_assert_eq!(dir.read("ii"), dir.read("p"));
        dir.run("apply b i -o back").ok();
        prop_assert_eq!(dir.read("back"), dir.read("a"));
        dir.run("squash p q -o s").ok();
        dir.run("apply a s -o r").ok();
        prop_assert_eq!(dir.read("r"), dir.read("c"));
        dir.run("select p --top 100% -o all").ok();
        prop_assert_eq!(dir.read("all"), dir.read("p"));
    }

    #[test]
    fn a_sum_of_patches_does_what_they_do_together([a, b, c] in finite_triples(), x in weights(), y in weights()) {
        let dir = Dir::new();
        for (name, tensors) in [("a", &a), ("b", &b), ("c", &c)] {
            dir.write(name, &safetensors(tensors));
        }
        dir.run("diff a b -o p --all --portable").ok();
        dir.run("diff a c -o t --all --portable").ok();
        dir.run(&format!("combine p:{x} t:{y} -o sum")).ok();
        dir.run("apply a sum -o left").ok();
        dir.run(&format!("apply a p:{x} t:{y} -o right")).ok();
        prop_assert_eq!(dir.read("left"), dir.read("right"));
    }
}

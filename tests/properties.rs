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

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

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
}

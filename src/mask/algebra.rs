//! What two pruning masks have in common.

use super::pruning::Bits;
use crate::format::metadata::Overlap;

/// Counts what two masks of the same weights keep.
pub fn overlap(base: &Bits, reference: &Bits) -> Overlap {
    let both = (base.clone() & reference).count_ones();
    let (base_only, reference_only) = (base.count_ones() - both, reference.count_ones() - both);
    let neither = base.len() - both - base_only - reference_only;
    let [both, base_only, reference_only, neither] =
        [both, base_only, reference_only, neither].map(|count| count as u64);
    Overlap { both, base_only, reference_only, neither }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_weight_once() {
        let bits = |text: &str| text.bytes().map(|bit| bit == b'1').collect::<Bits>();
        let overlap = overlap(&bits("1101000010"), &bits("1011000000"));
        assert_eq!(overlap, Overlap { both: 2, base_only: 2, reference_only: 1, neither: 5 });
        assert_eq!((overlap.elements(), overlap.base_pruned(), overlap.reference_pruned()), (10, 6, 7));
        assert_eq!(overlap.jaccard(), 0.4);
        assert_eq!(Overlap::default().jaccard(), 1.0);
    }
}

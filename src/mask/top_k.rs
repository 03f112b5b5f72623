//! The exact k largest of a stream of keys too long to hold.
//!
//! The keys are walked a few times. Each walk counts the next 16 bits of those keys that share the leading bits of the
//! k-th, until the rest fits in memory and the k-th key itself is found there. The result is that of a full sort.

/// Keys that may be held at once, if `k` is smaller: 8 MiB.
const HELD_KEYS_MIN: u64 = 1 << 20;

/// Which keys are the k largest: those above `key`, and `ties` of those equal to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    /// The k-th largest key.
    pub key: u64,
    /// How many of the keys equal to it are among the k largest, at least 1.
    pub ties: u64,
    /// How many keys equal it in all.
    pub equal: u64,
}

/// A walk over all keys. Called a few times; must yield the same keys each time, in any order.
pub trait Walk<E> {
    /// Counts keys in `2^16` bins: those with `key >> shift >> 16 == prefix`, by the next 16 bits.
    ///
    /// # Errors
    /// What the walk itself meets.
    fn histogram(&self, prefix: u64, shift: u32) -> Result<Vec<u64>, E>;

    /// Collects the keys with `key >> shift == prefix`.
    ///
    /// # Errors
    /// What the walk itself meets.
    fn collect(&self, prefix: u64, shift: u32) -> Result<Vec<u64>, E>;
}

/// There are fewer keys than were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooFew {
    /// Keys asked for.
    pub k: u64,
    /// Keys there are.
    pub found: u64,
}

/// Finds the threshold of the `k` largest keys, `k` at least 1.
///
/// # Errors
/// [`TooFew`], also when walks do not yield the same keys; what a walk meets.
pub fn threshold<E: From<TooFew>>(k: u64, walk: &impl Walk<E>) -> Result<Threshold, E> {
    let mut needed = k;
    let mut prefix = 0;
    for shift in [48, 32, 16, 0] {
        let histogram = walk.histogram(prefix, shift)?;
        let found: u64 = histogram.iter().sum();
        if found < needed {
            return Err(TooFew { k, found: found + (k - needed) }.into());
        }
        let mut bin = histogram.len() - 1;
        while histogram[bin] < needed {
            needed -= histogram[bin];
            bin -= 1;
        }
        prefix = prefix << 16 | bin as u64;
        if shift == 0 {
            return Ok(Threshold { key: prefix, ties: needed, equal: histogram[bin] });
        }
        if histogram[bin] <= k.max(HELD_KEYS_MIN) {
            let mut keys = walk.collect(prefix, shift)?;
            keys.sort_unstable_by(|a, b| b.cmp(a));
            let too_few = TooFew { k, found: keys.len() as u64 + (k - needed) };
            let key = *keys.get(needed as usize - 1).ok_or(too_few)?;
            let above = keys.partition_point(|other| *other > key) as u64;
            let equal = keys.partition_point(|other| *other >= key) as u64 - above;
            return Ok(Threshold { key, ties: needed - above, equal });
        }
    }
    unreachable!("the last shift returns")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Held(Vec<u64>);

    impl Walk<TooFew> for Held {
        fn histogram(&self, prefix: u64, shift: u32) -> Result<Vec<u64>, TooFew> {
            let mut bins = vec![0; 1 << 16];
            for key in &self.0 {
                if (u128::from(*key) >> shift >> 16) as u64 == prefix {
                    bins[(key >> shift) as usize & 0xffff] += 1;
                }
            }
            Ok(bins)
        }

        fn collect(&self, prefix: u64, shift: u32) -> Result<Vec<u64>, TooFew> {
            Ok(self.0.iter().copied().filter(|key| key >> shift == prefix).collect())
        }
    }

    fn by_sorting(keys: &[u64], k: usize) -> Threshold {
        let mut sorted = keys.to_vec();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        let key = sorted[k - 1];
        let above = sorted.iter().filter(|other| **other > key).count();
        let equal = sorted.iter().filter(|other| **other == key).count() as u64;
        Threshold { key, ties: (k - above) as u64, equal }
    }

    proptest! {
        #[test]
        fn is_what_sorting_gives(
            keys in prop::collection::vec(prop_oneof![0u64..4, any::<u64>(), (0u64..9).prop_map(|k| k << 50)], 1..300),
            k: prop::sample::Index,
        ) {
            let k = k.index(keys.len()) + 1;
            prop_assert_eq!(threshold(k as u64, &Held(keys.clone())), Ok(by_sorting(&keys, k)));
        }
    }

    #[test]
    fn many_ties_never_have_to_be_held() {
        struct Tied;
        impl Walk<TooFew> for Tied {
            fn histogram(&self, _: u64, shift: u32) -> Result<Vec<u64>, TooFew> {
                let mut bins = vec![0; 1 << 16];
                bins[if shift == 48 { 0x3f80 } else { 0 }] = 1 << 40;
                Ok(bins)
            }
            fn collect(&self, _: u64, _: u32) -> Result<Vec<u64>, TooFew> {
                panic!("too many to hold")
            }
        }
        let expected = Threshold { key: 0x3f80 << 48, ties: 3 << 20, equal: 1 << 40 };
        assert_eq!(threshold(3 << 20, &Tied), Ok(expected));
    }
    #[test]
    fn more_than_there_are_and_walks_that_shrink_are_errors() {
        assert_eq!(threshold(4, &Held(vec![1, 2, 3])), Err(TooFew { k: 4, found: 3 }));
        // As of a file that another program cuts short meanwhile.
        struct Shrinking;
        impl Walk<TooFew> for Shrinking {
            fn histogram(&self, _: u64, _: u32) -> Result<Vec<u64>, TooFew> {
                let mut bins = vec![0; 1 << 16];
                bins[7] = 5;
                Ok(bins)
            }
            fn collect(&self, _: u64, _: u32) -> Result<Vec<u64>, TooFew> {
                Ok(vec![7 << 48])
            }
        }
        assert_eq!(threshold(3, &Shrinking), Err(TooFew { k: 3, found: 1 }));
    }
}

//! Sets of the elements of a part of a block, as a flag for each element.

/// A flag for each of [`STRIDE`] consecutive elements, the first one lowest.
pub type Flags = u32;

/// Elements that have their flags in one number.
pub const STRIDE: usize = Flags::BITS as usize;

/// The number of flags that are set.
pub fn count(flags: &[Flags]) -> u64 {
    flags.iter().map(|flags| u64::from(flags.count_ones())).sum()
}

/// Calls `each` with the indices of the elements whose flag is set, ascending.
pub fn indices(flags: &[Flags], mut each: impl FnMut(u32)) {
    for (first, flags) in (0..).step_by(STRIDE).zip(flags) {
        let mut left = *flags;
        while left != 0 {
            each(first + left.trailing_zeros());
            left &= left - 1;
        }
    }
}

/// The first `n` flags that are set, or all if there are fewer.
pub fn first(flags: Flags, n: u64) -> Flags {
    let mut later = flags;
    for _ in 0..n.min(flags.count_ones().into()) {
        later &= later - 1;
    }
    flags & !later
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_are_set_are_counted_and_listed() {
        let flags = [1 | 1 << 31, 0, 0b110];
        let mut listed = Vec::new();
        indices(&flags, |index| listed.push(index));
        assert_eq!((count(&flags), listed), (4, vec![0, 31, 65, 66]));
    }

    #[test]
    fn the_first_flags_are_the_lowest() {
        let firsts = [0, 1, 2, 3, 4, u64::MAX].map(|n| first(0b1011_0000, n));
        assert_eq!(firsts, [0, 0b1_0000, 0b11_0000, 0b1011_0000, 0b1011_0000, 0b1011_0000]);
        assert_eq!([first(u32::MAX, 32), first(0, 5)], [u32::MAX, 0]);
    }
}

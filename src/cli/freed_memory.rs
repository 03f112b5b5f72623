//! Memory that one block of a tensor gives back is what the next one asks for.

// Called of C.
#![allow(unsafe_code)]

use libc::{M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, c_int, mallopt};

/// From this size on, an allocation is mapped from the system, and unmapped when it is freed. A block has 4 Mi elements, so that this keeps
/// what one of 16-bit floats takes.
const MAPPED_FROM: c_int = 16 << 20;
/// So much freed memory at its end each of the allocator's heaps may keep.
const KEPT: c_int = 2 * MAPPED_FROM;

/// Lets the allocator of glibc keep the memory of a block for the next one. Left to itself it gives the memory back to the system, which
/// clears each page again on its way in: that was a third of the time of an apply in which many weights change.
///
/// Only for commands that go through many blocks, after checks that a crafted patch does not pass: the memory of each thread grows by this.
///
/// Other allocators have other rules, and are left as they are.
pub fn keep() {
    for (option, bytes) in [(M_MMAP_THRESHOLD, MAPPED_FROM), (M_TRIM_THRESHOLD, KEPT)] {
        // SAFETY: `mallopt` takes two integers, and locks what it changes. Where it refuses a value, nothing but speed is lost.
        unsafe { mallopt(option, bytes) };
    }
}

#[cfg(test)]
mod tests {
    /// Pages that the system has given to this thread so far: the 10th field, the 8th behind the name in parentheses.
    fn pages() -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(7).unwrap().parse().unwrap()
    }

    #[test]
    fn freed_memory_is_used_again() {
        super::keep();
        let allocate = || std::hint::black_box(vec![1u8; 8 << 20]).len();
        allocate();
        let before = pages();
        (0..10).for_each(|_| _ = allocate());
        let taken = pages() - before;
        assert!(taken < 2048, "{taken} pages for ten times 2048 that were freed before");
    }
}

//! Where the elements of arrays are in memory, which several arrays can share.

use crate::memory::Lent;
use lcepatch::apply::Exchange;
use std::cmp::Reverse;
use std::sync::Arc;

/// Where Python says that an array is: its device, the address of its first element, and the bytes from one element to the next one of
/// each dimension.
pub type Place = (String, i64, Vec<i64>);

/// An array of a checkpoint.
#[derive(Debug, Clone)]
pub struct Lending {
    /// The memory that is read and written: the array's own, or that of a copy.
    pub memory: Arc<Lent>,
    /// Where the array itself is.
    pub extent: Extent,
}

/// The memory of an array whose elements share none with each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    device: String,
    /// The address of its first element.
    first: i64,
    /// The address of its first byte. With negative steps it is another one.
    start: i64,
    /// How many bytes from `start` on are those of the array, and of what lies between its elements.
    reach: i64,
    /// Bytes of an element.
    width: i64,
    /// Number of elements and bytes from one to the next, of each dimension that has a next one. Dimensions that follow each other without
    /// a gap are one.
    dimensions: Vec<(i64, i64)>,
    /// The index in `dimensions`, and how many elements a step there is in the array's order; the longest steps first.
    by_step: Vec<(usize, i64)>,
}

impl Extent {
    /// That of an array of `shape`, with elements of `width` bytes.
    pub fn new((device, first, steps): Place, shape: &[u64], width: usize) -> Self {
        let (width, mut dimensions) = (width as i64, Vec::<(i64, i64)>::new());
        for (n, step) in shape.iter().map(|n| *n as i64).zip(steps).filter(|(n, _)| *n != 1) {
            match dimensions.last_mut() {
                Some((outer, outer_step)) if *outer_step == n * step => (*outer, *outer_step) = (*outer * n, step),
                _ => dimensions.push((n, step)),
            }
        }
        let is_empty = shape.contains(&0);
        let length = |(n, step): &(i64, i64)| (n - 1) * step;
        let (lengths, before) =
            (dimensions.iter().map(length), dimensions.iter().map(length).filter(|length| *length < 0));
        let reach = if is_empty { 0 } else { lengths.map(i64::abs).sum::<i64>() + width };
        let start = first + before.sum::<i64>();
        let mut by_step = Vec::new();
        let mut elements = 1;
        for (at, (n, _)) in dimensions.iter().enumerate().rev() {
            by_step.push((at, elements));
            elements *= n;
        }
        by_step.sort_by_key(|(at, _)| Reverse(dimensions[*at].1.abs()));
        Self { device, first, start, reach, width, dimensions, by_step }
    }

    /// Where it begins, in an order in which arrays that may share memory are neighbours.
    pub fn order(&self) -> (&str, i64) {
        (&self.device, self.start)
    }

    /// Whether it ends before another one begins, which follows it in [`Extent::order`].
    pub fn ends_before(&self, next: &Self) -> bool {
        self.device != next.device || self.start + self.reach <= next.start
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.reach == 0
    }

    /// Whether it is plain to see that no byte is in both: the bytes of each come at equal distances, and those of one between those of
    /// the other, as columns of a matrix do.
    pub fn is_apart(&self, other: &Self) -> bool {
        let ((own, own_run), (others, others_run)) = (self.steps_and_run(), other.steps_and_run());
        let distance = own.chain(others).fold(0, gcd);
        if distance == 0 {
            return false;
        }
        let after = (other.start - self.start).rem_euclid(distance);
        after >= own_run && after + others_run <= distance
    }

    /// The steps from one run of bytes without a gap to the next one, and the length of such a run.
    fn steps_and_run(&self) -> (impl Iterator<Item = i64>, i64) {
        let (runs, run) = match self.dimensions.split_last() {
            Some(((n, step), outer)) if step.abs() == self.width => (outer, n * self.width),
            _ => (&self.dimensions[..], self.width),
        };
        (runs.iter().map(|(_, step)| step.abs()), run)
    }

    /// The address of the element with this flat index.
    fn address(&self, index: u64) -> i64 {
        let (mut address, mut rest) = (self.first, index as i64);
        for (n, step) in self.dimensions.iter().rev() {
            address += rest % n * step;
            rest /= n;
        }
        address
    }

    /// The flat index of the element that the byte at an address is of, and the byte's place in it.
    fn element(&self, address: i64) -> Option<(u64, usize)> {
        let (mut rest, mut index) = (address - self.start, 0);
        if rest < 0 || rest >= self.reach {
            return None;
        }
        // Elements share no memory, so that the shorter steps all together are less than a longer one.
        for (at, elements) in &self.by_step {
            let (n, step) = self.dimensions[*at];
            let count = (rest / step.abs()).min(n - 1);
            rest -= count * step.abs();
            index += elements * if step < 0 { n - 1 - count } else { count };
        }
        (rest < self.width).then_some((index as u64, rest as usize))
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Lending {
    /// Whether the memory is the array's own, and no copy of it.
    pub fn is_direct(&self) -> bool {
        self.extent.device == "cpu" && self.extent.start == self.memory.place().0 as i64
    }

    /// Whether it is the memory of another one, which may be of an array with another name.
    pub fn is_same(&self, other: &Self) -> bool {
        self.memory.place() == other.memory.place()
    }
}

/// Whether what an exchange does to `one` is all that it does to the memory of `other`, which has an exchange of its own: each byte that it
/// writes there is one that the other's exchange writes, too, or the same as before.
pub fn agrees((one, exchange): (&Lending, &Exchange), (other, others): (&Lending, &Exchange)) -> bool {
    let bytes = one.memory.as_ref().as_ref();
    exchange.elements().all(|(index, after)| {
        let (address, width) = (one.extent.address(index), after.len());
        let before = &bytes[index as usize * width..][..width];
        let mut at = 0;
        while at < width {
            let Some((element, place)) = other.extent.element(address + at as i64) else {
                at += 1;
                continue;
            };
            let n = (width - at).min(other.extent.width as usize - place);
            let expected = others.other_side(element).map_or(&before[at..at + n], |bits| &bits[place..place + n]);
            if after[at..at + n] != *expected {
                return false;
            }
            at += n;
        }
        true
    })
}

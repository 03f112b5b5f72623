//! Edits of tensors in memory: what changes is computed first, and then exchanged with what is there, so that the same exchange takes it
//! back.

use super::tensor::SPAN;
use crate::checkpoint::Tensor;
use crate::digest::{Digest, PartDigest, PartHasher, join};
use crate::dtype::Width;
use rayon::prelude::*;

/// The elements of one tensor that edits change, and their bits on the other side: in the result at first, and after each exchange in
/// what it was exchanged with.
///
/// Memory: 4 bytes and an element for each selected element. Where all of a dense block changes, the block's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    tensor: String,
    width: Width,
    elements: u64,
    /// One for each [`SPAN`] of the tensor's elements.
    parts: Vec<Part>,
}

/// How many bytes are exchanged and hashed at a time: a part of the tensor that stays in the cache meanwhile. It divides every span.
const HASHED_BYTES: usize = 256 << 10;

/// The part of an exchange in one span.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Part {
    /// The elements' places in the span, ascending; None for all of them.
    pub places: Option<Vec<u32>>,
    /// Their bytes on the other side.
    pub bits: Vec<u8>,
}

impl Part {
    /// The place in the span of the element with this index among those that are exchanged.
    fn place(&self, at: usize) -> u64 {
        self.places.as_ref().map_or(at as u64, |places| places[at].into())
    }

    /// Exchanges the elements of a window of the span: `bytes`, which begin at element `first`. `entry` is the number of listed elements
    /// in earlier windows. Returns the number of those in this window.
    fn exchange(&mut self, width: Width, first: usize, entry: usize, bytes: &mut [u8]) -> usize {
        let Some(places) = &self.places else {
            let start = first * width.bytes();
            bytes.swap_with_slice(&mut self.bits[start..start + bytes.len()]);
            return 0;
        };
        let end = first + bytes.len() / width.bytes();
        let places = &places[entry..];
        let places = &places[..places.partition_point(|place| (*place as usize) < end)];
        let bits = &mut self.bits[entry * width.bytes()..];
        // A loop for each width, since it runs for every element.
        match width {
            Width::W1 => swap::<1>(bytes, bits, first, places),
            Width::W2 => swap::<2>(bytes, bits, first, places),
            Width::W4 => swap::<4>(bytes, bits, first, places),
            Width::W8 => swap::<8>(bytes, bits, first, places),
        }
        places.len()
    }

    /// Exchanges the elements of the span whose bytes are `span`, and hashes it while it is in the processor's cache. `place` is where it
    /// begins in the tensor. Returns the digest of the elements, and those of the span's windows.
    fn exchange_and_hash(&mut self, width: Width, span: &mut [u8], place: Place) -> (Digest, Vec<PartDigest>) {
        let listed = self.places.as_ref().map(|_| Digest::of(&self.bits));
        let (mut first, mut entry) = (0, 0);
        let hash = |window: &mut [u8]| {
            let start = first * width.bytes();
            entry += self.exchange(width, first, entry, window);
            first += window.len() / width.bytes();
            place.hash(start, window)
        };
        let windows: Vec<PartDigest> = span.chunks_mut(HASHED_BYTES).map(hash).collect();
        (listed.unwrap_or_else(|| join(&windows)), windows)
    }

    /// The digest of the elements of `span` that are exchanged.
    fn digest(&self, width: Width, span: &[u8], place: Place) -> Digest {
        let Some(places) = &self.places else { return place.digest(span) };
        let (mut bits, mut bytes) = (Vec::with_capacity(places.len()), Vec::with_capacity(self.bits.len()));
        width.load_at(span, places.iter().map(|place| *place as usize), &mut bits);
        width.store_all(&bits, &mut bytes);
        Digest::of(&bytes)
    }

    /// The digest of the elements on the other side.
    fn other_digest(&self, place: Place) -> Digest {
        if self.places.is_some() { Digest::of(&self.bits) } else { place.digest(&self.bits) }
    }
}

/// Where a span is in its tensor, in bytes: the windows of a span are hashed as parts of the tensor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub start: u64,
    pub total: u64,
}

impl Place {
    /// The digest of the window that begins at byte `start` of the span.
    fn hash(self, start: usize, window: &[u8]) -> PartDigest {
        let mut hasher = PartHasher::new(self.start + start as u64, self.total, HASHED_BYTES as u64);
        hasher.update(window);
        hasher.finish()
    }

    /// The digests of all windows of a span.
    pub fn windows(self, span: &[u8]) -> Vec<PartDigest> {
        let starts = (0..).step_by(HASHED_BYTES);
        starts.zip(span.chunks(HASHED_BYTES)).map(|(start, window)| self.hash(start, window)).collect()
    }

    /// The digest of all windows of a span.
    fn digest(self, span: &[u8]) -> Digest {
        join(&self.windows(span))
    }
}

/// Swaps elements of N bytes: those of `elements`, the first of which is number `first`, at `places`, and the first ones of `others`.
fn swap<const N: usize>(elements: &mut [u8], others: &mut [u8], first: usize, places: &[u32]) {
    let ((elements, _), (others, _)) = (elements.as_chunks_mut::<N>(), others.as_chunks_mut::<N>());
    for (place, other) in places.iter().zip(others) {
        std::mem::swap(&mut elements[*place as usize - first], other);
    }
}

impl Exchange {
    /// That of a tensor, from its parts, one for each [`SPAN`].
    pub(super) fn new(tensor: Tensor<'_>, parts: Vec<Part>) -> Self {
        let (elements, width) = (tensor.info.elements(), tensor.info.dtype.width());
        Self { tensor: tensor.info.name.clone(), width, elements, parts }
    }

    /// The tensor's name in the base.
    pub fn tensor(&self) -> &str {
        &self.tensor
    }

    /// How many elements are exchanged.
    pub fn len(&self) -> u64 {
        self.parts.iter().map(|part| (part.bits.len() / self.width.bytes()) as u64).sum()
    }

    /// Whether no element is exchanged.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it changes the same elements in the same way as another one, which may be of a tensor with another name.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.width, self.elements, &self.parts) == (other.width, other.elements, &other.parts)
    }

    /// The flat indices of the elements, ascending.
    pub fn positions(&self) -> Vec<u64> {
        let mut positions = Vec::with_capacity(self.len() as usize);
        positions.extend(self.elements().map(|(element, _)| element));
        positions
    }

    /// The elements' bits on the other side, little-endian, in the order of [`Exchange::positions`].
    pub fn bits(&self) -> Vec<u8> {
        self.parts.iter().flat_map(|part| &part.bits).copied().collect()
    }

    /// The flat index of each element, ascending, and its bits on the other side.
    pub fn elements(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let width = self.width.bytes();
        (0..).step_by(SPAN as usize).zip(&self.parts).flat_map(move |(start, part)| {
            let bits = part.bits.chunks_exact(width);
            (0..).zip(bits).map(move |(at, bits)| (start + part.place(at), bits))
        })
    }

    /// The bits on the other side of the element with this flat index, if it is exchanged.
    pub fn other_side(&self, element: u64) -> Option<&[u8]> {
        let (part, place) = (self.parts.get((element / SPAN) as usize)?, element % SPAN);
        let at = match &part.places {
            Some(places) => places.binary_search(&(place as u32)).ok()?,
            None => place as usize,
        };
        part.bits.chunks_exact(self.width.bytes()).nth(at)
    }

    /// The digest of the bits on the other side: that which [`Exchange::digest`] gives once they are exchanged.
    pub fn other_digest(&self) -> Digest {
        let parts = self.parts.par_iter().zip(self.places());
        let digests: Vec<Digest> = parts.map(|(part, place)| part.other_digest(place)).collect();
        Digest::root(&digests)
    }

    /// Exchanges the elements of the tensor whose bytes are `tensor`, in parallel.
    ///
    /// # Panics
    /// If `tensor` is not as long as the tensor.
    pub fn exchange(&mut self, tensor: &mut [u8]) {
        let width = self.width;
        self.check(tensor);
        let spans = tensor.par_chunks_mut(SPAN as usize * width.bytes());
        spans.zip(&mut self.parts).for_each(|(span, part)| {
            part.exchange(width, 0, 0, span);
        });
    }

    /// As [`Exchange::exchange`], and returns two digests of what is there afterwards: of the elements, as [`Exchange::digest`] gives it,
    /// and of all of the tensor's bytes.
    ///
    /// # Panics
    /// As [`Exchange::exchange`].
    pub fn exchange_and_digest(&mut self, tensor: &mut [u8]) -> (Digest, Digest) {
        self.check(tensor);
        let (width, places) = (self.width, self.places());
        let spans = tensor.par_chunks_mut(SPAN as usize * width.bytes()).zip(&mut self.parts).zip(places);
        let hash = |((span, part), place): ((&mut [u8], &mut Part), Place)| part.exchange_and_hash(width, span, place);
        let (elements, windows): (Vec<Digest>, Vec<Vec<PartDigest>>) = spans.map(hash).unzip();
        (Digest::root(&elements), join(&windows.concat()))
    }

    /// The digest of the elements as they are in the tensor whose bytes are `tensor`: a later one tells whether anything has changed
    /// them.
    ///
    /// # Panics
    /// As [`Exchange::exchange`].
    pub fn digest(&self, tensor: &[u8]) -> Digest {
        self.check(tensor);
        let spans = tensor.par_chunks(SPAN as usize * self.width.bytes()).zip(&self.parts).zip(self.places());
        let digests: Vec<Digest> = spans.map(|((span, part), place)| part.digest(self.width, span, place)).collect();
        Digest::root(&digests)
    }

    /// Where the spans are.
    fn places(&self) -> Vec<Place> {
        let width = self.width.bytes() as u64;
        let starts = (0..self.parts.len() as u64).map(|at| at * SPAN * width);
        starts.map(|start| Place { start, total: self.elements * width }).collect()
    }

    fn check(&self, tensor: &[u8]) {
        assert_eq!(tensor.len() as u64, self.elements * self.width.bytes() as u64, "{} has another size", self.tensor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::{Plan, PlanOptions};
    use crate::checkpoint::Checkpoint;
    use crate::context::Context;
    use crate::testing::{applied, floats, portable};
    use proptest::prelude::*;

    /// The bytes of the only tensor of a checkpoint.
    fn bytes(checkpoint: &Checkpoint) -> Vec<u8> {
        let tensor = checkpoint.tensor("w").unwrap();
        tensor.elements(0..tensor.info.elements()).to_vec()
    }

    proptest! {
        #[test]
        fn an_exchange_gives_what_an_apply_gives_and_takes_it_back(
            pairs in prop::collection::vec((-4.0f32..4.0, prop::option::weighted(0.3, -4.0f32..4.0)), 1..200),
            alpha in prop_oneof![Just(0.0), Just(1.0), -3.0f64..3.0],
        ) {
            let (base, reference): (Vec<f32>, Vec<f32>) =
                pairs.into_iter().map(|(base, other)| (base, other.unwrap_or(base))).unzip();
            let (base, reference) = (floats(&[("w", &base)]), floats(&[("w", &reference)]));
            let edits = [portable(&base, &reference, alpha)];
            let (_, mut exchanges) = Plan::with_exchanges(&base, &edits, &PlanOptions::default(), &Context::silent()).unwrap();
            let mut memory = bytes(&base);
            for exchange in &mut exchanges {
                prop_assert_eq!(exchange.positions().len() as u64, exchange.len());
                prop_assert!(exchange.elements().all(|(element, bits)| exchange.other_side(element) == Some(bits)));
                let elements = (0..memory.len() as u64 / 4).filter(|element| exchange.other_side(*element).is_some());
                prop_assert_eq!(elements.collect::<Vec<u64>>(), exchange.positions());
                let (before, after) = (exchange.digest(&memory), exchange.other_digest());
                exchange.exchange(&mut memory);
                prop_assert_eq!((exchange.digest(&memory), exchange.other_digest()), (after, before));
                exchange.exchange(&mut memory);
                let (elements, whole) = exchange.exchange_and_digest(&mut memory);
                prop_assert_eq!((elements, whole), (after, Digest::of(&memory)));
                prop_assert_eq!((exchange.digest(&memory), exchange.other_digest()), (after, before));
            }
            let mut words = Vec::new();
            Width::W4.load_at(&memory, 0..memory.len() / 4, &mut words);
            prop_assert_eq!(&words, &applied(&base, &edits)["w"]);
            exchanges.iter_mut().for_each(|exchange| exchange.exchange(&mut memory));
            prop_assert_eq!(memory, bytes(&base));
        }
    }

    /// Over several windows and spans, of every width.
    #[test]
    fn the_digests_of_an_exchange_are_those_of_the_elements_and_of_the_whole_tensor() {
        let (spans, rest) = (2 * SPAN as usize, 3 * HASHED_BYTES + 5);
        for width in [Width::W1, Width::W2, Width::W4, Width::W8] {
            let n = spans + rest;
            let before: Vec<u8> = (0..n * width.bytes()).map(|at| (at * 31 % 251) as u8).collect();
            let listed = |step: usize| {
                let places: Vec<u32> = (0..SPAN as u32).step_by(step).collect();
                Part { bits: vec![252; places.len() * width.bytes()], places: Some(places) }
            };
            let all = Part { places: None, bits: vec![253; SPAN as usize * width.bytes()] };
            let last = Part { places: Some(vec![0, rest as u32 - 1]), bits: vec![254; 2 * width.bytes()] };
            let parts = vec![listed(12345), all, last];
            let mut exchange = Exchange { tensor: "w".to_owned(), width, elements: n as u64, parts };
            let (mut memory, mut plain) = (before.clone(), before.clone());
            let other = exchange.other_digest();
            let (elements, digest) = exchange.exchange_and_digest(&mut memory);
            assert_eq!((elements, digest), (other, Digest::of(&memory)));
            assert_eq!(exchange.digest(&memory), elements);
            memory[SPAN as usize * width.bytes()] ^= 1;
            assert_ne!(exchange.digest(&memory), elements);
            memory[SPAN as usize * width.bytes()] ^= 1;
            exchange.exchange(&mut memory);
            assert_eq!(memory, before);
            exchange.exchange(&mut plain);
            assert_eq!(Digest::of(&plain), digest);
            let changed = plain.chunks(width.bytes()).zip(before.chunks(width.bytes())).filter(|(a, b)| a != b).count();
            assert_eq!(changed as u64, exchange.len());
        }
    }
}

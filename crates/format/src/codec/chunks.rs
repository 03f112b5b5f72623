//! Which chunks of a block have an element that changes (spec §9.11): in fine-tuned models, rows of the embedding do not change at all.

use super::{Corrupt, Number};
use crate::zstd_frame;
use multiversion::multiversion;

/// Number of elements in a chunk; the last one of a block may have fewer.
pub const CHUNK: usize = 128;

/// A set of chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunks {
    /// Number of elements in the block.
    elements: usize,
    /// One bit for each chunk, the first ones lowest. The bits behind the last chunk are zero.
    live: Vec<u8>,
}

impl Chunks {
    /// The chunks of a block in which one of its `numbers`, one for each element, is not zero.
    pub fn of<N: Number>(numbers: &[N]) -> Self {
        Self { elements: numbers.len(), live: live(numbers) }
    }

    fn all(elements: usize) -> Self {
        let chunks = elements.div_ceil(CHUNK);
        let mut live = vec![u8::MAX; chunks.div_ceil(8)];
        if let Some(last) = live.last_mut() {
            *last >>= chunks.next_multiple_of(8) - chunks;
        }
        Self { elements, live }
    }

    /// Whether chunk number `chunk` is in the set.
    #[inline(always)]
    pub fn contains(&self, chunk: usize) -> bool {
        self.live.get(chunk / 8).is_some_and(|byte| byte >> (chunk % 8) & 1 == 1)
    }

    /// Number of elements in the chunks of the set.
    pub fn live_elements(&self) -> usize {
        let chunks: usize = self.live.iter().map(|byte| byte.count_ones() as usize).sum();
        let last = self.elements.div_ceil(CHUNK).saturating_sub(1);
        let missing = (last + 1) * CHUNK - self.elements;
        chunks * CHUNK - if self.contains(last) { missing } else { 0 }
    }

    /// Encodes the set: as nothing if it has all chunks, else as a zstd frame.
    pub fn encode(&self) -> Vec<u8> {
        if *self == Self::all(self.elements) { Vec::new() } else { zstd_frame::pack(&self.live) }
    }

    /// Decodes a set of chunks of a block of `elements` elements.
    ///
    /// # Errors
    /// [`Corrupt::Frame`], [`Corrupt::Padding`].
    pub fn decode(bytes: &[u8], elements: usize) -> Result<Self, Corrupt> {
        let all = Self::all(elements);
        if bytes.is_empty() {
            return Ok(all);
        }
        let corrupt = Corrupt::Frame { field: "changed chunks", bytes: all.live.len() as u64 };
        let live = zstd_frame::unpack(bytes, all.live.len()).map_err(|_| corrupt)?;
        if live.iter().zip(&all.live).any(|(live, all)| live & !all != 0) {
            return Err(Corrupt::Padding { field: "changed chunks" });
        }
        Ok(Self { elements, live })
    }
}

/// One bit for each chunk: whether one of its numbers is not zero.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+bmi1+bmi2+lzcnt+popcnt",
    "x86_64+avx2+bmi1+bmi2+lzcnt+popcnt"
))]
fn live<N: Number>(numbers: &[N]) -> Vec<u8> {
    let mut live = vec![0; numbers.len().div_ceil(8 * CHUNK)];
    for (byte, chunks) in live.iter_mut().zip(numbers.chunks(8 * CHUNK)) {
        for (bit, chunk) in chunks.chunks(CHUNK).enumerate() {
            let any = chunk.iter().fold(false, |any, number| any | (*number != N::default()));
            *byte |= u8::from(any) << bit;
        }
    }
    live
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_chunks_come_back_and_count_their_elements() {
        for elements in [1, 127, 128, 129, 1024, 1025, 5000] {
            let mut numbers = vec![0u16; elements];
            numbers[elements - 1] = 7;
            let last = Chunks::of(&numbers);
            assert_eq!(Chunks::decode(&last.encode(), elements), Ok(last.clone()));
            assert_eq!(last.live_elements(), elements - (elements - 1) / CHUNK * CHUNK);
            assert!(last.contains((elements - 1) / CHUNK) && !last.contains(elements.div_ceil(CHUNK)));
            let all = Chunks::of(&vec![1u16; elements]);
            assert_eq!((all.encode(), all.live_elements()), (Vec::new(), elements));
            assert_eq!(Chunks::decode(&[], elements), Ok(all));
        }
    }

    #[test]
    fn refuses_chunks_behind_the_end_and_frames_of_another_length() {
        let bytes = Chunks::of(&[0u16; 2000]).encode();
        assert!(matches!(Chunks::decode(&bytes, 3000), Err(Corrupt::Frame { bytes: 3, .. })));
        let mut two_bytes = vec![1u16; 1100];
        two_bytes[500..700].fill(0);
        let bytes = Chunks::of(&two_bytes).encode();
        assert_eq!(Chunks::decode(&bytes, 1100).map(|chunks| chunks.live_elements()), Ok(1100 - 128));
        assert_eq!(Chunks::decode(&bytes, 1025 - 128), Err(Corrupt::Frame { field: "changed chunks", bytes: 1 }));
    }
}

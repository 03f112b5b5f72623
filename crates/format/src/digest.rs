//! Digests, which identify files, tensors, blocks and patches (spec §11).
//!
//! All digests of the format are by BLAKE3, a tree hash that allows hashing the parts of a tensor in parallel. Whole files are also
//! identified by SHA-256, by which hubs list them.

use blake3::hazmat::{ChainingValue, HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// A digest of 32 bytes, by BLAKE3 unless the context says SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// BLAKE3 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).into())
    }

    /// BLAKE3 of the concatenation of `parts`, which identifies an ordered list of digests (spec §11.2).
    pub fn root<'a>(parts: impl IntoIterator<Item = &'a Digest>) -> Self {
        let mut hasher = Hasher::default();
        parts.into_iter().for_each(|part| hasher.update(&part.0));
        hasher.finish()
    }

    /// SHA-256 of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Written in place of a digest that the patch's writer did not know (spec §11.2).
    pub const UNKNOWN: Self = Self([0; 32]);

    /// Whether this is not [`Digest::UNKNOWN`].
    pub fn is_known(&self) -> bool {
        *self != Self::UNKNOWN
    }

    /// The first twelve hexadecimal digits, for display.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }

    /// Parses 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.is_ascii() {
            return None;
        }
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(out))
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// An incremental BLAKE3 hasher.
#[derive(Debug, Clone, Default)]
pub struct Hasher(Box<blake3::Hasher>);

impl Hasher {
    /// Hashes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// The smallest part that can be hashed on its own: a leaf of BLAKE3's tree, in bytes.
pub const PART_BYTES_MIN: u64 = blake3::CHUNK_LEN as u64;

/// Hashes one part of an input, so that the parts can be hashed in parallel.
#[derive(Clone)]
pub enum PartHasher {
    /// The input has a single part.
    Whole(Hasher),
    /// One of several parts, a subtree of BLAKE3's tree.
    Subtree(Box<blake3::Hasher>),
}

/// The digest of a part, for [`join`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartDigest {
    /// The digest of an input with a single part.
    Whole(Digest),
    /// The chaining value of one of several parts.
    Subtree(ChainingValue),
}

impl PartHasher {
    /// A hasher for the part at byte `offset` of an input of `total` bytes. All parts have `part_bytes` bytes, a power of two of
    /// at least [`PART_BYTES_MIN`]; only the last one may be shorter.
    pub fn new(offset: u64, total: u64, part_bytes: u64) -> Self {
        debug_assert!(
            part_bytes.is_power_of_two() && part_bytes >= PART_BYTES_MIN && offset.is_multiple_of(part_bytes)
        );
        if total <= part_bytes {
            return Self::Whole(Hasher::default());
        }
        let mut hasher = Box::<blake3::Hasher>::default();
        hasher.set_input_offset(offset);
        Self::Subtree(hasher)
    }

    /// Hashes the next bytes of the part.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            PartHasher::Whole(hasher) => hasher.update(bytes),
            PartHasher::Subtree(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    /// The digest of the part.
    pub fn finish(self) -> PartDigest {
        match self {
            PartHasher::Whole(hasher) => PartDigest::Whole(hasher.finish()),
            PartHasher::Subtree(hasher) => PartDigest::Subtree(hasher.finalize_non_root()),
        }
    }
}

/// The digest of an input from the digests of all its parts, in order. No parts give the digest of the empty input.
pub fn join(parts: &[PartDigest]) -> Digest {
    match parts {
        [] => Digest::of(&[]),
        // A hasher makes no single subtree, but untrusted parts of a sharded diff may hold one.
        [PartDigest::Whole(Digest(bytes)) | PartDigest::Subtree(bytes)] => Digest(*bytes),
        _ => {
            let (left, right) = split_tree(parts);
            Digest(merge_subtrees_root(&join_subtree(left), &join_subtree(right), Mode::Hash).into())
        }
    }
}

/// The chaining value of several parts, which are not the whole input.
fn join_subtree(parts: &[PartDigest]) -> ChainingValue {
    match parts {
        [PartDigest::Subtree(value)] => *value,
        [PartDigest::Whole(digest)] => digest.0,
        _ => {
            let (left, right) = split_tree(parts);
            merge_subtrees_non_root(&join_subtree(left), &join_subtree(right), Mode::Hash)
        }
    }
}

/// The left and right subtrees of at least two parts: in BLAKE3's tree the left one is the largest complete tree that leaves a part for
/// the right one.
fn split_tree(parts: &[PartDigest]) -> (&[PartDigest], &[PartDigest]) {
    parts.split_at(parts.len().next_power_of_two() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hex_is_written_and_parsed() {
        let digest = Digest::sha256(b"abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(Digest::from_hex(&digest.to_string()), Some(digest));
        assert_eq!(Digest::from_hex("ba78"), None);
        assert_eq!(Digest::from_hex(&"g".repeat(64)), None);
    }

    proptest! {
        #[test]
        fn digests_of_parts_join_to_the_digest_of_the_whole(
            bytes in 0usize..40_000, part_log2 in 10u32..14, cut in 1usize..3000,
        ) {
            let whole: Vec<u8> = (0..bytes).map(|at| (at * 31 % 251) as u8).collect();
            let part_bytes = 1usize << part_log2;
            let digest = |(index, part): (usize, &[u8])| {
                let mut hasher = PartHasher::new((index * part_bytes) as u64, bytes as u64, part_bytes as u64);
                part.chunks(cut).for_each(|bytes| hasher.update(bytes));
                hasher.finish()
            };
            let parts: Vec<PartDigest> = whole.chunks(part_bytes).enumerate().map(digest).collect();
            prop_assert_eq!(join(&parts), Digest::of(&whole));
        }
    }
}

//! The file that a shard of a diff writes for the other shards: what it ranked, or what it found.
//!
//! It is `sealed`, and holds the run, the shard and the content.

use super::outline::Outline;
use super::shard::Shard;
use super::write::Found;
use crate::digest::Digest;
use crate::durable::{self, Existing};
use crate::error::{Error, PartContent, PartFault};
use crate::input::{self, Meant, PART_MAGIC as MAGIC};
use crate::shard::sealed;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What a shard ranked or found.
#[derive(Debug)]
pub struct Part {
    /// The digest of everything but the tensors' values that decides the bytes of the patch. Parts of one run have the same.
    pub(super) run: Digest,
    pub(super) shard: Shard,
    pub(super) content: Content,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Content {
    /// The largest keys of each group of elements that are ranked together.
    Ranks(Vec<Ranks>),
    /// The encoded selection.
    Blocks(Blocks),
}

impl Content {
    pub fn kind(&self) -> PartContent {
        match self {
            Content::Ranks(_) => PartContent::Ranks,
            Content::Blocks(_) => PartContent::Blocks,
        }
    }
}

/// The largest keys of a shard, descending, each with the number of elements that have it. A key is stored as its difference to the one
/// before it, which takes fewer bytes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ranks(Vec<(u64, u64)>);

impl Ranks {
    pub fn new(mut keys: Vec<(u64, u64)>) -> Self {
        let mut before = u64::MAX;
        keys.iter_mut().for_each(|(key, _)| *key = std::mem::replace(&mut before, *key) - *key);
        Self(keys)
    }

    pub fn keys(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().scan(u64::MAX, |key, (less, count)| {
            *key = key.saturating_sub(*less);
            Some((*key, *count))
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Blocks {
    pub found: Found,
    /// Only in the part of the first shard, since it is the same for all.
    pub pair: Option<Box<PairContent>>,
}

/// What a patch needs once, however many shards there are.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PairContent {
    pub outline: Outline,
    /// The digests that [`Outline::hash_unpaired`] returns.
    pub unpaired: Vec<Digest>,
}

impl Part {
    /// The shard that made the part.
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// Whether it holds ranks or blocks.
    pub fn content(&self) -> PartContent {
        self.content.kind()
    }

    /// Whether the file at `path` is the part that `shard` of this run writes, as its magic number and its digest say.
    pub fn is_at(path: &Path, run: Digest, shard: Shard, content: PartContent) -> bool {
        Self::open(path).is_ok_and(|part| (part.run, part.shard, part.content()) == (run, shard, content))
    }

    /// Reads the part at `path`. Allocates a small multiple of its size.
    ///
    /// # Errors
    /// I/O; [`PartFault::NotAPart`], [`PartFault::Damaged`], [`PartFault::Version`], [`PartFault::Malformed`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let read = input::open(path, Meant::Part).and_then(sealed::read);
        Ok(Self::from_bytes(path, &read.map_err(|error| Error::io("read", path, error))?)?)
    }

    /// Reads a part that is in memory; `path` names it in errors.
    ///
    /// # Errors
    /// As [`Part::open`], but for I/O.
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, PartFault> {
        let (run, shard, content) = sealed::open(MAGIC, bytes).map_err(|broken| PartFault::broken(path, broken))?;
        Ok(Self { run, shard, content })
    }

    /// The bytes of its file.
    ///
    /// # Errors
    /// [`PartFault::Malformed`] for free metadata that JSON cannot hold.
    pub fn to_bytes(&self) -> Result<Vec<u8>, PartFault> {
        sealed::seal(MAGIC, &(&self.run, &self.shard, &self.content))
            .map_err(|reason| PartFault::Malformed { path: "the new part".into(), reason })
    }

    /// Writes it to a new file at `path`, all of it or nothing; returns its size.
    ///
    /// # Errors
    /// [`durable::Failed`].
    pub fn save(&self, path: &Path, existing: Existing) -> Result<u64, Error> {
        let bytes = self.to_bytes()?;
        durable::write_file(path, &bytes, existing)?;
        Ok(bytes.len() as u64)
    }
}
